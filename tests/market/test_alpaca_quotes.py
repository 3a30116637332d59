"""Alpaca behind the seam: what it gives, and why it does not. `latest` and `bars` stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.data.enums import DataFeed

from qbot.errors import DataUnavailable
from qbot.market.alpaca_data import AlpacaData
from qbot.market.provider import Fault, ProviderError
from tests.market.fakes import NOW

AT = "2026-11-27T14:59:58.123456789Z"


def snapshot(price: object = 100.5, at: object = AT, bid: object = 100.4, ask: object = 0) -> dict[str, Any]:
    return {
        "latestTrade": {"p": price, "t": at}, "latestQuote": {"bp": bid, "ap": ask},
        "dailyBar": {"o": 99.0, "h": 101.0, "l": 98.5, "c": 100.5, "v": 1000}, "prevDailyBar": {"c": 99.5},
    }  # fmt: skip


def refusal(status: int, text: str, **headers: str) -> APIError:
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return APIError(text, requests.HTTPError(f"{status} for url: https://data/v2?symbols=A", response=response))


class Client:
    """Alpaca's SDK, as far as it is asked: it answers or raises what `answer` says of the symbols."""

    def __init__(self, answer: Callable[[list[str]], Any]) -> None:
        self._retry, self._session = 3, requests.Session()
        self._answer = answer
        self.asked: list[list[str]] = []

    def get_stock_snapshot(self, request: Any) -> Any:
        return self._given(request)

    def get_stock_bars(self, request: Any) -> Any:
        return self._given(request)

    def _given(self, request: Any) -> Any:
        self.asked.append(list(request.symbol_or_symbols))
        outcome = self._answer(self.asked[-1])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def data(client: Client) -> AlpacaData:
    return AlpacaData(client, DataFeed.IEX)  # type: ignore[arg-type]


def test_two_hundred_symbols_are_one_request() -> None:
    client = Client(lambda symbols: {symbol: snapshot() for symbol in symbols})
    answer = data(client).quotes([f"S{number}" for number in range(250)], NOW)
    assert [len(asked) for asked in client.asked] == [200, 50]
    assert (len(answer.quotes), answer.missing, answer.credits) == (250, {}, 2)
    quote = answer.quotes["S0"]
    assert (quote.price_usd, quote.bid_usd, quote.ask_usd) == (Decimal("100.5"), Decimal("100.4"), Decimal("100.5"))
    assert quote.at == datetime(2026, 11, 27, 14, 59, 58, 123456, tzinfo=UTC)
    assert answer.days["S0"].previous_close == 99.5


def test_a_symbol_nobody_knows_and_one_without_a_trade_cost_no_other() -> None:
    def answer(symbols: list[str]) -> Any:
        if "ZZ" in symbols:
            return refusal(400, '{"code": 40010001, "message": "invalid symbol: ZZ"}')
        return {"A": snapshot(), "NEW": {}, "NAN": snapshot("NaN"), "OLD": snapshot(at="yesterday"), "NULL": None}

    client = Client(answer)
    found = data(client).quotes(["A", "ZZ", "NEW", "NAN", "OLD", "NULL"], NOW)
    assert set(found.quotes) == {"A"}
    assert found.missing == {"ZZ": Fault.UNKNOWN_SYMBOL} | dict.fromkeys(("NEW", "NAN", "OLD", "NULL"), Fault.NO_DATA)
    assert (found.credits, len(client.asked)) == (2, 2)


@pytest.mark.parametrize(("outcome", "fault", "retry_after_s"), [
    (refusal(401, '{"message": "unauthorized."}'), Fault.AUTH, None),
    (refusal(403, '{"message": "subscription does not permit querying recent SIP data"}'), Fault.PLAN, None),
    (refusal(429, "", x_ratelimit_reset="1795791660", date="Fri, 27 Nov 2026 15:00:42 GMT"), Fault.MINUTE_LIMIT, 18.0),
    (refusal(500, "{}"), Fault.TRANSIENT, None), (refusal(502, "<html>"), Fault.TRANSIENT, None),
    (refusal(400, '{"message": "invalid symbol: OTHER"}'), Fault.TRANSIENT, None),
    (requests.ReadTimeout("https://data/v2?symbols=A"), Fault.TRANSIENT, None),
    (ValueError("no JSON"), Fault.TRANSIENT, None), (None, Fault.TRANSIENT, None), ([1], Fault.TRANSIENT, None),
])  # fmt: skip
def test_why_there_is_no_quote(outcome: Any, fault: Fault, retry_after_s: float | None) -> None:
    client = Client(lambda _symbols: outcome)
    with pytest.raises(ProviderError) as raised:
        data(client).quotes(["A"], NOW)
    error = raised.value
    assert (error.fault, error.provider, error.retry_after_s, error.credits) == (fault, "alpaca", retry_after_s, 1)
    assert "https://" not in f"{error}{error.__cause__}"
    assert len(client.asked) == 1


