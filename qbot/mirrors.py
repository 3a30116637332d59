"""What the keys that switch say, and what QBot writes there itself: defaults, and values that follow the switch."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from qbot import configuration
from qbot.contract import keys
from qbot.contract.board import Snapshot
from qbot.contract.key import Key
from qbot.contract.payloads_autotrading import AutotradingStatus
from qbot.contract.payloads_settings import RiskSettings, TradingSettings
from qbot.session import Inputs, Observed, Switch

BACKEND = "qbot"  # `updated_by` of what QBot mirrors
NAMES = {  # of `session.Inputs`, by key
    keys.AUTOTRADING_ENABLED.name: "enabled",
    keys.TRADING_SETTINGS.name: "settings",
    keys.AUTOTRADING_STATUS.name: "status",
    keys.RISK_SETTINGS.name: "risk",
}
Mirrors = list[tuple[Key[Any], Any]]


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


def wanted(switch: Switch, snapshot: Snapshot, now: datetime) -> Mirrors:
    """Values of shared keys that must follow the switch: the documented defaults, ON after a start, OFF after a stop.

    Mirroring a start is what makes every later stop a change: `false` over an old `false` could not be seen. What was
    not acted upon yet, as a start that waits, stays as it is.
    """
    writes: Mirrors = []
    settings, risk = snapshot[keys.TRADING_SETTINGS], snapshot[keys.RISK_SETTINGS]
    waits = (switch.seen or {}).get("settings") != settings.fingerprint
    if not settings.present:
        writes.append((keys.TRADING_SETTINGS, _default_settings(now)))
    elif settings.value is not None and bool(settings.value.enabled) is not switch.on and not waits:
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


def fingerprints(mirrors: Mirrors) -> dict[str, str]:
    """Of the bytes that will be written, by the name of the input."""
    return {NAMES[key.name]: hashlib.sha256(key.encode(value)).hexdigest() for key, value in mirrors}


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
