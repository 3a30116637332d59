"""What humans want, taken from the board into Postgres: the effective settings, the switch, the emergency latch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from qbot import configuration, execution, session
from qbot.contract import keys
from qbot.contract.board import Snapshot
from qbot.contract.key import Direction, Key
from qbot.contract.payloads_autotrading import AutotradingStatus
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_channels import StrategyConfigChange
from qbot.contract.payloads_settings import RiskSettings, TradingSettings
from qbot.errors import BoardUnavailable, BrokerError, StoreUnavailable
from qbot.runtime import Runtime
from qbot.session import Event, Inputs, Observed, Switch
from qbot.store import state
from qbot.store.engine import transaction
from qbot.types import TradingConfig

log = structlog.get_logger(__name__)

BACKEND = "qbot"  # `updated_by` of what QBot mirrors
MIRRORED = {  # to names of `session.Inputs`
    keys.TRADING_SETTINGS.name: "settings",
    keys.RISK_SETTINGS.name: "risk",
    keys.AUTOTRADING_STATUS.name: "status",
}
ALERT_LIFE = timedelta(hours=1)
SWITCH_KEYS: tuple[Key[Any], ...] = (
    keys.AUTOTRADING_ENABLED,
    keys.TRADING_SETTINGS,
    keys.AUTOTRADING_STATUS,
    keys.RISK_SETTINGS,
    keys.SENTINEL,
)
OTHER_INPUTS = tuple(  # what others write and is no setting
    key for key in keys.ENTRIES.values() if key.direction is not Direction.BACKEND and key not in configuration.SOURCES
)
LOST = "Redis lost its data or went back to older ones: what stands there starts nothing, a new start is needed"


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration with its revision, and the reasons why entries must wait, if there are any."""

    config: TradingConfig
    revision: int
    invalid: str | None
    live_problem: str | None

    @property
    def problem(self) -> str | None:
        """What makes the state CONFIG_ERROR."""
        return self.invalid or self.live_problem


# --- settings --------------------------------------------------------------------------------------------------------


def sync_settings(rt: Runtime) -> Settings:
    """Merge every settings key into the effective configuration; a change makes a new revision and is announced."""
    snapshot = rt.board.read_many(configuration.SOURCES)
    with transaction(rt.engine) as connection:
        before = state.newest_settings(connection)
        found = configuration.effective(snapshot, before.get("documents", {}))
        readable = configuration.readable(found.config)
        body = {"config": readable, "documents": found.documents.stored()}
        revision, changed = state.revise_settings(connection, body, rt.wall())
        if found.problem:
            alert(rt, connection, AlertType.SYSTEM_ALERT, Severity.WARNING, "Settings are invalid", found.problem)
    if changed:
        _announce(rt, before.get("config", {}), readable, revision)
    return Settings(found.config, revision, found.problem, live_problem(rt, found.config))


def live_problem(rt: Runtime, config: TradingConfig) -> str | None:
    """Why live trading, asked for in Redis, is not done: this version trades on paper accounts only."""
    if config.paper_mode:
        return None
    if not rt.settings.allow_live:
        return "paper_mode is false, but QBOT_ALLOW_LIVE is not true: QBot stays on paper"
    return "live trading is not offered by this version: QBot stays on paper"


def bad_inputs(rt: Runtime) -> dict[str, str]:
    """What is wrong with the inputs that are no settings, by key, with an alert for each. What they held still holds.

    The alert about an emergency action comes from the one who would have to carry it out.
    """
    problems = rt.board.read_many(OTHER_INPUTS).problems
    for name in sorted(problems.keys() - {keys.EMERGENCY_ACTIONS.name}):
        title, message = "An input is unreadable", f"{name}: {problems[name]}"
        raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, title, message)
    return problems


def _announce(rt: Runtime, before: Mapping[str, Any], after: Mapping[str, Any], revision: int) -> None:
    now = rt.wall()
    changes = [
        StrategyConfigChange(key=name, value=value, revision=revision, timestamp=now)
        for name, value in after.items()
        if before.get(name) != value
    ]
    rt.board.publish(keys.STRATEGY_CONFIG, changes)


# --- the switch ------------------------------------------------------------------------------------------------------


