"""A pass over several sources: they are compared, one that fails or lies costs no price, and the board tells of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest
from pydantic import SecretStr

from qbot import fetching, health, limits, pipeline, quoting, settling, showing_market
from qbot.contract import keys
from qbot.errors import DataUnavailable
from qbot.market.calendar import last_and_before
from qbot.market.carrying import Told
from qbot.market.planning import Ask
from qbot.market.plans import Need
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.runtime import Runtime
from qbot.store import bars, companies, quotes, tables
from qbot.store.companies import Kind
from qbot.store.engine import transaction
from qbot.types import Quote
from tests.market.sources import Made, quote, with_sources
from tests.support.exchange import MID_SESSION
from tests.support.runtime import World, calm

RIGHT = {"AAPL": "210.5", "MSFT": "497.5", "SPY": "621.5"}
THREE = ("alpaca", "finnhub", "yfinance")
LIES: dict[str, Callable[[str], str]] = {
    "a little too dear": lambda price: str(Decimal(price) * Decimal("1.07")),
    "ten times": lambda price: str(Decimal(price) * 10),
    "half": lambda price: str(Decimal(price) / 2),
    "next to nothing": lambda _price: "0.00000001",
    "absurd": lambda _price: "99999999999",
}


def sources(world: World, *names: str) -> dict[str, Made]:
    return {name: Made(name, world.market, RIGHT.get) for name in names}


def fetch(rt: Runtime, within_s: float = 20.0) -> settling.Settled:
    return fetching.fetch(rt, tuple(RIGHT), (), lambda: showing_market.market_data(rt), within_s)


def prices(world: World) -> dict[str, str]:
    """The accepted prices."""
    return {row["symbol"]: str(row["price_usd"].normalize()) for row in world.rows(tables.prices)}


def flags(world: World, rt: Runtime) -> dict[str, bool]:
    keys_too = {"embedded_exchange": False, "finnhub_api_key": SecretStr("key")}
    health.show_status(replace(rt, settings=rt.settings.model_copy(update=keys_too)))
    told = world.told(keys.SYSTEM_STATUS)
    return {name: getattr(told, f"{name}_api_active") for name in THREE}


def test_two_sources_are_asked_for_each_price_and_what_they_agree_on_is_told_with_both_names(world: World) -> None:
    made = sources(world, *THREE)
    fetch(with_sources(world, *made.values()))
    assert prices(world) == RIGHT
    told = world.told(keys.MULTI_API_DATA)["AAPL"]
    assert (told.price, told.primary_source, told.sources_count) == (210.5, "alpaca", 2)
    stats = world.told(keys.MARKET_SOURCE_STATS)
    assert (stats.alpaca, stats.finnhub + stats.yfinance, stats.failed, stats.stub) == (3, 3, 0, 0)
    assert world.told(keys.MULTI_API_STATS).coverage_pct == 100.0
    assert all(row["confirmed_at"] == MID_SESSION for row in world.rows(tables.data_needs) if row["need"] == "price")


@pytest.mark.parametrize("bad", THREE)
@pytest.mark.parametrize("fault", [Fault.TRANSIENT, Fault.QUOTA, Fault.AUTH, Fault.MINUTE_LIMIT, Fault.PLAN])
def test_a_source_that_is_dead_costs_no_price_and_its_flag_says_so(world: World, bad: str, fault: Fault) -> None:
    made = sources(world, *THREE)
    made[bad].fails = ProviderError(bad, fault, "not now")
    rt = with_sources(world, *made.values())
    fetch(rt)
    assert prices(world) == RIGHT
    others = [name for name in THREE if name != bad]
    assert made[bad].asked or made[bad].asked_bars or bad == "yfinance"
    told = world.told(keys.MULTI_API_DATA)
    assert all(bad not in told[symbol].sources_used for symbol in RIGHT)
    seen = flags(world, rt)
    assert seen[bad] is False
    assert any(seen[name] for name in others)


@pytest.mark.parametrize("bad", THREE)
@pytest.mark.parametrize("lie", LIES)
def test_a_source_that_lies_is_outvoted_by_asking_one_more(world: World, bad: str, lie: str) -> None:
    made = sources(world, *THREE)
    made[bad].price = lambda symbol: LIES[lie](RIGHT[symbol])
    fetch(with_sources(world, *made.values(), offers=frozenset({Need.PRICE})))
    assert prices(world) == RIGHT
    told = world.told(keys.MULTI_API_DATA)
    assert all(bad not in told[symbol].sources_used for symbol in RIGHT)
    refused = [row for row in world.rows(tables.source_quotes) if row["source"] == bad]
    assert all(row["refused"] for row in refused)


@pytest.mark.parametrize("bad", THREE)
def test_prices_of_yesterday_are_not_used(world: World, bad: str) -> None:
    made = sources(world, *THREE)
    made[bad].late = timedelta(days=1)
    made[bad].price = lambda _symbol: "1.5"
    fetch(with_sources(world, *made.values()))
    assert prices(world) == RIGHT


@pytest.mark.parametrize("bad", THREE)
def test_a_slow_source_holds_up_no_other(world: World, bad: str) -> None:
    made = sources(world, *THREE)
    made[bad].waits = threading.Event()
    rt = with_sources(world, *made.values())
    try:
        fetch(rt, within_s=5.0)
    finally:
        made[bad].waits.set()
    assert prices(world) == RIGHT
    assert flags(world, rt)[bad] is False


def test_a_source_whose_turn_does_not_come_is_well_all_the_same(world: World) -> None:
    made = sources(world, *THREE)
    rt = with_sources(world, *made.values())
    fetch(rt)
    for _ in range(60):  # the minute of the next pass is spent
        rt.feeds["finnhub"].gate._pace.wait(1, within_s=0)
    world.market.advance(minutes=5)
    world.wall.advance(minutes=5)
    fetch(rt, within_s=3.0)
    assert prices(world) == RIGHT
    assert flags(world, rt)["finnhub"] is True


def test_who_has_no_prices_on_this_plan_is_not_asked_for_them_every_pass(world: World) -> None:
    made = sources(world, "finnhub", "alpaca")
    made["finnhub"].fails = ProviderError("finnhub", Fault.PLAN, "HTTP 403: not in your plan")
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    asked = len(made["finnhub"].asked)
    assert asked > 0
    world.market.advance(minutes=5)
    fetch(rt)
    assert len(made["finnhub"].asked) == asked
    assert prices(world) == RIGHT


def test_when_two_disagree_and_nobody_else_can_be_asked_there_is_no_price(world: World) -> None:
    made = sources(world, "alpaca", "finnhub")
    made["finnhub"].price = lambda symbol: LIES["a little too dear"](RIGHT[symbol])
    with pytest.raises(DataUnavailable, match="disputed"):
        fetch(with_sources(world, *made.values(), offers=frozenset({Need.PRICE})))
    assert world.rows(tables.prices) == []
    assert world.told(keys.MARKET_DATA) == {}


def test_a_price_of_a_pass_before_covers_no_ticker_of_this_one(world: World) -> None:
    made = sources(world, *THREE)
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    assert world.told(keys.MULTI_API_STATS).coverage_pct == 100.0
    for one in made.values():
        one.price = {"AAPL": RIGHT["AAPL"]}.get
    world.market.advance(minutes=5)
    assert fetch(rt).agreed == {"AAPL"}
    told = world.told(keys.MULTI_API_STATS)
    assert (told.total_tickers, told.tickers_with_data, told.coverage_pct) == (3, 1, 33.3)
    for one in made.values():
        one.fails = ProviderError(one.name, Fault.TRANSIENT, "HTTP 502: bad gateway")
    world.market.advance(minutes=5)
    fetch(rt)  # the accepted prices are young enough
    told = world.told(keys.MULTI_API_STATS)
    assert (told.total_tickers, told.tickers_with_data, told.coverage_pct) == (3, 0, 0.0)
    assert prices(world) == RIGHT


def test_that_there_is_no_price_is_told_to_a_human_once(world: World) -> None:
    made = sources(world, "alpaca", "finnhub")
    for one in made.values():
        one.fails = ProviderError(one.name, Fault.TRANSIENT, "HTTP 502: bad gateway")
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    for _ in range(2):
        with pytest.raises(DataUnavailable, match="no price is of now"):
            fetch(rt)
        world.market.advance(minutes=5)
    (alert,) = world.rows(tables.alerts)
    assert (alert["title"], "alpaca" in alert["message"]) == ("No prices", True)  # with what it said


def test_the_lie_that_came_first_is_taken_back(world: World) -> None:
    made = sources(world, "alpaca", "finnhub")
    made["alpaca"].price = lambda symbol: LIES["a little too dear"](RIGHT[symbol])
    made["finnhub"].waits = threading.Event()
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    shown: list[dict[str, str]] = []

    def show() -> None:
        shown.append(prices(world))
        made["finnhub"].waits.set()  # type: ignore[union-attr]

    with pytest.raises(DataUnavailable):
        fetching.fetch(rt, tuple(RIGHT), (), show, 30.0)
    assert len(shown[0]) == 3  # alone, it was believed
    assert world.rows(tables.prices) == []


def test_one_source_alone_is_believed_until_it_leaps(world: World) -> None:
    made = sources(world, "alpaca")
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    assert prices(world) == RIGHT
    world.market.advance(minutes=5)
    made["alpaca"].price = lambda symbol: str(Decimal(RIGHT[symbol]) * Decimal("1.2"))
    fetch(rt)
    assert prices(world) == RIGHT  # the ones before, with their time
    assert {row["at"] for row in world.rows(tables.prices)} == {MID_SESSION}


def test_a_symbol_that_a_source_does_not_know_is_not_asked_for_there_again(world: World) -> None:
    made = sources(world, "finnhub", "alpaca")
    made["finnhub"].price = {"AAPL": "210.5", "MSFT": "497.5"}.get
    made["finnhub"].missing = Fault.UNKNOWN_SYMBOL
    rt = with_sources(world, *made.values())
    fetch(rt)
    assert prices(world) == RIGHT
    asked = len(made["finnhub"].asked)
    world.market.advance(minutes=5)
    fetch(rt)
    assert ("SPY",) in made["finnhub"].asked[:asked]
    assert ("SPY",) not in made["finnhub"].asked[asked:]
    assert flags(world, rt)["finnhub"] is True  # it is well, whatever it does not know


def test_a_source_that_has_no_figures_of_a_ticker_is_asked_for_its_price_all_the_same(world: World) -> None:
    made = sources(world, "alpaca")
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    settled = settling.begin(rt, tuple(RIGHT), MID_SESSION, ())
    ask = Ask("alpaca", Need.FUNDAMENTALS, ("AAPL", "MSFT"))
    none = Answer({}, {"AAPL": Fault.PLAN, "MSFT": Fault.UNKNOWN_SYMBOL})
    settling.settle(rt, settled, [Told(ask, none)])
    fetch(rt)
    assert prices(world) == RIGHT


def test_out_of_hours_only_who_tells_the_close_is_taken_to_have_told_it(world: World) -> None:
    made = sources(world, "alpaca", "finnhub")
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE, Need.CLOSE}))
    world.market.set(last_and_before(MID_SESSION)[0][1] + timedelta(minutes=5))
    for late, told in ((timedelta(0), set()), (timedelta(minutes=10), set(RIGHT))):
        made["alpaca"].late = made["finnhub"].late = late
        fetch(rt)
        assert {row["symbol"] for row in world.rows(tables.data_needs) if row["need"] == "close"} == told
        world.market.advance(minutes=5)
    assert prices(world) == RIGHT


def test_nobody_is_asked_twice_in_a_pass(world: World) -> None:
    made = sources(world, *THREE)
    made["finnhub"].price = lambda symbol: None if symbol == "MSFT" else LIES["half"](RIGHT[symbol])
    fetch(with_sources(world, *made.values()))
    for one in made.values():
        flat = [symbol for batch in one.asked for symbol in batch]
        assert len(flat) == len(set(flat)), one.name
    assert prices(world) == RIGHT


def test_two_words_of_one_source_come_together_and_the_newer_counts(world: World) -> None:
    rt = with_sources(world, *sources(world, *THREE).values())
    settled = settling.begin(rt, tuple(RIGHT), MID_SESSION, ())
    stamps = [MID_SESSION - timedelta(minutes=minutes) for minutes in (3, 1, 2)]
    told = [
        Told(
            Ask("yfinance", Need.PRICE, ("AAPL",)),
            Answer({"AAPL": quote("AAPL", f"210.{number}", at, world.wall(), "yfinance")}),
        )
        for number, at in enumerate(stamps, 1)
    ]
    settling.settle(rt, settled, told)
    (row,) = world.rows(tables.source_quotes)
    assert (row["at"], str(row["price_usd"].normalize())) == (stamps[1], "210.2")
    assert prices(world) == {"AAPL": "210.2"}


def test_without_redis_nobody_is_asked(world: World) -> None:
    made = sources(world, "finnhub")
    rt = with_sources(world, *made.values())
    dead = with_sources_behind(world.without_redis(), made)
    with pytest.raises(Exception, match="Redis"):
        fetch(dead)
    assert made["finnhub"].asked == []
    fetch(rt)
    assert made["finnhub"].asked


def with_sources_behind(rt: Runtime, made: dict[str, Made]) -> Runtime:
    from qbot.contract.board import client_of
    from qbot.market.feeds import Feed
    from qbot.market.limiting import Gate
    from qbot.market.plans import FREE

    rt.__dict__["feeds"] = {
        name: Feed(FREE[name], Gate(FREE[name], "key", client_of(rt.settings), rt.engine, rt.wall), one)
        for name, one in made.items()
    }
    return rt


def test_a_refused_key_is_told_to_a_human_once_with_what_to_do(world: World) -> None:
    made = sources(world, *THREE)
    made["finnhub"].fails = ProviderError("finnhub", Fault.AUTH, "HTTP 401: Invalid API key")
    rt = with_sources(world, *made.values())
    for _ in range(3):
        fetch(rt)
        world.market.advance(minutes=5)
        world.wall.advance(minutes=5)
    (alert,) = world.rows(tables.alerts)
    assert "QBOT_FINNHUB_API_KEY" in alert["message"]
    assert len(made["finnhub"].asked) <= 4  # those that were on their way together, and none afterwards


def test_after_a_flushall_the_board_tells_the_same_again(world: World) -> None:
    made = sources(world, *THREE)
    rt = with_sources(world, *made.values())
    fetch(rt)
    before = {key.name: world.told(key) for key in (keys.MARKET_DATA, keys.MARKET_SOURCE_STATS, keys.MULTI_API_DATA)}
    world.redis.flushall()
    showing_market.market_data(rt)
    assert {key.name: world.told(key) for key in (keys.MARKET_DATA, keys.MARKET_SOURCE_STATS, keys.MULTI_API_DATA)} == (
        before
    )


# --- bars -------------------------------------------------------------------------------------------------------------


def walks(times: float = 1.0, ends: datetime = MID_SESSION + timedelta(minutes=10)) -> pd.DataFrame:
    """Two hours of bars of each ticker, at its price."""
    stamps = pd.date_range(end=ends, periods=26, freq="5min")
    each = [
        pd.DataFrame({"symbol": symbol, "ts": stamps, "volume": 100.0})
        .assign(**dict.fromkeys(("open", "high", "low", "close"), float(price) * times))
        for symbol, price in RIGHT.items()
    ]  # fmt: skip
    return pd.concat(each, ignore_index=True)


def stored(world: World) -> dict[str, tuple[int, float]]:
    """How many bars there are of each ticker, and the last close."""
    rows = world.rows(tables.bars)
    return {row["symbol"]: (sum(one["symbol"] == row["symbol"] for one in rows), row["close"]) for row in rows}


def next_pass(world: World, rt: Runtime) -> None:
    world.market.advance(minutes=5)
    world.wall.advance(minutes=5)
    fetch(rt)


@pytest.mark.parametrize("times", [1.07, 2.0])
def test_a_source_that_lies_in_prices_and_bars_alike_has_no_bar_taken_from_it(world: World, times: float) -> None:
    made = sources(world, *THREE)
    for one in made.values():
        one.had = walks()
    made["alpaca"].had = walks(times)
    made["alpaca"].price = lambda symbol: str(Decimal(RIGHT[symbol]) * Decimal(str(times)))
    rt = with_sources(world, *made.values())
    for name in ("finnhub", "yfinance"):  # who tells the truth is slower
        made[name].waits = threading.Event()
        threading.Timer(2 * limits.DATA_SETTLE_EVERY_S, made[name].waits.set).start()
    fetch(rt)
    next_pass(world, rt)
    assert {symbol: close for symbol, (_, close) in stored(world).items()} == {s: float(p) for s, p in RIGHT.items()}
    assert {row["source"] for row in world.rows(tables.bars)} == {"yfinance"}
    assert world.rows(tables.corporate_actions) == []
    titles = [row["title"] for row in world.rows(tables.alerts)]
    assert titles.count("alpaca tells doubtful bars") == 1


def test_a_split_is_taken_over_in_the_pass_in_which_prices_of_others_show_it(world: World) -> None:
    made = sources(world, *THREE)
    for one in made.values():
        one.had = walks()
    rt = with_sources(world, *made.values())
    fetch(rt)
    before = stored(world)
    for one in made.values():
        one.had = walks(0.25)
        one.price = lambda symbol: str(Decimal(RIGHT[symbol]) / 4)
    next_pass(world, rt)
    assert {row["symbol"] for row in world.rows(tables.corporate_actions)} == set(RIGHT)
    assert prices(world) == {symbol: str((Decimal(price) / 4).normalize()) for symbol, price in RIGHT.items()}
    assert {close for _, close in stored(world).values()} == {close / 4 for _, close in before.values()}
    assert [row for row in world.rows(tables.alerts) if "doubtful" in row["title"]] == []


def test_where_one_source_has_no_new_bars_of_what_is_known_another_is_asked(world: World) -> None:
    made = sources(world, *THREE)
    for one in made.values():
        one.had = walks()
    rt = with_sources(world, *made.values())
    fetch(rt)
    made["alpaca"].had = walks()[:0]
    next_pass(world, rt)
    assert made["yfinance"].asked_bars
    assert {row["source"] for row in world.rows(tables.bars)} == {"alpaca", "yfinance"}


def test_a_sum_that_the_contract_does_not_allow_is_left_out_and_costs_no_price(world: World) -> None:
    rt = with_sources(world, *sources(world, *THREE).values(), offers=frozenset({Need.PRICE}))
    rows = [("AAPL", MID_SESSION - timedelta(minutes=minutes), *[210.0] * 4, 9e14) for minutes in (15, 10)]
    with transaction(world.engine) as connection:
        bars.upsert(connection, pd.DataFrame(rows, columns=list(bars.COLUMNS)), "alpaca")
        odd = {"market_cap_usd": 1e300, "pe_ratio": "many"}
        companies.note(connection, Kind.FUNDAMENTALS, {"AAPL": odd}, "fmp", MID_SESSION)
    fetch(rt)
    told = world.told(keys.MULTI_API_DATA)
    assert {symbol: str(one.price) for symbol, one in told.items()} == RIGHT
    assert (told["AAPL"].open, told["AAPL"].volume, told["AAPL"].market_cap, told["AAPL"].pe_ratio) == (
        210.0, None, None, None,
    )  # fmt: skip


def test_what_cannot_be_shown_ends_no_pass_and_is_told_once(world: World) -> None:
    rt = with_sources(world, *sources(world, *THREE).values(), offers=frozenset({Need.PRICE}))
    absurd = quote("SPY", "-1", MID_SESSION, MID_SESSION, "alpaca")
    with transaction(world.engine) as connection:
        quotes.accept(connection, [quotes.Accepted(absurd, ("alpaca",), "alone")])
    for _ in range(2):
        fetching.fetch(rt, ("AAPL", "MSFT"), (), lambda: showing_market.market_data(rt), 20.0)
        world.market.advance(minutes=5)
    assert prices(world) | {"SPY": ""} == {**RIGHT, "SPY": ""}
    (alert,) = world.rows(tables.alerts)
    assert (alert["title"], "price" in alert["message"]) == ("Market data cannot be shown", True)
    assert rt.board.read(keys.MARKET_DATA).value is None


# --- at the moment of a trade -----------------------------------------------------------------------------------------


@dataclass
class Broker:
    """The feed that is asked at the moment of a trade."""

    told: dict[str, str]
    fails: DataUnavailable | None = None
    late: timedelta = timedelta(0)

    def latest(self, symbols: Sequence[str], received_at: datetime) -> dict[str, Quote]:
        if self.fails is not None:
            raise self.fails
        at = MID_SESSION + timedelta(minutes=4) - self.late
        return {s: quote(s, self.told[s], at, received_at, "alpaca") for s in symbols if s in self.told}


def at_trade(world: World, broker: Broker, **prices: str) -> dict[str, str]:
    """What the tickers cost four minutes after a pass in which the sources told these prices, RIGHT by default."""
    made = sources(world, *THREE)
    for name, price in prices.items():
        made[name].price = {"AAPL": price, "MSFT": RIGHT["MSFT"], "SPY": RIGHT["SPY"]}.get
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    rt.__dict__["data"] = broker
    world.market.advance(minutes=4)
    return {symbol: str(one.price_usd) for symbol, one in quoting.latest(rt, RIGHT).items()}


def test_the_price_of_a_trade_is_the_broker_s_own_where_the_others_bear_it_out(world: World) -> None:
    now = {"AAPL": "211.5", "MSFT": "498.5", "SPY": "621.0"}
    assert at_trade(world, Broker(now)) == now


def test_a_price_far_from_what_all_agreed_on_is_none(world: World) -> None:
    found = at_trade(world, Broker({**RIGHT, "AAPL": str(Decimal(RIGHT["AAPL"]) * Decimal("1.04"))}))
    assert found == {"MSFT": RIGHT["MSFT"], "SPY": RIGHT["SPY"]}


OTHER_TIMES = [timedelta(minutes=minutes) for minutes in (16, 120, 60 * 24, -2)]  # in the session, and out of it


@pytest.mark.parametrize("late", OTHER_TIMES)
def test_what_the_broker_s_feed_tells_of_another_time_is_not_held_against_what_all_agree_on(
    world: World, late: timedelta
) -> None:
    odd = str(Decimal(RIGHT["AAPL"]) * Decimal("1.035"))
    assert at_trade(world, Broker({**RIGHT, "AAPL": odd}, late=late)) == RIGHT


@pytest.mark.parametrize("late", OTHER_TIMES)
def test_what_the_broker_s_feed_tells_of_another_time_is_no_price_where_nothing_else_is_known(
    world: World, late: timedelta
) -> None:
    rt = world.another()
    world.market.advance(minutes=4)
    rt.__dict__["data"] = Broker(RIGHT, late=late)
    assert quoting.latest(rt, RIGHT) == {}
    rt.__dict__["data"] = Broker(RIGHT)
    assert set(quoting.latest(rt, RIGHT)) == set(RIGHT)


@pytest.mark.parametrize("odd", ["0", "-210.5", "NaN", "Infinity", "0.00000001", "99999999999"])
def test_what_is_no_sound_number_is_no_price_at_the_trade(world: World, odd: str) -> None:
    rest = {"MSFT": RIGHT["MSFT"], "SPY": RIGHT["SPY"]}
    assert at_trade(world, Broker({**RIGHT, "AAPL": odd})) == rest
    alone = world.another()
    alone.__dict__["data"] = Broker({"AAPL": odd}, late=timedelta(hours=-1))
    world.market.advance(hours=1)  # nothing young is known
    assert quoting.latest(alone, ["AAPL"]) == {}


def test_what_looks_like_a_split_beside_the_last_close_is_no_price_at_the_trade(world: World) -> None:
    with transaction(world.engine) as connection:
        calm(connection, MID_SESSION)  # AAPL closed at about 210
    world.market.advance(minutes=4)
    rt = world.another()
    rt.__dict__["data"] = Broker({**RIGHT, "AAPL": "105.25"})
    assert set(quoting.latest(rt, RIGHT)) == {"MSFT", "SPY"}


def test_while_the_broker_s_feed_is_dead_the_agreed_prices_hold_as_long_as_they_are_young(world: World) -> None:
    dead = Broker({}, DataUnavailable("alpaca: down"))
    assert at_trade(world, dead) == RIGHT
    rt = world.another()
    rt.__dict__["data"] = dead
    world.market.advance(minutes=12)
    with pytest.raises(DataUnavailable, match="down"):
        quoting.latest(rt, RIGHT)


def test_a_feed_that_was_outvoted_in_the_pass_is_not_believed_at_the_trade_either(world: World) -> None:
    lie = str(Decimal(RIGHT["AAPL"]) * Decimal("1.02"))  # so near that the price agreed on would bear it out
    found = at_trade(world, Broker({**RIGHT, "AAPL": lie}), alpaca=lie)
    assert found == RIGHT


def test_what_the_sources_do_not_agree_on_has_no_price_at_the_trade(world: World) -> None:
    odd = at_trade(world, Broker(RIGHT), alpaca="210.5", finnhub="230", yfinance="190")
    assert odd == {"MSFT": RIGHT["MSFT"], "SPY": RIGHT["SPY"]}


def later(world: World, rt: Runtime, broker: Broker) -> dict[str, str]:
    """What the tickers cost after another pass, by the broker's own feed and the pass."""
    world.market.advance(minutes=5)
    fetch(rt)
    rt.__dict__["data"] = broker
    return {symbol: str(one.price_usd) for symbol, one in quoting.latest(rt, RIGHT).items()}


