"""The venue's refusals, with the HTTP status and the body that Alpaca gives them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from qbot.errors import QBotError

BAD_FORM = 40010001
FORBIDDEN = 40310000
UNPROCESSABLE = 42210000
NOT_FOUND = 40410000


class Refused(QBotError):
    """The exchange refuses a request: the caller gets `status` and `body`, nothing has changed."""

    def __init__(self, status: int, message: str, code: int | None, **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.body: dict[str, Any] = {**more, **({} if code is None else {"code": code}), "message": message}


def bad_form(message: str) -> Refused:
    """422: the request is not what this endpoint takes."""
    return Refused(422, message, BAD_FORM)


def unprocessable(message: str, **more: str) -> Refused:
    """422: well formed, but the venue does not do it."""
    return Refused(422, message, UNPROCESSABLE, **more)


def duplicate_client_order_id() -> Refused:
    """422: an id is never free again."""
    return bad_form("client_order_id must be unique")


def order_not_found(order_id: str) -> Refused:
    """404: no order has this id."""
    return Refused(404, f"order not found for {order_id}", NOT_FOUND)


def position_not_found() -> Refused:
    """404: no shares are held."""
    return Refused(404, "position does not exist", NOT_FOUND)


def asset_not_found(symbol: str) -> Refused:
    """404: the exchange does not list it."""
    return Refused(404, f"asset not found for {symbol}", NOT_FOUND)


def insufficient_buying_power(buying_power: Decimal, cost_basis: Decimal) -> Refused:
    """403: the account cannot pay for it."""
    body = {"buying_power": plain(buying_power), "cost_basis": plain(cost_basis)}
    return Refused(403, "insufficient buying power", FORBIDDEN, **body)


def insufficient_qty(symbol: str, requested: Decimal, existing: Decimal, held: Decimal) -> Refused:
    """403: fewer shares are free than were to be sold."""
    available = plain(existing - held)
    message = f"insufficient qty available for order (requested: {plain(requested)}, available: {available})"
    return Refused(403, message, FORBIDDEN, available=available, existing_qty=plain(existing),
                   held_for_orders=plain(held), symbol=symbol)  # fmt: skip


def wash_trade(existing_order_id: str, reason: str) -> Refused:
    """403: an order of the other side is open that it might trade with."""
    message = "potential wash trade detected. use complex orders"
    return Refused(403, message, FORBIDDEN, existing_order_id=existing_order_id, reject_reason=reason)


def plain(number: Decimal) -> str:
    """A number as the venue writes it: no exponent, no trailing zeros."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text
