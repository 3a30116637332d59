"""The data API serves bars when they have ended, pages them over all symbols, and refuses as the vendor does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.exchange import MID_SESSION, RunningExchange

DAY = "start=2025-07-07T00:00:00Z"


def bars(exchange: RunningExchange, query: str) -> Any:
    answer = exchange.call("GET", f"/v2/stocks/bars?{query}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_bar_is_served_at_its_end_and_not_before(exchange: RunningExchange) -> None:
    def last(frame: str) -> str:
        return str(bars(exchange, f"symbols=AAPL&timeframe={frame}&{DAY}")["bars"]["AAPL"][-1]["t"])

    exchange.clock.set(MID_SESSION + timedelta(minutes=14, seconds=59.9))
    assert (last("5Min"), last("15Min"), last("30Min")) == (
        "2025-07-07T14:05:00Z", "2025-07-07T13:45:00Z", "2025-07-07T13:30:00Z")  # fmt: skip
    exchange.clock.set(MID_SESSION + timedelta(minutes=15))
    assert (last("5Min"), last("15Min")) == ("2025-07-07T14:10:00Z", "2025-07-07T14:00:00Z")
    latest = exchange.call("GET", "/v2/stocks/AAPL/bars/latest").json()
    assert latest["bar"]["t"] == "2025-07-07T14:10:00Z"


def test_a_longer_bar_adds_up_its_parts(exchange: RunningExchange) -> None:
    exchange.clock.advance(hours=2)
    five = bars(exchange, f"symbols=AAPL&timeframe=5Min&{DAY}")["bars"]["AAPL"]
    hours = bars(exchange, f"symbols=AAPL&timeframe=1Hour&{DAY}")["bars"]["AAPL"]
    assert [h["t"] for h in hours] == [f"2025-07-07T{h}:00:00Z" for h in (13, 14, 15)]
    second = [b for b in five if b["t"].startswith("2025-07-07T14")]
    assert len(second) == 12 and hours[1]["v"] == sum(b["v"] for b in second)
    assert (hours[1]["o"], hours[1]["c"]) == (second[0]["o"], second[-1]["c"])
    assert (hours[1]["h"], hours[1]["l"]) == (max(b["h"] for b in second), min(b["l"] for b in second))


def test_a_daily_bar_starts_at_midnight_in_new_york_and_comes_after_the_close(exchange: RunningExchange) -> None:
    query = "symbols=AAPL&timeframe=1Day&start=2025-07-02T00:00:00Z"
    assert [b["t"] for b in bars(exchange, query)["bars"]["AAPL"]] == ["2025-07-02T04:00:00Z", "2025-07-03T04:00:00Z"]
    exchange.clock.set(datetime(2025, 7, 7, 20, 0, tzinfo=UTC))
    assert bars(exchange, query)["bars"]["AAPL"][-1]["t"] == "2025-07-07T04:00:00Z"


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_pages_count_the_bars_of_all_symbols(exchange: RunningExchange, sort: str) -> None:
    query = f"symbols=MSFT,AAPL,SPY&timeframe=5Min&{DAY}&sort={sort}"
    whole = bars(exchange, query)
    assert whole["next_page_token"] is None and [len(b) for b in whole["bars"].values()] == [6, 6, 6]
    merged: dict[str, list[Any]] = {}
    token, pages = "", 0
    while token is not None:
        page = bars(exchange, f"{query}&limit=4&page_token={token}")
        assert sum(len(b) for b in page["bars"].values()) <= 4
        for symbol, rows in page["bars"].items():
            merged.setdefault(symbol, []).extend(rows)
        token, pages = page["next_page_token"], pages + 1
    assert merged == whole["bars"] and pages == 5


def test_history_before_the_replayed_days_is_there_to_train_on(exchange: RunningExchange) -> None:
    found = bars(exchange, "symbols=AAPL&timeframe=5Min&start=2025-05-12&end=2025-05-13&limit=10000")
    assert len(found["bars"]["AAPL"]) == 78


def test_start_and_end_are_both_included(exchange: RunningExchange) -> None:
    span = "start=2025-07-07T13:30:00Z&end=2025-07-07T13:40:00Z"
    assert len(bars(exchange, f"symbols=AAPL&timeframe=5Min&{span}")["bars"]["AAPL"]) == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("bars?symbols=AAPL,FOO!&timeframe=5Min", "invalid symbol: FOO!"),
        ("bars?timeframe=5Min", "symbols is required"),
        ("bars?symbols=AAPL&timeframe=1Min", "invalid timeframe: 1Min"),
        ("bars?symbols=AAPL&timeframe=5Min&page_token=!!", "invalid page token"),
        ("quotes/latest?symbols=AAPL,b-d", "invalid symbol: b-d"),
    ],
)
def test_one_bad_parameter_fails_the_whole_request(exchange: RunningExchange, path: str, message: str) -> None:
    answer = exchange.call("GET", f"/v2/stocks/{path}")
    assert answer.status_code == 400 and message in answer.json()["message"]


def test_unknown_symbols_are_left_out(exchange: RunningExchange) -> None:
    assert list(bars(exchange, f"symbols=AAPL,ZZZZ&timeframe=5Min&{DAY}")["bars"]) == ["AAPL"]
    assert exchange.call("GET", "/v2/stocks/ZZZZ/trades/latest").status_code == 404
    assert exchange.call("GET", "/v2/stocks/ZZZZ/snapshot").status_code == 404


def test_quotes_stand_at_the_close_while_the_market_is_closed(exchange: RunningExchange) -> None:
    exchange.clock.set(datetime(2025, 7, 7, 20, 10, tzinfo=UTC))
    quote = exchange.call("GET", "/v2/stocks/AAPL/quotes/latest").json()["quote"]
    assert quote["t"].startswith("2025-07-07T20:00:00.000000") and 0 < quote["ap"] - quote["bp"] < 0.1


def test_without_keys_nothing_is_answered(exchange: RunningExchange) -> None:
    for path in ("/v2/account", "/v2/stocks/bars/latest?symbols=AAPL"):
        answer = exchange.session.get(exchange.url + path, timeout=10)
        assert (answer.status_code, answer.json()) == (401, {"message": "unauthorized."})
