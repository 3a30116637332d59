"""A position that has grown too large a part is brought back, once; nothing is bought for that, and nothing guessed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot import limits, pipeline, rebalancing, trading
from qbot.contract import keys
from qbot.contract.payloads_settings import PortfolioSettings
from qbot.rebalancing import Excess, Plan
from qbot.reconciliation import Books
from qbot.store import tables
from qbot.types import Action, IntentKind, Position, Quote, Side, Source, TradingConfig
from tests.support.runtime import CONFIG, SESSION, World
from tests.support.values import NOW, account, broker_order, position, quote, signal
from tests.test_pipeline import trading as trading_on

D = Decimal
ON = TradingConfig(rebalance_enabled=True)  # five positions at most 20 % each, drift of 5 points
SYMBOLS = ("AAPL", "MSFT", "SPY")


def plan(held: dict[str, str], config: TradingConfig = ON, **more: object) -> Plan:
    """Of an account of 100,000 USD; shares cost 100 USD, so a hundred of them are 10 %."""
    positions = {symbol: position(symbol, qty) for symbol, qty in held.items()}
    quotes = {symbol: quote(symbol) for symbol in held}
    return rebalancing.plan(config, account(), positions, {**quotes, **more.pop("quotes", {})}, NOW, **more)  # type: ignore[arg-type, dict-item]


def sold(found: Plan) -> dict[str, Decimal]:
    return {one.symbol: one.qty for one in found.sales}


# --- how much --------------------------------------------------------------------------------------------------------


def test_a_position_over_its_target_by_more_than_the_threshold_is_brought_back_to_it() -> None:
    found = plan({"AAPL": "300", "MSFT": "240"})
    assert sold(found) == {"AAPL": D(110)}  # (100,000 - 5,000) / 5 is 19 %
    assert found.sales[0].why == "rebalancing: 30.0% of the portfolio, over the target of 19.0%"


def test_within_the_threshold_nothing_is_sold() -> None:
    assert plan({"AAPL": "240"}) == Plan()
    assert sold(plan({"AAPL": "241"})) == {"AAPL": D(51)}


def test_off_by_default_and_off_when_not_said() -> None:
    assert plan({"AAPL": "900"}, TradingConfig()) == rebalancing.NOTHING


def test_the_largest_drift_comes_first() -> None:
    assert list(sold(plan({"AAPL": "260", "MSFT": "400", "SPY": "300"}))) == ["MSFT", "SPY", "AAPL"]


def test_of_what_is_far_under_its_target_there_is_too_little() -> None:
    assert plan({"AAPL": "139", "MSFT": "140"}).too_small == {"AAPL"}


@pytest.mark.parametrize(
    ("change", "target"),
    [
        ({}, "0.19"),
        ({"max_position_pct": D("0.1")}, "0.1"),
        ({"target_diversification": 10}, "0.095"),
        ({"target_diversification": 0}, "0.2"),  # of one held
        ({"trading_capital_usd": D(50_000)}, "0.1"),
    ],
)
def test_the_target_is_an_equal_part_of_what_may_be_invested(change: dict[str, object], target: str) -> None:
    assert rebalancing.target_pct(replace(ON, **change), account(), 1) == D(target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"max_position_pct": D(0)},
        {"trading_capital_usd": D(0)},
        {"cash_reserve_usd": D(200_000)},
        {"cash_reserve_usd": D("NaN")},
        {"rebalance_threshold_pct": D("NaN")},
    ],
)
def test_a_limit_that_allows_nothing_does_not_sell_everything(change: dict[str, object]) -> None:
    assert plan({"AAPL": "900"}, replace(ON, **change)) == Plan()  # type: ignore[arg-type]


def test_a_threshold_of_nothing_is_still_one() -> None:
    config = replace(ON, rebalance_threshold_pct=D(0))
    assert plan({"AAPL": "199"}, config) == Plan()
    assert sold(plan({"AAPL": "201"}, config)) == {"AAPL": D(11)}


def test_a_sale_too_small_to_matter_is_left() -> None:
    config = replace(ON, rebalance_threshold_pct=D("0.01"))
    tiny = account("4000")
    held = {"AAPL": position("AAPL", "9", "100")}  # 22.5 %; the target is 19 % of 3,000 USD to invest: 0.15
    quotes = {"AAPL": quote("AAPL")}
    config = replace(config, cash_reserve_usd=D(1000))
    assert sold(rebalancing.plan(config, tiny, held, quotes, NOW)) == {"AAPL": D(3)}
    cheap = {"AAPL": quote("AAPL", "10")}
    held = {"AAPL": position("AAPL", "66", "10")}  # six shares of 10 USD over the target
    assert sold(rebalancing.plan(config, tiny, held, cheap, NOW)) == {}


# --- what is left alone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        None,
        quote("AAPL", "NaN"),
        quote("AAPL", "0"),
        replace(quote("AAPL"), at=NOW - timedelta(seconds=limits.QUOTE_MAX_AGE_S + 1)),
        replace(quote("AAPL"), at=NOW + timedelta(seconds=limits.CLOCK_SKEW_S + 1)),
    ],
)
def test_without_a_price_of_this_moment_nothing_is_done(bad: Quote | None) -> None:
    quotes = {"MSFT": quote("MSFT")} | ({"AAPL": bad} if bad else {})
    positions = {symbol: position(symbol, "400") for symbol in ("AAPL", "MSFT")}
    assert list(sold(rebalancing.plan(ON, account(), positions, quotes, NOW))) == ["MSFT"]


@pytest.mark.parametrize("equity", ["NaN", "0", "-5"])
def test_without_a_known_equity_nothing_is_done(equity: str) -> None:
    positions, quotes = {"AAPL": position("AAPL", "900")}, {"AAPL": quote("AAPL")}
    assert rebalancing.plan(ON, account(equity), positions, quotes, NOW) == Plan()


def test_what_was_done_today_is_not_done_again() -> None:
    assert plan({"AAPL": "400"}, done_today={"AAPL"}) == Plan()


def test_another_order_of_it_is_awaited_but_not_its_protection() -> None:
    other, oco = broker_order("AAPL"), broker_order("AAPL", order_class="oco")
    assert plan({"AAPL": "400"}, open_orders=[other]) == Plan()
    assert sold(plan({"AAPL": "400"}, open_orders=[oco])) == {"AAPL": D(210)}


def test_excluded_tickers_and_short_positions_are_left_alone() -> None:
    config = replace(ON, excluded_tickers=frozenset({"AAPL"}))
    assert plan({"AAPL": "400", "MSFT": "-400"}, config) == Plan()


# --- what always holds ------------------------------------------------------------------------------------------------

HELD = st.dictionaries(st.sampled_from(("A", "B", "C", "D", "E", "F")), st.integers(1, 3_000), max_size=6)
CONFIGS = st.builds(
    TradingConfig,
    rebalance_enabled=st.just(True),
    rebalance_threshold_pct=st.decimals(0, 1, places=3),
    max_position_pct=st.decimals(0, 1, places=3),
    target_diversification=st.integers(0, 12),
    cash_reserve_usd=st.decimals(0, 200_000, places=0),
    trading_capital_usd=st.decimals(0, 200_000, places=0),
)


@given(HELD, CONFIGS, st.decimals("0.5", 900, places=2))
def test_a_sale_leaves_shares_and_never_goes_under_the_target_and_is_not_followed_by_another(
    held: dict[str, int], config: TradingConfig, price: Decimal
) -> None:
    def positions(of: dict[str, int]) -> dict[str, Position]:
        return {symbol: position(symbol, str(qty), str(price)) for symbol, qty in of.items()}

    quotes = {symbol: quote(symbol, str(price)) for symbol in held}
    found = rebalancing.plan(config, account(), positions(held), quotes, NOW)
    for one in found.sales:
        left = held[one.symbol] - one.qty
        assert 0 < one.qty == int(one.qty)
        assert left * price / D(100_000) >= one.target_pct > 0
        assert one.qty * price >= limits.REBALANCE_MIN_USD
        assert one.symbol not in found.too_small
    after = {symbol: int(qty - sold(found).get(symbol, 0)) for symbol, qty in held.items()}
    assert rebalancing.plan(config, account(), positions(after), quotes, NOW).sales == ()


# --- beside the signals -----------------------------------------------------------------------------------------------


def propose(held: dict[str, str], *wishes: object, plan: Plan, config: TradingConfig = ON) -> trading.Wanted:
    positions = {symbol: position(symbol, qty) for symbol, qty in held.items()}
    quotes = {symbol: quote(symbol) for symbol in (*SYMBOLS, *held)}
    books = Books(account(), positions, (), NOW, 0, {})
    return trading.propose(trading.View([], quotes, wishes), books, config, plan)  # type: ignore[arg-type]


def test_a_part_is_sold_after_the_exits_and_before_the_entries() -> None:
    even_out = Plan([Excess("AAPL", D(7), D("0.3"), D("0.2"))])
    wanted = propose(
        {"AAPL": "30", "SPY": "3"}, signal("MSFT"), signal("SPY", Action.SELL), signal("AAPL"), plan=even_out
    )
    assert [(p.symbol, p.side, p.qty, p.source) for p in wanted.proposals] == [
        ("SPY", Side.SELL, D(3), Source.ML), ("AAPL", Side.SELL, D(7), Source.AUTOTRADING),
        ("MSFT", Side.BUY, D(1), Source.ML),
    ]  # fmt: skip
    assert [(wish.symbol, refusal) for wish, refusal, _why in wanted.declined] == [("AAPL", "REBALANCED")]
    assert wanted.proposals[1].kind is IntentKind.EXIT


def test_what_leaves_as_a_whole_is_not_sold_in_part_as_well() -> None:
    even_out = Plan([Excess("AAPL", D(7), D("0.3"), D("0.2"))])
    wanted = propose({"AAPL": "30"}, signal("AAPL", Action.SELL), plan=even_out)
    assert [(p.symbol, p.qty) for p in wanted.proposals] == [("AAPL", D(30))]


def test_of_the_entries_what_there_is_too_little_of_comes_first_and_then_the_preferred_sectors() -> None:
    config = replace(ON, preferred_sectors=frozenset({"technology"}))
    wishes = [signal("SPY", predicted_return_pct=0.3), signal("AAPL"), signal("UNH", predicted_return_pct=0.01)]
    quotes = {wish.symbol: quote(wish.symbol) for wish in wishes}
    books = Books(account(), {"UNH": position("UNH", "1")}, (), NOW, 0, {})
    view = trading.View([], quotes, wishes)
    wanted = trading.propose(view, books, config, Plan(too_small=frozenset({"UNH"})))
    assert [p.symbol for p in wanted.proposals] == ["UNH", "AAPL", "SPY"]


def test_the_settings_reach_it() -> None:
    given_by_a_human = PortfolioSettings(rebalance_enabled=True, rebalance_threshold=0.08)
    assert (given_by_a_human.rebalance_enabled, given_by_a_human.rebalance_threshold) == (True, 0.08)


# --- all the way to the venue -----------------------------------------------------------------------------------------

OLD = {"rebalance_enabled": True, "rebalance_threshold": 0.05, "max_position_pct": 0.01}  # one per cent: 1,000 USD


def overweight(world: World) -> Decimal:
    """Many shares of AAPL, bought by hand at the venue; how many."""
    shares = int(D(12_000) / world.price("AAPL"))
    world.by_hand(symbol="AAPL", qty=str(shares), side="buy")
    world.reconcile()
    return world.positions()["AAPL"]


def test_a_cycle_sells_the_excess_once_a_day_and_says_why(world: World) -> None:
    world.say(keys.PORTFOLIO_SETTINGS, OLD)
    trading_on(world)
    held = overweight(world)
    pipeline.trade_bot(world.rt)
    left = world.positions()["AAPL"]
    assert 0 < left < held
    assert left * world.price("AAPL") < 1_500
    (decision,) = [row for row in world.rows(tables.decisions) if row["allowed"]]
    assert (decision["action"], decision["message"][:12], decision["signal"]) == ("SELL", "rebalancing:", None)
    (intent,) = world.rows(tables.intents)
    assert (intent["source"], intent["kind"], intent["side"]) == ("autotrading", "exit", "sell")
    pipeline.reconcile_orders(world.rt)
    (sale,) = [trade for trade in world.told(keys.TRADES_LOG) if trade.side is Side.SELL]
    assert sale.reason.startswith("rebalancing: 11.9%")
    world.by_hand(symbol="AAPL", qty=str(held), side="buy")
    sent = world.posts()
    world.market.advance(minutes=10)
    pipeline.trade_bot(world.rt)
    assert world.posts() == sent  # not twice a day


@pytest.mark.parametrize("why_not", ["off", "stopped", "closed", "outside hours", "books disagree", "invalid settings"])
def test_nothing_is_sold_where_that_is_not_sure(world: World, why_not: str) -> None:
    world.say(keys.PORTFOLIO_SETTINGS, {**OLD, "rebalance_enabled": why_not != "off"})
    trading_on(world)
    overweight(world)
    if why_not == "stopped":
        world.redis.delete(keys.AUTOTRADING_ENABLED.name)
    elif why_not == "closed":
        world.market.advance(hours=8)
    elif why_not == "outside hours":
        world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "trading_hours": {"market_open": "12:00"}})
    elif why_not == "invalid settings":
        world.say(keys.RISK_SETTINGS, "{")
    elif why_not == "books disagree":
        with world.engine.begin() as connection:
            connection.execute(tables.fills.update().values(qty=1))
    sent = world.posts()
    pipeline.trade_bot(world.rt)
    assert world.posts() == sent
    assert world.rows(tables.intents) == []


def test_the_rest_of_a_protected_position_is_protected_again(world: World) -> None:
    world.say(keys.PORTFOLIO_SETTINGS, {**OLD, "rebalance_threshold": 0.01, "max_position_pct": 0.005})
    trading_on(world)
    room = replace(CONFIG, max_position_per_trade=10)
    world.send(world.commit(world.entry("AAPL", 10), config=room))
    world.reconcile()  # two per cent, of which half of one should be
    assert {order["qty"] for order in world.resting("sell")} == {"10"}
    pipeline.trade_bot(world.rt)
    left = world.positions()["AAPL"]
    assert 0 < left < 5
    for _ in range(2):
        world.market.advance(minutes=1)
        world.wall.advance(minutes=1)
        pipeline.reconcile_orders(world.rt)
    assert {D(order["qty"]) for order in world.resting("sell")} == {left}