def sync_switch(rt: Runtime) -> Switch:
    """One step of the switch from what the board shows now; a stop cancels the open entries at once.

    The board is read under the switch's lock, so that no worker acts upon an older view than another before it.
    """
    with transaction(rt.engine) as connection:
        before = state.load_switch(connection, for_update=True)
        snapshot = rt.board.read_many(SWITCH_KEYS)
        lost = before.seen is not None and snapshot[keys.SENTINEL].value != _sentinel(before)
        after, events = _off(before, snapshot) if lost else session.step(before, observed(snapshot))
        mirrors = _mirrors(after, snapshot, rt.wall())
        after = session.awaiting(after, _fingerprints(mirrors))
        if after != before:
            _save(rt, connection, after, events)
        if lost:
            alert(rt, connection, AlertType.SYSTEM_ALERT, Severity.CRITICAL, "The board was lost", LOST)
    _write_mirrors(rt, mirrors, snapshot)
    if Event.STOPPED in events or Event.LATCHED in events:
        _stopped(rt, after)
    for event in events:
        log.info("switch", what=str(event), session_id=after.session_id, reason=after.reason)
    return after


def latch(rt: Runtime, reason: str) -> Switch:
    """Latch the emergency stop in Postgres and on the board. Open orders are the caller's business."""
    with transaction(rt.engine) as connection:
        before = state.load_switch(connection, for_update=True)
        after = session.latch(before, reason)
        try:
            _save(rt, connection, after, [Event.LATCHED])
        except BoardUnavailable:  # the stop comes first; a board with an old sentinel starts nothing
            state.save_switch(connection, after, [Event.LATCHED], rt.wall())
    rt.board.write(keys.AUTOTRADING_STOPPED_AT, rt.wall(), now=rt.wall())
    return sync_switch(rt)


def release(rt: Runtime) -> Switch:
    """A human's release of the latch; trading needs a new start afterwards."""
    with transaction(rt.engine) as connection:
        before = state.load_switch(connection, for_update=True)
        after = replace(before, latched=False, reason="released by a human; a new start is needed")
        state.save_switch(connection, after, [Event.RELEASED], rt.wall())
    return sync_switch(rt)


def _sentinel(switch: Switch) -> str:
    """What `qbot:sentinel` says while the board is as QBot left it: FLUSHALL and old backups raise no event."""
    return f"epoch-{switch.epoch}"


def _off(before: Switch, snapshot: Snapshot) -> tuple[Switch, list[Event]]:
    """Off, and everything that stands on the board now is remembered as left over. A latch stays."""
    events = [Event.STOPPED] if before.on else []
    seen = observed(snapshot).fingerprints()
    return replace(before, on=False, reason=LOST, seen=seen, epoch=before.epoch + 1), events


def _save(rt: Runtime, connection: Connection, after: Switch, events: list[Event]) -> None:
    """Record the switch, its epoch on the board first: a crash in between leaves trading off, never on."""
    rt.board.write(keys.SENTINEL, _sentinel(after), now=rt.wall())
    state.save_switch(connection, after, events, rt.wall())


def observed(snapshot: Snapshot) -> Inputs:
    """The four switching keys as the pure step wants them. An invalid value neither starts nor stops."""
    enabled, settings = snapshot[keys.AUTOTRADING_ENABLED], snapshot[keys.TRADING_SETTINGS]
    status, risk = snapshot[keys.AUTOTRADING_STATUS], snapshot[keys.RISK_SETTINGS]
    return Inputs(
        enabled=Observed(
            fingerprint=enabled.fingerprint,
            on=enabled.value.enabled if enabled.value else None,
            session_id=enabled.value.session_id if enabled.value else None,
            source=enabled.value.source if enabled.value else None,
        ),
        settings=Observed(settings.fingerprint, settings.value.enabled if settings.value else None),
        status=Observed(status.fingerprint, status.value is AutotradingStatus.ACTIVE if status.value else None),
        risk=Observed(risk.fingerprint, risk.value.emergency_stop_active if risk.value else None),
    )


