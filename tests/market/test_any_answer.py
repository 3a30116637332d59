"""Whatever comes back: sound quotes, or a ProviderError, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest
from alpaca.data.enums import DataFeed
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.market.alpaca_data import AlpacaData
from qbot.market.company import Fundamentals, News
from qbot.market.provider import BAR_COLUMNS, Answer, Fault, ProviderError
from qbot.market.reply import Reply, reply_of
from qbot.market.yahoo import Yahoo
from qbot.market.yahoo_link import Asked, YahooFailed
from tests.market.fakes import NOW, OVER_HTTP, Source

SYMBOLS = ["AAPL", "BRK.B", "MSFT"]
# Words that the adapters look for, so that what is made up gets past the first look.
NAMES = st.sampled_from([
    "AAPL", "BRK.B", "BRK-B", "MSFT", "c", "pc", "t", "h", "l", "o", "error", "code", "type", "message", "status",
    "data", "symbol", "price", "timestamp", "close", "last", "date", "datetime", "last_quote_at", "currency", "values",
    "meta", "Error Message", "metric", "marketCapitalization", "headline", "latestTrade", "latestQuote", "p", "bp",
    "ap", "dailyBar", "v", "open", "high", "low", "volume", "lastDividend", "marketCap", "sector",
])  # fmt: skip
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.decimals().map(str),
    st.sampled_from([
        1764255000, "1764255000", 100.5, "100.50", "AAPL", "MSFT", "BRK-B", "USD", "EUR", "error", "ok", 429, 401, 404,
        0, "2026-11-27T00:00:00+0000", "2026-11-27 14:30:00", "2026-11-27T14:30:00Z", "too_many_requests", "NaN", 1e308,
        "**symbol** not found", "current minute", "Limit Reach", 10**30, -1, "1e400",
    ]),
)  # fmt: skip
ANY = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=6),
    max_leaves=8,
)  # fmt: skip
STATUS = st.sampled_from([200, 200, 200, 204, 301, 400, 401, 402, 403, 404, 422, 429, 500, 503, 999])
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "date", "x-ratelimit-remaining", "x-ratelimit-reset", "api-credits-left"]),
    st.text(max_size=12) | st.integers().map(str) | st.just("Fri, 27 Nov 2026 15:00:42 GMT"),
)
TEXT = ANY.map(json.dumps) | st.text(max_size=200) | st.sampled_from(["", "<html>", "NaN", "[" * 2000])


SYMBOL = st.sampled_from(["AAPL", "BRK-B", "BRK.B", "MSFT"])


def mostly(*values: Any) -> st.SearchStrategy[Any]:
    """One of these, seldom anything."""
    return st.one_of(*map(st.just, values), LEAVES.map(lambda leaf: leaf))


AT = mostly(1764255000, "1764255000", 0, 1764255000000)
PRICE = mostly("100.50", 100.5, 0, "-1", "NaN", 1e-300)
DATE = mostly("2026-11-27T00:00:00+0000", "2026-11-27T09:30:00-05:00", "2026-11-27T00:00:00")
ROW = st.fixed_dictionaries(
    {"symbol": SYMBOL, "close": PRICE, "price": PRICE, "timestamp": AT, "date": DATE},
    optional={"last": PRICE, "last_quote_at": AT, "currency": LEAVES, "open": PRICE, "high": PRICE, "volume": LEAVES,
              "dayLow": PRICE, "bid_price": PRICE, "ask_price": PRICE, "status": LEAVES, "code": LEAVES},
)  # fmt: skip
# Bodies that are nearly right: what made-up ones hardly ever are.
NEAR: dict[str, st.SearchStrategy[Any]] = {
    "finnhub": st.fixed_dictionaries({"c": PRICE, "t": AT}, optional={"pc": PRICE, "h": PRICE, "error": LEAVES}),
    "fmp": st.lists(ROW, max_size=2),
    "twelvedata": st.dictionaries(st.sampled_from(SYMBOLS), ROW, min_size=1) | ROW,
    "marketstack": st.fixed_dictionaries({"data": st.lists(ROW, min_size=1, max_size=4)}),
}


def replies(name: str) -> st.SearchStrategy[list[Reply]]:
    near = st.builds(lambda body, headers: reply_of(200, headers, json.dumps(body)), NEAR[name], HEADERS)
    return st.lists(near | st.builds(reply_of, STATUS, HEADERS, TEXT), min_size=3, max_size=3)


def in_turn(answers: list[Reply]) -> Source:
    source = Source(lambda _path, _query: answers[(len(source.asked) - 1) % len(answers)])
    return source


def check(answer: Answer, asked: list[str], source: str) -> None:
    """All that is promised of an answer."""
    assert set(answer.quotes) | set(answer.missing) == set(asked)
    assert not set(answer.quotes) & set(answer.missing)
    assert all(isinstance(fault, Fault) for fault in answer.missing.values())
    assert set(answer.days) <= set(answer.quotes)
    assert answer.credits >= 0
    for symbol, quote in answer.quotes.items():
        assert (quote.symbol, quote.source, quote.received_at) == (symbol, source, NOW)
        for price in (quote.price_usd, quote.bid_usd, quote.ask_usd):
            assert isinstance(price, Decimal)
            assert price.is_finite()
            assert 0 < float(price) < float("inf")
        assert quote.at.utcoffset() == timedelta(0)
    for day in answer.days.values():
        prices = [day.open, day.high, day.low, day.previous_close]
        assert all(value is None or 0 < value < float("inf") for value in prices)
        assert day.volume is None or abs(day.volume) < float("inf")


def quotes_or_error(ask: Callable[[], Answer], source: str) -> None:
    try:
        check(ask(), SYMBOLS, source)
    except ProviderError as error:
        assert error.provider == source
        assert error.retry_after_s is None or 0 < error.retry_after_s < float("inf")
        assert error.credits >= 0
        assert error.__cause__ is None


@pytest.mark.parametrize("name", OVER_HTTP)
@settings(max_examples=200)
@given(data=st.data())
def test_an_adapter_gives_sound_quotes_or_says_why_not(name: str, data: st.DataObject) -> None:
    answers = data.draw(replies(name))
    quotes_or_error(lambda: OVER_HTTP[name](in_turn(answers)).quotes(SYMBOLS, NOW), name)


def sound_bars(ask: Callable[[], pd.DataFrame]) -> None:
    try:
        frame = ask()
    except ProviderError:
        return
    assert list(frame.columns) == list(BAR_COLUMNS)
    assert str(frame["ts"].dtype) == "datetime64[ns, UTC]"
    assert ((frame["ts"] >= NOW - timedelta(days=1)) & (frame["ts"] <= NOW - timedelta(minutes=5))).all()
    assert (frame[["open", "high", "low", "close"]] > 0).all(axis=None)
    assert not frame.isna().any(axis=None)
    assert not frame.duplicated(["symbol", "ts"]).any()


BAR = st.fixed_dictionaries({
    "datetime": st.sampled_from(["2026-11-27 14:30:00", "2026-11-27 14:35:00", "2026-11-27 14:31:00", "?", None, 5]),
} | dict.fromkeys(("open", "high", "low", "close", "volume"), LEAVES))  # fmt: skip
SERIES = st.builds(lambda rows: {"values": rows, "status": "ok"}, st.lists(BAR | ANY, max_size=4))


@settings(max_examples=50)
@given(bodies=st.lists(ANY | st.dictionaries(st.sampled_from(SYMBOLS), SERIES), min_size=1, max_size=2), status=STATUS)
def test_bars_of_twelve_data_are_sound_or_none(bodies: list[Any], status: int) -> None:
    answers = [reply_of(status, {}, json.dumps(body)) for body in bodies]
    sound_bars(lambda: OVER_HTTP["twelvedata"](in_turn(answers)).bars(SYMBOLS, NOW - timedelta(days=1), NOW))  # type: ignore[attr-defined]


def company(ask: Callable[[], Any]) -> None:
    try:
        found = ask()
    except ProviderError:
        return
    if isinstance(found, Fundamentals):
        assert not found.empty
        numbers = [getattr(found, name) for name in ("market_cap_usd", "pe_ratio", "beta", "dividend_yield")]
        assert all(value is None or abs(value) < float("inf") for value in numbers)
        return
    for news in found:
        assert isinstance(news, News)
        assert news.title.strip()
        assert news.title.isprintable() or " " in news.title
        assert news.published_at.utcoffset() == timedelta(0)


@settings(max_examples=25)
@given(answers=replies("fmp"))
def test_companies_are_told_of_soundly_or_not_at_all(answers: list[Reply]) -> None:
    for name in ("finnhub", "fmp"):
        adapter: Any = OVER_HTTP[name](in_turn(answers))
        company(lambda adapter=adapter: adapter.fundamentals("AAPL", NOW))
    hub: Any = OVER_HTTP["finnhub"](in_turn(answers))
    company(lambda: hub.news("AAPL", (NOW - timedelta(days=700)).date(), NOW.date()))


class MadeUpAlpaca:
    """A client of Alpaca's SDK that answers anything."""

    def __init__(self, body: Any) -> None:
        import requests

        self._retry, self._session, self._body = 3, requests.Session(), body

    def get_stock_snapshot(self, _request: Any) -> Any:
        return self._body


