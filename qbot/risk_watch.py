"""Watches the risk: what the engine says now, breakers that trip, and a human's resume. Every trading cycle and manual
order asks for a report of its own; the task alone trips, logs and publishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.engine import Connection

from qbot import control, limits, reconciliation, risk_engine, volatility
from qbot.alerts import alert
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_channels import RiskUpdate
from qbot.errors import BrokerError
from qbot.market.calendar import known_hours
from qbot.risk_engine import Seen, Trip
from qbot.runtime import Runtime
from qbot.store import bars, ledger, models, state
from qbot.store import risk as store
from qbot.store.engine import transaction
from qbot.store.risk import Span, State
from qbot.types import HORIZONS_MINUTES, RiskReport

log = structlog.get_logger(__name__)
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
WINDOW = timedelta(days=limits.ROLLING_LOSS_DAYS)
RESUME = "`qbot resume` shows the numbers and lets trading start again."
DRIFT, GAP = "ledger_drift", "data_gap"  # what must last before its breaker trips


@dataclass(frozen=True, slots=True)
class Standing:
    """What a human decides about before trading may start again: breakers, and the latch with its reason."""

    breakers: Sequence[Mapping[str, Any]]
    latched: bool
    reason: str
    report: RiskReport | None


def report(rt: Runtime, now: datetime) -> RiskReport | None:
    """What the gate needs now. None when nobody knows what the account is worth: then nothing is entered."""
    with transaction(rt.engine) as connection:
        seen = _look(rt, connection, store.load(connection), now)
    return risk_engine.report(seen) if seen.equity is not None else None


def watch(rt: Runtime) -> RiskReport:
    """One look of the task: trip what has to, stop trading, log and publish what changed."""
    now, wall = rt.market(), rt.wall()
    drift = _drift(rt)
    with transaction(rt.engine) as connection:
        store.alone(connection)
        before = store.load(connection)
        seen = _look(rt, connection, before, now)
        lasting = _lasting(before, {DRIFT: drift, GAP: _gap(seen)}, now, wall)
        minutes = {name: _minutes(since, now, wall) for name, since in lasting.items()}
        seen = replace(seen, drift_minutes=minutes.get(DRIFT, 0.0), gap_minutes=minutes.get(GAP, 0.0))
        seen = _with_streaks(connection, seen, before)
        found, said = risk_engine.trips(seen), risk_engine.report(seen)
        for name in store.trip(connection, found, now, wall):
            _tell(rt, connection, next(trip for trip in found if trip.name == name))
        changed = before is None or _essence(before.report) != _essence(store.plain(said))
        if changed:
            store.log(connection, said, risk_engine.numbers(seen), wall)
        peak_usd = seen.equity.peak_usd if seen.equity else before.peak_usd if before else None
        baseline_at = before.baseline_at if before else None
        store.save(connection, State(now, wall, peak_usd, baseline_at, lasting, store.plain(said)))
    if said.tripped:
        control.break_off(rt, f"circuit breaker: {', '.join(said.tripped)}. {RESUME}")
    if changed:
        _publish(rt, said)
    return said


def standing(rt: Runtime) -> Standing:
    """What waits for a human."""
    with transaction(rt.engine) as connection:
        switch = state.load_switch(connection)
        waiting = store.standing(connection)
        said = store.last_report(connection)
    return Standing(waiting, switch.latched, switch.reason, said)


def resume(rt: Runtime, who: str) -> None:
    """A human has looked: breakers and latch are released, and losses count from now. Trading needs a new start."""
    with transaction(rt.engine) as connection:
        store.alone(connection)
        names = [row["name"] for row in store.standing(connection)]
        store.resume(connection, who, rt.market(), rt.wall())
        message = f"{who} resumed after {', '.join(names) or 'an emergency stop'}. Trading needs a new start."
        alert(rt, connection, AlertType.SYSTEM_ALERT, Severity.INFO, "Resumed by a human", message)
    control.release(rt)
    log.warning("resumed", who=who, breakers=names)


# --- what is looked at -----------------------------------------------------------------------------------------------


def _look(rt: Runtime, connection: Connection, known: State | None, now: datetime) -> Seen:
    hours = known_hours(now)
    baseline = known.baseline_at if known and known.baseline_at else BEGINNING
    curve = ledger.equity_curve(connection, max(now - WINDOW, baseline))
    read_lately = bool(curve) and (now - curve[-1][0]).total_seconds() <= limits.EQUITY_MAX_AGE_S
    equity = risk_engine.equity(curve, known.peak_usd if known else None) if read_lately else None
    tickers = rt.tickers
    proxies = volatility.market_symbols(tickers, limits.MARKET_SYMBOLS_MAX)
    moves = bars.load(connection, proxies, now - timedelta(days=limits.VOLATILITY_HISTORY_DAYS), now)
    surest = models.newest_confidences(connection, now - timedelta(minutes=max(HORIZONS_MINUTES)))
    # One that somebody's pick or a sector named, and that never had any bars, is no gap: nothing trades on it.
    had = bars.fresh(connection, tickers, now - WINDOW) | (set(tickers) & set(rt.named_tickers))
    fresh = bars.fresh(connection, sorted(had), now - timedelta(seconds=limits.BAR_MAX_AGE_S))
    artifacts = models.standing_artifacts(connection).values()
    return Seen(
        now=now,
        market_open=hours is None or hours.is_open,
        equity=equity,
        confidence=risk_engine.confidence(surest),
        volatility_ratio=volatility.ratio(moves),
        model_age_days=risk_engine.age_days([row["created_at"] for row in artifacts], now),
        fresh_share=len(fresh) / len(had) if had else 0.0,
        standing=tuple(row["name"] for row in store.standing(connection)),
    )


def _with_streaks(connection: Connection, seen: Seen, known: State | None) -> Seen:
    since = max(seen.now - WINDOW, known.baseline_at if known and known.baseline_at else BEGINNING)
    rejected = store.rejections(connection, since, limits.REJECTED_IN_A_ROW_MAX)
    lost = store.losses(connection, since, limits.LOSING_TRADES_MAX)
    return replace(seen, rejected_in_a_row=risk_engine.streak(rejected), lost_in_a_row=risk_engine.streak(lost))


def _drift(rt: Runtime) -> bool | None:
    """Whether ledger and broker disagree; None when the broker cannot be asked."""
    try:
        taken = reconciliation.snapshot(rt.desk)
    except BrokerError as error:
        log.warning("drift_unknown", why=str(error))
        return None
    with transaction(rt.engine) as connection:
        return bool(reconciliation.differences(ledger.net_quantities(connection), taken.positions))


def _gap(seen: Seen) -> bool:
    stale = 1.0 - (seen.fresh_share or 0.0)
    return seen.market_open and stale > limits.DATA_GAP_SHARE_MAX


def _lasting(known: State | None, trouble: Mapping[str, bool | None], now: datetime, wall: datetime) -> dict[str, Span]:
    """Since when each trouble lasts. What nobody watched meanwhile begins anew; what is unknown goes on."""
    watched = known is not None and (wall - known.looked_at_wall).total_seconds() <= limits.UNWATCHED_S
    since = known.lasting if known is not None and watched else {}
    return {
        name: since.get(name, (now, wall))
        for name, there in trouble.items()
        if there or (there is None and name in since)
    }


def _minutes(since: Span, now: datetime, wall: datetime) -> float:
    """How long it has lasted; 0 until it has lasted on the wall as well, which in a replay passes more slowly."""
    lasted_wall_s = (wall - since[1]).total_seconds()
    return (now - since[0]).total_seconds() / 60 if lasted_wall_s >= limits.LASTING_WALL_S else 0.0


# --- what is told ----------------------------------------------------------------------------------------------------


def _essence(body: Mapping[str, Any] | None) -> object:
    """What a change of is told: not the moment, nor how much exactly is lost."""
    return None if body is None else (body["factor"], body["reasons"], body["tripped"])


def _tell(rt: Runtime, connection: Connection, trip: Trip) -> None:
    message = f"{trip.why}. Entries are stopped and cancelled; stops rest, exits go on. {trip.advice} Then: {RESUME}"
    title = f"Circuit breaker: {trip.name}"
    alert(rt, connection, AlertType.PORTFOLIO_ALERT, Severity.CRITICAL, title, message)


def _publish(rt: Runtime, said: RiskReport) -> None:
    message = RiskUpdate(risk_factor=float(said.factor), reasons=said.reasons, timestamp=said.at)
    rt.board.publish(keys.RISK_UPDATES, [message])
