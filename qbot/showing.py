"""Writes onto the board what the last steps left in the ledger and at the broker. Projections only: all of it can be
rebuilt at any time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.engine import Connection

from qbot import (
    clock,
    configuration,
    control,
    grok_asking,
    limits,
    portfolio,
    projections,
    projections_system,
    reconciliation,
)
from qbot import performance as performance_stage
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.control import Settings
from qbot.errors import BoardUnavailable, QBotError, StoreUnavailable
from qbot.market.calendar import MarketHours, known_hours
from qbot.protecting import Protected
from qbot.reconciliation import Books
from qbot.risk import within_trading_hours
from qbot.runtime import Runtime
from qbot.session import Switch
from qbot.store import account, bars, ledger, order_book, risk, shown, state, trades
from qbot.store.engine import transaction
from qbot.types import TradingConfig, Usage

ACCOUNT_ADVICE = "Entries are refused, nothing was taken over. `qbot account` shows both, and how to go on."
CYCLE_S = 600.0  # documented interval of the trading cycle, market time
ERROR_MAX = 900  # characters: a sentence of the contract is at most 1,000
DECLINED = "declined"  # kind and key of the record of what a human was told
Writes = list[tuple[Key[Any], Any]]


def books(rt: Runtime, taken: Books) -> None:
    """Positions, orders, trades, the portfolio, and today's use of limits."""
    held = sorted(taken.positions.values(), key=lambda position: position.symbol)
    now = rt.market()
    with transaction(rt.engine) as connection:
        last = ledger.recent_fills(connection, limits.TRADES_LOG_MAX)
        contexts = shown.contexts(connection, sorted({row["broker_order_id"] for row in last}))
        resting = order_book.open_orders(connection)
        prices = bars.newest_closes(connection, sorted({row["symbol"] for row in resting}))
        trips = trades.closed_by(connection, [row["execution_id"] for row in last])
        config = _config(connection)
        used = _usage(rt, connection, config.cooldown_minutes, now)
        said = risk.last_report(connection)
    prices |= {position.symbol: float(position.current_price_usd) for position in held}
    positions, traded = projections.positions(held), projections.trades_log(last)
    summary = portfolio.summary(taken.account, held, now, target_positions=config.target_diversification)
    writes: Writes = [
        (keys.PORTFOLIO_POSITIONS, positions),
        (keys.AUTOTRADING_ACTIVE_POSITIONS, positions),
        (keys.TRADES_LOG, traded),
        (keys.ACTIVE_ORDERS, projections.active_orders(resting, prices)),
        (keys.RECENT_TRADES, projections.recent_trades(last, trips, contexts)),
        (keys.PORTFOLIO_SUMMARY, projections_system.portfolio_summary(summary)),
        (keys.RISK_STATUS, projections.risk_status(used, config.cooldown_minutes, now, said)),
    ]
    if traded:
        writes.append((keys.AUTOTRADING_LAST_TRADE, traded[-1]))
    rt.board.write_many(writes, now=rt.wall(), taken_at=taken.taken_at_wall)


def performance(rt: Runtime) -> None:
    """`backend:trading_performance` from the equity curve and the closed round trips."""
    now = rt.market()
    taken = reconciliation.snapshot(rt.desk)
    with transaction(rt.engine) as connection:
        trips = trades.closed(connection)
        curve = ledger.equity_curve(connection, account.since(connection) or reconciliation.BEGINNING)
        fees = account.fees_usd(connection)
    found = performance_stage.performance(trips, curve, taken.account, list(taken.positions.values()), now, fees)
    rt.board.write(keys.TRADING_PERFORMANCE, projections_system.trading_performance(found), now=rt.wall())


def market_status(rt: Runtime) -> None:
    """`market_status` from the exchange calendar."""
    now = rt.market()
    rt.board.write(keys.MARKET_STATUS, projections.market_status(known_hours(now), now), now=rt.wall())


def alerts(rt: Runtime) -> None:
    """`backend:alerts_active`."""
    with transaction(rt.engine) as connection:
        standing = shown.standing_alerts(connection, rt.wall())
    rt.board.write(keys.ALERTS_ACTIVE, projections.alerts(standing), now=rt.wall())


def cycle(rt: Runtime, settings: Settings, hours: MarketHours, taken: Books, now: datetime) -> None:
    """What a trading cycle leaves: that it ran, the session and the books."""
    with transaction(rt.engine) as connection:
        shown.record_cycle(connection, now, None, os.getpid())
    books(rt, taken)
    session(rt, settings, hours)


