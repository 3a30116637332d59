"""The state of the exchange and its elementary changes. Everything that changes is noted in `changes`."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from qbot.exchange.account import Ledger
from qbot.exchange.market import Market
from qbot.exchange.matching import PARTIAL_ONE_IN
from qbot.exchange.orders import ZERO, Booking, Changes, Fill, Order
from qbot.exchange.orders import Event as TradeEvent
from qbot.exchange.sessions import Sessions, moment

ENDED_AT = {"canceled": "canceled_at", "expired": "expired_at", "rejected": "failed_at", "replaced": "replaced_at"}


def new_uuid() -> str:
    """An id as the venue gives them."""
    return str(uuid.uuid4())


@dataclass(slots=True)
class Book:
    """Orders, fills and the ledger at market time `time_s` (epoch seconds), up to which everything has happened."""

    market: Market
    sessions: Sessions
    ledger: Ledger
    time_s: float
    new_id: Callable[[], str] = new_uuid
    orders: dict[str, Order] = field(default_factory=dict)
    open: dict[str, Order] = field(default_factory=dict)
    client_ids: dict[str, str] = field(default_factory=dict)
    legs: dict[str, list[str]] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    bookings: list[Booking] = field(default_factory=list)
    equity: list[tuple[int, Decimal]] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    partial_one_in: int = PARTIAL_ONE_IN
    hold_cancels: bool = False
    quiet: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # of advance: rests between, expires
    fresh: bool = False  # an order came in that has not been tried against the market yet

    def add(self, order: Order) -> None:
        """Put an order into the book, new or from the journal."""
        self.fresh = True
        self.orders[order.id] = order
        self.client_ids[order.client_order_id] = order.id
        if order.open:
            self.open[order.id] = order
        if order.parent_id:
            self.legs.setdefault(order.parent_id, []).append(order.id)
        if order.group_id:
            self.groups.setdefault(order.group_id, []).append(order.id)

    def touch(self, order: Order, at: datetime) -> None:
        """Note that an order has changed."""
        order.updated_at = at
        self.quiet.pop(order.id, None)
        self.changes.orders[order.id] = order

    def emit(self, name: str, order: Order, at: datetime, fill: Fill | None = None) -> None:
        """Note an event of `trade_updates`, and that the order has changed."""
        self.touch(order, at)
        self.changes.events.append(TradeEvent(name, copy.copy(order), at, self.ledger.qty(order.symbol), fill))

    def close(self, order: Order, status: str, at: datetime) -> None:
        """End an order without a fill: canceled, expired, rejected or replaced."""
        order.status = status
        setattr(order, ENDED_AT[status], at)
        self.open.pop(order.id, None)
        self.emit(status, order, at)

    def take_changes(self) -> Changes:
        """What has happened since the last call."""
        taken, self.changes = self.changes, Changes()
        return taken

    def legs_of(self, order: Order) -> list[Order]:
        """The legs of a complex order that still belong to it, in the order they were made."""
        return [leg for leg in map(self.orders.__getitem__, self.legs.get(order.id, ())) if leg.status != "replaced"]

    def siblings(self, order: Order) -> Iterator[Order]:
        """The open orders of the same group: when one of them fills the others go."""
        for order_id in self.groups.get(order.group_id or "", ()):
            if order_id != order.id and order_id in self.open:
                yield self.open[order_id]

    def price(self, symbol: str) -> Decimal | None:
        """The last trade at the book's time."""
        return self.market.price_at(symbol, self.time_s)

    def prices(self, symbols: Iterable[str], t: float) -> dict[str, Decimal]:
        """The last trades of symbols that have one at `t`."""
        found = ((symbol, self.market.price_at(symbol, t)) for symbol in symbols)
        return {symbol: price for symbol, price in found if price is not None}

    def equity_usd(self, t: float) -> Decimal:
        """The account's worth at `t`."""
        return self.ledger.equity_usd(self.prices(self.ledger.holdings, t))

    def buying_power_usd(self, *, without: Order | None = None) -> Decimal:
        """Cash less what the open buys (but for `without`) keep back."""
        buys = (o for o in self.open.values() if o.buying and o is not without)
        return self.ledger.cash_usd - sum((o.remaining * o.reserve_price_usd for o in buys), ZERO)

    def held_for_orders(self, symbol: str, *, without: Order | None = None) -> Decimal:
        """Shares that open sells hold. A group holds them once; a leg whose entry has not filled holds none."""
        held, groups = ZERO, dict[str, Decimal]()
        for order in self.open.values():
            if order.buying or order.symbol != symbol or not order.live or order is without:
                continue
            if order.group_id:
                groups[order.group_id] = max(order.remaining, groups.get(order.group_id, ZERO))
            else:
                held += order.remaining
        return held + sum(groups.values(), ZERO)

    @property
    def now(self) -> datetime:
        """The book's time."""
        return moment(self.time_s)
