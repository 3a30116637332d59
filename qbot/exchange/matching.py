"""When and at what price an order fires on the path of its symbol's price. Pure.

Buys trade at the ask, sells at the bid. Where the price jumps (an opening, a missing bar) an order gets the price after
the jump: better than its limit, or worse than its stop, as the market would have it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from qbot.exchange.market import Leg, to_price
from qbot.exchange.orders import Order
from qbot.exchange.quotes import ask, bid, half_spread, tick

PARTIAL_ONE_IN = 10  # as on the vendor's paper account: about 10 % of orders fill in two steps
ROUNDING_USD = 0.01  # prices are rounded to cents after the path is read
PARTIAL_PAUSE_S = 10.0  # market seconds until the rest may fill: at least one tick of the engine at replay speed


@dataclass(frozen=True, slots=True)
class Firing:
    """At `at_s` the order fills at `price_usd`; or, if `trigger`, its stop is reached with the trade price there."""

    at_s: float
    price_usd: Decimal
    trigger: bool = False


def firing(order: Order, legs: Iterable[Leg]) -> Firing | None:
    """The first moment on `legs` at which `order` fires. A trailing stop's high-water mark follows on the way."""
    for leg in legs:
        found = _on_leg(order, leg)
        if found:
            return found
    return None


def price_range(legs: Iterable[Leg]) -> tuple[float, float]:
    """The lowest and the highest price on a path; of an empty one a range that contains nothing."""
    low, high = math.inf, -math.inf
    for leg in legs:
        low = min(low, leg.from_usd, leg.to_usd)
        high = max(high, leg.from_usd, leg.to_usd)
    return low, high


def quiet_range(order: Order) -> tuple[float, float] | None:
    """The prices between which a resting order surely does not fire; None if it always has to be looked at."""
    if order.status not in {"new", "held", "partially_filled"} or order.type in {"market", "trailing_stop"}:
        return None
    if order.type == "limit" or (order.type == "stop_limit" and order.triggered):
        fires_below, price = order.buying, order.limit_price
    elif order.triggered:
        return None
    else:
        fires_below, price = not order.buying, order.stop_price
    assert price is not None
    bound = float(price)
    return (bound + ROUNDING_USD, math.inf) if fires_below else (-math.inf, bound - ROUNDING_USD)


def _on_leg(order: Order, leg: Leg) -> Firing | None:
    if order.type == "market" or (order.triggered and order.type in {"stop", "trailing_stop"}):
        return Firing(leg.begin_s, market_price(order.side, to_price(leg.from_usd)))
    if order.type == "limit" or order.triggered:
        return _limit(order, leg)
    if order.type == "trailing_stop":
        return _trailing(order, leg)
    assert order.stop_price is not None
    return _stop(order.buying, order.stop_price, leg)


def market_price(side: str, trade_price: Decimal) -> Decimal:
    """What a market order gets when the last trade was at `trade_price`."""
    return ask(trade_price) if side == "buy" else bid(trade_price)


def _limit(order: Order, leg: Leg) -> Firing | None:
    limit = order.limit_price
    assert limit is not None
    begin, end = (market_price(order.side, to_price(usd)) for usd in (leg.from_usd, leg.to_usd))
    if begin <= limit if order.buying else begin >= limit:
        return Firing(leg.begin_s, begin)
    if end <= limit if order.buying else end >= limit:
        spread = half_spread(to_price(leg.to_usd))
        return Firing(_crossing(leg, limit - spread if order.buying else limit + spread), limit)
    return None


def _stop(buying: bool, stop: Decimal, leg: Leg) -> Firing | None:
    begin, end = to_price(leg.from_usd), to_price(leg.to_usd)
    if begin >= stop if buying else begin <= stop:
        return Firing(leg.begin_s, begin, trigger=True)
    if end >= stop if buying else end <= stop:
        return Firing(_crossing(leg, stop), stop, trigger=True)
    return None


def _trailing(order: Order, leg: Leg) -> Firing | None:
    """A leg is straight: either the mark follows it to its end, or the stop may be met on it, never both."""
    best = max if not order.buying else min
    begin = to_price(leg.from_usd)
    order.hwm = best(order.hwm, begin) if order.hwm is not None else begin
    order.stop_price = trailing_stop_price(order)
    found = _stop(order.buying, order.stop_price, leg)
    if not found:
        order.hwm = best(order.hwm, to_price(leg.to_usd))
        order.stop_price = trailing_stop_price(order)
    return found


def trailing_stop_price(order: Order) -> Decimal:
    """The stop that the high-water mark and the trail give."""
    assert order.hwm is not None
    trail = order.trail_price if order.trail_price is not None else order.hwm * (order.trail_percent or 0) / 100
    price = order.hwm + trail if order.buying else order.hwm - trail
    return price.quantize(tick(order.hwm))


def _crossing(leg: Leg, price: Decimal) -> float:
    """The moment the leg passes `price`."""
    run = leg.to_usd - leg.from_usd
    share = (float(price) - leg.from_usd) / run if run else 0.0
    return leg.begin_s + min(max(share, 0.0), 1.0) * (leg.end_s - leg.begin_s)


def first_part(order: Order, one_in: int = PARTIAL_ONE_IN) -> Decimal:
    """How much the next execution fills: all that is left, but in about one order of `one_in` a part of it first.

    0: never. Which order, and how much, comes from its id, so that a replay repeats itself. Fractions, all-or-none
    orders and the legs of a group (of which at most one may fill) are never split.
    """
    whole = order.remaining == order.remaining.to_integral_value() and order.remaining > 1
    if order.split_done or not whole or not one_in or order.time_in_force == "fok" or order.group_id:
        return order.remaining
    chance, rest = divmod(int.from_bytes(hashlib.sha256(order.id.encode()).digest()[:8]), one_in)
    if rest:
        return order.remaining
    return Decimal(1 + chance % (int(order.remaining) - 1))
