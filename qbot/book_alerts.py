"""Alerts that follow from the books: what became of orders, positions that grew too large, parts that do not answer.

Each is told once, however often the books are looked at: its id follows from what it is about. What the gate refuses an
automatic order for stands in the decisions; only a human's own order is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from qbot import alerts, clock, committing, limits
from qbot.alerts import row_of
from qbot.committing import Judged
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.projections_system import Health
from qbot.reconciliation import Books
from qbot.runtime import Runtime
from qbot.store import outcomes
from qbot.store.engine import transaction
from qbot.types import Side, Source, TradingConfig

Row = Mapping[str, Any]
LATELY = timedelta(hours=1)  # each look comes minutes after the last; what is older was told, or is no news
AT_WORK = ("emergency", "trading")  # queues without which nothing is stopped or sold


def trades(rt: Runtime) -> None:
    """Orders that were filled or failed since the last look, and a human's that were refused."""
    now, wall = rt.market(), rt.wall()
    with transaction(rt.engine) as connection:
        ended = outcomes.ended_orders(connection, now - LATELY)
        failed = outcomes.failed_intents(connection, wall - LATELY)
        refused = outcomes.refused_by_hand(connection, committing.MANUAL_PREFIX, now - LATELY)
        rows = [
            *(_ended(rt, row) for row in ended),
            *(_failed(rt, row) for row in failed),
            *(_refused(rt, row) for row in refused),
        ]
        alerts.enter(rt, connection, list({row["alert_id"]: row for row in rows}.values()))


def rebalanced(rt: Runtime, judged: Sequence[Judged]) -> None:
    """Sales to even out the portfolio that a cycle committed."""
    made = [one for one in judged if one.order is not None and one.proposal.source is Source.AUTOTRADING]
    rows = [
        row_of(
            _id("rebalanced", one.order.spec.client_order_id), AlertType.PORTFOLIO_ALERT, Severity.INFO,
            f"{one.proposal.symbol} is rebalanced", f"{one.proposal.qty} shares are sold; {one.proposal.why}",
            one.proposal.symbol, rt.wall(),
        )
        for one in made if one.order is not None
    ]  # fmt: skip
    _enter(rt, rows)


def portfolio(rt: Runtime, config: TradingConfig, books: Books) -> None:
    """Positions that grew well over what may be bought of one, once a New York day each."""
    equity, most = books.account.equity_usd, config.max_position_pct * limits.CONCENTRATION_FACTOR
    if not equity.is_finite() or equity <= 0 or most <= 0:
        return
    day, rows = clock.market_day(rt.market()), []
    for symbol, position in sorted(books.positions.items()):
        weight = position.market_value_usd.copy_abs() / equity
        if weight.is_finite() and weight > most:
            title = f"{symbol} is a large part of the portfolio"
            message = f"{weight:.1%} of it; no more is bought over {config.max_position_pct:.1%}."
            alert_id = _id("concentration", f"{symbol} {day}")
            rows.append(
                row_of(alert_id, AlertType.PORTFOLIO_ALERT, Severity.WARNING, title, message, symbol, rt.wall())
            )
    _enter(rt, rows)


def parts(rt: Runtime, found: Health) -> None:
    """Parts of the system that do not answer; each once an hour. A start has time to come up."""
    if found.uptime_s < limits.PARTS_GRACE_S:
        return
    if not found.broker_answers:
        _part(rt, Severity.WARNING, "The broker does not answer", "Nothing can be traded until it does.")
    for queue in found.fallen_silent:
        severity = Severity.CRITICAL if queue in AT_WORK else Severity.WARNING
        _part(rt, severity, "A worker is silent", f"Nobody has worked in the queue {queue} lately.")


def _part(rt: Runtime, severity: Severity, title: str, message: str) -> None:
    alerts.raise_alert(rt, AlertType.SYSTEM_ALERT, severity, title, message)


def _ended(rt: Runtime, row: Row) -> Row:
    symbol, order_id = row["symbol"], row["broker_order_id"]
    if row["status"] == "rejected" and not row["filled_qty"]:
        return _rejected(rt, symbol, row["side"], "the venue took it and then rejected it", row["updated_at"])
    severity, what = _event(row)
    price = f" at {_plain(row['filled_avg_price_usd'])} USD" if row["filled_avg_price_usd"] else ""
    message = f"{_plain(row['filled_qty'])} of {_plain(row['qty'])} shares{price}; {row['source']}."
    return row_of(
        _id("order", order_id), AlertType.TRADE_ALERT, severity, f"{symbol}: {what}", message, symbol, rt.wall()
    )


def _event(row: Row) -> tuple[Severity, str]:
    if row["side"] == Side.BUY:
        return Severity.INFO, "bought"
    if row["order_type"] == "stop":
        return Severity.WARNING, "sold, stop-loss reached"
    if row["order_type"] == "limit" and row["source"] not in (Source.MANUAL, Source.FOREIGN):
        return Severity.INFO, "sold, take-profit reached"
    return Severity.INFO, "sold"


def _failed(rt: Runtime, row: Row) -> Row:
    return _rejected(rt, row["symbol"], row["side"], row["error"] or row["status"], row["created_at"])


def _rejected(rt: Runtime, symbol: str, side: str, why: str, at: Any) -> Row:
    """Once an hour for each symbol and side: whatever makes a venue refuse the first makes it refuse the next."""
    message = f"A {side} order was not placed: {why}"
    alert_id = _id("rejected", f"{symbol} {side} {at:%Y%m%dT%H}")
    title = f"{symbol}: order rejected"
    return row_of(alert_id, AlertType.TRADE_ALERT, Severity.WARNING, title, message, symbol, rt.wall())


def _refused(rt: Runtime, row: Row) -> Row:
    message = f"{row['action']} by hand: {row['refusal']}: {row['message']}"
    title = f"{row['symbol']}: order refused"
    return row_of(
        _id("refused", row["decision_id"]), AlertType.TRADE_ALERT, Severity.WARNING, title, message, row["symbol"],
        rt.wall(),
    )  # fmt: skip


def _enter(rt: Runtime, rows: Sequence[Row]) -> None:
    if rows:
        with transaction(rt.engine) as connection:
            alerts.enter(rt, connection, rows)


def _id(kind: str, about: str) -> str:
    return f"{kind}_{hashlib.sha256(about.encode()).hexdigest()[:24]}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
