"""What goes to Alpaca and comes from it: the JSON bodies and our values, each way. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from alpaca.common.exceptions import APIError

from qbot.broker.protocol import MarketClock
from qbot.errors import BrokerRejected
from qbot.types import Account, Activity, BrokerOrder, Fill, OrderSpec, Position, Side

Raw = dict[str, Any]
ORDERS_PAGE = 500
ACTIVITIES_PAGE = 100
NO_ORDERS_FLAGS = ("trading_blocked", "account_blocked", "trade_suspended_by_user")
ACTIVE = "ACTIVE"
WRONG_KEYS = " (these keys are not accepted: QBot trades on paper accounts, where the keys of a live one are refused)"
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)  # before any account


def order_payload(spec: OrderSpec) -> Raw:
    """The JSON body of POST /v2/orders: numbers as strings, so that no float touches a price."""
    body: Raw = {
        "symbol": spec.symbol,
        "qty": str(spec.qty),
        "side": str(spec.side),
        "type": str(spec.order_type),
        "time_in_force": str(spec.time_in_force),
        "client_order_id": spec.client_order_id,
    }
    if spec.limit_price_usd is not None:
        body["limit_price"] = str(spec.limit_price_usd)
    if spec.stop_price_usd is not None:
        body["stop_price"] = str(spec.stop_price_usd)
    if spec.extended_hours:
        body["extended_hours"] = True
    if spec.take_profit_usd is not None and spec.stop_loss_usd is not None:
        body["order_class"] = "bracket" if spec.side == Side.BUY else "oco"
        body["take_profit"] = {"limit_price": str(spec.take_profit_usd)}
        body["stop_loss"] = {"stop_price": str(spec.stop_loss_usd)}
    return body


def flat(raws: Sequence[Raw]) -> list[BrokerOrder]:
    """Orders in a list, each followed by its legs. Option spreads have neither side nor symbol and are left out."""
    shares = [parse_order(raw) for raw in raws if raw.get("order_class") != "mleg"]
    return [one for order in shares for one in (order, *order.legs)]


def orders_page(raws: Sequence[Raw]) -> tuple[list[BrokerOrder], datetime | None]:
    """The orders of a page, and the time of its last one if there may be a next page."""
    return flat(raws), parse_time(raws[-1]["submitted_at"]) if len(raws) == ORDERS_PAGE else None


def fills_page(raws: Sequence[Raw]) -> tuple[list[Fill], str | None]:
    """The fills of a page, and the token of the next one if there may be one."""
    return [_fill(raw) for raw in raws], str(raws[-1]["id"]) if len(raws) == ACTIVITIES_PAGE else None


def activities_page(raws: Sequence[Raw]) -> tuple[list[Activity], str | None]:
    """As `fills_page`, of the other activities."""
    return [_activity(raw) for raw in raws], str(raws[-1]["id"]) if len(raws) == ACTIVITIES_PAGE else None


def parse_order(raw: Raw, parent_id: str | None = None) -> BrokerOrder:
    """One order object of the REST API or of a `trade_updates` event, with its legs where it has them."""
    return BrokerOrder(
        broker_order_id=raw["id"],
        client_order_id=raw["client_order_id"],
        symbol=raw["symbol"],
        side=Side(raw["side"]),
        qty=Decimal(raw["qty"] or 0),
        filled_qty=Decimal(raw["filled_qty"] or 0),
        filled_avg_price_usd=_decimal(raw.get("filled_avg_price")),
        order_type=raw["type"],
        time_in_force=raw["time_in_force"],
        limit_price_usd=_decimal(raw.get("limit_price")),
        stop_price_usd=_decimal(raw.get("stop_price")),
        status=raw["status"],
        created_at=parse_time(raw["created_at"]),
        updated_at=parse_time(raw["updated_at"] or raw["created_at"]),
        parent_id=parent_id,
        order_class=raw.get("order_class") or "",
        replaces=raw.get("replaces"),
        legs=tuple(parse_order(leg, raw["id"]) for leg in raw.get("legs") or ()),
        raw=raw,
    )


def market_clock(raw: Raw) -> MarketClock:
    """GET /v2/clock"""
    return MarketClock(
        parse_time(raw["timestamp"]),
        bool(raw["is_open"]),
        parse_time(raw["next_open"]),
        parse_time(raw["next_close"]),
    )


def account(raw: Raw) -> Account:
    """GET /v2/account"""
    return Account(
        equity_usd=Decimal(raw["equity"]),
        last_equity_usd=Decimal(raw["last_equity"]),
        cash_usd=Decimal(raw["cash"]),
        buying_power_usd=Decimal(raw["buying_power"]),
        account_id=raw.get("id"),
        number=raw.get("account_number"),
        blocked=_blocked(raw),
    )


def _blocked(raw: Raw) -> tuple[str, ...]:
    """The flags that forbid orders; one that is neither true nor false counts as raised. A venue may leave them out."""
    flags = tuple(flag for flag in NO_ORDERS_FLAGS if raw.get(flag, False) is not False)
    status = raw.get("status", ACTIVE)
    return flags if status == ACTIVE else (*flags, f"status {status}")


def positions(raws: Sequence[Raw]) -> list[Position]:
    """GET /v2/positions"""
    return [_position(raw) for raw in raws]


def _position(raw: Raw) -> Position:
    return Position(
        symbol=raw["symbol"],
        qty=Decimal(raw["qty"]),
        avg_entry_price_usd=Decimal(raw["avg_entry_price"]),
        market_value_usd=Decimal(raw["market_value"] or 0),
        unrealized_pl_usd=Decimal(raw["unrealized_pl"] or 0),
        current_price_usd=Decimal(raw["current_price"] or raw["avg_entry_price"]),
    )


def _fill(raw: Raw) -> Fill:
    # Order id and cumulative quantity name an execution in REST and on the stream alike; the ids of the two differ.
    return Fill(
        execution_id=execution_id(raw["order_id"], Decimal(raw["cum_qty"])),
        broker_order_id=raw["order_id"],
        symbol=raw["symbol"],
        side=Side.SELL if raw["side"].startswith("sell") else Side.BUY,
        qty=Decimal(raw["qty"]),
        price_usd=Decimal(raw["price"]),
        at=parse_time(raw["transaction_time"]),
    )


def _activity(raw: Raw) -> Activity:
    day = date.fromisoformat(raw["date"][:10])
    return Activity(
        activity_id=raw["id"],
        kind=raw["activity_type"],
        amount_usd=Decimal(raw.get("net_amount") or 0),
        day=day,
        at=parse_time(raw["created_at"]) if raw.get("created_at") else _made_at(raw["id"]),
        sub_kind=raw.get("activity_sub_type"),
        symbol=raw.get("symbol"),
        qty=_decimal(raw.get("qty")),
        status=raw.get("status") or "executed",
        description=raw.get("description") or "",
    )


def _made_at(activity_id: str) -> datetime:
    """An activity's id begins with its time, to the millisecond: `yyyymmddHHMMSSmmm::`."""
    digits = activity_id.partition(":")[0]
    return datetime.strptime(digits[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def execution_id(order_id: str, cumulative_qty: Decimal) -> str:
    """The name of the execution that brought `order_id` to `cumulative_qty`."""
    return f"{order_id}:{cumulative_qty.normalize():f}"


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def parse_time(text: str) -> datetime:
    """RFC 3339 with up to nine fractional digits; Python keeps six."""
    return datetime.fromisoformat(text).astimezone(UTC)


def rejected(error: APIError) -> BrokerRejected:
    """An HTTP error with the venue's own code and message, as far as the body has them."""
    text = str(error)
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = {}
    body = body if isinstance(body, dict) else {}
    code = body.get("code")
    message = body.get("message") or text[:200] or "no message"
    if error.status_code == 401:
        message += WRONG_KEYS
    return BrokerRejected(
        f"HTTP {error.status_code}: {message}",
        status=error.status_code or 0,
        code=code if isinstance(code, int) else None,
    )
