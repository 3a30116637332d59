"""Alpaca through `alpaca-py`, read as raw data: an order status the SDK does not know must not raise after the order
was placed. Facts of the wire are in `docs/alpaca.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from alpaca.common.exceptions import APIError
from alpaca.common.rest import RESTClient
from alpaca.trading.client import TradingClient

from qbot import limits
from qbot.broker import alpaca_wire as wire
from qbot.broker.alpaca_wire import ACTIVITIES_PAGE, ORDERS_PAGE, Raw
from qbot.broker.pace import Pace
from qbot.broker.protocol import MarketClock, no_fence
from qbot.errors import UNREADABLE, BrokerError, BrokerRejected, ConfigError, OrderInDoubt
from qbot.settings import Settings
from qbot.types import Account, Activity, BrokerOrder, Fill, OrderSpec, Position, Side

T = TypeVar("T")
DUPLICATE_ID = "client_order_id must be unique"
TIMED_OUT = 408  # a proxy's word for what 504 says, too: the order may have got through
VENDOR, PAPER_HOST = "alpaca.markets", "paper-api.alpaca.markets"
RESOLUTION = timedelta(microseconds=1)  # of our times; the venue's have nine digits


def harden(client: RESTClient, timeout_s: tuple[float, float] = limits.BROKER_TIMEOUT_S) -> None:
    """Make an alpaca-py client safe: no silent re-POST on 429 and 504, and a time-out on every request.

    Both are private attributes of the pinned version; a test asserts that they still do what is meant here.
    """
    client._retry = 0
    client._session.request = partial(client._session.request, timeout=timeout_s)  # type: ignore[method-assign]


class AlpacaBroker:
    """The Broker at Alpaca or at the paper exchange. Threads take turns: the SDK shares one session."""

    def __init__(self, client: TradingClient, timeout_s: tuple[float, float] = limits.BROKER_TIMEOUT_S) -> None:
        harden(client, timeout_s)
        self._client = client
        self._lock = Lock()
        self._pace = Pace()
        client._session.hooks["response"].append(lambda answer, **_options: self._pace.heard(answer.headers))

    def clock(self) -> MarketClock:
        return self._get("/clock", wire.market_clock)

    def account(self) -> Account:
        return self._get("/account", wire.account)

    def positions(self) -> list[Position]:
        return self._get("/positions", wire.positions)

    def open_orders(self) -> list[BrokerOrder]:
        # Not nested: rolled up, the legs of a filled bracket vanish together with their closed parent.
        orders = self._orders({"status": "open", "nested": "false"}, wire.BEGINNING)
        return [order for order in orders if order.open]

    def orders_since(self, after: datetime) -> list[BrokerOrder]:
        return self._orders({"status": "all", "nested": "true"}, after)

    def _orders(self, query: Raw, after: datetime) -> list[BrokerOrder]:
        """All pages, oldest first."""
        orders: dict[str, BrokerOrder] = {}
        query = {**query, "limit": ORDERS_PAGE, "direction": "asc"}
        while True:
            page, last = self._get("/orders", wire.orders_page, {**query, "after": after.isoformat()})
            new = [order for order in page if order.broker_order_id not in orders]
            orders.update((order.broker_order_id, order) for order in page)
            if last is None or not new:
                return list(orders.values())
            after = last - RESOLUTION  # `after` excludes: others of the same moment may stand on the next page

    def order_by_client_id(self, client_order_id: str) -> BrokerOrder | None:
        try:
            return self._get("/orders:by_client_order_id", wire.parse_order, {"client_order_id": client_order_id})
        except BrokerRejected as refused:
            if refused.status == 404:
                return None
            raise

    def fills_since(self, after: datetime) -> list[Fill]:
        fills: list[Fill] = []
        query: Raw = {"after": after.isoformat(), "page_size": ACTIVITIES_PAGE, "direction": "asc"}
        while True:
            page, token = self._get("/account/activities/FILL", wire.fills_page, query)
            fills += page
            if token is None:
                return fills
            query["page_token"] = token

    def activities_since(self, after: datetime) -> list[Activity]:
        found: list[Activity] = []
        query: Raw = {"category": "non_trade_activity", "after": after.isoformat(), "direction": "asc"}
        query["page_size"] = ACTIVITIES_PAGE
        while True:
            page, token = self._get("/account/activities", wire.activities_page, query)
            found += page
            if token is None:
                return found
            query["page_token"] = token

    def submit(self, spec: OrderSpec, fence: Callable[[], None] = no_fence) -> BrokerOrder:
        body, passed = wire.order_payload(spec), False

        def post() -> Any:
            nonlocal passed
            fence()
            passed = True
            return self._client.post("/orders", body)

        try:
            raw = self._call(post, pressing=spec.side is Side.SELL)
        except BrokerRejected as refused:
            if refused.status >= 500 or refused.status == TIMED_OUT:
                raise OrderInDoubt(str(refused)) from refused
            if DUPLICATE_ID not in str(refused):
                raise
            return self._placed_before(spec.client_order_id)
        except BrokerError as broken:
            if not passed:
                raise
            raise OrderInDoubt(str(broken)) from broken
        try:
            return wire.parse_order(raw)
        except UNREADABLE as broken:
            raise OrderInDoubt(f"unreadable answer to an order: {broken!r}") from broken

    def _placed_before(self, client_order_id: str) -> BrokerOrder:
        """The id is taken: an earlier send of this very intent arrived after all. Raises OrderInDoubt."""
        try:
            found = self.order_by_client_id(client_order_id)
        except BrokerError as broken:
            raise OrderInDoubt(f"the id is taken, but the order cannot be looked up: {broken}") from broken
        if found is None:
            raise OrderInDoubt("the id is taken, but the order cannot be found")
        return found

    def cancel(self, broker_order_id: str) -> None:
        try:
            self._call(lambda: self._client.delete(f"/orders/{broker_order_id}"), pressing=True)
        except BrokerRejected as refused:
            if refused.status not in (404, 422):  # gone, or already in a final state
                raise

    def cancel_all(self) -> int:
        answers = self._call(lambda: self._client.delete("/orders"), pressing=True)
        try:
            return sum(1 for answer in answers or [] if int(answer["status"]) == 200)
        except UNREADABLE as broken:
            raise BrokerError(f"unreadable answer to the cancelling of all orders: {broken!r}") from broken

    def close_all(self, symbols: Sequence[str]) -> None:
        failed: list[BrokerError] = []
        for symbol in symbols:
            try:
                self._call(partial(self._client.delete, f"/positions/{symbol}"), pressing=True)
            except BrokerError as error:
                failed.append(error)
        if failed:
            raise BrokerError(
                f"{len(failed)} of {len(symbols)} positions could not be closed: {failed[0]}"
            ) from failed[0]

    def _get(self, path: str, parse: Callable[[Any], T], query: Raw | None = None) -> T:
        """One answer, parsed. Raises BrokerError for one in another form, too."""
        raw = self._call(lambda: self._client.get(path, query))
        try:
            return parse(raw)
        except UNREADABLE as broken:
            raise BrokerError(f"unreadable answer to {path}: {broken!r}") from broken

    def _call(self, request: Callable[[], T], *, pressing: bool = False) -> T:
        """Run one request. Raises BrokerRejected on an HTTP error, BrokerError when there was no answer."""
        self._pace.before(pressing=pressing)
        try:
            with self._lock:
                return request()
        except APIError as error:
            raise wire.rejected(error) from error
        except (requests.RequestException, ValueError, RecursionError) as error:  # the last: nested too deeply
            raise BrokerError(f"no usable answer: {type(error).__name__}") from error


def connect(settings: Settings) -> AlpacaBroker:
    """The broker of the environment, a paper account. Raises ConfigError without keys."""
    key, secret = settings.alpaca_api_key.get_secret_value(), settings.alpaca_secret_key.get_secret_value()
    if not key or not secret:
        raise ConfigError("no broker keys: set QBOT_ALPACA_API_KEY and QBOT_ALPACA_SECRET_KEY, or run `qbot up`")
    client = TradingClient(key, secret, paper=True, raw_data=True, url_override=paper_url(settings))
    return AlpacaBroker(client)


def paper_url(settings: Settings) -> str | None:
    """The trading API of the environment; None: the vendor's paper account. Raises ConfigError for one of real money.

    Whatever keys are set: an address alone must not make paper trading live.
    """
    host = (urlsplit(settings.alpaca_url or "").hostname or "").rstrip(".")
    if (host == VENDOR or host.endswith(f".{VENDOR}")) and host != PAPER_HOST:
        raise ConfigError(f"QBOT_ALPACA_URL names {host}, which trades real money; QBot trades on paper accounts only")
    return settings.alpaca_url