def test_what_came_before_a_refusal_is_kept_by_quotes_and_given_up_by_latest() -> None:
    def answer(symbols: list[str]) -> Any:
        return refusal(500, "{}") if "S249" in symbols else {symbol: snapshot() for symbol in symbols}

    symbols = [f"S{number}" for number in range(250)]
    found = data(Client(answer)).quotes(symbols, NOW)
    assert (len(found.quotes), set(found.missing.values())) == (200, {Fault.TRANSIENT})
    assert found.failed is not None
    with pytest.raises(DataUnavailable, match="alpaca: HTTP 500") as raised:
        data(Client(answer)).latest(symbols, NOW)
    assert type(raised.value) is DataUnavailable


def test_an_answer_that_is_nested_too_deeply_is_no_answer() -> None:
    feed = data(Client(lambda _symbols: RecursionError("maximum recursion depth exceeded")))
    with pytest.raises(DataUnavailable, match="unreadable"):
        feed.latest(["AAPL"], NOW)


def test_bars_say_why_there_are_none() -> None:
    with pytest.raises(ProviderError) as raised:
        data(Client(lambda _symbols: refusal(429, ""))).bars(["A"], NOW, NOW)
    assert raised.value.fault is Fault.MINUTE_LIMIT
    with pytest.raises(ProviderError, match="unreadable"):
        data(Client(lambda _symbols: {"bars": {"A": [{"t": "x"}]}})).bars(["A"], NOW, NOW)


def bar(at: datetime, price: float | None = 100.0, **other: object) -> dict[str, Any]:
    return {"t": f"{at:%Y-%m-%dT%H:%M:%SZ}", "o": price, "h": price, "l": price, "c": price, "v": 7, **other}


HOUR_AGO, BAR = NOW - timedelta(hours=1), timedelta(minutes=5)


def test_bars_of_another_time_than_asked_for_are_left_out() -> None:
    times = [HOUR_AGO - BAR, HOUR_AGO, NOW - BAR, NOW, HOUR_AGO + timedelta(minutes=1)]
    client = Client(lambda _symbols: {"A": [bar(at) for at in times]})
    assert list(data(client).bars(["A"], HOUR_AGO, NOW)["ts"]) == [HOUR_AGO, NOW - BAR]


def test_bars_of_a_ticker_that_nobody_asked_for_are_left_out() -> None:
    client = Client(lambda _symbols: {"A": [bar(HOUR_AGO)], "ROGUE": [bar(HOUR_AGO)]})
    assert list(data(client).bars(["A"], HOUR_AGO, NOW)["symbol"]) == ["A"]


@pytest.mark.parametrize("spoilt", [
    bar(HOUR_AGO, None), bar(HOUR_AGO, float("inf")), bar(HOUR_AGO, float("nan")), bar(HOUR_AGO, 1e12),
    bar(HOUR_AGO, 0.0), bar(HOUR_AGO, h=1.0), {"t": None}, {}, None,
])  # fmt: skip
def test_a_bar_that_can_be_none_costs_no_other(spoilt: Any) -> None:
    client = Client(lambda _symbols: {"A": [spoilt, bar(HOUR_AGO + BAR)], "B": [bar(HOUR_AGO)], "C": None})
    found = data(client).bars(["A", "B", "C"], HOUR_AGO, NOW)
    assert list(zip(found["symbol"], found["ts"], strict=True)) == [("A", HOUR_AGO + BAR), ("B", HOUR_AGO)]


@pytest.mark.parametrize("body", [
    {"A": [bar(HOUR_AGO - BAR)]}, {"A": [bar(HOUR_AGO - timedelta(hours=5))], "B": None}, {"message": "try later"},
    {"bars": [1]}, {"A": [None]}, {"A": [bar(HOUR_AGO, None)], "B": [bar(HOUR_AGO - BAR)]},
])  # fmt: skip
def test_an_answer_that_tells_of_nothing_that_was_asked_for_is_no_word_that_there_are_no_bars(body: Any) -> None:
    with pytest.raises(ProviderError) as raised:
        data(Client(lambda _symbols: body)).bars(["A"], HOUR_AGO, NOW)
    assert raised.value.fault is Fault.TRANSIENT
    assert len(data(Client(lambda _symbols: {})).bars(["A"], HOUR_AGO, NOW)) == 0


def test_bars_that_came_before_a_refusal_go_with_it() -> None:
    def answer(symbols: list[str]) -> Any:
        return refusal(500, "{}") if "S249" in symbols else {symbols[0]: [bar(HOUR_AGO)]}

    with pytest.raises(ProviderError) as raised:
        data(Client(answer)).bars([f"S{number}" for number in range(250)], HOUR_AGO, NOW)
    assert raised.value.bars is not None
    assert (list(raised.value.bars["symbol"]), raised.value.credits) == (["S0"], 2)
