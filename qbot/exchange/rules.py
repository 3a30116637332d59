"""The rules of form: what an order request may look like, checked in a fixed order, before the book is asked.

Messages are Alpaca's where they were recorded; the few that were not are worded alike.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from qbot.exchange.orders import NewOrder
from qbot.exchange.quotes import tick
from qbot.exchange.refusals import Refused, bad_form, plain, unprocessable
from qbot.limits import CLIENT_ORDER_ID_MAX

SIDES = ("buy", "sell")
TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
TIMES_IN_FORCE = ("day", "gtc", "ioc", "fok")
AUCTIONS = ("opg", "cls")
CLASSES = ("", "simple", "bracket", "oco", "oto")
MAX_QTY = Decimal(10) ** 9
PRICE_FIELDS: dict[str, tuple[set[str], str]] = {
    "market": (set(), "market orders require no limit or stop price"),
    "limit": ({"limit_price"}, "limit orders require only limit price"),
    "stop": ({"stop_price"}, "stop orders require only stop price"),
    "stop_limit": ({"limit_price", "stop_price"}, "stop limit orders require both stop and limit price"),
}


def parse(body: Any) -> NewOrder:
    """The order a request asks for. Raises Refused."""
    if not isinstance(body, dict):
        raise Refused(400, "request body format is invalid", 40010000)
    if body.get("notional") is not None:
        raise unprocessable("notional orders are not offered by this exchange")
    order_class = body.get("order_class") or ""
    body = _oco_as_limit(body) if order_class == "oco" else body
    order = NewOrder(
        symbol=_word(body, "symbol"),
        qty=_positive(body, "qty") or _missing("qty"),
        side=_one_of(body, "side", SIDES),
        type=_one_of(body, "type", TYPES),
        time_in_force=_one_of(body, "time_in_force", TIMES_IN_FORCE + AUCTIONS),
        client_order_id=str(body.get("client_order_id") or uuid.uuid4()),
        order_class=order_class,
        limit_price=_positive(body, "limit_price"),
        stop_price=_positive(body, "stop_price"),
        trail_price=_positive(body, "trail_price"),
        trail_percent=_positive(body, "trail_percent"),
        extended_hours=bool(body.get("extended_hours")),
        take_profit_usd=_positive(_part(body, "take_profit"), "limit_price"),
        stop_loss_usd=_positive(_part(body, "stop_loss"), "stop_price"),
        stop_loss_limit_usd=_positive(_part(body, "stop_loss"), "limit_price"),
    )
    for check in CHECKS:
        check(order)
    return order


def _oco_as_limit(body: dict[str, Any]) -> dict[str, Any]:
    """An OCO is asked for as a limit order whose price stands in `take_profit`."""
    if body.get("type") != "limit":
        raise unprocessable("oco orders must be limit orders")
    price = _part(body, "take_profit").get("limit_price")
    if price is None:
        raise unprocessable("oco orders require take_profit.limit_price")
    return {**body, "limit_price": body.get("limit_price") or price}


def _known_words(order: NewOrder) -> None:
    if order.order_class not in CLASSES:
        raise bad_form(f"invalid order_class: {order.order_class}")
    if order.time_in_force in AUCTIONS:
        raise unprocessable(f"time_in_force {order.time_in_force} is not offered by this exchange")
    if len(order.client_order_id) > CLIENT_ORDER_ID_MAX:
        raise bad_form(f"client_order_id must be no more than {CLIENT_ORDER_ID_MAX} characters")
    if order.qty > MAX_QTY:
        raise bad_form(f"qty must be <= {plain(MAX_QTY)}")


def check_prices(order: NewOrder) -> None:
    """The prices that belong to the order's type, no others, and on the grid. Raises Refused."""
    given = {name for name in ("limit_price", "stop_price") if getattr(order, name) is not None}
    trails = [t for t in (order.trail_price, order.trail_percent) if t is not None]
    if order.type == "trailing_stop":
        if given or len(trails) != 1:
            raise bad_form("trailing stop orders must specify one of trail_price or trail_percent")
    elif given != PRICE_FIELDS[order.type][0] or trails:
        raise bad_form(PRICE_FIELDS[order.type][1])
    prices = {"limit_price": order.limit_price, "stop_price": order.stop_price, "trail_price": order.trail_price,
              "take_profit.limit_price": order.take_profit_usd, "stop_loss.stop_price": order.stop_loss_usd,
              "stop_loss.limit_price": order.stop_loss_limit_usd}  # fmt: skip
    for name, price in prices.items():
        if price is not None and price % tick(price):
            reason = "sub-penny increment does not fulfill minimum pricing criteria"
            raise unprocessable(f"invalid {name} {plain(price)}. {reason}")