@pytest.mark.parametrize("broker", [Broker(RIGHT), Broker({}, DataUnavailable("alpaca: down"))])
def test_what_the_sources_begin_to_disagree_on_is_not_traded_at_the_price_of_the_pass_before(
    world: World, broker: Broker
) -> None:
    made = sources(world, *THREE)
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    for name, price in {"alpaca": "230", "finnhub": "245", "yfinance": "190"}.items():
        made[name].price = {**RIGHT, "AAPL": price}.get
    assert later(world, rt, broker) == {"MSFT": RIGHT["MSFT"], "SPY": RIGHT["SPY"]}
    assert prices(world) == RIGHT  # the board goes on to show the last one, with its time


@pytest.mark.parametrize("times", ["1.2", "0.5"])  # a leap, and what looks like a split
def test_a_leap_that_one_source_alone_tells_of_is_not_traded_at_the_price_before_it(world: World, times: str) -> None:
    made = sources(world, "alpaca")
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    leapt = {**RIGHT, "AAPL": str(Decimal(RIGHT["AAPL"]) * Decimal(times))}
    made["alpaca"].price = leapt.get
    assert later(world, rt, Broker(leapt)) == {"MSFT": RIGHT["MSFT"], "SPY": RIGHT["SPY"]}


def test_a_source_that_tells_the_last_price_for_ever_does_not_bear_itself_out(world: World) -> None:
    made = sources(world, *THREE)
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    moved = {symbol: str(Decimal(price) * Decimal("1.025")) for symbol, price in RIGHT.items()}
    made["finnhub"].price = made["yfinance"].price = moved.get
    world.market.advance(minutes=5)
    fetch(rt)
    assert {symbol: Decimal(price) for symbol, price in prices(world).items()} == {
        s: Decimal(p) for s, p in moved.items()
    }