def failed_cycle(rt: Runtime, error: QBotError, now: datetime) -> None:
    """Say on the board that the cycle failed and why; an alert follows. Nothing was sent after the failure."""
    message = f"{type(error).__name__}: {error}"[:ERROR_MAX]
    control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, "The trading cycle failed", message)
    last = {"ran_at": now, "error": message, "worker_pid": os.getpid()}
    used, traded_usd = Usage(), Decimal(0)
    with suppress(StoreUnavailable), transaction(rt.engine) as connection:
        shown.record_cycle(connection, now, message, os.getpid())
        used, traded_usd = _usage(rt, connection, 0.0, now), _traded_usd(connection, now)
    status = projections.trading_status(last, used, traded_usd, every_s=CYCLE_S, active=False, stop_reason="error")
    writes: Writes = [
        (keys.TRADING_STATUS, status),
        (keys.AUTOTRADING_ERROR, message),
        (keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.ERROR),
        (keys.AUTOTRADING_LAST_UPDATE, rt.wall()),
    ]
    if not isinstance(error, BoardUnavailable):
        rt.board.write_many(writes, now=rt.wall())


def session(rt: Runtime, settings: Settings, hours: MarketHours) -> None:
    """`autotrading:*` and `trading_status`: one word for the state, the session, and what is wrong if anything is.

    Of the switch as recorded now, and again if it was changed meanwhile: what was true at the beginning of a cycle must
    not stand over a stop.
    """
    switch = _recorded(rt)
    while True:
        _session(rt, settings, switch, hours)
        before, switch = switch, _recorded(rt)
        if switch.epoch == before.epoch:
            return


def _recorded(rt: Runtime) -> Switch:
    with transaction(rt.engine) as connection:
        return state.load_switch(connection)


def _session(rt: Runtime, settings: Settings, switch: Switch, hours: MarketHours) -> None:
    now = rt.market()
    with transaction(rt.engine) as connection:
        last = shown.last_cycle(connection)
        used = _usage(rt, connection, settings.config.cooldown_minutes, now)
        traded_usd = _traded_usd(connection, now)
    error = last["error"] if last else None
    trading_now = hours.is_open and _within_hours(settings, now)
    unreadable = control.bad_inputs(rt)
    waiting = settings.problem or unreadable.get(keys.EMERGENCY_ACTIONS.name)  # either lets no entry through
    status = projections.backend_status(switch, error=error, problem=waiting, market_open=trading_now)
    wrong = error or settings.problem or "; ".join(f"{name}: {why}" for name, why in unreadable.items()) or None
    trading = projections.trading_status(
        last, used, traded_usd, every_s=CYCLE_S, active=status is BackendStatus.RUNNING,
        stop_reason=_stop_reason(switch, status),
    )  # fmt: skip
    held = rt.board.read(keys.PORTFOLIO_POSITIONS).value or ()
    writes: Writes = [
        (keys.TRADING_STATUS, trading),
        (keys.AUTOTRADING_BACKEND_STATUS, status),
        (keys.AUTOTRADING_SESSION_ACTIVE, switch.session_id if switch.on else None),
        (keys.AUTOTRADING_STATS, projections.stats(trading, len(held))),
        (keys.AUTOTRADING_ERROR, wrong),
        (keys.AUTOTRADING_LAST_UPDATE, rt.wall()),
    ]
    rt.board.write_many(writes, now=rt.wall())


def declined(rt: Runtime) -> None:
    """Tell a human, once a change, which settings that were asked for have no effect, and why."""
    with transaction(rt.engine) as connection:
        documents = state.newest_settings(connection).get("documents", {})
        found = configuration.declined(documents, grok_asking.off(rt))
        state.first_time(connection, DECLINED, DECLINED, rt.wall())
        told = state.known(connection, DECLINED, [DECLINED])[DECLINED]
        if found != told:
            state.set_outcome(connection, DECLINED, DECLINED, found)
        new = [f"{name}: {why}" for name, why in found.items() if told.get(name) != why]
        if new:
            title, kind = "Settings that have no effect", AlertType.SYSTEM_ALERT
            control.alert(rt, connection, kind, Severity.INFO, title, "; ".join(new))