def check_quantity(order: NewOrder) -> None:
    """Fractions only in simple DAY orders. Raises Refused."""
    if order.qty == order.qty.to_integral_value():
        return
    if order.complex:
        raise unprocessable("fractional orders must be simple orders")
    if order.time_in_force != "day":
        raise unprocessable("fractional orders must be DAY orders")


def check_time_in_force(order: NewOrder) -> None:
    """What goes with extended hours and with orders that must fill at once. Raises Refused."""
    resting = order.time_in_force in {"day", "gtc"}
    if order.extended_hours and (order.type != "limit" or not resting):
        raise unprocessable("extended hours order must be DAY or GTC limit orders")
    if not resting and order.type not in {"market", "limit"}:
        raise unprocessable(f"{order.time_in_force} orders must be market or limit orders")
    if order.complex and not resting:
        raise unprocessable(f"{order.order_class} orders must be DAY or GTC orders")
    if order.complex and order.extended_hours:
        raise unprocessable(f"{order.order_class} orders do not support extended hours")


def _legs(order: NewOrder) -> None:
    has_profit, has_stop = order.take_profit_usd is not None, order.stop_loss_usd is not None
    if not order.complex:
        if has_profit or has_stop:
            raise unprocessable("take_profit and stop_loss require a complex order_class")
        return
    if order.order_class in {"bracket", "oto"} and order.side != "buy":
        raise unprocessable(f"{order.order_class} orders must be entry orders")
    if order.order_class == "oco" and order.side != "sell":
        raise unprocessable("oco orders must be exit orders")
    if order.order_class == "oto":
        if has_profit == has_stop:
            raise unprocessable("oto orders require one of take_profit and stop_loss")
        return
    if not has_profit:
        raise unprocessable(f"{order.order_class} orders require take_profit.limit_price")
    if not has_stop:
        raise unprocessable(f"{order.order_class} orders require stop_loss.stop_price")
    if order.take_profit_usd <= order.stop_loss_usd:  # type: ignore[operator]  # both are there, see above
        raise unprocessable("take_profit.limit_price must be > stop_loss.stop_price")


CHECKS: tuple[Callable[[NewOrder], None], ...] = (
    _known_words, check_prices, check_quantity, check_time_in_force, _legs)  # fmt: skip


def _missing(name: str) -> Decimal:
    raise bad_form(f"{name} is required")


def _word(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise bad_form(f"{name} is required")
    return value


def _one_of(body: dict[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = _word(body, name)
    if value not in allowed:
        raise bad_form(f"invalid {name}: {value}")
    return value


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise bad_form(f"invalid {name}")
    return value


def _positive(body: dict[str, Any], name: str) -> Decimal | None:
    """A number over zero, given as a number or as text; None if it is not given."""
    value = body.get(name)
    if value is None or value == "":
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise bad_form(f"invalid {name}: {value}") from None
    if not number.is_finite() or number <= 0:
        raise bad_form(f"{name} must be > 0")
    return number


def patch(order: NewOrder, body: Any) -> NewOrder:
    """The order that a replacement asks for. Raises Refused."""
    if not isinstance(body, dict):
        raise Refused(400, "request body format is invalid", 40010000)
    trail = _positive(body, "trail")
    changes: dict[str, Any] = {name: number for name in ("qty", "limit_price", "stop_price")
                               if (number := _positive(body, name)) is not None}  # fmt: skip
    if trail is not None:
        changes["trail_price" if order.trail_price is not None else "trail_percent"] = trail
    if body.get("time_in_force"):
        changes["time_in_force"] = _one_of(body, "time_in_force", TIMES_IN_FORCE + AUCTIONS)
    changes["client_order_id"] = str(body.get("client_order_id") or uuid.uuid4())
    changed = dataclasses.replace(order, **changes)
    for check in (_known_words, check_prices, check_quantity, check_time_in_force):
        check(changed)
    return changed