def _mirrors(switch: Switch, snapshot: Snapshot, now: datetime) -> list[tuple[Key[Any], Any]]:
    """Values of shared keys that must follow the switch: the documented defaults, ON after a start, OFF after a stop.

    Mirroring a start is what makes every later stop a change: `false` over an old `false` could not be seen.
    """
    writes: list[tuple[Key[Any], Any]] = []
    settings, risk = snapshot[keys.TRADING_SETTINGS], snapshot[keys.RISK_SETTINGS]
    if not settings.present:
        writes.append((keys.TRADING_SETTINGS, _default_settings(now)))
    elif settings.value is not None and bool(settings.value.enabled) is not switch.on:
        by_default = settings.value.updated_by == configuration.BY_DEFAULT  # then its limits stay nobody's wish
        author = configuration.BY_DEFAULT if by_default else BACKEND
        followed = {"enabled": switch.on, "updated_by": author, "last_updated": now}
        writes.append((keys.TRADING_SETTINGS, settings.value.model_copy(update=followed)))
    if switch.on and snapshot[keys.AUTOTRADING_STATUS].value is AutotradingStatus.STOPPED:
        writes.append((keys.AUTOTRADING_STATUS, AutotradingStatus.ACTIVE))
    if not risk.present:
        writes.append((keys.RISK_SETTINGS, _default_risk(switch.latched)))
    elif risk.value is not None and bool(risk.value.emergency_stop_active) is not switch.latched:
        writes.append((keys.RISK_SETTINGS, risk.value.model_copy(update={"emergency_stop_active": switch.latched})))
    return writes


def _default_settings(now: datetime) -> TradingSettings:
    default = configuration.DEFAULTS
    return TradingSettings(
        enabled=False,
        buy_threshold_pct=default.buy_threshold_pct,
        sell_threshold_pct=default.sell_threshold_pct,
        max_position_per_trade=default.max_position_per_trade,
        strategy=default.strategy.value,  # type: ignore[arg-type]
        last_updated=now,
        updated_by=configuration.BY_DEFAULT,
    )


def _default_risk(latched: bool) -> RiskSettings:
    default = configuration.DEFAULTS
    return RiskSettings(
        daily_notional_cap=default.daily_notional_cap_usd,
        max_position_per_ticker=default.max_position_per_ticker,
        cooldown_minutes=default.cooldown_minutes,
        max_trades_per_run=default.max_trades_per_run,
        emergency_stop_active=latched,
    )


def _fingerprints(mirrors: list[tuple[Key[Any], Any]]) -> dict[str, str]:
    return {MIRRORED[key.name]: hashlib.sha256(key.encode(value)).hexdigest() for key, value in mirrors}


def _write_mirrors(rt: Runtime, mirrors: list[tuple[Key[Any], Any]], snapshot: Snapshot) -> None:
    """Write a mirrored value unless a frontend has written meanwhile: then the next step judges what it wrote."""
    for key, value in mirrors:
        rt.board.update(key, partial(_unless_changed, snapshot[key].value, value), now=rt.wall())


def _unless_changed(seen: Any, mirrored: Any, now: Any) -> Any:
    return mirrored if now == seen else None


def _stopped(rt: Runtime, switch: Switch) -> None:
    try:
        cancelled = execution.cancel_entries(rt.broker, automatic_only=not switch.latched)
    except BrokerError as error:
        title = "Entries could not be cancelled"
        raise_alert(rt, AlertType.TRADE_ALERT, Severity.CRITICAL, title, str(error))
        raise
    log.info("entries_cancelled", count=cancelled, reason=switch.reason)
    rt.board.write(keys.AUTOTRADING_STOPPED_AT, rt.wall(), now=rt.wall())


# --- telling a human -------------------------------------------------------------------------------------------------


def raise_alert(
    rt: Runtime, kind: AlertType, severity: Severity, title: str, message: str, symbol: str | None = None
) -> None:
    """As `alert`, in a transaction of its own; without Postgres it is at least in the log."""
    try:
        with transaction(rt.engine) as connection:
            alert(rt, connection, kind, severity, title, message, symbol)
    except StoreUnavailable as error:
        log.error("alert_not_stored", title=title, message=message, why=str(error))


def alert(
    rt: Runtime,
    connection: Connection,
    kind: AlertType,
    severity: Severity,
    title: str,
    message: str,
    symbol: str | None = None,
) -> None:
    """Raise an alert; the same trouble alerts once an hour."""
    now = rt.wall()
    same = hashlib.sha256(f"{kind}{title}{message}{symbol}".encode()).hexdigest()[:16]
    row = {
        "alert_id": f"alert_{now:%Y%m%dT%H}_{same}",
        "type": str(kind),
        "severity": str(severity),
        "symbol": symbol,
        "title": title,
        "message": message[:1_000],
        "triggered_at_wall": now,
        "expires_at_wall": now + ALERT_LIFE,
    }
    if state.raise_alerts(connection, [row]):
        log.warning("alert", severity=str(severity), title=title, message=message)
