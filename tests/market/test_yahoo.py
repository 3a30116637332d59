"""Yahoo Finance: what the adapter makes of yfinance, and yfinance itself against a server of our own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from qbot.clock import monotonic_s
from qbot.market.company import News
from qbot.market.provider import Fault, ProviderError
from qbot.market.reply import Reply
from qbot.market.yahoo import Yahoo, fault_of
from qbot.market.yahoo_link import Asked, YahooFailed, YahooLink, rebased
from tests.market.fakes import NOW, reply, sample
from tests.market.test_classify import chart
from tests.market.vendor import Request, Said, Vendor, said, vendor

MISSING = chart("No data found, symbol may be delisted")
LIMIT = Said(b"Too Many Requests\r\n", 429, kind="text/plain")
CHART = "/v8/finance/chart/"


def failed(
    said_of: Reply | None = None, requests: int = 2, *, limited: bool = False, missing: bool = False
) -> YahooFailed:
    return YahooFailed("SomeError", said_of, requests, limited=limited, missing=missing)


class FakeLink:
    """yfinance that gives a chart a symbol, or fails; it remembers what it was asked."""

    def __init__(self, outcome: Callable[[str], Any]) -> None:
        self._outcome = outcome
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def history(self, symbol: str, **query: Any) -> Asked:
        self.asked.append((symbol, query))
        return self._given(symbol)

    def info(self, symbol: str) -> Asked:
        return self._given(symbol)

    def news(self, symbol: str, count: int) -> Asked:
        return self._given(symbol)

    def _given(self, symbol: str) -> Asked:
        outcome = self._outcome(symbol)
        if isinstance(outcome, YahooFailed):
            raise outcome
        return Asked(outcome, 1)


def charted(symbol: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    meta = {"symbol": symbol, "currency": "USD", "regularMarketPrice": 100.5, "regularMarketTime": 1764255000}
    return pd.DataFrame({"Open": [99.5]}), meta


# --- the adapter -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("why", "fault"), [
    (failed(limited=True), Fault.MINUTE_LIMIT), (failed(), Fault.TRANSIENT), (failed(missing=True), Fault.TRANSIENT),
    (failed(reply(MISSING, 404), missing=True), Fault.UNKNOWN_SYMBOL), (failed(reply("<html>", 502)), Fault.TRANSIENT),
    (failed(reply({"chart": {"result": [{"meta": {}}], "error": None}}), missing=True), Fault.NO_DATA),
    (failed(reply({"chart": {"result": [{"meta": {}}], "error": None}})), Fault.TRANSIENT),
    (failed(reply("Too Many Requests", 429)), Fault.MINUTE_LIMIT),
])  # fmt: skip
def test_limited_unknown_and_empty_are_three_things(why: YahooFailed, fault: Fault) -> None:
    assert fault_of(why) is fault


def test_one_bad_symbol_costs_no_other_and_a_limit_ends_it() -> None:
    outcomes = {"BAD": failed(reply(MISSING, 404), 6, missing=True), "LIM": failed(limited=True)}
    link = FakeLink(lambda symbol: outcomes.get(symbol) or charted(symbol))
    answer = Yahoo(link).quotes(["A", "BAD", "B", "LIM", "C"], NOW)
    assert [symbol for symbol, _query in link.asked] == ["A", "BAD", "B", "LIM"]
    assert set(answer.quotes) == {"A", "B"}
    assert answer.missing == {"BAD": Fault.UNKNOWN_SYMBOL, "LIM": Fault.MINUTE_LIMIT, "C": Fault.MINUTE_LIMIT}
    assert answer.credits == 1 + 6 + 1 + 2
    assert answer.days["A"].open == 99.5


def test_bars_are_asked_for_as_they_traded_and_come_back_in_utc() -> None:
    index = pd.DatetimeIndex(["2026-11-27 09:30", "2026-11-27 09:35", "2026-11-27 09:38:21"], tz="America/New_York")
    values = {"Open": 1.0, "High": 2.0, "Low": 0.5, "Close": 1.5, "Volume": 7}
    frame = pd.DataFrame({name: [value] * 3 for name, value in values.items()}, index=index)
    link = FakeLink(lambda symbol: (frame, {}) if symbol == "A" else failed(reply(MISSING, 404)))
    start, end = datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 14, 45, tzinfo=UTC)
    found = Yahoo(link).bars(["A", "BAD"], start, end)
    assert [(row.symbol, f"{row.ts:%H:%M%z}") for row in found.itertuples()] == [
        ("A", "14:30+0000"),
        ("A", "14:35+0000"),
    ]
    assert link.asked[0][1] == {
        "start": start, "end": end, "interval": "5m", "prepost": False, "auto_adjust": False, "actions": False,
    }  # fmt: skip


def test_nothing_told_of_a_company_is_an_error_and_no_headlines_are_none() -> None:
    yahoo = Yahoo(FakeLink(lambda _symbol: {}))
    with pytest.raises(ProviderError) as raised:
        yahoo.fundamentals("AAPL", NOW)
    assert (raised.value.fault, raised.value.credits) == (Fault.NO_DATA, 1)
    assert Yahoo(FakeLink(lambda _symbol: [])).news("AAPL", NOW.date(), NOW.date()) == ()


# --- yfinance itself -------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Vendor]:
    with vendor() as found:
        yield found


def answering(server: Vendor, answers: dict[str, Said]) -> None:
    """By the beginning of the path; what is not named is a page of cookies, as Yahoo's other hosts have them."""

    def answer(request: Request) -> Said:
        found = [answers[path] for path in answers if request.path.startswith(path)]
        return found[0] if found else Said(b"crumb1234", kind="text/plain")

    server.answer = answer