SNAPSHOT = st.fixed_dictionaries(
    {"latestTrade": st.fixed_dictionaries({"p": PRICE, "t": DATE})},
    optional={"latestQuote": st.fixed_dictionaries({"bp": PRICE, "ap": PRICE}), "dailyBar": ANY, "prevDailyBar": ANY},
)


@settings(max_examples=100)
@given(body=ANY | st.dictionaries(st.sampled_from(SYMBOLS), SNAPSHOT, min_size=1))
def test_alpaca_gives_sound_quotes_or_says_why_not(body: Any) -> None:
    data = AlpacaData(MadeUpAlpaca(body), DataFeed.IEX)  # type: ignore[arg-type]
    quotes_or_error(lambda: data.quotes(SYMBOLS, NOW), "alpaca")


class MadeUpYahoo:
    """yfinance that gives anything, or fails in any way."""

    def __init__(self, outcomes: list[Any], frame: pd.DataFrame | None = None) -> None:
        self._outcomes, self._frame, self._turn = outcomes, frame, 0

    def history(self, symbol: str, **_query: Any) -> Asked:
        return Asked((pd.DataFrame() if self._frame is None else self._frame, self._next()), 2)

    def info(self, symbol: str) -> Asked:
        return Asked(self._next(), 3)

    def news(self, symbol: str, count: int) -> Asked:
        return Asked(self._next(), 1)

    def _next(self) -> Any:
        self._turn += 1
        outcome = self._outcomes[self._turn % len(self._outcomes)]
        if isinstance(outcome, YahooFailed):
            raise outcome
        return outcome