def test_while_a_second_word_is_awaited_one_source_moves_no_price_far_that_two_agreed_on(world: World) -> None:
    made = sources(world, *THREE)
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    made["alpaca"].price = lambda symbol: LIES["a little too dear"](RIGHT[symbol])
    made["finnhub"].waits = made["yfinance"].waits = threading.Event()
    shown: list[dict[str, str]] = []

    def show() -> None:
        shown.append(prices(world))
        made["finnhub"].waits.set()  # type: ignore[union-attr]

    world.market.advance(minutes=5)
    fetching.fetch(rt, tuple(RIGHT), (), show, 30.0)
    assert all(told == RIGHT for told in shown)


def test_a_price_that_a_clock_ahead_has_stamped_is_held_against_the_broker_s_too(world: World) -> None:
    made = sources(world, *THREE)
    for one in made.values():
        one.late = timedelta(seconds=-30)
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    fetch(rt)
    rt.__dict__["data"] = Broker({**RIGHT, "AAPL": "420"}, late=timedelta(minutes=4))
    found = quoting.latest(rt, RIGHT)
    assert {symbol: str(one.price_usd) for symbol, one in found.items()} == {"MSFT": "497.5", "SPY": "621.5"}


def test_a_feed_that_owes_answers_is_not_asked_for_more_of_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTES_WITHIN_S", 0.05)
    rt, end, asked = world.another(), threading.Event(), []

    class Dripping:
        def latest(self, symbols: Sequence[str], received_at: datetime) -> dict[str, Quote]:
            asked.append(received_at)
            end.wait(60)
            return {}

    rt.__dict__["data"] = Dripping()
    try:
        for _ in range(limits.QUOTES_OWED_MAX + 3):
            with pytest.raises(DataUnavailable, match=r"in time|not answered yet"):
                quoting.latest(rt, RIGHT)
        assert len(asked) == limits.QUOTES_OWED_MAX
    finally:
        end.set()
    for thread in [one for one in threading.enumerate() if one.name == "prices of a trade"]:
        thread.join(10)
    rt.__dict__["data"] = Broker({}, DataUnavailable("not now"))
    with pytest.raises(DataUnavailable, match="not now"):
        quoting.latest(rt, RIGHT)


