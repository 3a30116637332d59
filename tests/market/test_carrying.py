"""Requests of a plan: what is asked for on the wire is what was counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import requests
from alpaca.data.enums import DataFeed

from qbot import limits
from qbot.contract.board import client_of
from qbot.market.alpaca_data import AlpacaData
from qbot.market.backfilling import ALPACA_PAGE_BARS
from qbot.market.calendar import sessions_between
from qbot.market.carrying import Told, When, carry_out
from qbot.market.company import News
from qbot.market.feeds import Feed
from qbot.market.gaps import DAY_BARS_MAX
from qbot.market.limiting import Gate
from qbot.market.planning import Ask
from qbot.market.plans import ALPACA, FINNHUB, TWELVEDATA, Need, Plan
from qbot.market.provider import BarProvider, Fault, ProviderError
from qbot.market.twelvedata import TwelveData
from qbot.store import tables
from tests.market.fakes import Source, reply
from tests.support.exchange import MID_SESSION
from tests.support.runtime import World

HISTORY = timedelta(days=70)


@dataclass
class Turns:
    """A pace that lets everybody pass, and counts."""

    symbols: list[int] = field(default_factory=list)

    def wait(self, symbols: int, within_s: float = 0.0) -> float | None:
        self.symbols.append(symbols)
        return None


def carried(world: World, plan: Plan, source: BarProvider, turns: Turns, since: dict[str, datetime]) -> Told:
    rt = world.another()
    gate = Gate(plan, "key", client_of(rt.settings), rt.engine, rt.wall, lambda _seconds: None, turns)  # type: ignore[arg-type]
    ask = Ask(plan.source, Need.BARS, tuple(since))
    return carry_out(Feed(plan, gate, source, source), ask, When(MID_SESSION, world.wall, since))


def test_a_long_history_is_counted_for_each_request_that_it_takes(world: World) -> None:
    symbols = [f"S{number}" for number in range(8)]
    wire, turns = Source(reply({symbol: {"values": [], "status": "ok"} for symbol in symbols})), Turns()
    carried(world, TWELVEDATA, TwelveData(wire), turns, dict.fromkeys(symbols, MID_SESSION - HISTORY))
    assert wire.cost == 16  # two requests of eight
    assert turns.symbols == [8, 8]
    assert [row["used"] for row in world.rows(tables.source_quotas)] == [wire.cost]


@pytest.mark.parametrize(("code", "said", "fault"), [
    (429, "You have run out of API credits for the day.", Fault.QUOTA),
    (429, "You have run out of API credits for the current minute.", Fault.MINUTE_LIMIT),
    (500, "Internal server error", Fault.TRANSIENT),
])  # fmt: skip
def test_bars_that_came_before_a_failure_are_kept_and_the_failure_is_told(
    world: World, code: int, said: str, fault: Fault
) -> None:
    at = MID_SESSION - timedelta(minutes=30)
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), "7")
    whole = {"values": [{"datetime": f"{at:%Y-%m-%d %H:%M:%S}", **prices}], "status": "ok"}
    wire = Source(reply({"A": whole, "B": {"code": code, "message": said, "status": "error"}}))
    since = dict.fromkeys(("A", "B"), MID_SESSION - timedelta(hours=1))
    told = carried(world, TWELVEDATA, TwelveData(wire), Turns(), since)
    assert told.failed is not None
    assert (told.failed.fault, told.bars["symbol"].tolist(), wire.cost) == (fault, ["A"], 2)  # and not again at once


class Headlines:
    """Finnhub, whose plan does not include one of them."""

    name = "finnhub"

    def news(self, symbol: str, since: date, until: date) -> tuple[News, ...]:
        if symbol == "NOT":
            raise ProviderError("finnhub", Fault.PLAN, "HTTP 403: You don't have access to this resource.")
        return ()


def test_a_ticker_whose_headlines_a_plan_leaves_out_is_no_failure_of_the_source(world: World) -> None:
    rt, source = world.another(), Headlines()
    gate = Gate(FINNHUB, "key", client_of(rt.settings), rt.engine, rt.wall, lambda _seconds: None, Turns())  # type: ignore[arg-type]
    feed = Feed(FINNHUB, gate, source, news=source)  # type: ignore[arg-type]
    told = carry_out(feed, Ask("finnhub", Need.NEWS, ("AAPL", "NOT")), When(MID_SESSION, world.wall, {}))
    assert (told.failed, dict(told.news), dict(told.answer.missing)) == (None, {"AAPL": ()}, {"NOT": Fault.PLAN})


class Pages:
    """Alpaca's client, which asks again by itself for what is beyond a page."""

    def __init__(self) -> None:
        self._retry, self._session = 3, requests.Session()
        self.asked: list[Any] = []

    def get_stock_bars(self, request: Any) -> Any:
        self.asked.append(request)
        return {"bars": {}}


@pytest.mark.parametrize("count", [1, 13, 200])
def test_no_request_takes_more_than_one_page(world: World, count: int) -> None:
    symbols, client, turns = [f"S{number}" for number in range(count)], Pages(), Turns()
    since = dict.fromkeys(symbols, MID_SESSION - HISTORY + timedelta(seconds=61))
    carried(world, ALPACA, AlpacaData(client, DataFeed.IEX), turns, since)  # type: ignore[arg-type]
    assert len(client.asked) == len(turns.symbols) <= limits.BARS_REQUESTS_MAX
    for request in client.asked:  # their client has UTC without saying so
        start, end = (at.replace(tzinfo=UTC) for at in (request.start, request.end))
        days = min(-(-(end - start) // timedelta(days=1)), len(sessions_between(start, end)))
        assert len(request.symbol_or_symbols) * days * DAY_BARS_MAX <= ALPACA_PAGE_BARS
    same = [one for one in client.asked if one.symbol_or_symbols == client.asked[0].symbol_or_symbols]
    for one, other in pairwise(same):  # where they meet no bar is lost
        assert one.end == other.start
        assert other.start.minute % 5 == other.start.second == 0


def test_what_is_new_of_many_is_one_request(world: World) -> None:
    symbols, client, turns = [f"S{number}" for number in range(200)], Pages(), Turns()
    since = dict.fromkeys(symbols, MID_SESSION - timedelta(minutes=65))
    carried(world, ALPACA, AlpacaData(client, DataFeed.IEX), turns, since)  # type: ignore[arg-type]
    assert len(client.asked) == 1


def test_those_that_lack_a_history_do_not_hold_up_the_others(world: World) -> None:
    client, new = Pages(), {f"N{number}": MID_SESSION - HISTORY for number in range(150)}
    since = new | {"OLD": MID_SESSION - timedelta(minutes=65)}
    carried(world, ALPACA, AlpacaData(client, DataFeed.IEX), Turns(), since)  # type: ignore[arg-type]
    assert client.asked[0].symbol_or_symbols == ["OLD"]
    assert len(client.asked) == limits.BARS_REQUESTS_MAX