FAILED = st.builds(
    YahooFailed, st.just("X"), st.none() | replies("finnhub").map(lambda found: found[0]), st.integers(0, 6),
    limited=st.booleans(), missing=st.booleans(),
)  # fmt: skip
META = st.fixed_dictionaries(
    {"symbol": SYMBOL, "regularMarketPrice": PRICE, "regularMarketTime": AT},
    optional={"currency": mostly("USD"), "regularMarketDayHigh": PRICE, "regularMarketVolume": LEAVES},
)
OUTCOMES = st.lists(META | FAILED | ANY, min_size=1, max_size=3)


@settings(max_examples=50)
@given(outcomes=OUTCOMES)
def test_yahoo_gives_sound_quotes_or_says_why_not(outcomes: list[Any]) -> None:
    quotes_or_error(lambda: Yahoo(MadeUpYahoo(outcomes)).quotes(SYMBOLS, NOW), "yfinance")


VALUE = st.floats() | st.integers(-5, 500)


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(st.integers(0, 2000), VALUE, VALUE, VALUE, VALUE, VALUE), max_size=6), outcomes=OUTCOMES)
def test_yahoo_s_bars_and_companies_are_sound_or_none(rows: list[Any], outcomes: list[Any]) -> None:
    stamps = [pd.Timestamp(NOW).tz_convert("America/New_York") - pd.Timedelta(minutes=minute) for minute, *_ in rows]
    columns = {
        name: [float(row[n + 1]) for row in rows] for n, name in enumerate(("Open", "High", "Low", "Close", "Volume"))
    }
    frame = pd.DataFrame(columns, index=pd.DatetimeIndex(stamps, tz="America/New_York"))
    sound_bars(lambda: Yahoo(MadeUpYahoo([{}], frame)).bars(SYMBOLS, NOW - timedelta(days=1), NOW))
    sound_bars(lambda: Yahoo(MadeUpYahoo(outcomes, frame)).bars(SYMBOLS, NOW - timedelta(days=1), NOW))
    company(lambda: Yahoo(MadeUpYahoo(outcomes)).fundamentals("AAPL", NOW))
    company(lambda: Yahoo(MadeUpYahoo(outcomes)).news("AAPL", (NOW - timedelta(days=700)).date(), NOW.date()))