def test_a_pass_that_a_clock_noted_that_ran_ahead_says_nothing(world: World) -> None:
    made = sources(world, *THREE)
    rt = with_sources(world, *made.values(), offers=frozenset({Need.PRICE}))
    world.market.advance(hours=1)
    for name, price in {"alpaca": "230", "finnhub": "245", "yfinance": "190"}.items():
        made[name].price = {**RIGHT, "AAPL": price}.get
    fetch(rt)
    world.market.set(MID_SESSION)
    rt.__dict__["data"] = Broker(RIGHT, late=timedelta(minutes=4))
    assert set(quoting.latest(rt, RIGHT)) == set(RIGHT)
    for one in made.values():
        one.price = RIGHT.get
    del made["yfinance"], rt.feeds["yfinance"]  # its word of then stays
    fetch(rt)
    assert (prices(world), world.told(keys.MULTI_API_STATS).coverage_pct) == (RIGHT, 100.0)
    assert set(quoting.latest(rt, RIGHT)) == set(RIGHT)
    showing_market.market_data(rt)
    assert world.told(keys.MARKET_SOURCE_STATS).time == MID_SESSION


def test_in_the_first_minutes_a_price_from_before_the_open_is_none(world: World) -> None:
    begin = last_and_before(MID_SESSION)[0][0]
    world.market.at = begin + timedelta(minutes=2)
    rt = world.another()
    for at, found in ((begin - timedelta(minutes=3), []), (begin, ["AAPL"])):
        rt.__dict__["data"] = Stamped(at)
        assert list(quoting.latest(rt, ["AAPL"])) == found


@dataclass
class Stamped:
    """A feed whose last trades were at that time."""

    at: datetime

    def latest(self, symbols: Sequence[str], received_at: datetime) -> dict[str, Quote]:
        return {symbol: quote(symbol, RIGHT[symbol], self.at, received_at, "alpaca") for symbol in symbols}


def test_the_pipeline_looks_at_what_is_held_and_tells_which_tickers_there_are(world: World) -> None:
    world.buy("MSFT", 1)
    rt = world.another(tickers="AAPL")
    pipeline.fetch_data(rt)
    assert rt.tickers == ("MSFT", "AAPL") == world.told(keys.DYNAMIC_TICKERS)
    why = {row["symbol"]: row["why"] for row in world.rows(tables.universe)}
    assert why == {"MSFT": "held, or with an open order", "AAPL": "configured"}
