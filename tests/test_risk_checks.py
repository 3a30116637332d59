"""Each check of the gate: where it begins to refuse, what it denies for being unknown, what the caps reckon with."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from qbot import limits, risk, risk_caps, risk_order
from qbot.risk import evaluate, gate, worst_price
from qbot.risk_case import total
from qbot.types import (
    IntentKind,
    OrderType,
    Side,
    Source,
    TradingConfig,
    TradingHours,
    Usage,
)
from tests.support.scenes import (
    ENTRY,
    EXIT,
    HELD,
    PROTECTION,
    Scene,
    refusal,
)
from tests.support.values import CONFIG, NOW, account, broker_order, entry, market, position, quote, sale, signal

D = Decimal
NAN, INFINITY = D("NaN"), D("Infinity")
SECOND = timedelta(seconds=1)


# --- exact boundaries -----------------------------------------------------------------------------------------------

LOSS_AT_LIMIT = account(equity="95000", last_equity_usd="100000", cash_usd="95000", buying_power_usd="95000")
BEFORE = {
    "MAX_SHARES_PER_ORDER": lambda s: s.configured(max_position_per_trade=10, max_position_size=10),
    "MAX_TRADES_PER_RUN": lambda s: replace(s, trades_this_run=2),
    "MAX_DAILY_TRADES": lambda s: s.used(orders_today=49),
    "MAX_POSITION_PER_TICKER": lambda s: s.used(entries_today={"AAPL": 4, "MSFT": 5}),
    "COOLDOWN": lambda s: s.used(last_entry_at={"AAPL": NOW - timedelta(minutes=30), "MSFT": NOW}),
    "DAY_LOSS": lambda s: s.amid(account=replace(LOSS_AT_LIMIT, equity_usd=D("95000.01"))),
    "QUOTE_STALE": lambda s: s.amid(quotes={"AAPL": quote(age_s=limits.QUOTE_MAX_AGE_S)}),
    "PRICE_COLLAR": lambda s: s.proposing(order_type=OrderType.LIMIT, limit_price_usd=D(102)),
    "NO_ROOM_FOR_STOP": lambda s: s.configured(stop_loss_pct=D("0.0001"), take_profit_pct=D("0.0001")),
    "FORECAST_EXPIRED": lambda s: s.proposing(signal=signal(expires_at=NOW + SECOND)),
    "OUTSIDE_TRADING_HOURS": lambda s: s.configured(trading_hours=TradingHours(time(10, 0), time(10, 1))),
    "TARGET_DIVERSIFICATION": lambda s: s.configured(target_diversification=1),
    "MAX_POSITION_PCT": lambda s: s.configured(max_position_pct=D("0.01")),
    "DAILY_NOTIONAL_CAP": lambda s: s.used(notional_today_usd=D(49_000)),
    "TRADING_CAPITAL": lambda s: s.configured(trading_capital_usd=D(1_000)),
    "CASH_RESERVE": lambda s: s.configured(cash_reserve_usd=D(99_000)),
    "EXCLUDED": lambda s: s.configured(excluded_tickers=frozenset({"MSFT", "aapl", "AAPL "})),
    "QUANTITY_INVALID": lambda s: s.proposing(qty=D(1)),
}
BEYOND = {
    "MAX_SHARES_PER_ORDER": lambda s: s.configured(max_position_per_trade=10, max_position_size=9),
    "MAX_TRADES_PER_RUN": lambda s: replace(s, trades_this_run=3),
    "MAX_DAILY_TRADES": lambda s: s.used(orders_today=50),
    "MAX_POSITION_PER_TICKER": lambda s: s.used(entries_today={"AAPL": 5}),
    "COOLDOWN": lambda s: s.used(last_entry_at={"AAPL": NOW - timedelta(minutes=30) + SECOND}),
    "DAY_LOSS": lambda s: s.amid(account=LOSS_AT_LIMIT),
    "QUOTE_STALE": lambda s: s.amid(quotes={"AAPL": quote(age_s=limits.QUOTE_MAX_AGE_S + 1)}),
    "PRICE_COLLAR": lambda s: s.proposing(order_type=OrderType.LIMIT, limit_price_usd=D("102.01")),
    "NO_ROOM_FOR_STOP": lambda s: s.configured(take_profit_pct=D("0.000099")),
    "FORECAST_EXPIRED": lambda s: s.proposing(signal=signal(expires_at=NOW)),
    "OUTSIDE_TRADING_HOURS": lambda s: s.configured(trading_hours=TradingHours(time(9, 0), time(10, 0))),
    "TARGET_DIVERSIFICATION": lambda s: s.configured(target_diversification=1).used(
        reserved_by_symbol={"MSFT": D(1)}, reserved_usd=D(1)
    ),
    "MAX_POSITION_PCT": lambda s: s.configured(max_position_pct=D("0.009999")),
    "DAILY_NOTIONAL_CAP": lambda s: s.used(notional_today_usd=D("49000.01")),
    "TRADING_CAPITAL": lambda s: s.configured(trading_capital_usd=D("999.99")),
    "CASH_RESERVE": lambda s: s.configured(cash_reserve_usd=D("99000.01")),
    "EXCLUDED": lambda s: s.configured(excluded_tickers=frozenset({"MSFT", "AAPL"})),
    "QUANTITY_INVALID": lambda s: s.proposing(qty=D(0)),
}


@pytest.mark.parametrize("name", BEFORE)
def test_a_limit_is_allowed_to_be_reached_and_not_to_be_passed(name: str) -> None:
    assert refusal(BEFORE[name](ENTRY)) is None
    assert refusal(BEYOND[name](ENTRY)) == name


@pytest.mark.parametrize("name", ["MAX_TRADES_PER_RUN", "MAX_DAILY_TRADES", "DAILY_NOTIONAL_CAP", "CASH_RESERVE"])
def test_the_numbers_of_a_refused_cap_are_what_it_compared(name: str) -> None:
    numbers = BEYOND[name](ENTRY).verdict().numbers
    assert D(numbers["used"]) > D(numbers["limit"])


@pytest.mark.parametrize(
    "none_allowed",
    [
        {"max_position_per_trade": 0}, {"max_position_size": 0}, {"max_trades_per_run": 0}, {"max_daily_trades": 0},
        {"max_position_per_ticker": 0}, {"target_diversification": 0}, {"daily_notional_cap_usd": D(0)},
        {"trading_capital_usd": D(0)}, {"max_position_pct": D(0)},
    ],
    ids=str,
)  # fmt: skip
def test_zero_allows_nothing(none_allowed: dict[str, Any]) -> None:
    scene = ENTRY.configured(**none_allowed).proposing(qty=D(1), price_usd=D("0.01"))
    assert not scene.verdict().allowed


def test_the_largest_order_of_all_is_a_fixed_amount() -> None:
    rich = ENTRY.amid(account=account(equity="1E9")).configured(
        trading_capital_usd=D("1E9"), daily_notional_cap_usd=D("1E9")
    )
    assert refusal(rich.proposing(price_usd=limits.MAX_ORDER_NOTIONAL_USD / 10)) is None
    assert refusal(rich.proposing(price_usd=limits.MAX_ORDER_NOTIONAL_USD / 10 + D("0.01"))) == "MAX_ORDER_NOTIONAL"


@pytest.mark.parametrize(
    ("age_s", "expected"), [(-limits.CLOCK_SKEW_S, None), (-limits.CLOCK_SKEW_S - 1, "QUOTE_STALE")]
)
def test_a_price_from_the_future_is_not_believed(age_s: int, expected: str | None) -> None:
    assert refusal(ENTRY.amid(quotes={"AAPL": quote(age_s=age_s)})) == expected


@pytest.mark.parametrize(
    ("hour", "minute", "inside"), [(9, 29, False), (9, 30, True), (15, 59, True), (16, 0, False), (3, 30, False)]
)
def test_trading_hours_count_in_their_own_zone(hour: int, minute: int, inside: bool) -> None:
    new_york = NOW.replace(hour=hour + 4, minute=minute)  # summer time
    assert risk.within_trading_hours(TradingHours(), new_york) is inside
    winter = datetime(2026, 1, 15, hour + 5, minute, tzinfo=NOW.tzinfo)
    assert risk.within_trading_hours(TradingHours(), winter) is inside
    berlin = TradingHours(time(15, 30), time(22, 0), "Europe/Berlin")
    assert risk.within_trading_hours(berlin, new_york) is inside


def test_a_session_may_drop_its_own_hours_but_never_the_calendar() -> None:
    outside = ENTRY.configured(trading_hours=TradingHours(time(11, 0), time(12, 0)))
    assert refusal(outside) == "OUTSIDE_TRADING_HOURS"
    dropped = outside.configured(market_hours_check=False)
    assert refusal(dropped) is None
    assert refusal(dropped.amid(market_open=False)) == "MARKET_CLOSED"


def test_positions_and_orders_on_their_way_count_against_the_position_and_the_capital() -> None:
    held = {"AAPL": position(qty="80"), "MSFT": position("MSFT", "50")}
    on_its_way = {"reserved_usd": D(3_000), "reserved_by_symbol": {"AAPL": D(1_000), "SPY": D(2_000)}}
    scene = ENTRY.amid(positions=held).used(**on_its_way)
    assert refusal(scene.configured(max_position_pct=D("0.1"))) is None  # 8,000 + 1,000 + 1,000 of 100,000
    assert refusal(scene.configured(max_position_pct=D("0.0999"))) == "MAX_POSITION_PCT"
    assert refusal(scene.configured(trading_capital_usd=D(17_000))) is None  # 13,000 + 3,000 + 1,000
    assert refusal(scene.configured(trading_capital_usd=D(16_999))) == "TRADING_CAPITAL"


def test_more_of_what_is_held_needs_no_place_among_the_positions() -> None:
    held = {symbol: position(symbol, "1") for symbol in ("AAPL", "B", "C", "D", "E")}
    assert refusal(ENTRY.amid(positions=held)) is None
    assert refusal(Scene(entry("MSFT")).amid(positions=held)) == "TARGET_DIVERSIFICATION"


def test_cash_never_margin() -> None:
    margin = account(cash_usd="6000", buying_power_usd="200000")
    assert refusal(ENTRY.amid(account=margin)) is None
    assert refusal(ENTRY.amid(account=replace(margin, cash_usd=D("5999.99")))) == "CASH_RESERVE"
    in_debt = account(cash_usd="-10000", buying_power_usd="200000")
    assert refusal(ENTRY.amid(account=in_debt).configured(cash_reserve_usd=D(0))) == "CASH_RESERVE"


def test_buying_power_counts_what_was_reserved_before_once_and_what_this_run_reserves_too() -> None:
    # 40,000 rest in open orders that the venue has taken off its buying power; 8,500 of it are unsettled besides.
    poor = account(cash_usd="100000", buying_power_usd="51500")
    resting = Usage(reserved_usd=D(40_000), reserved_by_symbol={"QQQ": D(40_000)})
    config = replace(CONFIG, cash_reserve_usd=D(50_000), trading_capital_usd=D("1E6"), daily_notional_cap_usd=D("1E6"))
    judged = gate([entry("AAPL"), entry("MSFT")], config, market(account=poor), resting)
    assert [verdict.refusal for _, verdict in judged] == [None, "CASH_RESERVE"]


# --- sales and orders on their way ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("qty", "expected"), [(10, None), (11, "NOT_HELD")])
def test_no_more_is_sold_than_is_held(qty: int, expected: str | None) -> None:
    assert refusal(EXIT.proposing(qty=D(qty))) == expected
    assert refusal(EXIT.by_hand().proposing(qty=D(qty))) == expected
    assert refusal(Scene(sale("MSFT"), market=HELD)) == "NOT_HELD"


def test_shares_that_are_being_sold_are_not_sold_again() -> None:
    half_sold = EXIT.by_hand().used(selling={"AAPL": D(5)})
    assert refusal(half_sold.proposing(qty=D(5))) is None
    assert refusal(half_sold.proposing(qty=D(6))) == "NOT_HELD"
    assert refusal(EXIT.proposing(source=Source.EMERGENCY).used(selling={"AAPL": D(5)})) is None


def test_a_human_who_asks_twice_in_one_moment_sells_once() -> None:
    twice = [sale(source=Source.MANUAL, signal=None), sale(source=Source.MANUAL, signal=None)]
    judged = gate(twice, CONFIG, HELD, Usage())
    assert [verdict.refusal for _, verdict in judged] == [None, "DUPLICATE_INTENT"]
    used, half, told = Usage(), sale(qty="5", source=Source.MANUAL, signal=None), []
    for _ in range(3):  # each order of a human is a run of its own
        ((proposal, verdict),) = gate([half], CONFIG, HELD, used)
        used = risk.reserve(used, proposal, NOW) if verdict.allowed else used
        told.append(verdict.refusal)
    assert told == [None, None, "NOT_HELD"]


def test_one_run_trades_a_symbol_once_in_each_direction() -> None:
    config = replace(CONFIG, cooldown_minutes=0.0, max_trades_per_run=10)
    holding = market(positions={"AAPL": position(qty="20")})
    judged = gate([sale(), sale(), entry()], config, holding, Usage())
    assert [verdict.refusal for _, verdict in judged] == [None, "DUPLICATE_INTENT", "OPPOSITE_ORDER_OPEN"]
    judged = gate([entry(), entry()], config, market(), Usage())
    assert [verdict.refusal for _, verdict in judged] == [None, "DUPLICATE_INTENT"]


def test_exits_use_up_the_trades_of_a_run_but_are_never_refused_for_it() -> None:
    holding = market(positions={symbol: position(symbol) for symbol in ("MSFT", "SPY", "QQQ", "PEP")})
    exits = [sale(symbol) for symbol in holding.positions]
    judged = gate([*exits, entry()], CONFIG, holding, Usage())
    assert [verdict.refusal for _, verdict in judged] == [None, None, None, None, "MAX_TRADES_PER_RUN"]


def test_a_resting_protection_is_no_opposite_order_to_a_bracket() -> None:
    assert refusal(ENTRY.amid(open_orders=[broker_order(parent_id="b-1")])) is None
    assert refusal(ENTRY.amid(open_orders=[broker_order(order_class="oco")])) is None
    assert refusal(ENTRY.amid(open_orders=[broker_order("MSFT")])) is None
    assert refusal(ENTRY.amid(open_orders=[broker_order(side=Side.BUY)])) is None
    by_hand = ENTRY.by_hand().amid(open_orders=[broker_order(parent_id="b-1")])
    assert refusal(by_hand) == "OPPOSITE_ORDER_OPEN"  # a simple order, which the venue takes for a wash trade
    assert refusal(ENTRY.used(unsettled={"AAPL": frozenset({Side.SELL})})) == "OPPOSITE_ORDER_OPEN"
    assert refusal(ENTRY.by_hand().used(unsettled={"AAPL": frozenset({Side.SELL})})) == "OPPOSITE_ORDER_OPEN"


# --- what is unknown is denied --------------------------------------------------------------------------------------

CONFIG_NUMBERS = [name for name in TradingConfig.__dataclass_fields__ if isinstance(getattr(CONFIG, name), float | D)]
NO_NUMBERS = [NAN, D("sNaN"), INFINITY, -INFINITY]


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [
        ({"latched": None}, "EMERGENCY_LATCHED"),
        ({"state": None}, "TRADING_OFF"),
        ({"reconciled": None}, "NOT_RECONCILED"),
        ({"market_open": None}, "MARKET_CLOSED"),
        ({"settings_problem": ""}, "SETTINGS_INVALID"),
        ({"paper_problem": ""}, "LIVE_NOT_ALLOWED"),
        ({"account": None}, "ACCOUNT_UNKNOWN"),
        ({"quotes": {}}, "QUOTE_MISSING"),
        ({"max_day_loss_pct": NAN}, "DAY_LOSS"),
        ({"max_day_loss_pct": INFINITY}, "DAY_LOSS"),
    ],
    ids=str,
)
def test_what_is_unknown_about_the_market_is_denied(unknown: dict[str, Any], expected: str) -> None:
    found = evaluate(ENTRY.amid(**unknown).case())
    assert (found.allowed, found.refusal) == (False, expected)
    assert EXIT.by_hand().amid(**unknown).verdict().allowed


@pytest.mark.parametrize("name", CONFIG_NUMBERS)
@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
def test_a_setting_that_is_no_number_denies_entries_and_leaves_exits(name: str, value: Decimal) -> None:
    as_float = isinstance(getattr(CONFIG, name), float)
    if as_float and value.is_snan():
        value = NAN
    broken = {name: float(value) if as_float else value}
    assert refusal(ENTRY.configured(**broken)) == "SETTINGS_INVALID"
    assert name in ENTRY.configured(**broken).verdict().message
    assert refusal(EXIT.configured(**broken)) is None


@pytest.mark.parametrize(
    "unprotected", [{"stop_loss_pct": D(0)}, {"stop_loss_pct": D(1)}, {"take_profit_pct": D(0)}], ids=str
)
def test_an_entry_that_nothing_could_protect_is_denied(unprotected: dict[str, Decimal]) -> None:
    assert refusal(ENTRY.configured(**unprotected)) == "SETTINGS_INVALID"


@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
@pytest.mark.parametrize("name", ["equity_usd", "last_equity_usd", "cash_usd", "buying_power_usd"])
def test_an_account_without_numbers_is_unknown(name: str, value: Decimal) -> None:
    assert refusal(ENTRY.amid(account=replace(account(), **{name: value}))) == "ACCOUNT_UNKNOWN"


@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
def test_no_number_anywhere_else_is_denied_too(value: Decimal) -> None:
    odd = replace(position("MSFT"), market_value_usd=value)
    assert refusal(ENTRY.amid(quotes={"AAPL": replace(quote(), price_usd=value)})) == "QUOTE_MISSING"
    assert refusal(ENTRY.proposing(qty=value)) == "QUANTITY_INVALID"
    assert refusal(ENTRY.proposing(price_usd=value)) == "PRICE_INVALID"
    assert refusal(ENTRY.proposing(limit_price_usd=value)) == "ORDER_PRICE_INVALID"
    assert refusal(EXIT.proposing(stop_price_usd=value)) == "ORDER_PRICE_INVALID"
    assert refusal(PROTECTION.proposing(stop_loss_usd=value)) == "LEVELS_INVALID"
    assert refusal(PROTECTION.used(protecting={"AAPL": value})) == "NOT_FREE"
    assert refusal(ENTRY.reported(factor=value)) == "RISK_UNKNOWN"
    assert refusal(ENTRY.reported(rolling_loss_pct=value)) == "ROLLING_LOSS"
    assert refusal(ENTRY.reported(drawdown_pct=value)) == "DRAWDOWN"
    assert refusal(ENTRY.amid(positions={"MSFT": odd})) == "TRADING_CAPITAL"
    assert refusal(ENTRY.amid(positions={"AAPL": replace(odd, symbol="AAPL")})) == "MAX_POSITION_PCT"
    assert refusal(ENTRY.used(notional_today_usd=value)) == "DAILY_NOTIONAL_CAP"
    assert refusal(ENTRY.used(reserved_usd=value)) == "TRADING_CAPITAL"
    assert refusal(ENTRY.used(reserved_by_symbol={"AAPL": value})) == "MAX_POSITION_PCT"
    assert refusal(EXIT.amid(positions={"AAPL": replace(position(), qty=value)})) == "NOT_HELD"
    assert refusal(EXIT.used(selling={"AAPL": value})) == "NOT_HELD"
    assert refusal(EXIT.proposing(qty=value)) == "QUANTITY_INVALID"


@pytest.mark.parametrize("last_equity", ["0", "-5"])
def test_an_account_with_nothing_in_it_yesterday_cannot_be_judged(last_equity: str) -> None:
    assert refusal(ENTRY.amid(account=account(last_equity_usd=last_equity))) == "ACCOUNT_UNKNOWN"


@pytest.mark.parametrize("price", ["0", "-1"])
def test_a_price_that_cannot_be_is_none(price: str) -> None:
    assert refusal(ENTRY.amid(quotes={"AAPL": quote(price=price)})) == "QUOTE_MISSING"
    assert refusal(ENTRY.proposing(price_usd=D(price))) == "PRICE_INVALID"
    assert refusal(ENTRY.proposing(limit_price_usd=D(price))) == "ORDER_PRICE_INVALID"


def test_an_exit_passes_without_a_known_price_and_then_uses_up_nothing() -> None:
    config = replace(CONFIG, max_trades_per_run=2)
    judged = gate([sale(price="NaN"), entry("MSFT")], config, HELD, Usage())
    assert [verdict.refusal for _, verdict in judged] == [None, None]
    assert judged[0][0].notional_usd == 0


# --- what the caps reckon with --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order_type", "limit", "stop", "side", "expected"),
    [
        (OrderType.MARKET, None, None, Side.BUY, "103.02"),  # 2 % over the ask
        (OrderType.LIMIT, "90", None, Side.BUY, "90"),
        (OrderType.STOP_LIMIT, "120", "110", Side.BUY, "120"),
        (OrderType.STOP, None, "150", Side.BUY, "153"),
        (OrderType.STOP, None, "90", Side.BUY, "103.02"),
        (OrderType.MARKET, "90", None, Side.BUY, "103.02"),
        (OrderType.LIMIT, None, None, Side.BUY, "103.02"),
        (OrderType.MARKET, None, None, Side.SELL, "100"),
        (OrderType.STOP, None, "90", Side.SELL, "100"),
    ],
)
def test_the_worst_price_an_order_may_cost(
    order_type: OrderType, limit: str | None, stop: str | None, side: Side, expected: str
) -> None:
    asked = quote(price="100", ask_usd=D(101))
    found = worst_price(asked, order_type, D(limit) if limit else None, side, D(stop) if stop else None)
    assert found == D(expected)


def test_a_missing_ask_leaves_the_last_price_and_one_that_is_no_number_leaves_nothing() -> None:
    one_sided = quote(ask_usd=D(0))
    assert worst_price(one_sided, OrderType.MARKET, None, Side.BUY) == D(102)
    for broken in NO_NUMBERS:
        assert worst_price(quote(ask_usd=broken), OrderType.MARKET, None, Side.BUY).is_nan()


def test_a_verdict_is_given_for_every_proposal_in_its_order() -> None:
    wanted = [entry("MSFT"), entry("UNKNOWN"), entry("AAPL")]
    judged = gate(wanted, CONFIG, market(), Usage())
    assert [proposal for proposal, _ in judged] == wanted
    assert [verdict.refusal for _, verdict in judged] == [None, "QUOTE_MISSING", None]
    assert gate([], CONFIG, market(), Usage()) == []


def test_what_is_no_entry_is_judged_as_an_exit_and_cannot_buy() -> None:
    assert refusal(ENTRY.proposing(kind=IntentKind.EXIT)) == "DIRECTION_INVALID"


# --- what is reserved within a run ------------------------------------------------------------------------------------

USED = Usage(
    orders_today=3, notional_today_usd=D(700), entries_today={"AAPL": 2, "SPY": 1}, last_entry_at={"SPY": NOW - SECOND},
    reserved_usd=D(300), reserved_by_symbol={"AAPL": D(100), "SPY": D(200)},
    unsettled={"AAPL": frozenset({Side.SELL}), "SPY": frozenset({Side.BUY})}, selling={"AAPL": D(1), "SPY": D(2)},
    protecting={"AAPL": D(4), "SPY": D(5)}, orders_last_minute=7,
)  # fmt: skip
BOTH = frozenset({Side.BUY, Side.SELL})


def test_an_entry_reserves_its_worst_cost_and_its_place_in_every_count() -> None:
    assert risk.reserve(USED, entry(), NOW) == replace(
        USED, orders_today=4, notional_today_usd=D(1_700), entries_today={"AAPL": 3, "SPY": 1}, orders_last_minute=8,
        last_entry_at={"AAPL": NOW, "SPY": NOW - SECOND}, reserved_usd=D(1_300),
        reserved_by_symbol={"AAPL": D(1_100), "SPY": D(200)}, unsettled={**USED.unsettled, "AAPL": BOTH},
    )  # fmt: skip
    first = risk.reserve(Usage(), entry(), NOW)
    assert (first.entries_today, first.reserved_by_symbol) == ({"AAPL": 1}, {"AAPL": D(1_000)})


def test_an_exit_reserves_its_shares() -> None:
    assert risk.reserve(USED, sale("SPY"), NOW) == replace(
        USED, orders_today=4, notional_today_usd=D(1_700), orders_last_minute=8, selling={"AAPL": D(1), "SPY": D(12)},
        unsettled={**USED.unsettled, "SPY": BOTH},
    )  # fmt: skip


def test_a_protection_uses_up_no_cap() -> None:
    rests, at_once = PROTECTION.proposal, replace(sale("SPY"), kind=IntentKind.PROTECTION)
    assert risk.reserve(USED, rests, NOW) == replace(
        USED, orders_last_minute=8, protecting={"AAPL": D(14), "SPY": D(5)}
    )
    assert risk.reserve(USED, at_once, NOW) == replace(
        USED, orders_last_minute=8, selling={"AAPL": D(1), "SPY": D(12)}, unsettled={**USED.unsettled, "SPY": BOTH}
    )
    fresh = risk.reserve(Usage(), at_once, NOW)
    assert (fresh.unsettled, fresh.selling) == ({"SPY": frozenset({Side.SELL})}, {"SPY": D(10)})


def test_protections_of_one_run_share_what_is_free_and_count_for_no_trade_of_it() -> None:
    half = replace(PROTECTION.proposal, qty=D(5))
    config = replace(CONFIG, max_trades_per_run=1)
    judged = gate([half, half, half, entry("MSFT")], config, HELD, Usage())
    assert [verdict.refusal for _, verdict in judged] == [None, None, "NOT_FREE", None]


def test_a_run_remembers_all_that_it_was_allowed() -> None:
    config = replace(CONFIG, max_trades_per_run=9, target_diversification=9)
    judged = gate([entry("AAPL"), entry("MSFT"), entry("AAPL")], config, market(), Usage())
    assert [verdict.refusal for _, verdict in judged] == [None, None, "DUPLICATE_INTENT"]


# --- single checks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age_s", "expected"), [(300, None), (301, "SETTINGS_STALE"), (-60, None), (-61, "SETTINGS_STALE")]
)
def test_settings_are_believed_for_so_long(age_s: int, expected: str | None) -> None:
    assert refusal(ENTRY.amid(settings_at_wall=NOW - timedelta(seconds=age_s))) == expected
    assert refusal(ENTRY.amid(wall=NOW + timedelta(seconds=age_s))) == expected


def test_settings_of_an_unknown_age_are_stale() -> None:
    for unknown, told in (
        ("settings_at_wall", {"read": "None", "wall": str(NOW)}),
        ("wall", {"read": str(NOW), "wall": "None"}),
    ):
        found = ENTRY.amid(**{unknown: None}).verdict()
        assert (found.refusal, found.numbers) == ("SETTINGS_STALE", told)


@pytest.mark.parametrize(("age_s", "expected"), [(900, None), (901, "RISK_STALE"), (-60, None), (-61, "RISK_STALE")])
def test_a_risk_report_is_believed_for_so_long(age_s: int, expected: str | None) -> None:
    assert refusal(ENTRY.reported(at=NOW - timedelta(seconds=age_s))) == expected


@pytest.mark.parametrize(
    ("factor", "expected"),
    [("0", None), ("0.5", None), ("1", None), ("1.01", "RISK_UNKNOWN"), ("-0.01", "RISK_UNKNOWN")],
)
def test_a_risk_factor_lies_between_none_and_all(factor: str, expected: str | None) -> None:
    assert refusal(ENTRY.reported(factor=D(factor))) == expected


@pytest.mark.parametrize(
    ("loss", "expected"), [("0.0999", None), ("0.1", "ROLLING_LOSS"), ("0.2", "ROLLING_LOSS"), ("-0.5", None)]
)
def test_the_loss_of_a_week_has_a_limit(loss: str, expected: str | None) -> None:
    assert refusal(ENTRY.reported(rolling_loss_pct=D(loss))) == expected


@pytest.mark.parametrize(("loss", "expected"), [("0.1499", None), ("0.15", "DRAWDOWN")])
def test_the_fall_from_the_peak_has_a_limit(loss: str, expected: str | None) -> None:
    assert refusal(ENTRY.reported(drawdown_pct=D(loss))) == expected


def test_the_throttle_counts_this_order_in_and_lets_exits_pass() -> None:
    most = limits.ORDERS_PER_MINUTE_MAX
    assert refusal(ENTRY.used(orders_last_minute=most - 1)) is None
    for scene in (ENTRY, ENTRY.by_hand()):
        assert refusal(scene.used(orders_last_minute=most)) == "TOO_MANY_ORDERS"
    for scene in (EXIT, EXIT.by_hand(), PROTECTION):
        assert refusal(scene.used(orders_last_minute=10 * most)) is None


def test_a_cent_is_a_price_too() -> None:
    penny = ENTRY.by_hand().amid(quotes={"AAPL": quote(price="0.01")}).proposing(price_usd=D("0.01"))
    assert refusal(penny) is None
    cheap = ENTRY.configured(stop_loss_pct=D("0.05")).amid(quotes={"AAPL": quote(price="0.19")})
    assert refusal(cheap.proposing(price_usd=D("0.19"))) == "NO_ROOM_FOR_STOP"
    assert refusal(cheap.by_hand().proposing(price_usd=D("0.19"))) is None, "a human's order has no bracket"
    assert refusal(penny.proposing(order_type=OrderType.LIMIT, limit_price_usd=D("0.01"))) is None
    small = account(equity="0.90", last_equity_usd="0.90", cash_usd="90000", buying_power_usd="90000")
    assert refusal(penny.amid(account=small)) is None
    assert refusal(PROTECTION.proposing(stop_loss_usd=D("0.01"))) is None


@pytest.mark.parametrize(
    ("order_type", "limit", "stop", "expected"),
    [
        (OrderType.STOP_LIMIT, "112.20", "110", None),  # 2 % over its stop, which is over the market
        (OrderType.STOP_LIMIT, "112.21", "110", "PRICE_COLLAR"),
        (OrderType.STOP_LIMIT, "102", "90", None),
        (OrderType.STOP_LIMIT, "102.01", "90", "PRICE_COLLAR"),
        (OrderType.LIMIT, "102.01", "110", "PRICE_COLLAR"),  # a limit order has no stop
        (OrderType.LIMIT, "1", None, None),
        (OrderType.STOP, None, "150", None),
    ],
)
def test_a_purchase_has_a_collar_on_its_costly_side(
    order_type: OrderType, limit: str | None, stop: str | None, expected: str | None
) -> None:
    prices = {"limit_price_usd": limit and D(limit), "stop_price_usd": stop and D(stop)}
    assert refusal(ENTRY.proposing(order_type=order_type, **prices)) == expected


@pytest.mark.parametrize(
    ("order_type", "needed"),
    [
        (OrderType.LIMIT, {"limit_price_usd"}), (OrderType.STOP, {"stop_price_usd"}),
        (OrderType.STOP_LIMIT, {"limit_price_usd", "stop_price_usd"}),
    ],
)  # fmt: skip
def test_an_order_needs_the_prices_of_its_type(order_type: OrderType, needed: set[str]) -> None:
    for scene in (ENTRY, ENTRY.by_hand(), EXIT, EXIT.by_hand()):
        all_of_them = scene.proposing(order_type=order_type, **dict.fromkeys(needed, D(100)))
        assert refusal(all_of_them) is None
        for name in needed:
            assert all_of_them.proposing(**{name: None}).verdict().numbers == {name: "None"}


@pytest.mark.parametrize("price", ["limit_price_usd", "stop_price_usd"])
@pytest.mark.parametrize(
    ("asked", "source", "expected"),
    [
        ("50", Source.MANUAL, None), ("49.99", Source.MANUAL, "FAT_FINGER"), ("99", Source.MANUAL, None),
        ("500", Source.MANUAL, None), ("1", Source.EMERGENCY, None),
    ],
)  # fmt: skip
def test_only_a_missing_digit_holds_up_a_humans_sale(
    price: str, asked: str, source: Source, expected: str | None
) -> None:
    order_type = OrderType.LIMIT if price == "limit_price_usd" else OrderType.STOP
    scene = EXIT.by_hand().proposing(order_type=order_type, source=source, **{price: D(asked)})
    assert refusal(scene) == expected
    assert refusal(scene.amid(quotes={})) is None


@pytest.mark.parametrize(
    ("order_type", "stop", "profit", "expected"),
    [
        (OrderType.LIMIT, "95", "110", None), (OrderType.LIMIT, "109.99", "110", None),
        (OrderType.LIMIT, "110", "110", "LEVELS_INVALID"), (OrderType.LIMIT, "0", "110", "LEVELS_INVALID"),
        (OrderType.LIMIT, None, "110", "LEVELS_INVALID"), (OrderType.LIMIT, "95", None, "LEVELS_INVALID"),
        (OrderType.LIMIT, None, None, "LEVELS_INVALID"), (OrderType.MARKET, None, None, None),
        (OrderType.MARKET, "95", None, "LEVELS_INVALID"), (OrderType.MARKET, None, "110", "LEVELS_INVALID"),
        (OrderType.MARKET, "95", "110", None), (OrderType.LIMIT, "95", "NaN", "LEVELS_INVALID"),
    ],
)  # fmt: skip
def test_a_protection_has_both_levels_or_sells_at_once(
    order_type: OrderType, stop: str | None, profit: str | None, expected: str | None
) -> None:
    prices = {"stop_loss_usd": stop and D(stop), "take_profit_usd": profit and D(profit)}
    assert refusal(PROTECTION.proposing(order_type=order_type, **prices)) == expected


def test_the_opposite_order_is_found_behind_others() -> None:
    others = [broker_order("MSFT"), broker_order(side=Side.BUY), broker_order(parent_id="b-1"), broker_order()]
    assert refusal(ENTRY.amid(open_orders=others)) == "OPPOSITE_ORDER_OPEN"
    assert refusal(ENTRY.amid(open_orders=others[:3])) is None


def test_the_first_entry_of_a_symbol_counts_as_one_and_what_is_not_held_as_none() -> None:
    assert refusal(ENTRY.configured(max_position_per_ticker=1)) is None
    assert refusal(Scene(sale("MSFT", "1"), market=HELD)) == "NOT_HELD"


@pytest.mark.parametrize("value", NO_NUMBERS, ids=str)
def test_each_check_denies_what_is_no_number_by_itself(value: Decimal) -> None:
    """Those before it would have; none leans on that."""
    for name in ("equity_usd", "last_equity_usd"):
        assert risk_caps.day_loss(ENTRY.amid(account=replace(account(), **{name: value})).case()) is not None
    assert risk_caps.position_share(ENTRY.amid(account=replace(account(), equity_usd=value)).case()) is not None
    assert risk_caps.position_share(ENTRY.configured(max_position_pct=value).case()) is not None
    for name in ("cash_usd", "buying_power_usd"):
        assert risk_caps.cash(ENTRY.amid(account=replace(account(), **{name: value})).case()) is not None
    assert risk_caps.cash(ENTRY.configured(cash_reserve_usd=value).case()) is not None
    limited = ENTRY.proposing(order_type=OrderType.LIMIT, limit_price_usd=value)
    assert risk_order.collar(limited.case()) is not None
    unknown = limited.proposing(limit_price_usd=D(1)).amid(quotes={"AAPL": replace(quote(), price_usd=value)})
    assert risk_order.collar(unknown.case()) is not None
    assert risk_order.free(PROTECTION.amid(positions={"AAPL": replace(position(), qty=value)}).case()) is not None
    by_hand = EXIT.by_hand().proposing(order_type=OrderType.LIMIT, limit_price_usd=value)
    assert risk_order.fat_finger(by_hand.case()) is None  # another check denies it


def test_sums_of_nothing_are_money() -> None:
    assert isinstance(total(), Decimal)
