"""Each vendor that is well, through QBot's own adapter, yfinance itself and alpaca-py."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from qbot import grok
from qbot.market import xai
from qbot.market.provider import BAR_COLUMNS, Fault
from qbot.market.providers import sources_of
from qbot.market.yahoo import Yahoo
from qbot.market.yahoo_link import YahooLink
from qbot.settings import Settings
from qbot.standin.addresses import ALPACA, FINNHUB, FMP, MARKETSTACK, TWELVEDATA, XAI, YAHOO
from qbot.standin.running import Running
from qbot.standin.walk import Walk
from tests.standin.conftest import NOW

LIVE = ("alpaca", "finnhub", "twelvedata", "fmp", "yfinance")
SYMBOLS = ["AAPL", "BRK.B", "MSFT"]
TRUTH = Walk().snapshots(SYMBOLS, NOW)


def named(sources: tuple[Any, ...], name: str) -> Any:
    return next(source for source in sources if source.name == name)


@pytest.mark.parametrize("name", LIVE)
def test_a_live_vendor_tells_the_price_the_time_and_the_day(values: Settings, name: str) -> None:
    answer = named(sources_of(values).quotes, name).quotes(SYMBOLS, NOW)
    assert (answer.missing, answer.failed) == ({}, None)
    for symbol, true in TRUTH.items():
        quote, day = answer.quotes[symbol], answer.days[symbol]
        assert (quote.price_usd, quote.at) == (Decimal(str(true.price)), NOW)
        assert (day.open, day.high, day.low) == (true.open, true.high, true.low)
        assert day.previous_close == true.previous_close
        assert day.volume == (None if name == "finnhub" else true.volume)


def test_marketstack_tells_the_last_close_of_its_session(values: Settings) -> None:
    answer = named(sources_of(values).quotes, "marketstack").quotes([*SYMBOLS, "no ticker"], NOW)
    for symbol, true in TRUTH.items():
        quote = answer.quotes[symbol]
        assert quote.price_usd == Decimal(str(true.previous_close))
        assert quote.at == datetime(2026, 11, 24, 21, tzinfo=UTC)
    assert answer.missing == {"no ticker": Fault.UNKNOWN_SYMBOL}


def test_alpaca_twelve_data_and_yahoo_tell_the_same_bars(values: Settings) -> None:
    start = NOW - timedelta(days=2)
    frames = [source.bars(["BRK.B", "AAPL"], start, NOW) for source in sources_of(values).bars]
    told = [sorted(frame.itertuples(index=False, name=None)) for frame in frames]
    assert [list(frame.columns) for frame in frames] == [list(BAR_COLUMNS)] * 3
    assert told[0] == told[1] == told[2]
    true = Walk().bars(["AAPL"], start, NOW, NOW)["AAPL"]
    assert [row[1:6] for row in told[0] if row[0] == "AAPL"] == [(b.at, b.open, b.high, b.low, b.close) for b in true]


def test_alpaca_s_bars_come_in_pages(standin: Running) -> None:
    url, keys = f"{standin.url}{ALPACA}/v2/stocks/bars", {"APCA-API-KEY-ID": "K", "APCA-API-SECRET-KEY": "S"}
    start = NOW - timedelta(hours=2)
    query = {"symbols": "AAPL,MSFT", "timeframe": "5Min", "start": start.isoformat(), "limit": "7"}
    got: list[tuple[str, str]] = []
    while True:
        body = requests.get(url, query, headers=keys, timeout=5).json()
        got += [(symbol, bar["t"]) for symbol, bars in body["bars"].items() for bar in bars]
        if body["next_page_token"] is None:
            break
        query["page_token"] = body["next_page_token"]
    expected = [bar.at for bar in Walk().bars(["AAPL"], start, NOW, NOW)["AAPL"]]
    assert got == [(s, f"{at:%Y-%m-%dT%H:%M:%SZ}") for s in ("AAPL", "MSFT") for at in expected]


def test_yahoo_tells_days_and_refuses_bars_of_too_long_ago(values: Settings, standin: Running) -> None:
    yahoo = Yahoo(YahooLink(values.home, values.yfinance_url))
    days = yahoo.days("BRK.B", date(2026, 11, 20), date(2026, 11, 25))
    assert days["day"].tolist() == [date(2026, 11, day) for day in (20, 23, 24, 25)]
    assert days["close"].tolist()[2:] == [TRUTH["BRK.B"].previous_close, TRUTH["BRK.B"].price]
    assert len(yahoo.bars(["AAPL"], NOW - timedelta(days=70), NOW - timedelta(days=65))) == 0


def test_yahoo_is_asked_for_cookie_and_crumb_once_and_then_for_charts_alone(values: Settings, standin: Running) -> None:
    yahoo = Yahoo(YahooLink(values.home, values.yfinance_url))
    yahoo.quotes(["AAPL"], NOW)
    standin.control.forget()
    assert yahoo.quotes(SYMBOLS, NOW).credits == 3
    assert standin.control.all()["yfinance"].paths == {"/v8/finance/chart": 3}


@pytest.mark.parametrize("name", ["finnhub", "fmp", "yfinance"])
def test_companies_are_told_of_alike(values: Settings, name: str) -> None:
    found = named(sources_of(values).fundamentals, name).fundamentals("BRK.B", NOW)
    other = named(sources_of(values).fundamentals, "yfinance").fundamentals("BRK.B", NOW)
    assert found.beta == other.beta is not None
    assert found.market_cap_usd == pytest.approx(other.market_cap_usd)
    assert found.dividend_yield == pytest.approx(other.dividend_yield, rel=0.1)


def test_headlines_are_those_of_the_days_asked_for_newest_first(values: Settings) -> None:
    since, until = date(2026, 11, 19), NOW.date()
    hub, yahoo = (source.news("AAPL", since, until) for source in sources_of(values).news)
    assert (
        [(news.title, news.published_at) for news in hub] == [(news.title, news.published_at) for news in yahoo] != []
    )
    times = [news.published_at for news in hub]
    assert times == sorted(times, reverse=True)
    assert all("Made up" in news.title for news in hub)


def test_grok_answers_in_the_form_it_was_asked_for_and_names_its_cost(values: Settings) -> None:
    reply = xai.connect(values).ask(grok.request_body("grok-4.3", SYMBOLS, NOW, search=False))
    judged = grok.judged(reply.text, SYMBOLS, NOW)
    assert {one.symbol for one in judged.candidates} == set(SYMBOLS)
    assert (judged.dropped, judged.altered, reply.cost_usd) == ({}, {}, Decimal("0.006"))


@pytest.mark.parametrize(("path", "status", "words"), [
    (f"{FINNHUB}/quote?symbol=AAPL", 401, "API key"), (f"{TWELVEDATA}/quote?symbol=AAPL", 401, "apikey"),
    (f"{FMP}/quote?symbol=AAPL", 401, "API KEY"), (f"{MARKETSTACK}/eod/latest?symbols=AAPL", 401, "access_key"),
    (f"{ALPACA}/v2/stocks/snapshots?symbols=AAPL", 401, "unauthorized"), (f"{XAI}/responses", 400, "API key"),
])  # fmt: skip
def test_without_a_key_each_vendor_refuses_in_its_own_words(
    standin: Running, path: str, status: int, words: str
) -> None:
    answer = requests.get(standin.url + path, timeout=5)
    assert answer.status_code == status
    assert words in answer.text


def test_without_a_crumb_yahoo_tells_nothing_of_companies(standin: Running) -> None:
    answer = requests.get(f"{standin.url}{YAHOO}/v10/finance/quoteSummary/AAPL", timeout=5)
    assert (answer.status_code, "Invalid Crumb" in answer.text) == (401, True)


def get(standin: Running, path: str, **headers: str) -> requests.Response:
    return requests.get(standin.url + path, headers=headers, timeout=5)


def test_the_free_plans_end_where_they_do(standin: Running) -> None:
    """Of what QBot does not ask for: it would be told so."""
    assert get(standin, f"{FMP}/quote?symbol=AAPL,MSFT&apikey=k").json() == []
    several = get(standin, f"{FMP}/batch-quote?symbols=AAPL,MSFT&apikey=k")
    assert (several.status_code, several.headers["content-type"]) == (402, "application/json")
    assert several.text.startswith("Restricted Endpoint")
    assert get(standin, f"{FINNHUB}/stock/candle?symbol=AAPL&token=k").status_code == 403
    assert get(standin, f"{MARKETSTACK}/intraday/latest?symbols=AAPL&access_key=k").status_code == 403
    assert get(standin, f"{TWELVEDATA}/statistics?symbol=AAPL&apikey=k").status_code == 403


def test_times_are_naive_and_numbers_text_where_the_vendor_has_them_so(standin: Running) -> None:
    body = get(standin, f"{TWELVEDATA}/time_series?symbol=AAPL&interval=5min&outputsize=2&apikey=k").json()
    assert [row["datetime"] for row in body["values"]] == ["2026-11-25 10:55:00", "2026-11-25 10:50:00"]
    assert all(isinstance(value, str) for value in body["values"][0].values())
    days = get(standin, f"{MARKETSTACK}/eod?symbols=AAPL&date_from=2026-11-23&access_key=k").json()
    assert [row["date"] for row in days["data"]] == ["2026-11-24T00:00:00+0000", "2026-11-23T00:00:00+0000"]
    assert days["pagination"] == {"limit": 100, "offset": 0, "count": 2, "total": 2}
    latest = get(standin, f"{MARKETSTACK}/eod/latest?symbols=AAPL,MSFT&access_key=k").json()
    assert [row["symbol"] for row in latest["data"]] == ["AAPL", "MSFT"]
    assert {row["date"] for row in latest["data"]} == {"2026-11-24T00:00:00+0000"}
    profile = get(standin, f"{FINNHUB}/stock/profile2?symbol=AAPL", **{"X-Finnhub-Token": "k"}).json()
    assert (profile["ticker"], profile["currency"]) == ("AAPL", "USD")
