"""What Yahoo tells of a ticker besides its price: a few tickers a pass, once a day, on the board as documented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from qbot import clock, enhancing, limits
from qbot.contract import keys
from qbot.contract.board import client_of
from qbot.market.feeds import Feed
from qbot.market.limiting import Gate
from qbot.market.plans import YFINANCE
from qbot.market.yahoo import Yahoo
from qbot.market.yahoo_link import YahooFailed
from qbot.runtime import Runtime
from qbot.store import companies, tables
from qbot.store.companies import Kind
from qbot.store.engine import transaction
from tests.market.fakes import reply
from tests.market.test_yahoo import MISSING, FakeLink
from tests.support.exchange import MID_SESSION
from tests.support.runtime import World

TICKERS = ("AAPL", "MSFT", "SPY", "QQQ", "AMZN", "META", "NOPE")
UNKNOWN = YahooFailed("YFTickerMissingError", reply(MISSING, 404), 1, limited=False, missing=True)
BROKEN = YahooFailed("YFException", None, 1, limited=False, missing=False)
LIMITED = YahooFailed("YFRateLimitError", None, 1, limited=True, missing=False)


def days(symbol: str, count: int = 60) -> Any:
    index = pd.date_range(end="2025-07-03", periods=count, freq="B", tz="America/New_York")
    close = [200.0 + number for number in range(count)]
    frame = pd.DataFrame(
        {"Open": close, "High": [one + 1 for one in close], "Low": [one - 1 for one in close], "Close": close,
         "Volume": [1_000] * count}, index=index,
    )  # fmt: skip
    return frame, {"symbol": symbol}


def asking(world: World, outcome: Callable[[str], Any]) -> tuple[Runtime, FakeLink]:
    rt, link = world.another(), FakeLink(outcome)
    yahoo = Yahoo(link)
    gate = Gate(YFINANCE, "", client_of(rt.settings), rt.engine, rt.wall, pause=lambda _seconds: None, pace=NoWait())  # type: ignore[arg-type]
    rt.__dict__["feeds"] = {"yfinance": Feed(YFINANCE, gate, yahoo, yahoo, yahoo, yahoo)}
    return rt, link


class NoWait:
    """A pace that lets everybody pass."""

    def wait(self, symbols: int, within_s: float = 0.0) -> float | None:
        return None


def test_a_few_tickers_a_pass_get_their_days_with_indicators(world: World) -> None:
    rt, link = asking(world, days)
    enhancing.enhance(rt, TICKERS)
    asked = [symbol for symbol, _query in link.asked]
    assert asked == sorted(TICKERS)[: limits.ENHANCED_PER_PASS]
    told = world.told(keys.YFINANCE_ENHANCED.of("AAPL"))
    assert (told.ticker, told.data_points, len(told.historical_data)) == ("AAPL", 60, 60)
    last = told.historical_data[-1]
    assert (last.date.isoformat(), last.close, last.sma_20) == ("2025-07-03", 259.0, 249.5)
    assert last.sma_200 is None
    status = world.told(keys.YFINANCE_STATUS)
    assert (status.tickers_processed, status.success_count, status.error_count) == (5, 5, 0)


def test_when_the_time_of_the_pass_is_up_nobody_is_asked(world: World) -> None:
    rt, link = asking(world, days)
    enhancing.enhance(rt, TICKERS, clock.monotonic_s())
    assert link.asked == []


def test_the_running_day_is_not_asked_for_and_a_day_is_asked_for_once(world: World) -> None:
    rt, link = asking(world, days)
    for _ in range(3):
        enhancing.enhance(rt, TICKERS)
        world.market.advance(minutes=5)
    assert sorted(symbol for symbol, _query in link.asked) == sorted(TICKERS)
    assert {query["end"] for _symbol, query in link.asked} == {"2025-07-04"}  # exclusive: the third, before a holiday
    world.market.set(MID_SESSION.replace(hour=20, minute=5))
    enhancing.enhance(rt, TICKERS)
    assert link.asked[-1][1]["end"] == "2025-07-08"


def test_a_ticker_that_yahoo_does_not_know_costs_no_other(world: World) -> None:
    rt, link = asking(world, lambda symbol: UNKNOWN if symbol == "AMZN" else days(symbol))
    enhancing.enhance(rt, TICKERS)
    assert len(link.asked) == limits.ENHANCED_PER_PASS
    status = world.told(keys.YFINANCE_STATUS)
    assert (status.success_count, status.error_count) == (4, 1)
    assert not rt.board.read(keys.YFINANCE_ENHANCED.of("AMZN")).present


def asked_of(link: FakeLink) -> list[str]:
    """Each ticker once, in the order of the first time it was asked for; and nothing is asked for any more."""
    found = list(dict.fromkeys(symbol for symbol, _query in link.asked))
    link.asked.clear()
    return found


@pytest.mark.parametrize("failure", [BROKEN, UNKNOWN])
def test_a_ticker_that_always_fails_keeps_no_other_from_being_asked_for(world: World, failure: YahooFailed) -> None:
    rt, link = asking(world, lambda symbol: failure if symbol == "AAPL" else days(symbol))
    enhancing.enhance(rt, TICKERS)
    assert asked_of(link) == sorted(TICKERS)[: limits.ENHANCED_PER_PASS]
    world.market.advance(minutes=5)
    enhancing.enhance(rt, TICKERS)
    assert asked_of(link) == sorted(TICKERS)[limits.ENHANCED_PER_PASS :]
    enhancing.enhance(rt, TICKERS)
    assert asked_of(link) == []
    world.market.advance(seconds=limits.ENHANCED_AGAIN_S)
    enhancing.enhance(rt, TICKERS)
    assert asked_of(link) == ["AAPL"]


def test_a_yahoo_that_fails_for_one_after_another_is_left_alone_and_the_next_pass_begins_with_others(
    world: World,
) -> None:
    rt, link = asking(world, lambda _symbol: BROKEN)
    enhancing.enhance(rt, TICKERS)
    assert asked_of(link) == ["AAPL", "AMZN"]
    world.redis.flushall()  # its breaker lets everybody through again
    rt, link = asking(world, days)
    enhancing.enhance(rt, TICKERS)
    assert asked_of(link) == ["AMZN", "META", "MSFT", "NOPE", "QQQ"]  # AMZN met the breaker


@pytest.mark.parametrize("failure", [BROKEN, UNKNOWN, days("AAPL", 0)], ids=["broken", "unknown", "no days"])
def test_a_year_of_days_outlasts_an_answer_without_any(world: World, failure: Any) -> None:
    answers = [days("AAPL")]
    rt, link = asking(world, lambda _symbol: answers[-1])
    enhancing.enhance(rt, ("AAPL",))
    before = world.told(keys.YFINANCE_ENHANCED.of("AAPL")).historical_data
    answers.append(failure)
    world.market.set(MID_SESSION.replace(hour=20, minute=5))
    enhancing.enhance(rt, ("AAPL",))
    enhancing.show(rt, ("AAPL",))
    assert len(link.asked) > 1
    assert world.told(keys.YFINANCE_ENHANCED.of("AAPL")).historical_data == before


def test_days_that_a_clock_noted_that_ran_ahead_are_asked_for_again(world: World) -> None:
    rt, link = asking(world, days)
    world.market.advance(days=30)
    enhancing.enhance(rt, ("AAPL",))
    world.market.advance(days=-30)
    enhancing.enhance(rt, ("AAPL",))
    assert len(link.asked) == 2


def test_a_yahoo_that_is_asked_too_often_is_left_alone(world: World) -> None:
    rt, link = asking(world, lambda _symbol: LIMITED)
    enhancing.enhance(rt, TICKERS)
    enhancing.enhance(rt, TICKERS)
    assert len(link.asked) == 1
    with transaction(world.engine) as connection:
        assert companies.facts(connection, Kind.DAYS, TICKERS) == {}


def test_fundamentals_and_headlines_of_whoever_has_them_stand_beside_the_days(world: World) -> None:
    rt, _link = asking(world, days)
    with transaction(world.engine) as connection:
        figures = {"market_cap_usd": 3e12, "pe_ratio": 30.5, "sector": "Technology", "dividend_yield": 0.005}
        companies.note(connection, Kind.FUNDAMENTALS, {"AAPL": figures}, "fmp", MID_SESSION)
        news = [{"title": "A headline", "published_at": MID_SESSION.isoformat(), "publisher": "Somebody"}]
        companies.note(connection, Kind.NEWS, {"AAPL": news}, "finnhub", MID_SESSION)
    enhancing.enhance(rt, ("AAPL",))
    told = world.told(keys.YFINANCE_ENHANCED.of("AAPL"))
    assert (told.fundamentals.market_cap, told.fundamentals.sector) == (3e12, "Technology")
    assert told.fundamentals.dividend_yield == pytest.approx(0.005)
    assert [(one.title, one.publisher, one.published) for one in told.news] == [("A headline", "Somebody", MID_SESSION)]


def test_a_ticker_that_cannot_be_shown_costs_no_other_and_is_told_once(world: World) -> None:
    rt, _link = asking(world, days)
    with transaction(world.engine) as connection:
        odd = {"day": "2025-07-03", "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1e300}
        companies.note(connection, Kind.DAYS, {"MSFT": [odd], "SPY": [odd]}, "yfinance", MID_SESSION)
        figures = {"market_cap_usd": 1e300, "dividend_yield": 1e21, "beta": 1.5, "sector": "Technology"}
        companies.note(connection, Kind.FUNDAMENTALS, {"AAPL": figures}, "fmp", MID_SESSION)
    enhancing.enhance(rt, ("AAPL",))
    enhancing.show(rt, ("AAPL", "MSFT", "SPY"))
    told = world.told(keys.YFINANCE_ENHANCED.of("AAPL")).fundamentals
    assert (told.market_cap, told.dividend_yield, told.beta, told.sector) == (None, None, 1.5, "Technology")
    assert not any(rt.board.read(keys.YFINANCE_ENHANCED.of(symbol)).present for symbol in ("MSFT", "SPY"))
    (alert,) = world.rows(tables.alerts)
    assert alert["title"] == "Market data cannot be shown"


def test_a_board_that_was_lost_gets_them_again_without_asking_anybody(world: World) -> None:
    rt, link = asking(world, days)
    enhancing.enhance(rt, ("AAPL",))
    before = world.told(keys.YFINANCE_ENHANCED.of("AAPL"))
    world.redis.flushall()
    enhancing.show(rt, ("AAPL", "MSFT"))
    assert world.told(keys.YFINANCE_ENHANCED.of("AAPL")) == before
    assert len(link.asked) == 1


def test_where_yahoo_is_off_nothing_is_asked_or_written(world: World) -> None:
    rt = world.another()
    enhancing.enhance(rt, TICKERS)
    enhancing.show(rt, TICKERS)
    assert not rt.board.read(keys.YFINANCE_STATUS).present
