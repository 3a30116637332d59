"""Writes onto the board what the last steps left in the ledger and at the broker. Projections only: all of it can be
rebuilt at any time."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from qbot import clock, control, limits, performance, portfolio, projections, projections_system
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.control import Settings
from qbot.errors import BoardUnavailable, QBotError, StoreUnavailable
from qbot.market.calendar import MarketHours
from qbot.reconciliation import Books
from qbot.risk import within_trading_hours
from qbot.runtime import Runtime
from qbot.session import Switch
from qbot.store import ledger, state
from qbot.store.engine import transaction
from qbot.types import Side, Usage

CYCLE_S = 600.0  # documented interval of the trading cycle, market time
Writes = list[tuple[Key[Any], Any]]


def books(rt: Runtime, taken: Books) -> None:
    """Positions, orders, trades and the portfolio."""
    held = sorted(taken.positions.values(), key=lambda position: position.symbol)
    with transaction(rt.engine) as connection:
        last = ledger.recent_fills(connection, limits.TRADES_LOG_MAX)
        resting = ledger.open_orders(connection)
        trips = performance.round_trips(ledger.all_fills(connection))
        switch = state.load_switch(connection)
        strategy = state.newest_settings(connection).get("config", {}).get("strategy")
    prices = {position.symbol: float(position.current_price_usd) for position in held}
    shown, trades = projections.positions(held), projections.trades_log(last)
    summary = portfolio.summary(taken.account, held, rt.market())
    writes: Writes = [
        (keys.PORTFOLIO_POSITIONS, shown),
        (keys.AUTOTRADING_ACTIVE_POSITIONS, shown),
        (keys.TRADES_LOG, trades),
        (keys.ACTIVE_ORDERS, projections.active_orders(resting, prices)),
        (keys.RECENT_TRADES, projections.recent_trades(last, trips, strategy, switch.session_id)),
        (keys.PORTFOLIO_SUMMARY, projections_system.portfolio_summary(summary)),
    ]
    if trades:
        writes.append((keys.AUTOTRADING_LAST_TRADE, trades[-1]))
    rt.board.write_many(writes, now=rt.wall())


def cycle(rt: Runtime, settings: Settings, switch: Switch, hours: MarketHours, taken: Books, now: datetime) -> None:
    """`trading_status` and `risk_status` after a trading cycle, then the session and the books."""
    used = _usage(rt, settings, now)
    active = switch.on and hours.is_open and settings.problem is None
    status = projections.trading_status(
        used, now=now, every_s=CYCLE_S, active=active, error=None,
        stop_reason=None if switch.on else _stop_reason(switch), pid=os.getpid(),
    )  # fmt: skip
    writes: Writes = [
        (keys.TRADING_STATUS, status),
        (keys.RISK_STATUS, projections.risk_status(used, settings.config, now)),
    ]
    rt.board.write_many(writes, now=rt.wall())
    session(rt, settings, switch, hours)
    books(rt, taken)


def failed_cycle(rt: Runtime, error: QBotError, now: datetime) -> None:
    """Say on the board that the cycle failed and why; an alert follows. Nothing was sent after the failure."""
    message = f"{type(error).__name__}: {error}"
    control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, "The trading cycle failed", message)
    status = projections.trading_status(
        _usage_if_known(rt, now), now=now, every_s=CYCLE_S, active=False, error=message, stop_reason="error",
        pid=os.getpid(),
    )  # fmt: skip
    writes: Writes = [
        (keys.TRADING_STATUS, status),
        (keys.AUTOTRADING_ERROR, message),
        (keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.ERROR),
        (keys.AUTOTRADING_LAST_UPDATE, rt.wall()),
    ]
    if not isinstance(error, BoardUnavailable):
        rt.board.write_many(writes, now=rt.wall())


def session(rt: Runtime, settings: Settings, switch: Switch, hours: MarketHours) -> None:
    """`autotrading:*`: one word for the state, the session, and what is wrong if anything is."""
    now = rt.market()
    last = rt.board.read(keys.TRADING_STATUS).value
    used = _usage(rt, settings, now)
    error = last.last_error if last else None
    trading_now = hours.is_open and _within_hours(settings, now)
    unreadable = control.bad_inputs(rt)
    waiting = settings.problem or unreadable.get(keys.EMERGENCY_ACTIONS.name)  # either lets no entry through
    status = projections.backend_status(switch, error=error, problem=waiting, market_open=trading_now)
    wrong = error or settings.problem or "; ".join(f"{name}: {why}" for name, why in unreadable.items()) or None
    held = rt.board.read(keys.PORTFOLIO_POSITIONS).value or ()
    writes: Writes = [
        (keys.AUTOTRADING_BACKEND_STATUS, status),
        (keys.AUTOTRADING_SESSION_ACTIVE, switch.session_id if switch.on else None),
        (keys.AUTOTRADING_STATS, projections.stats(used, len(held), last)),
        (keys.AUTOTRADING_ERROR, wrong),
        (keys.AUTOTRADING_LAST_UPDATE, rt.wall()),
    ]
    rt.board.write_many(writes, now=rt.wall())


def drift(rt: Runtime, taken: Books) -> None:
    """Alert when ledger and broker do not agree; the gate refuses entries until they do."""
    if not taken.drift:
        return
    told = "; ".join(f"{symbol}: {what}" for symbol, what in taken.drift.items())
    control.raise_alert(rt, AlertType.PORTFOLIO_ALERT, Severity.CRITICAL, "Ledger and broker do not agree", told)


def unprotected(rt: Runtime, taken: Books) -> None:
    """Alert when shares that a cycle bought have no sale resting at the broker: an exit failed after their stop was
    cancelled, a part of them was sold by hand, or an entry was cancelled when partly filled.
    """
    covered = {order.symbol for order in taken.open_orders if order.side is Side.SELL}
    bare = sorted(symbol for symbol, held in taken.positions.items() if held.qty > 0 and symbol not in covered)
    if not bare:
        return
    with transaction(rt.engine) as connection:
        bare = ledger.left_alone(connection, bare)
    for symbol in bare:
        message = f"No stop-loss of {symbol} rests at the broker. Sell it, or place one there."
        title = "A position is unprotected"
        control.raise_alert(rt, AlertType.PORTFOLIO_ALERT, Severity.CRITICAL, title, message, symbol)


def _within_hours(settings: Settings, now: datetime) -> bool:
    config = settings.config
    return not config.market_hours_check or within_trading_hours(config.trading_hours, now)


def _usage(rt: Runtime, settings: Settings, now: datetime) -> Usage:
    since = now - timedelta(minutes=settings.config.cooldown_minutes)
    with transaction(rt.engine) as connection:
        return ledger.usage(connection, clock.market_day(now), since, rt.wall())


def _usage_if_known(rt: Runtime, now: datetime) -> Usage:
    try:
        with transaction(rt.engine) as connection:
            return ledger.usage(connection, clock.market_day(now), now, rt.wall())
    except StoreUnavailable:
        return Usage()


def _stop_reason(switch: Switch) -> str:
    return f"emergency_stop: {switch.reason}" if switch.latched else switch.reason