def drift(rt: Runtime, taken: Books) -> None:
    """Alert when ledger and broker do not agree; the gate refuses entries until they do.

    Cash alone refuses nothing: what is bought is reckoned with the broker's own. It is told once it has stood for two
    reconciles, since a trade may come between the requests of one.
    """
    kind = AlertType.PORTFOLIO_ALERT
    if taken.other_account is not None:
        title, message = "Another account answers", f"{taken.other_account}. {ACCOUNT_ADVICE}"
        control.raise_alert(rt, kind, Severity.CRITICAL, title, message)
        return
    if taken.cash_drift_usd:
        with transaction(rt.engine) as connection:
            standing = account.standing_cash_drift(connection)
        if standing:
            title, what = "Cash does not agree", "more" if standing > 0 else "less"
            message = f"The broker has {abs(standing):.2f} USD {what} than trades, fees and transfers come to."
            control.raise_alert(rt, kind, Severity.WARNING, title, f"{message} `qbot account` shows them.")
    if not taken.drift:
        return
    told = "; ".join(f"{symbol}: {what}" for symbol, what in taken.drift.items())
    control.raise_alert(rt, AlertType.PORTFOLIO_ALERT, Severity.CRITICAL, "Ledger and broker do not agree", told)


def risk_engine(rt: Runtime) -> None:
    """`risk_status` after a look of the risk engine."""
    now = rt.market()
    with transaction(rt.engine) as connection:
        config = _config(connection)
        used, said = _usage(rt, connection, config.cooldown_minutes, now), risk.last_report(connection)
    rt.board.write(keys.RISK_STATUS, projections.risk_status(used, config.cooldown_minutes, now, said), now=rt.wall())


def doubted(rt: Runtime, taken: Books) -> None:
    """Alert when cash and positions contradict the equity that the broker tells: it is not counted as a loss."""
    if taken.believed:
        return
    title = "The equity told by the broker is doubted"
    told = f"{taken.account.equity_usd} USD are not what cash and positions add up to. It counts as unknown."
    control.raise_alert(rt, AlertType.PORTFOLIO_ALERT, Severity.WARNING, title, told)


def short(rt: Runtime, taken: Books) -> None:
    """Alert of positions that are short. QBot opens none; whoever did, ledger and broker may well agree on it."""
    for symbol, position in sorted(taken.positions.items()):
        if position.qty < 0:
            title, told = "A position is short", f"{symbol}: {position.qty.normalize():f} shares. Buy them back."
            control.raise_alert(rt, AlertType.PORTFOLIO_ALERT, Severity.CRITICAL, title, told, symbol)


def recalled(rt: Runtime, orders: Mapping[str, str]) -> None:
    """Alert of orders that reached the broker after they were stopped, and were cancelled there."""
    for name, why in sorted(orders.items()):
        title = "An order was cancelled right after it was sent"
        control.raise_alert(rt, AlertType.TRADE_ALERT, Severity.WARNING, title, f"{name}: {why}")


def protected(rt: Runtime, found: Protected) -> None:
    """Alert of shares that rest without a stop-loss and why, and of what was done about others."""
    kind = AlertType.PORTFOLIO_ALERT
    for symbol, why in sorted(found.bare.items()):
        message = f"No stop-loss of {symbol} rests at the broker: {why}"
        control.raise_alert(rt, kind, Severity.CRITICAL, "A position is unprotected", message, symbol)
    for symbol, what in sorted(found.removed.items()):
        control.raise_alert(rt, kind, Severity.WARNING, "A resting order was cancelled", f"{symbol}: {what}", symbol)
    for symbol, what in sorted(found.restored.items()):
        control.raise_alert(rt, kind, Severity.WARNING, "Protection was put back", f"{symbol}: {what}", symbol)


def _within_hours(settings: Settings, now: datetime) -> bool:
    config = settings.config
    return not config.market_hours_check or within_trading_hours(config.trading_hours, now)


def _config(connection: Connection) -> TradingConfig:
    """What the board needs of the settings in force; the documented defaults before there are any."""
    stored = state.newest_settings(connection).get("config", {})
    names = ("cooldown_minutes", "target_diversification")
    return replace(configuration.DEFAULTS, **{name: stored[name] for name in names if name in stored})


def _usage(rt: Runtime, connection: Connection, cooldown_minutes: float, now: datetime) -> Usage:
    since = now - timedelta(minutes=cooldown_minutes)
    return ledger.usage(connection, clock.market_day(now), since, rt.wall())


def _traded_usd(connection: Connection, now: datetime) -> Decimal:
    """The volume of this New York day."""
    day = now.astimezone(clock.NEW_YORK).date()
    begin, end = (datetime.combine(each, time(), clock.NEW_YORK) for each in (day, day + timedelta(days=1)))
    return shown.traded_usd(connection, begin, end)


def _stop_reason(switch: Switch, status: BackendStatus) -> str | None:
    """Why it does not trade; None while it does."""
    if switch.latched:
        return f"emergency_stop: {switch.reason}"
    if not switch.on:
        return switch.reason
    return None if status is BackendStatus.RUNNING else status.value.lower()