def charts(server: Vendor) -> list[str]:
    return [request.path.removeprefix(CHART) for request in server.got if request.path.startswith(CHART)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_quote_takes_one_chart_and_nothing_is_written_outside_of_the_home(server: Vendor, home: Path) -> None:
    theirs = Path.home() / ".cache" / "py-yfinance"
    before = theirs.exists()
    answering(server, {CHART: said(sample("yahoo_chart_AAPL_2020-01")["body"])})
    answer = Yahoo(YahooLink(home, server.url)).quotes(["AAPL"], NOW)
    assert str(answer.quotes["AAPL"].price_usd) == "244.87"
    assert answer.quotes["AAPL"].at == datetime(2025, 2, 19, 21, 0, 1, tzinfo=UTC)
    assert charts(server) == ["AAPL"]
    assert answer.credits == len(server.got)
    assert (home / "yfinance").is_dir()
    assert theirs.exists() == before


def test_limited_unknown_and_garbage_differ(server: Vendor, home: Path) -> None:
    answering(server, {
        f"{CHART}LIM": LIMIT, f"{CHART}PAGE": Said(b"<html></html>", kind="text/html"),
        f"{CHART}BIG": Said(json.dumps(sample("yahoo_chart_AAPL_2020-01")["body"]).encode() + b" " * 6_000_000),
        f"{CHART}EMPTY": said(sample("yahoo_chart_AAPL_2025-02_empty")["body"]),
        f"{CHART}ODD": said({"chart": {"result": [{"meta": {}, "indicators": {"quote": [{"close": [1]}]}}]}}),
        f"{CHART}AAPL": said(sample("yahoo_chart_AAPL_2020-01")["body"]), CHART: said(MISSING, 404),
    })  # fmt: skip
    yahoo = Yahoo(YahooLink(home, server.url))
    found = yahoo.quotes(["NOPE", "AAPL", "PAGE", "EMPTY", "BIG", "AAPL", "LIM"], NOW)
    assert set(found.quotes) == {"AAPL"}
    assert found.missing == {
        "NOPE": Fault.UNKNOWN_SYMBOL, "PAGE": Fault.TRANSIENT, "EMPTY": Fault.NO_DATA, "BIG": Fault.TRANSIENT,
        "LIM": Fault.MINUTE_LIMIT,
    }  # fmt: skip
    assert found.credits == len(server.got)
    with pytest.raises(ProviderError) as raised:
        yahoo.quotes(["ODD"], NOW)
    assert raised.value.fault is Fault.TRANSIENT
    with pytest.raises(ProviderError, match="Too Many Requests") as raised:
        yahoo.quotes(["LIM", "AAPL"], NOW)
    assert raised.value.fault is Fault.MINUTE_LIMIT


def test_a_source_that_comes_back_is_heard_again(server: Vendor, home: Path) -> None:
    """yfinance keeps answers, bad ones too."""
    yahoo = Yahoo(YahooLink(home, server.url))
    start = datetime(2026, 11, 2, tzinfo=UTC)
    answering(server, {CHART: said(MISSING, 404)})
    assert len(yahoo.bars(["AAPL"], start, start + timedelta(days=1))) == 0
    first = len(charts(server))
    assert len(yahoo.bars(["AAPL"], start, start + timedelta(days=1))) == 0
    assert len(charts(server)) == 2 * first > 0


def test_a_source_that_does_not_answer_is_given_up_at_the_deadline(server: Vendor, home: Path) -> None:
    server.says(Said(pause_s=5))
    link = YahooLink(home, server.url, deadline_s=0.5)
    assert link._loaded  # which takes seconds, once a process
    begin_s = monotonic_s()
    with pytest.raises(ProviderError) as raised:
        Yahoo(link).quotes(["AAPL"], NOW)
    assert raised.value.fault is Fault.TRANSIENT
    assert monotonic_s() - begin_s < 4


def test_nothing_is_asked_once_the_deadline_is_over(server: Vendor, home: Path) -> None:
    with pytest.raises(ProviderError) as raised:
        Yahoo(YahooLink(home, server.url, deadline_s=0)).quotes(["AAPL"], NOW)
    assert (raised.value.fault, raised.value.credits, server.got) == (Fault.TRANSIENT, 0, [])


def test_the_end_of_the_task_is_no_failure_of_yahoo_s(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(_symbol: str) -> None:
        raise SoftTimeLimitExceeded

    link = YahooLink(home)
    monkeypatch.setattr(link, "_ticker", cut_off)
    with pytest.raises(SoftTimeLimitExceeded):
        link.info("AAPL")


def test_companies_are_told_of_through_yfinance(server: Vendor, home: Path) -> None:
    modules = {"summaryDetail": {"trailingPE": 33.0, "dividendRate": 1.0, "marketCap": 3.8e12, "beta": 1.2},
               "financialData": {"currentPrice": 250.0, "debtToEquity": 150.0},
               "assetProfile": {"sector": "Technology", "industry": "Consumer Electronics"}}  # fmt: skip
    article = {"content": {"title": "Apple", "pubDate": "2026-11-27T14:00:00Z", "provider": {"displayName": "Reuters"}}}
    answering(server, {
        "/v10/": said({"quoteSummary": {"result": [modules], "error": None}}),
        "/v7/": said({"quoteResponse": {"result": [{"symbol": "AAPL", "dividendYield": 0.4}], "error": None}}),
        "/ws/": said({"timeseries": {"result": [], "error": None}}),
        "/xhr/": said({"data": {"tickerStream": {"stream": [article, {"ad": [1]}]}}}),
    })  # fmt: skip
    yahoo = Yahoo(YahooLink(home, server.url))
    found = yahoo.fundamentals("AAPL", NOW)
    assert (found.pe_ratio, found.dividend_yield, found.debt_to_equity, found.sector) == (
        33.0,
        0.004,
        1.5,
        "Technology",
    )
    at = datetime(2026, 11, 27, 14, tzinfo=UTC)
    assert yahoo.news("AAPL", date(2026, 11, 20), date(2026, 11, 27)) == (
        News("AAPL", "Apple", at, "yfinance", "Reuters"),
    )


def test_days_come_as_they_traded(server: Vendor, home: Path) -> None:
    answering(server, {CHART: said(sample("yahoo_chart_AAPL_2020-01")["body"])})
    days = Yahoo(YahooLink(home, server.url)).days("AAPL", date(2020, 1, 1), date(2020, 1, 3))
    assert days["day"].tolist() == [date(2020, 1, 2)]
    assert days["symbol"].tolist() == ["AAPL"]
    assert 74 < days["open"][0] < days["high"][0] < 76


def test_all_of_yahoo_s_hosts_are_stood_in_for() -> None:
    assert (
        rebased("https://query2.finance.yahoo.com/v8/x?a=1", "http://127.0.0.1:5/y/") == "http://127.0.0.1:5/y/v8/x?a=1"
    )
    assert rebased("https://fc.yahoo.com", "http://127.0.0.1:5") == "http://127.0.0.1:5"
    assert rebased("https://fc.yahoo.com/", None) == "https://fc.yahoo.com/"


def test_yfinance_is_not_loaded_by_those_who_only_name_it() -> None:
    code = "import sys, qbot.market.providers; sys.exit('yfinance' in sys.modules or 'curl_cffi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
