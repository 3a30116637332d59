"""What the engine works on: orders, fills and the events that tell of them. Money and quantity Decimal, times UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

CLOSED = frozenset({"filled", "canceled", "expired", "replaced", "rejected"})
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A request that passed the rules of form. `take_profit_usd`, `stop_loss_*` make the legs of a complex order."""

    symbol: str
    side: str
    qty: Decimal
    type: str
    time_in_force: str
    client_order_id: str
    order_class: str = ""
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    extended_hours: bool = False
    take_profit_usd: Decimal | None = None
    stop_loss_usd: Decimal | None = None
    stop_loss_limit_usd: Decimal | None = None

    @property
    def complex(self) -> bool:
        """True for bracket, OCO and OTO."""
        return self.order_class in {"bracket", "oco", "oto"}


@dataclass(slots=True)
class Order:
    """An order in the book. Only the engine changes it; the journal keeps every field.

    `live`: it may trade (a bracket's legs are not until the entry has filled). `triggered`: its stop was reached.
    `active_from`: it may not trade before that moment. `group_id`: of the orders that share it, one may fill.
    `reserve_price_usd`: what a buy keeps back of the buying power, a share.
    """

    id: str
    seq: int
    client_order_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    order_class: str
    qty: Decimal
    created_at: datetime
    updated_at: datetime
    submitted_at: datetime
    active_from: datetime
    status: str
    live: bool = True
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    hwm: Decimal | None = None
    extended_hours: bool = False
    triggered: bool = False
    split_done: bool = False
    filled_qty: Decimal = ZERO
    filled_cost_usd: Decimal = ZERO
    reserve_price_usd: Decimal = ZERO
    expires_at: datetime | None = None
    filled_at: datetime | None = None
    expired_at: datetime | None = None
    canceled_at: datetime | None = None
    failed_at: datetime | None = None
    replaced_at: datetime | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    parent_id: str | None = None
    group_id: str | None = None

    @property
    def open(self) -> bool:
        """True while it can still trade or hold shares."""
        return self.status not in CLOSED

    @property
    def remaining(self) -> Decimal:
        """What is left to fill."""
        return self.qty - self.filled_qty

    @property
    def buying(self) -> bool:
        """True for a buy."""
        return self.side == "buy"


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution, and how the order stood after it."""

    id: str
    seq: int
    order_id: str
    symbol: str
    side: str
    qty: Decimal
    price_usd: Decimal
    at: datetime
    cum_qty: Decimal
    leaves_qty: Decimal
    order_status: str


@dataclass(frozen=True, slots=True)
class Booking:
    """What changed the account besides a trade. `amount_usd` and `shares` go into it or, negative, out of it."""

    id: str
    kind: str
    sub_kind: str | None
    amount_usd: Decimal
    at: datetime
    symbol: str | None
    shares: Decimal | None


@dataclass(frozen=True, slots=True)
class Event:
    """What `trade_updates` tells: `order` is a copy from that moment, `position_qty` the holding after it."""

    name: str
    order: Order
    at: datetime
    position_qty: Decimal
    fill: Fill | None = None


@dataclass(slots=True)
class Changes:
    """What has happened since it was last taken: to be written to the journal, then told."""

    orders: dict[str, Order] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    equity: list[tuple[int, Decimal]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.orders or self.fills or self.equity or self.events)
