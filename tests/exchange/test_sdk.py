"""The unmodified alpaca-py client trades on the exchange over HTTP as it would on the vendor's paper account."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import (
    StockBarsRequest,
    StockLatestBarRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
    StockSnapshotRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderClass, OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
from alpaca.trading.models import Order
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetCalendarRequest,
    GetOrdersRequest,
    GetPortfolioHistoryRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
    StopLossRequest,
    StopOrderRequest,
    TakeProfitRequest,
    TrailingStopOrderRequest,
)

from qbot.exchange.market import read_bars
from tests.support.exchange import KEY, MID_SESSION, SECRET, RunningExchange, exchange_thread

BUY, SELL, DAY, GTC = OrderSide.BUY, OrderSide.SELL, TimeInForce.DAY, TimeInForce.GTC


@pytest.fixture
def client(exchange: RunningExchange) -> TradingClient:
    return TradingClient(KEY, SECRET, paper=True, url_override=exchange.url)


@pytest.fixture
def data(exchange: RunningExchange) -> StockHistoricalDataClient:
    return StockHistoricalDataClient(KEY, SECRET, url_override=exchange.url)


def market_order(symbol: str = "AAPL", qty: int = 10, side: OrderSide = BUY, **more: Any) -> MarketOrderRequest:
    return MarketOrderRequest(symbol=symbol, qty=qty, side=side, **{"time_in_force": DAY, **more})


def limit_order(price: float, side: OrderSide = BUY, **more: Any) -> LimitOrderRequest:
    return LimitOrderRequest(symbol="AAPL", qty=10, side=side, limit_price=price, **{"time_in_force": GTC, **more})


def read(client: TradingClient, order: Any) -> Order:
    found = client.get_order_by_id(order.id)
    assert isinstance(found, Order)
    return found


def refusal(caught: pytest.ExceptionInfo[APIError]) -> tuple[int, int, str]:
    return caught.value.status_code, caught.value.code, caught.value.message


def test_a_market_order_is_answered_as_pending_and_then_filled(
    client: TradingClient, exchange: RunningExchange
) -> None:
    order: Any = client.submit_order(market_order(client_order_id="mine"))
    assert (order.status, order.filled_qty, order.order_class) == (OrderStatus.PENDING_NEW, "0", OrderClass.SIMPLE)
    found = read(client, order)
    assert (found.status, found.filled_qty, found.client_order_id) == (OrderStatus.FILLED, "10", "mine")
    position: Any = client.get_open_position("AAPL")
    assert (position.qty, position.avg_entry_price) == ("10", found.filled_avg_price)
    account: Any = client.get_account()
    assert Decimal(account.cash) == Decimal(100_000) - 10 * Decimal(str(found.filled_avg_price))
    assert Decimal(account.equity) == Decimal(account.cash) + Decimal(position.market_value)


@pytest.mark.parametrize(
    "wanted",
    [
        limit_order(150, time_in_force=DAY),
        limit_order(150, time_in_force=GTC),
        limit_order(150, time_in_force=DAY, extended_hours=True),
        StopOrderRequest(symbol="AAPL", qty=10, side=BUY, time_in_force=GTC, stop_price=300),
        StopLimitOrderRequest(symbol="AAPL", qty=10, side=BUY, time_in_force=DAY, stop_price=300, limit_price=301),
        TrailingStopOrderRequest(symbol="AAPL", qty=10, side=BUY, time_in_force=DAY, trail_price=50),
        TrailingStopOrderRequest(symbol="AAPL", qty=10, side=BUY, time_in_force=DAY, trail_percent=20),
    ],
    ids=lambda wanted: f"{wanted.type.value}-{wanted.time_in_force.value}",
)
def test_every_resting_order_is_taken_found_and_canceled(client: TradingClient, wanted: Any) -> None:
    order: Any = client.submit_order(wanted)
    assert read(client, order).status == OrderStatus.NEW
    assert [o.id for o in client.get_orders()] == [order.id]  # type: ignore[union-attr]
    client.cancel_order_by_id(order.id)
    assert read(client, order).status == OrderStatus.CANCELED and client.get_orders() == []


@pytest.mark.parametrize("tif", [TimeInForce.IOC, TimeInForce.FOK])
def test_orders_that_must_trade_at_once_do_or_end(client: TradingClient, tif: TimeInForce) -> None:
    assert read(client, client.submit_order(market_order(qty=1, time_in_force=tif))).status == OrderStatus.FILLED
    assert read(client, client.submit_order(limit_order(150, time_in_force=tif))).status == OrderStatus.CANCELED


def test_a_bracket_lives_through_its_legs(client: TradingClient, exchange: RunningExchange) -> None:
    legs = {"take_profit": TakeProfitRequest(limit_price=500), "stop_loss": StopLossRequest(stop_price=50)}
    entry: Any = client.submit_order(market_order(order_class=OrderClass.BRACKET, time_in_force=GTC, qty=1, **legs))
    assert [leg.status for leg in entry.legs] == [OrderStatus.HELD, OrderStatus.HELD]
    nested: Any = client.get_orders(GetOrdersRequest(status=QueryOrderStatus.ALL, nested=True))
    assert [(o.status, [leg.status for leg in o.legs]) for o in nested] == [
        (OrderStatus.FILLED, [OrderStatus.NEW, OrderStatus.HELD])]  # fmt: skip
    position: Any = client.get_open_position("AAPL")
    assert (position.qty, position.qty_available) == ("1", "0")
    with pytest.raises(APIError) as caught:
        client.close_position("AAPL")
    assert refusal(caught)[:2] == (403, 40310000) and "insufficient qty available" in caught.value.message


def test_an_oco_protects_a_position(client: TradingClient) -> None:
    client.submit_order(market_order(qty=10))
    oco: Any = client.submit_order(
        LimitOrderRequest(symbol="AAPL", qty=10, side=SELL, time_in_force=GTC, order_class=OrderClass.OCO,
                          take_profit=TakeProfitRequest(limit_price=400), stop_loss=StopLossRequest(stop_price=90))
    )  # fmt: skip
    assert (oco.type.value, oco.order_class, oco.limit_price) == ("limit", OrderClass.OCO, "400")
    assert [(leg.type.value, leg.status) for leg in oco.legs] == [("stop", OrderStatus.HELD)]
    open_orders: Any = client.get_orders(GetOrdersRequest(nested=False))
    assert {o.status for o in open_orders} == {OrderStatus.NEW, OrderStatus.HELD}
    client.cancel_order_by_id(oco.id)
    assert client.get_orders() == []


def test_a_replacement_has_a_new_id_and_points_back(client: TradingClient) -> None:
    old: Any = client.submit_order(limit_order(150))
    new: Any = client.replace_order_by_id(old.id, ReplaceOrderRequest(qty=7, limit_price=151, client_order_id="second"))
    assert new.id != old.id and (new.replaces, new.qty, new.limit_price) == (old.id, "7", "151")
    found = read(client, old)
    assert (found.status, found.replaced_by) == (OrderStatus.REPLACED, new.id)
    with pytest.raises(APIError) as caught:
        client.replace_order_by_id(old.id, ReplaceOrderRequest(qty=3))
    assert refusal(caught) == (422, 40010001, "only open orders can be replaced")


def test_canceling_all_orders_answers_for_each(client: TradingClient) -> None:
    assert client.cancel_orders() == []
    orders: list[Any] = [client.submit_order(limit_order(price)) for price in (150, 151)]
    answers: Any = client.cancel_orders()
    assert [(a.id, a.status) for a in answers] == [(o.id, 200) for o in orders]


def test_positions_are_closed_in_part_in_whole_and_all_together(client: TradingClient) -> None:
    for symbol in ("AAPL", "MSFT", "SPY"):
        client.submit_order(market_order(symbol, 10))
    client.close_position("AAPL", ClosePositionRequest(qty="4"))
    client.close_position("MSFT", ClosePositionRequest(percentage="50"))
    held: Any = client.get_all_positions()
    assert {p.symbol: p.qty for p in held} == {"AAPL": "6", "MSFT": "5", "SPY": "10"}
    client.submit_order(LimitOrderRequest(symbol="SPY", qty=10, side=SELL, time_in_force=GTC, limit_price=900))
    answers: Any = client.close_all_positions(cancel_orders=False)
    assert {a.symbol: a.status for a in answers} == {"AAPL": 200, "MSFT": 200, "SPY": 403}
    assert [a.status for a in client.close_all_positions(cancel_orders=True)] == [200]  # type: ignore[union-attr]
    assert client.get_all_positions() == [] and client.close_all_positions(cancel_orders=True) == []


def test_an_order_is_found_by_its_client_id_and_the_id_is_never_free_again(client: TradingClient) -> None:
    order: Any = client.submit_order(limit_order(150, client_order_id="once"))
    assert client.get_order_by_client_id("once").id == order.id  # type: ignore[union-attr]
    client.cancel_order_by_id(order.id)
    with pytest.raises(APIError) as caught:
        client.submit_order(limit_order(150, client_order_id="once"))
    assert refusal(caught) == (422, 40010001, "client_order_id must be unique")
    with pytest.raises(APIError) as caught:
        client.get_order_by_client_id("never")
    assert refusal(caught)[:2] == (404, 40410000)


def test_refusals_reach_the_client_with_their_codes(client: TradingClient, exchange: RunningExchange) -> None:
    unknown = UUID("61e69015-8549-4bfd-b9c3-01e75843f47d")
    cases: list[tuple[Any, tuple[int, int, str]]] = [
        (lambda: client.get_order_by_id(unknown), (404, 40410000, f"order not found for {unknown}")),
        (lambda: client.get_open_position("AAPL"), (404, 40410000, "position does not exist")),
        (lambda: client.submit_order(market_order(qty=5000)), (403, 40310000, "insufficient buying power")),
        (lambda: TradingClient("wrong", "keys", url_override=exchange.url).get_account(),
         (401, 40110000, "access key verification failed : verification failure")),
    ]  # fmt: skip
    for call, expected in cases:
        with pytest.raises(APIError) as caught:
            call()
        assert refusal(caught) == expected
    order: Any = client.submit_order(market_order(qty=1))
    with pytest.raises(APIError) as caught:
        client.cancel_order_by_id(order.id)
    assert refusal(caught) == (422, 42210000, 'order is already in "filled" state')


def test_over_the_rate_limit_requests_get_429_with_headers(tmp_path: Path) -> None:
    with exchange_thread(tmp_path, rate_limit_per_minute=3) as exchange:
        client = TradingClient(KEY, SECRET, url_override=exchange.url)
        client._retry = 0
        for _ in range(3):
            client.get_clock()
        with pytest.raises(APIError) as caught:
            client.submit_order(market_order(client_order_id="late"))
        assert caught.value.status_code == 429
        headers = caught.value._http_error.response.headers
        assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("3", "0")
        assert int(headers["X-RateLimit-Reset"]) > 0
        assert exchange.venue is not None and not exchange.venue.book.orders
        assert exchange.call("GET", "/v2/stocks/bars/latest?symbols=SPY").status_code == 200, "data has its own limit"


def test_orders_are_listed_by_status_time_symbol_and_side(client: TradingClient, exchange: RunningExchange) -> None:
    first: Any = client.submit_order(market_order("AAPL", 1))
    exchange.clock.advance(minutes=1)
    second: Any = client.submit_order(limit_order(150))
    exchange.clock.advance(minutes=1)
    third: Any = client.submit_order(LimitOrderRequest(symbol="SPY", qty=1, side=BUY, time_in_force=GTC, limit_price=9))

    def ids(**query: Any) -> list[Any]:
        return [order.id for order in client.get_orders(GetOrdersRequest(**query))]  # type: ignore[union-attr]

    everything = QueryOrderStatus.ALL
    assert ids() == [third.id, second.id]
    assert ids(status=QueryOrderStatus.CLOSED) == [first.id]
    assert ids(status=everything, direction="asc") == [first.id, second.id, third.id]
    assert ids(status=everything, limit=1) == [third.id]
    assert ids(status=everything, symbols=["SPY"]) == [third.id]
    assert ids(status=everything, side=SELL) == []
    assert ids(status=everything, after=first.submitted_at, until=third.submitted_at) == [second.id]


def test_the_clock_and_the_calendar_know_half_days_and_holidays(
    client: TradingClient, exchange: RunningExchange
) -> None:
    clock: Any = client.get_clock()
    assert clock.is_open and clock.timestamp == MID_SESSION
    assert (clock.next_close - clock.timestamp) == timedelta(hours=6)
    days: Any = client.get_calendar(GetCalendarRequest(start=date(2025, 7, 2), end=date(2025, 7, 7)))
    assert [(d.date.day, d.close.hour) for d in days] == [(2, 16), (3, 13), (7, 16)]


def test_equity_is_recorded_and_told_as_portfolio_history(client: TradingClient, exchange: RunningExchange) -> None:
    client.submit_order(market_order(qty=100))
    exchange.clock.advance(hours=1)
    history: Any = client.get_portfolio_history(GetPortfolioHistoryRequest(period="1D", timeframe="5Min"))
    assert len(history.equity) == 12 and history.timestamp[0] == int(MID_SESSION.timestamp())
    account: Any = client.get_account()
    assert history.equity[-1] == float(account.equity) and history.base_value == history.equity[0]
    assert history.profit_loss[-1] == pytest.approx(history.equity[-1] - history.equity[0])


def test_assets_are_the_symbols_of_the_file(client: TradingClient) -> None:
    listed: Any = client.get_all_assets()
    assert len(listed) == 13 and all(a.tradable for a in listed)
    assert client.get_asset("SPY").id == client.get_asset(listed[10].id).id  # type: ignore[union-attr]
    with pytest.raises(APIError) as caught:
        client.get_asset("NONE")
    assert caught.value.status_code == 404


def test_bars_are_those_of_the_file_over_all_pages(data: StockHistoricalDataClient) -> None:
    wanted = StockBarsRequest(symbol_or_symbols=["AAPL", "SPY"], timeframe=TimeFrame(5, TimeFrameUnit.Minute),
                              start=MID_SESSION - timedelta(days=5), end=MID_SESSION)  # fmt: skip
    got = data.get_stock_bars(wanted).df  # type: ignore[union-attr]
    file = read_bars(None)
    known = file[(file["ts"] >= MID_SESSION - timedelta(days=5)) & (file["ts"] + timedelta(minutes=5) <= MID_SESSION)]
    known = known[known["symbol"].isin(["AAPL", "SPY"]) & ~known["ts"].eq(pd.Timestamp("2025-07-03 17:00", tz="UTC"))]
    assert list(got.index) == list(zip(known["symbol"], known["ts"], strict=True))
    for column in ("open", "high", "low", "close", "volume", "vwap"):
        assert got[column].to_numpy() == pytest.approx(known[column].to_numpy()), column


def test_latest_prices_lie_inside_the_bar_that_is_forming(
    data: StockHistoricalDataClient, exchange: RunningExchange
) -> None:
    exchange.clock.advance(minutes=2)
    trade: Any = data.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols=["AAPL", "NOPE"]))
    quote: Any = data.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols="AAPL"))
    bar: Any = data.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols="AAPL"))
    snapshot: Any = data.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols="AAPL"))
    file = read_bars(None)
    forming = file[(file["symbol"] == "AAPL") & (file["ts"] == MID_SESSION)].iloc[0]
    assert list(trade) == ["AAPL"] and forming.low <= trade["AAPL"].price <= forming.high
    assert quote["AAPL"].bid_price < trade["AAPL"].price < quote["AAPL"].ask_price
    assert trade["AAPL"].timestamp == MID_SESSION + timedelta(minutes=2)
    assert bar["AAPL"].timestamp == MID_SESSION - timedelta(minutes=5)
    assert snapshot["AAPL"].daily_bar.open == pytest.approx(file[(file["symbol"] == "AAPL") & (
        file["ts"] == MID_SESSION - timedelta(minutes=30))].iloc[0].open)  # fmt: skip
    assert snapshot["AAPL"].previous_daily_bar.timestamp.date() == date(2025, 7, 3)
