"""`frontend:manual_orders`: each order once for ever, through the gate, its status written back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import structlog

from qbot import (
    committing,
    control,
    execution,
    limits,
    manual_orders,
    quoting,
    reconciliation,
    risk,
    risk_market,
    risk_watch,
)
from qbot.contract import keys
from qbot.contract.payloads_orders import (
    ManualOrder,
    ManualOrderType,
    OrderSide,
    Priority,
)
from qbot.control import Settings
from qbot.errors import DataUnavailable
from qbot.market.calendar import MarketHours, market_hours
from qbot.reconciliation import Books
from qbot.runtime import Runtime
from qbot.store import manual_orders as store
from qbot.store import state
from qbot.store.engine import transaction
from qbot.types import IntentKind, OrderType, Proposal, Quote, RiskReport, Side, Source, TimeInForce

log = structlog.get_logger(__name__)
HANDLED = store.KIND
LOST = "QBot stopped while it handled this order; it was not sent. Ask again with a new order_id."
LATE = "WAITED_TOO_LONG: QBot could not send it within an hour. Ask again with a new order_id."
URGENCY = (Priority.CRITICAL, Priority.HIGH, Priority.MEDIUM, Priority.LOW)
ORDER_TYPES = {
    ManualOrderType.MARKET: OrderType.MARKET,
    ManualOrderType.LIMIT: OrderType.LIMIT,
    ManualOrderType.STOP_LOSS: OrderType.STOP,
}


def process(rt: Runtime, settings: Settings, hours: MarketHours, now: datetime, *, stopping: Callable[[], bool]) -> int:
    """Send the pending orders, most urgent first, and write back what became of them all. The number handled.

    An order is recorded as soon as it is read; what is worked off is what is recorded, whatever the array says since.
    After every few the array is read again, so that one more urgent does not wait for a long queue. `stopping`: whether
    an emergency waits to be carried out, or cannot be read; then it is as if it were latched.
    """
    handled: set[str] = set()
    ask = True
    while batch := [order for order in _pending(rt, now) if order.order_id not in handled][: limits.MANUAL_BATCH]:
        if handled:  # a long queue takes minutes: what was read for the first of it is old by now
            settings, now = control.sync_settings(rt), rt.market()
            hours = market_hours(now)
        handled |= {order.order_id for order in batch}
        books = reconciliation.reconcile(rt.desk, now)
        quotes = _prices(rt, batch) if ask else None
        ask = quotes is not None  # no second wait for a feed that does not answer: sales are behind it
        priced = [order for order in batch if quotes is not None or order.side is OrderSide.SELL]  # buys wait for some
        report = risk_watch.report(rt, now)
        for order in priced:
            _place(rt, order, settings, hours, books, quotes or {}, now, report, stopping())
    manual_orders.write_back(rt)
    return len(handled)


def _pending(rt: Runtime, now: datetime) -> list[ManualOrder]:
    """What is still to be sent, most urgent first, then the oldest. What waited too long is refused for good."""
    reading = rt.board.read(keys.MANUAL_ORDERS)
    recorded = manual_orders.take(rt, reading.value or ())
    late = rt.wall() - timedelta(seconds=limits.MANUAL_ORDER_WAIT_S)
    waiting = [one for one in recorded.values() if one.pending]
    with transaction(rt.engine) as connection:
        for one in waiting:
            if one.first_seen_wall < late:
                refused = {"status": "REJECTED", "reason": LATE}
                state.first_time(connection, HANDLED, one.order.order_id, rt.wall(), refused)
    pending = [one.order for one in waiting if one.first_seen_wall >= late]
    return sorted(pending, key=lambda order: (URGENCY.index(order.priority), order.created_at or now))


def _prices(rt: Runtime, orders: Sequence[ManualOrder]) -> Mapping[str, Quote] | None:
    """What the symbols of the orders cost, as far as that is known; None when nothing is."""
    try:
        return quoting.latest(rt, {order.symbol for order in orders})
    except DataUnavailable as error:
        log.warning("no_prices", why=str(error))
        return None


def _place(
    rt: Runtime,
    order: ManualOrder,
    settings: Settings,
    hours: MarketHours,
    books: Books,
    quotes: Mapping[str, Quote],
    now: datetime,
    report: RiskReport | None,
    stopping: bool,
) -> None:
    """Claim the id for ever, then judge, commit and send. A crash in between leaves it claimed and never sent."""
    begun = {"status": "REJECTED", "reason": LOST, manual_orders.SINCE: rt.wall().isoformat()}
    with transaction(rt.engine) as connection:
        if not state.first_time(connection, HANDLED, order.order_id, rt.wall(), begun):
            return
        switch = state.load_switch(connection)
    proposal = as_proposal(order, quotes)
    market = risk_market.market(settings, switch, hours, books, quotes, now, report)
    market = replace(market, latched=market.latched or stopping)
    judged = committing.commit(
        rt.desk,
        [proposal],
        settings.config,
        market,
        cycle_id=cycle_id(order.order_id),
        revision=settings.revision,
        epoch=switch.epoch,
        snapshot_wall=books.taken_at_wall,
    )
    sent = committing.orders_of(judged)
    outcome = {"status": "SUBMITTED"} if sent else _refused(judged[0].verdict.refusal, judged[0].verdict.message)
    if sent:
        outcome["client_order_id"] = sent[0].spec.client_order_id
    with transaction(rt.engine) as connection:
        state.set_outcome(connection, HANDLED, order.order_id, outcome)
    execution.send(rt.desk, sent)


def _refused(name: str | None, message: str) -> dict[str, Any]:
    return {"status": "REJECTED", "reason": f"{name}: {message}"}


def cycle_id(order_id: str) -> str:
    """The part of the client order id that names a manual order: the same for ever, whatever characters it has."""
    return committing.MANUAL_PREFIX + hashlib.sha256(order_id.encode()).hexdigest()[:24]


def as_proposal(order: ManualOrder, quotes: Mapping[str, Quote]) -> Proposal:
    """The order as the gate judges it: a buy enters, a sale exits."""
    side = Side.BUY if order.side is OrderSide.BUY else Side.SELL
    order_type = ORDER_TYPES[order.order_type]
    quote = quotes.get(order.symbol)
    limit = order.limit_price if order_type is OrderType.LIMIT else None
    stop = order.stop_price if order_type is OrderType.STOP else None
    return Proposal(
        symbol=order.symbol,
        side=side,
        qty=Decimal(order.quantity),
        kind=IntentKind.ENTRY if side is Side.BUY else IntentKind.EXIT,
        source=Source.MANUAL,
        price_usd=risk.worst_price(quote, order_type, limit, side, stop) if quote else limit or Decimal(0),
        order_type=order_type,
        time_in_force=TimeInForce(order.time_in_force.lower()),
        limit_price_usd=limit,
        stop_price_usd=stop,
    )
