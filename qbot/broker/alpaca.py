"""Alpaca through `alpaca-py`, read as raw data: an order status the SDK does not know must not raise after the order
was placed. Facts of the wire are in `docs/alpaca.md`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import requests
from alpaca.common.exceptions import APIError
from alpaca.common.rest import RESTClient
from alpaca.trading.client import TradingClient

from qbot import limits
from qbot.broker.protocol import MarketClock
from qbot.errors import BrokerError, BrokerRejected, ConfigError, OrderInDoubt
from qbot.settings import Settings
from qbot.types import Account, BrokerOrder, Fill, OrderSpec, Position, Side

T = TypeVar("T")
Raw = dict[str, Any]
DUPLICATE_ID = "client_order_id must be unique"
ORDERS_PAGE = 500
ACTIVITIES_PAGE = 100


def harden(client: RESTClient) -> None:
    """Make an alpaca-py client safe: no silent re-POST on 429 and 504, and a time-out on every request.

    Both are private attributes of the pinned version; a test asserts that they still do what is meant here.
    """
    client._retry = 0
    client._session.request = partial(client._session.request, timeout=limits.BROKER_TIMEOUT_S)  # type: ignore[method-assign]


class AlpacaBroker:
    """The Broker at Alpaca or at the paper exchange. Threads take turns: the SDK shares one session."""

    def __init__(self, client: TradingClient) -> None:
        harden(client)
        self._client = client
        self._lock = Lock()

    def clock(self) -> MarketClock:
        raw = self._get("/clock")
        return MarketClock(
            parse_time(raw["timestamp"]),
            bool(raw["is_open"]),
            parse_time(raw["next_open"]),
            parse_time(raw["next_close"]),
        )

    def account(self) -> Account:
        raw = self._get("/account")
        return Account(
            equity_usd=Decimal(raw["equity"]),
            last_equity_usd=Decimal(raw["last_equity"]),
            cash_usd=Decimal(raw["cash"]),
            buying_power_usd=Decimal(raw["buying_power"]),
        )

    def positions(self) -> list[Position]:
        return [_position(raw) for raw in self._get("/positions")]

    def open_orders(self) -> list[BrokerOrder]:
        raw = self._get("/orders", {"status": "open", "limit": ORDERS_PAGE, "nested": "true"})
        return [order for order in _with_legs(raw) if order.open]

    def orders_since(self, after: datetime) -> list[BrokerOrder]:
        orders: dict[str, BrokerOrder] = {}
        while True:
            query = {"status": "all", "limit": ORDERS_PAGE, "nested": "true", "direction": "asc"}
            page = self._get("/orders", {**query, "after": after.isoformat()})
            orders.update((order.broker_order_id, order) for order in _with_legs(page))
            last = parse_time(page[-1]["submitted_at"]) if page else after
            if len(page) < ORDERS_PAGE or last <= after:
                return list(orders.values())
            after = last

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        try:
            raw = self._get("/orders:by_client_order_id", {"client_order_id": client_order_id})
        except BrokerRejected as refused:
            if refused.status == 404:
                return None
            raise
        return _order(raw)

    def fills_since(self, after: datetime) -> list[Fill]:
        return [_fill(raw) for raw in self._activities(after)]

    def submit(self, spec: OrderSpec) -> BrokerOrder:
        try:
            raw: Any = self._call(lambda: self._client.post("/orders", order_payload(spec)))
        except BrokerRejected as refused:
            if refused.status >= 500:
                raise OrderInDoubt(str(refused)) from refused
            if DUPLICATE_ID not in str(refused):
                raise
            # The id is taken: an earlier send of this very intent arrived after all.
            found = self.order_by_client_id(spec.client_order_id)
            if found is None:
                raise OrderInDoubt("the id is taken, but the order cannot be found") from refused
            return found
        except BrokerError as broken:
            raise OrderInDoubt(str(broken)) from broken
        try:
            return _order(raw)
        except (KeyError, TypeError, ValueError, ArithmeticError) as broken:
            raise OrderInDoubt(f"unreadable answer to an order: {broken!r}") from broken

    def cancel(self, broker_order_id: str) -> None:
        try:
            self._call(lambda: self._client.delete(f"/orders/{broker_order_id}"))
        except BrokerRejected as refused:
            if refused.status not in (404, 422):  # gone, or already in a final state
                raise

    def cancel_all(self) -> int:
        answers = self._call(lambda: self._client.delete("/orders"))
        return sum(1 for answer in answers or [] if int(answer["status"]) == 200)

    def close_all(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            self._call(partial(self._client.delete, f"/positions/{symbol}"))

    def _activities(self, after: datetime) -> Iterator[Raw]:
        query: Raw = {"after": after.isoformat(), "page_size": ACTIVITIES_PAGE, "direction": "asc"}
        while True:
            page = self._get("/account/activities/FILL", query)
            yield from page
            if len(page) < ACTIVITIES_PAGE:
                return
            query["page_token"] = page[-1]["id"]

    def _get(self, path: str, query: Raw | None = None) -> Any:
        return self._call(lambda: self._client.get(path, query))

    def _call(self, request: Callable[[], T]) -> T:
        """Run one request. Raises BrokerRejected on an HTTP error, BrokerError when there was no answer."""
        try:
            with self._lock:
                return request()
        except APIError as error:
            raise _rejected(error) from error
        except (requests.RequestException, ValueError) as error:
            raise BrokerError(f"no usable answer: {type(error).__name__}") from error


def connect(settings: Settings, *, paper: bool = True) -> AlpacaBroker:
    """The broker of the environment. Raises ConfigError without keys."""
    key, secret = settings.alpaca_api_key.get_secret_value(), settings.alpaca_secret_key.get_secret_value()
    if not key or not secret:
        raise ConfigError("no broker keys: set QBOT_ALPACA_API_KEY and QBOT_ALPACA_SECRET_KEY, or run `qbot up`")
    client = TradingClient(key, secret, paper=paper, raw_data=True, url_override=settings.alpaca_url)
    return AlpacaBroker(client)


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
        body["order_class"] = "bracket"
        body["take_profit"] = {"limit_price": str(spec.take_profit_usd)}
        body["stop_loss"] = {"stop_price": str(spec.stop_loss_usd)}
    return body


def parse_order(raw: Raw) -> BrokerOrder:
    """One order object of the REST API or of a `trade_updates` event."""
    return _order(raw)


def _with_legs(raws: Sequence[Raw]) -> Iterator[BrokerOrder]:
    for raw in raws:
        yield _order(raw)
        for leg in raw.get("legs") or []:
            yield _order(leg, parent_id=raw["id"])


def _order(raw: Raw, parent_id: str | None = None) -> BrokerOrder:
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
        raw=raw,
    )


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


def execution_id(order_id: str, cumulative_qty: Decimal) -> str:
    """The name of the execution that brought `order_id` to `cumulative_qty`."""
    return f"{order_id}:{cumulative_qty.normalize():f}"


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def parse_time(text: str) -> datetime:
    """RFC 3339 with up to nine fractional digits; Python keeps six."""
    return datetime.fromisoformat(text).astimezone(UTC)


def _rejected(error: APIError) -> BrokerRejected:
    text = str(error)
    try:
        body = json.loads(text)
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    code = body.get("code")
    message = body.get("message") or text[:200] or "no message"
    return BrokerRejected(
        f"HTTP {error.status_code}: {message}",
        status=error.status_code or 0,
        code=code if isinstance(code, int) else None,
    )
