"""Each provider dead, slow or lying in turn, over HTTP: prices go on from the others, nothing wrong gets through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from qbot import fetching, health, showing_market
from qbot.contract import keys
from qbot.contract.board import client_of
from qbot.market import feeds
from qbot.market.feeds import Feed
from qbot.market.plans import Need
from qbot.runtime import Runtime
from qbot.standin.client import Control
from qbot.standin.running import Running, standing_in
from qbot.standin.server import VENDORS
from qbot.standin.troubles import LIES, Trouble
from qbot.standin.walk import Walk
from qbot.store import quotes, sources, tables
from qbot.store.engine import transaction
from tests.support.exchange import MID_SESSION
from tests.support.runtime import TICKERS, World

LIVE = ("alpaca", "finnhub", "twelvedata", "fmp", "yfinance")
WALK = Walk()
# Who is gone is waited for to the end of a pass, who lies is not; Yahoo's three tickers take three seconds by its pace.
WAITING_S, WITHIN_S = 6.0, 25.0
# How each kind of answer is understood stands in tests/standin; here what becomes of the prices.
GONE = (Trouble.DEAD, Trouble.SLOW, Trouble.QUOTA, Trouble.AUTH, Trouble.SERVER_ERROR, Trouble.GARBAGE)


@dataclass
class Place:
    """A QBot all of whose vendors are the stand-in."""

    world: World
    control: Control
    rt: Runtime
    needs: frozenset[Need] = frozenset({Need.PRICE, Need.CLOSE})

    def first(self, name: str) -> None:
        """From now on this source is asked before all others."""
        changed = self.rt.settings.model_copy(update={"market_order": name})
        self.rt = Runtime(changed, self.rt.board, self.rt.engine, self.rt.wall, self.rt.market, self.rt.uptime)
        made = feeds.connect(changed, client_of(changed), self.rt.engine, self.rt.wall, pause=lambda _seconds: None)
        self.rt.__dict__["feeds"] = {key: _only(feed, self.needs) for key, feed in made.items()}

    def fetch(self, *tickers: str, within_s: float = WITHIN_S) -> None:
        fetching.fetch(self.rt, tickers or TICKERS, (), lambda: showing_market.market_data(self.rt), within_s)

    def active(self, name: str) -> bool:
        health.show_status(self.rt)
        return bool(getattr(self.world.told(keys.SYSTEM_STATUS), f"{name}_api_active"))

    def prices_are_right(self, *without: str) -> None:
        """Every ticker has its price of now, on the board as in Postgres, and `without` has no part in it."""
        true = WALK.snapshots(TICKERS, MID_SESSION)
        with transaction(self.rt.engine) as connection:
            accepted = quotes.accepted(connection, TICKERS)
        told = self.world.told(keys.MARKET_DATA)
        assert set(accepted) == set(told) == set(TICKERS)
        for symbol in TICKERS:
            price = true[symbol].price
            assert price is not None
            assert float(accepted[symbol].quote.price_usd) == pytest.approx(price, rel=1e-3)
            assert told[symbol].price == pytest.approx(price, rel=1e-3)
            assert set(without) & set(accepted[symbol].sources) == set()


@pytest.fixture(scope="module")
def standin() -> Iterator[Running]:
    with standing_in(WALK, lambda: MID_SESSION) as running:
        yield running


@pytest.fixture
def place(world: World, standin: Running, tmp_path: Path) -> Place:
    standin.control.heal()
    standin.control.forget()
    rt = world.another(**standin.settings, fake_providers=True, home=tmp_path)
    made = Place(world, standin.control, rt)
    made.first("alpaca")
    return made


def _only(feed: Feed, needs: frozenset[Need]) -> Feed:
    return replace(feed, plan=replace(feed.plan, offers=feed.plan.offers & needs))


CAN = {vendor.name: vendor.troubles for vendor in VENDORS}
ILL = [(name, trouble) for name in LIVE for trouble in (*GONE, *sorted(LIES)) if trouble in CAN[name]]


@pytest.mark.parametrize("name", LIVE)
def test_a_provider_that_is_well_is_asked_first_and_its_flag_says_so(place: Place, name: str) -> None:
    place.first(name)
    place.fetch()
    place.prices_are_right()
    assert place.active(name)
    assert all(row["source"] == name for row in place.world.rows(tables.prices))


@pytest.mark.parametrize(("name", "trouble"), ILL, ids=str)
def test_with_one_provider_ill_every_price_comes_from_the_others(place: Place, name: str, trouble: Trouble) -> None:
    place.first(name)
    place.control.switch(name, trouble)
    place.fetch(within_s=WAITING_S if trouble in GONE else WITHIN_S)
    place.prices_are_right(name)
    assert place.control.all()[name].requests > 0
    if trouble in GONE:
        assert not place.active(name)
    told = {row["symbol"]: row["refused"] for row in place.world.rows(tables.source_quotes) if row["source"] == name}
    assert all(told.values()), told  # each of its quotes, if there was any, was refused by name


def test_yahoo_alone_works_without_any_key(place: Place) -> None:
    nothing = {f"{name}_api_key": SecretStr("") for name in ("alpaca", "finnhub", "twelvedata", "fmp", "marketstack")}
    settings = place.rt.settings.model_copy(update=nothing)
    place.rt = Runtime(settings, place.rt.board, place.rt.engine, place.rt.wall, place.rt.market, place.rt.uptime)
    place.needs |= {Need.BARS}
    place.first("yfinance")
    assert set(place.rt.feeds) == {"yfinance"}
    place.fetch()
    place.prices_are_right()
    with transaction(place.rt.engine) as connection:
        assert sources.outcomes(connection)["yfinance"].works
    bars = {row["symbol"] for row in place.world.rows(tables.bars)}
    assert bars == set(TICKERS)


def test_a_provider_that_recovers_is_active_again(place: Place) -> None:
    place.first("finnhub")
    place.control.switch("finnhub", Trouble.SERVER_ERROR)
    place.fetch("AAPL")
    assert not place.active("finnhub")
    place.control.heal("finnhub")
    place.world.wall.advance(minutes=5)
    place.world.market.advance(minutes=5)
    place.fetch()
    assert place.active("finnhub")


def test_fundamentals_and_headlines_come_from_whoever_has_them(place: Place) -> None:
    place.needs = frozenset(Need)
    place.first("alpaca")
    place.fetch()
    kinds = {(row["symbol"], row["kind"]) for row in place.world.rows(tables.company_facts)}
    assert {(symbol, kind) for symbol in TICKERS for kind in ("fundamentals", "news")} <= kinds
    told = place.world.told(keys.MULTI_API_DATA)
    assert all(told[symbol].market_cap for symbol in TICKERS)
    with transaction(place.rt.engine) as connection:
        assert set(sources.got(connection, Need.NEWS, TICKERS)) == set(TICKERS)
