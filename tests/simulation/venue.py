"""The simulated exchange: orders, matching, shares held, the account. Whole shares and whole cents, so that it is fast.

It behaves as `qbot.exchange` does (a test compares the two) and adds what only a real venue does: cancels that take
their time or stick, fills that race with them, halts, and orders that a human gives it directly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from qbot.types import CLOSED_ORDER_STATUSES, Account, BrokerOrder, Fill, OrderSpec, Position, Side
from tests.simulation.kernel import SECOND, Kernel, moment

PARTIAL_PAUSE_S = 10.0
MICRO = Decimal("0.000001")
MARKET_BUY_MARGIN = 1.025  # as qbot.exchange.engine


class Refused(Exception):
    """The venue says no: `status` and `code` as Alpaca gives them."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@lru_cache(maxsize=100_000)
def usd(cents: int) -> Decimal:
    """Cents as dollars."""
    return Decimal(cents).scaleb(-2)


@lru_cache(maxsize=10_000)
def shares(count: int) -> Decimal:
    """A number of shares."""
    return Decimal(count)


def cents(price: Decimal | None) -> int | None:
    """Dollars as cents."""
    return None if price is None else int(price * 100)


@dataclass(slots=True, eq=False)
class Order:
    """An order in the book. `live`: it may trade. `group`: of those who share it one may fill."""

    id: str
    client_order_id: str
    symbol: str
    side: str
    qty: int
    type: str
    tif: str
    status: str
    created: int
    updated: int
    limit_c: int | None = None
    stop_c: int | None = None
    filled: int = 0
    cost_c: int = 0
    reserve_c: int = 0
    live: bool = True
    order_class: str = ""
    parent: Order | None = None
    legs: list[Order] = field(default_factory=list)
    group: list[Order] = field(default_factory=list)
    may_split: bool = False
    replaces: str | None = None
    told: BrokerOrder | None = None
    alone: BrokerOrder | None = None  # as it is told without its family
    due: int = 0  # a fill that is on its way; a later one replaces it

    @property
    def open(self) -> bool:
        """True while it can still trade or hold shares."""
        return self.status not in CLOSED_ORDER_STATUSES

    @property
    def rest(self) -> int:
        """What is left to fill."""
        return self.qty - self.filled


@dataclass(slots=True)
class Holding:
    """Shares of one symbol and what they cost."""

    qty: int = 0
    cost_c: int = 0


