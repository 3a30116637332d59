"""Every success body is what the published OpenAPI says, for every state an order can be in."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema.exceptions import ValidationError

from tests.exchange.schemas import check_data, check_trading
from tests.support.exchange import RunningExchange

BASE = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "gtc"}
LEGS = {"take_profit": {"limit_price": "500"}, "stop_loss": {"stop_price": "50", "limit_price": "49"}}


def post(exchange: RunningExchange, **order: Any) -> Any:
    answer = exchange.call("POST", "/v2/orders", json={**BASE, **order})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def busy(exchange: RunningExchange) -> RunningExchange:
    """An account with filled, resting, canceled, replaced and complex orders, and positions held over a night."""
    post(exchange, client_order_id="first")
    post(exchange, symbol="MSFT", order_class="bracket", **LEGS)
    resting = post(exchange, type="limit", limit_price="150")
    exchange.call("PATCH", f"/v2/orders/{resting['id']}", json={"qty": "3"})
    post(exchange, symbol="SPY", type="trailing_stop", trail_percent="5", time_in_force="day")
    gone = post(exchange, symbol="SPY", type="stop_limit", stop_price="900", limit_price="901")
    exchange.call("DELETE", f"/v2/orders/{gone['id']}")
    exchange.clock.advance(hours=24)
    return exchange


TRADING = [
    ("/v2/account", "Account", False),
    ("/v2/account/configurations", "AccountConfigurations", False),
    ("/v2/account/portfolio/history?period=1W&timeframe=15Min", "PortfolioHistory", False),
    ("/v2/account/activities", "TradingActivities", True),
    ("/v2/account/activities/FILL?page_size=1", "TradingActivities", True),
    ("/v2/orders?status=all&nested=true", "Order", True),
    ("/v2/orders?status=all", "Order", True),
    ("/v2/orders:by_client_order_id?client_order_id=first", "Order", False),
    ("/v2/positions", "Position", True),
    ("/v2/positions/AAPL", "Position", False),
    ("/v2/assets", "Assets", True),
    ("/v2/assets/SPY", "Assets", False),
    ("/v2/clock", "legacy_clock", False),
    ("/v2/calendar?start=2025-07-01&end=2025-07-10", "legacy_public_calendar_resp", False),
]
DATA = [
    ("/v2/stocks/bars?symbols=AAPL,SPY&timeframe=15Min&limit=10", "stock_bars_resp"),
    ("/v2/stocks/bars?symbols=AAPL&timeframe=1Day&start=2025-06-01", "stock_bars_resp"),
    ("/v2/stocks/AAPL/bars?timeframe=5Min", "stock_bars_resp_single"),
    ("/v2/stocks/bars/latest?symbols=AAPL", "stock_latest_bars_resp"),
    ("/v2/stocks/AAPL/bars/latest", "stock_latest_bars_resp_single"),
    ("/v2/stocks/quotes/latest?symbols=AAPL,SPY", "stock_latest_quotes_resp"),
    ("/v2/stocks/AAPL/quotes/latest", "stock_latest_quotes_resp_single"),
    ("/v2/stocks/trades/latest?symbols=AAPL", "stock_latest_trades_resp"),
    ("/v2/stocks/AAPL/trades/latest", "stock_latest_trades_resp_single"),
    ("/v2/stocks/snapshots?symbols=AAPL,MA", "stock_snapshots_resp"),
    ("/v2/stocks/AAPL/snapshot", "stock_snapshots_resp_single"),
]


def test_every_body_of_the_trading_api_fits_its_schema(busy: RunningExchange) -> None:
    for path, schema, many in TRADING:
        answer = busy.call("GET", path)
        assert answer.status_code == 200, (path, answer.text)
        bodies = answer.json() if many else [answer.json()]
        assert bodies, path
        for body in bodies:
            check_trading(schema, body)


def test_every_body_of_the_data_api_fits_its_schema(busy: RunningExchange) -> None:
    for path, schema in DATA:
        answer = busy.call("GET", path)
        assert answer.status_code == 200, (path, answer.text)
        check_data(schema, answer.json())
        assert any(answer.json().values()), path


def test_answers_to_changes_fit_their_schemas(busy: RunningExchange) -> None:
    for order in (post(busy, qty="1"), post(busy, symbol="QQQ", order_class="bracket", **LEGS | {
            "take_profit": {"limit_price": "900"}})):  # fmt: skip
        check_trading("Order", order)
    resting = post(busy, type="limit", limit_price="151", qty="1")
    check_trading("Order", busy.call("PATCH", f"/v2/orders/{resting['id']}", json={"limit_price": "152"}).json())
    canceled = busy.call("DELETE", "/v2/orders")
    closed = busy.call("DELETE", "/v2/positions")
    assert canceled.status_code == closed.status_code == 207 and canceled.json() and closed.json()
    for body in canceled.json():
        check_trading("CanceledOrderResponse", body)
    for body in closed.json():
        check_trading("PositionClosedReponse", body)


def test_the_check_itself_can_fail(busy: RunningExchange) -> None:
    order = busy.call("GET", "/v2/orders:by_client_order_id?client_order_id=first").json()
    for spoilt in ({"status": "fine"}, {"qty": 10}, {"id": None}):
        with pytest.raises(ValidationError):
            check_trading("Order", order | spoilt)
    trade = busy.call("GET", "/v2/stocks/AAPL/trades/latest").json()
    with pytest.raises(ValidationError):
        check_data("stock_latest_trades_resp_single", {**trade, "trade": {"p": "1"}})


def test_times_have_nine_digits_and_money_is_text(busy: RunningExchange) -> None:
    order = busy.call("GET", "/v2/orders:by_client_order_id?client_order_id=first").json()
    assert len(order["filled_at"]) == len("2025-07-07T14:00:00.000000000Z") and order["filled_at"].endswith("Z")
    assert isinstance(order["filled_avg_price"], str) and isinstance(order["qty"], str)
    assert order["legs"] is None and order["notional"] is None


def test_activities_are_paged_by_the_last_id(busy: RunningExchange) -> None:
    seen: list[str] = []
    token = ""
    while page := busy.call("GET", f"/v2/account/activities/FILL?page_size=1&page_token={token}").json():
        assert len(page) == 1
        token = page[-1]["id"]
        seen.append(token)
    assert len(seen) == len(set(seen)) == 2
    oldest_first = busy.call("GET", "/v2/account/activities?activity_types=FILL&direction=asc").json()
    assert [a["id"] for a in oldest_first] == seen[::-1]
    assert busy.call("GET", "/v2/account/activities/DIV").json() == []
    refused = busy.call("GET", "/v2/account/activities/INVALID")
    assert (refused.status_code, refused.json()) == (
        422,
        {"code": 40010001, "message": "invalid activity type: INVALID"},
    )


def test_a_position_tells_yesterdays_close_and_todays_gain_apart(busy: RunningExchange) -> None:
    post(busy, qty="10")
    position = busy.call("GET", "/v2/positions/AAPL").json()
    price, last, average = (float(position[k]) for k in ("current_price", "lastday_price", "avg_entry_price"))
    assert float(position["unrealized_pl"]) == pytest.approx(20 * (price - average), abs=1e-4)
    assert float(position["unrealized_intraday_pl"]) == pytest.approx(10 * (price - last) + 10 * (price - average))
    account = busy.call("GET", "/v2/account").json()
    assert float(account["last_equity"]) != float(account["equity"])