class Venue:
    """One account at the exchange. `on_accept`, `on_fill`, `on_event` tell who watches."""

    def __init__(self, kernel: Kernel, prices_c: dict[str, int], cash_c: int, partial_one_in: int = 6) -> None:
        self.kernel = kernel
        self.price_c = dict(prices_c)
        self.cash_c = cash_c
        self.last_equity_c = cash_c
        self.partial_one_in = partial_one_in
        self.is_open = False
        self.halted: set[str] = set()
        self.cancel_delay_s = 0.05
        self.cancels_stick = False
        self.hides_held = False
        self.fill_delay_s = 0.2
        self.orders: dict[str, Order] = {}
        self.by_client_id: dict[str, Order] = {}
        self.open: dict[str, Order] = {}
        self.created: list[int] = []
        self.top: list[Order] = []  # without legs, in the order of `created`
        self.fills: list[Fill] = []
        self.fill_times: list[datetime] = []
        self.holdings: dict[str, Holding] = {}
        self.stuck: list[Order] = []
        self.on_accept: Callable[[Order], None] = lambda _order: None
        self.on_fill: Callable[[Order, int, int], None] = lambda _order, _qty, _price: None
        self.on_event: Callable[[str, Order, Fill | None], None] = lambda _name, _order, _fill: None

    # --- what is told ---

    def told(self, order: Order) -> BrokerOrder:
        """An order as the broker tells it, with its legs."""
        if order.told is None:
            average = (Decimal(order.cost_c) / order.filled).scaleb(-2).quantize(MICRO) if order.filled else None
            order.told = BrokerOrder(
                broker_order_id=order.id,
                client_order_id=order.client_order_id,
                symbol=order.symbol,
                side=Side(order.side),
                qty=shares(order.qty),
                filled_qty=shares(order.filled),
                filled_avg_price_usd=average,
                order_type=order.type,
                time_in_force=order.tif,
                limit_price_usd=None if order.limit_c is None else usd(order.limit_c),
                stop_price_usd=None if order.stop_c is None else usd(order.stop_c),
                status=order.status,
                created_at=moment(order.created),
                updated_at=moment(order.updated),
                parent_id=order.parent.id if order.parent else None,
                order_class=order.order_class,
                replaces=order.replaces,
                legs=tuple(self.told(leg) for leg in order.legs if leg.status != "replaced"),
            )
        return order.told

    def told_alone(self, order: Order) -> BrokerOrder:
        """An order as a flat list has it: without word of which belong together."""
        if order.parent is None:
            return self.told(order)
        if order.alone is None:
            order.alone = replace(self.told(order), parent_id=None)
        return order.alone

    def account(self) -> Account:
        """Cash and worth."""
        reserved = sum(o.rest * o.reserve_c for o in self.open.values() if o.side == "buy")
        worth, before, cash, power = self.equity_c(), self.last_equity_c, self.cash_c, self.cash_c - reserved
        return Account(usd(worth), usd(before), usd(cash), usd(power), account_id="simulated", number="SIM1")

    def equity_c(self) -> int:
        """Cash and what the holdings are worth."""
        return self.cash_c + sum(held.qty * self.price_c[symbol] for symbol, held in self.holdings.items())

    def positions(self) -> list[Position]:
        """What is held."""
        found = []
        for symbol in sorted(self.holdings):
            held, price_c = self.holdings[symbol], self.price_c[symbol]
            value = held.qty * price_c
            average = (Decimal(held.cost_c) / held.qty).scaleb(-2).quantize(MICRO)
            found.append(
                Position(symbol, shares(held.qty), average, usd(value), usd(value - held.cost_c), usd(price_c))
            )
        return found

    def qty(self, symbol: str) -> int:
        """Shares held."""
        held = self.holdings.get(symbol)
        return held.qty if held else 0

    def since(self, after: datetime) -> list[Order]:
        """Orders without legs that were made after a moment."""
        at = int((after.timestamp()) * SECOND) if after.year > 2001 else 0
        return self.top[bisect_right(self.created, at) :]

    def fills_since(self, after: datetime) -> list[Fill]:
        """Executions after a moment."""
        return self.fills[bisect_right(self.fill_times, after) :]

    # --- what is asked for ---

    def submit(self, spec: OrderSpec) -> Order:
        """Take an order with its legs, or raise Refused."""
        if spec.client_order_id in self.by_client_id:
            raise Refused(422, 40010001, "client_order_id must be unique")
        self._check(spec)
        bracket = spec.take_profit_usd is not None and spec.stop_loss_usd is not None
        oco = bracket and spec.side is Side.SELL
        what = str(spec.side), int(spec.qty), str(spec.order_type), str(spec.time_in_force)
        order = self._make(spec.client_order_id, spec.symbol, *what)
        order.limit_c, order.stop_c = cents(spec.limit_price_usd), cents(spec.stop_price_usd)
        order.order_class = "oco" if oco else "bracket" if bracket else ""
        order.status = "pending_new" if self.is_open else "accepted"
        order.reserve_c = self._reserve_c(spec)
        order.may_split = not bracket or not oco
        if oco:
            order.type, order.limit_c = "limit", cents(spec.take_profit_usd)
        self._enter(order)
        if bracket:
            self._add_legs(order, spec, oco)
        self.on_accept(order)
        if self.is_open:
            self.kernel.after(0.002, lambda: self._activate(order))
        return order

    def _add_legs(self, order: Order, spec: OrderSpec, oco: bool) -> None:
        legs = []
        if not oco:
            legs.append(self._leg(order, "limit", cents(spec.take_profit_usd), None))
        legs.append(self._leg(order, "stop", None, cents(spec.stop_loss_usd)))
        group = [order, *legs] if oco else legs
        for leg in legs:
            leg.live, leg.group = oco, group
            order.legs.append(leg)
        if oco:
            order.group = group

    def _leg(self, parent: Order, kind: str, limit_c: int | None, stop_c: int | None) -> Order:
        leg = self._make(f"leg-{len(self.orders)}", parent.symbol, "sell", parent.qty, kind, parent.tif)
        leg.limit_c, leg.stop_c, leg.parent, leg.status = limit_c, stop_c, parent, "held"
        leg.order_class = parent.order_class
        leg.created = leg.updated = parent.created
        self.orders[leg.id] = self.by_client_id[leg.client_order_id] = self.open[leg.id] = leg
        return leg

    def _make(self, client_order_id: str, symbol: str, side: str, qty: int, kind: str, tif: str) -> Order:
        now = self.kernel.now
        return Order(f"v{len(self.orders)}", client_order_id, symbol, side, qty, kind, tif, "new", now, now)

    def _enter(self, order: Order) -> None:
        self.orders[order.id] = self.by_client_id[order.client_order_id] = self.open[order.id] = order
        self.created.append(order.created)
        self.top.append(order)

    def cancel(self, order_id: str) -> None:
        """Ask for a cancel. Raises Refused when the order is gone."""
        order = self.orders.get(order_id)
        if order is None:
            raise Refused(404, 40410000, f"order not found for {order_id}")
        if not order.open:
            raise Refused(422, 42210000, f'order is already in "{order.status}" state')
        if order.status == "pending_cancel":
            return
        if not self.cancel_delay_s and not self.cancels_stick:
            self._end_family(order, "canceled")
            return
        self._change(order, "pending_cancel")
        if self.cancels_stick:
            self.stuck.append(order)
        else:
            self.kernel.after(self.cancel_delay_s * (0.1 + 2 * self.kernel.random()), lambda: self._canceled(order))

    def release_stuck(self) -> None:
        """Cancels that stuck are done after all."""
        stuck, self.stuck = self.stuck, []
        for order in stuck:
            self._canceled(order)

    def _canceled(self, order: Order) -> None:
        if order.open:
            self._end_family(order, "canceled")

    def cancel_all(self) -> int:
        """Ask for a cancel of everything open. The number of orders."""
        asked = [order for order in self.open.values() if order.status != "pending_cancel"]
        for order in asked:
            if order.open and order.status != "pending_cancel":
                self.cancel(order.id)
        return len(asked)

    def close_position(self, symbol: str, client_order_id: str) -> Order:
        """Sell all of a symbol at the market. Raises Refused."""
        held = self.qty(symbol)
        if not held:
            raise Refused(404, 40410000, "position does not exist")
        return self.by_hand(symbol, "sell", held, client_order_id)

    def by_hand(self, symbol: str, side: str, qty: int, client_order_id: str, limit_c: int | None = None) -> Order:
        """An order given at the venue itself."""
        from qbot.types import OrderType, TimeInForce

        kind = OrderType.MARKET if limit_c is None else OrderType.LIMIT
        limit = None if limit_c is None else usd(limit_c)
        return self.submit(
            OrderSpec(client_order_id, symbol, Side(side), shares(qty), kind, TimeInForce.DAY, limit_price_usd=limit)
        )

    def replace(self, order: Order, client_order_id: str, price_c: int, *, rejected: bool) -> Order:
        """Put a changed order in the place of an open one; `rejected`: it is taken, and then not done after all."""
        new = self._make(client_order_id, order.symbol, order.side, order.rest, order.type, order.tif)
        new.limit_c = price_c if order.limit_c is not None else None
        new.stop_c = price_c if order.stop_c is not None else None
        new.replaces = order.id
        new.order_class, new.reserve_c = order.order_class, max(order.reserve_c, price_c if order.side == "buy" else 0)
        self._enter(new)
        if rejected:
            new.live = False
            self._end(new, "rejected")
            return new
        new.live, new.parent, new.status = order.live, order.parent, order.status
        if order.group:
            new.group = order.group
            order.group[order.group.index(order)] = new
        if order.parent is not None:
            order.parent.legs.append(new)
            order.parent.told = None
        self._end(order, "replaced")
        self._tell("new", new)
        return new

    # --- rules ---

    def _check(self, spec: OrderSpec) -> None:
        if spec.symbol not in self.price_c:
            raise Refused(422, 42210000, f'asset "{spec.symbol}" not found')
        side, price_c = str(spec.side), self.price_c[spec.symbol]
        stop_c, limit_c = cents(spec.stop_price_usd), cents(spec.limit_price_usd)
        bracket = spec.take_profit_usd is not None
        if bracket and side == "sell":
            stop_c = cents(spec.stop_loss_usd)
        if stop_c is not None and (stop_c >= price_c if side == "sell" else stop_c <= price_c):
            raise Refused(422, 42210000, "stop price must be less than current price")
        if bracket and side == "buy":
            base = limit_c or price_c
            if (cents(spec.take_profit_usd) or 0) < base + 1 or (cents(spec.stop_loss_usd) or 0) > base - 1:
                raise Refused(422, 42210000, "take_profit or stop_loss on the wrong side of the price")
        if not bracket:
            self._check_wash_trade(spec, side, limit_c)
        if side == "sell":
            free = self.qty(spec.symbol) - self.held_for_orders(spec.symbol)
            if spec.qty > free:
                text = f"insufficient qty available for order (requested: {spec.qty}, available: {free})"
                raise Refused(403, 40310000, text)
            return
        reserved = sum(o.rest * o.reserve_c for o in self.open.values() if o.side == "buy")
        if int(spec.qty) * self._reserve_c(spec) > self.cash_c - reserved:
            raise Refused(403, 40310000, "insufficient buying power")

    def _check_wash_trade(self, spec: OrderSpec, side: str, limit_c: int | None) -> None:
        for other in self.open.values():
            if other.symbol != spec.symbol or other.side == side or not other.live:
                continue
            limits = limit_c is not None and spec.order_type == "limit" and other.type == "limit"
            if limits and limit_c is not None and other.limit_c is not None:
                crossed = limit_c - other.limit_c
                if not (crossed >= 0 if side == "buy" else crossed <= 0):
                    continue
            raise Refused(403, 40310000, "potential wash trade detected. use complex orders")

    def held_for_orders(self, symbol: str) -> int:
        """Shares that open sells hold; a group holds them once."""
        held, groups = 0, {}
        for order in self.open.values():
            if order.side != "sell" or order.symbol != symbol or not order.live:
                continue
            if order.group:
                groups[id(order.group)] = max(order.rest, groups.get(id(order.group), 0))
            else:
                held += order.rest
        return held + sum(groups.values())

    def _reserve_c(self, spec: OrderSpec) -> int:
        if spec.side is Side.SELL:
            return 0
        if spec.limit_price_usd is not None:
            return int(spec.limit_price_usd * 100)
        base = cents(spec.stop_price_usd) or self.price_c[spec.symbol] + self.half_spread_c(spec.symbol)
        return int(base * MARKET_BUY_MARGIN)

    # --- trading ---

    def half_spread_c(self, symbol: str) -> int:
        """Half the distance of bid and ask."""
        return max(1, round(self.price_c[symbol] / 10_000))

    def _activate(self, order: Order) -> None:
        if not order.open or order.status not in ("pending_new", "accepted") or not self.is_open:
            return
        self._change(order, "new")
        self._tell("new", order)
        self.consider(order)

    def consider(self, order: Order) -> None:
        """Have an order fill if it can at the price there is."""
        if order.due or not self.is_open or not order.live or order.symbol in self.halted:
            return
        if order.status in ("pending_new", "accepted"):
            return
        price_c = self.price_c[order.symbol]
        spread = self.half_spread_c(order.symbol)
        touch = price_c + spread if order.side == "buy" else price_c - spread
        if order.type == "limit":
            assert order.limit_c is not None
            if not (touch <= order.limit_c if order.side == "buy" else touch >= order.limit_c):
                return
        elif order.type == "stop":
            assert order.stop_c is not None
            if not (price_c >= order.stop_c if order.side == "buy" else price_c <= order.stop_c):
                return
        if order.type == "market" and self.fill_delay_s:
            order.due = self.kernel.now
            self.kernel.after(self.fill_delay_s * (0.05 + 2 * self.kernel.random()), lambda: self._due(order))
        else:
            self._fill(order, touch)

    def _due(self, order: Order) -> None:
        order.due = 0
        if not order.open or not self.is_open or order.symbol in self.halted:
            return
        spread = self.half_spread_c(order.symbol)
        self._fill(order, self.price_c[order.symbol] + (spread if order.side == "buy" else -spread))

    def _fill(self, order: Order, price_c: int) -> None:
        qty = order.rest
        split = order.may_split and not order.group and not order.filled and qty > 1 and self.partial_one_in
        if split and self.kernel.random() * self.partial_one_in < 1:
            qty = 1 + int(self.kernel.random() * (qty - 1))
        if order.side == "buy" and qty * price_c > self.cash_c:
            self._end_family(order, "canceled" if order.filled else "rejected")
            return
        self._trade(order, qty, price_c)
        order.filled += qty
        order.cost_c += qty * price_c
        fill = Fill(
            f"{order.id}:{order.filled}", order.id, order.symbol, Side(order.side), shares(qty), usd(price_c),
            moment(self.kernel.now),
        )  # fmt: skip
        self.fills.append(fill)
        self.fill_times.append(fill.at)
        for sibling in order.group:
            if sibling is not order and sibling.open:
                self._end(sibling, "canceled")
        self.on_fill(order, qty, price_c)
        if order.rest:
            if order.status != "pending_cancel":
                self._change(order, "partially_filled")
            else:
                self._change(order, "pending_cancel")
            self._tell("partial_fill", order, fill)
            order.due = self.kernel.now
            self.kernel.after(PARTIAL_PAUSE_S, lambda: self._rest(order))
            return
        self._end(order, "filled", fill)
        for leg in order.legs:
            if leg.open and not leg.live:
                leg.live = True
                self._change(leg, "new" if leg.type == "limit" else "held")
                if leg.type == "limit":
                    self._tell("new", leg)
        for leg in list(order.legs):
            if leg.open and order.order_class == "bracket":
                self.consider(leg)

    def _rest(self, order: Order) -> None:
        order.due = 0
        if order.open:
            if order.type == "market":
                self._due(order)
            else:
                self.consider(order)

    def _trade(self, order: Order, qty: int, price_c: int) -> None:
        held = self.holdings.setdefault(order.symbol, Holding())
        if order.side == "buy":
            self.cash_c -= qty * price_c
            held.qty += qty
            held.cost_c += qty * price_c
            return
        assert qty <= held.qty, "the rules reserve shares before a sell is accepted"
        self.cash_c += qty * price_c
        held.cost_c -= held.cost_c * qty // held.qty
        held.qty -= qty
        if not held.qty:
            del self.holdings[order.symbol]

    def tick(self, symbol: str, price_c: int) -> None:
        """A new price."""
        self.price_c[symbol] = price_c
        if self.is_open and symbol not in self.halted:
            for order in [order for order in self.open.values() if order.symbol == symbol]:
                if order.open:
                    self.consider(order)

    # --- days ---

    def open_session(self) -> None:
        """The opening: what waited for it comes into the market."""
        self.is_open = True
        for order in list(self.open.values()):
            if order.status == "accepted" and order.live:
                self._activate(order)
            elif order.open:
                self.consider(order)

    def close_session(self) -> None:
        """The close: DAY orders end."""
        self.is_open = False
        for order in list(self.open.values()):
            if order.open and order.tif == "day":
                self._end_family(order, "expired")
        self.last_equity_c = self.equity_c()

    # --- changes ---

    def _change(self, order: Order, status: str) -> None:
        order.status, order.updated, order.told, order.alone = status, self.kernel.now, None, None
        if order.parent is not None:
            order.parent.told = None

    def _tell(self, name: str, order: Order, fill: Fill | None = None) -> None:
        self.on_event(name, order, fill)

    def _end(self, order: Order, status: str, fill: Fill | None = None) -> None:
        self._change(order, status)
        self.open.pop(order.id, None)
        self._tell("fill" if fill else status, order, fill)

    def _end_family(self, order: Order, status: str) -> None:
        family = [order, *order.group, *(leg for leg in order.legs if not leg.live)]
        self._end(order, status)
        for other in family:
            if other is not order and other.open:
                self._end(other, "expired" if status == "expired" else "canceled")
