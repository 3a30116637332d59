"""Whatever is proposed in whatever market: no cap is ever passed, and gate and ledger count the same."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.risk import CHECKS, RULES, Case, Market, evaluate, gate, reserve
from qbot.risk_case import Whose, whose
from qbot.store.ledger import usage_of
from qbot.types import (
    IntentKind,
    OrderType,
    Position,
    Proposal,
    Side,
    Source,
    TradingConfig,
    TradingState,
    Usage,
    Verdict,
)
from tests.support.values import CONFIG, NOW, TODAY, account, entry, intent_row, market, position, quote, sale

D = Decimal
SYMBOLS = ("AAPL", "MSFT", "SPY", "QQQ")
Row = Mapping[str, Any]
USD = st.decimals(0, 6_000, places=2)
SHARES = st.integers(0, 30)

CONFIGS = st.builds(
    TradingConfig,
    max_position_per_trade=SHARES,
    max_position_size=SHARES,
    max_position_per_ticker=st.integers(0, 4),
    max_trades_per_run=st.integers(0, 6),
    max_daily_trades=st.integers(0, 12),
    daily_notional_cap_usd=st.decimals(0, 20_000, places=2),
    cooldown_minutes=st.sampled_from([0.0, 0.0, 10.0, 30.0]),
    cash_reserve_usd=USD,
    trading_capital_usd=st.decimals(0, 20_000, places=2),
    max_position_pct=st.decimals(0, 1, places=3),
    target_diversification=st.integers(0, 4),
    excluded_tickers=st.frozensets(st.sampled_from(SYMBOLS), max_size=1),
)
SOURCES = st.sampled_from([Source.ML, Source.ML, Source.AUTOTRADING, Source.MANUAL])
PRICES = st.decimals("0.01", 300, places=2)


@st.composite
def proposals(draw: st.DrawFn) -> Proposal:
    symbol, qty, price = draw(st.sampled_from(SYMBOLS)), str(draw(SHARES)), str(draw(PRICES))
    limited = {"limit_price_usd": D(price), "order_type": OrderType.LIMIT} if draw(st.booleans()) else {}
    more = {"source": draw(SOURCES), **limited}
    kind = draw(st.integers(0, 7))
    if kind == 7:
        return draw(protections(symbol, qty, price))
    return sale(symbol, qty, price, **more) if kind > 5 else entry(symbol, qty, price, **more)


@st.composite
def protections(draw: st.DrawFn, symbol: str, qty: str, price: str) -> Proposal:
    """An OCO, or a sale at the market in its place."""
    levels = {"order_type": OrderType.LIMIT, "take_profit_usd": D(400), "stop_loss_usd": D(price)}
    at_once = draw(st.booleans())
    return replace(sale(symbol, qty, price, **({} if at_once else levels)), kind=IntentKind.PROTECTION)


@st.composite
def markets(draw: st.DrawFn) -> Market:
    held = draw(st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 40), max_size=3))
    cash = draw(st.decimals(-1_000, 20_000, places=2))
    prices = {symbol: str(draw(PRICES)) for symbol in SYMBOLS}
    return market(
        account=account(
            equity=str(draw(st.decimals(100, 30_000, places=2))),
            last_equity_usd="20000",
            cash_usd=str(cash),
            buying_power_usd=str(cash + draw(st.sampled_from([D(0), D(-500), D(10_000)]))),
        ),
        quotes={symbol: quote(symbol, price) for symbol, price in prices.items()},
        positions={symbol: position(symbol, str(qty), prices[symbol]) for symbol, qty in held.items()},
        state=draw(st.sampled_from([TradingState.ACTIVE, TradingState.ACTIVE, *TradingState])),
        max_day_loss_pct=D(1),
    )


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """An intent of any age and fate, made before now."""
    status = draw(st.sampled_from(["committed", "in_doubt", "sent", "closed", "rejected", "abandoned"]))
    proposal = draw(proposals())
    filled = proposal.notional_usd * draw(st.sampled_from([D(0), D("0.5"), D(1)]))
    minutes = draw(st.integers(1, 90))
    closed = NOW - timedelta(seconds=draw(st.integers(-5, 600))) if status == "closed" else None
    return intent_row(
        proposal,
        status=status,
        filled_usd=filled if status in ("sent", "closed") else D(0),
        market_day=draw(st.sampled_from([TODAY, TODAY, "2026-09-24"])),
        created_at=NOW - timedelta(minutes=minutes),
        created_at_wall=NOW - timedelta(minutes=minutes),
        closed_at_wall=closed,
    )


LEDGERS = st.lists(rows(), max_size=6)


def assert_no_cap_is_passed(
    judged: Sequence[tuple[Proposal, Verdict]], config: TradingConfig, given_market: Market, before: Usage
) -> None:
    """Reckons on its own, from the allowed proposals alone, after each of them."""
    assert given_market.account is not None
    worth = {symbol: one.market_value_usd for symbol, one in given_market.positions.items()}
    spent: defaultdict[str, Decimal] = defaultdict(Decimal)
    sold: Counter[str] = Counter()
    bought: dict[str, datetime] = dict(before.last_entry_at)
    entries: Counter[str] = Counter(before.entries_today)
    covered: Counter[str] = Counter()
    volume, count, run = before.notional_today_usd, before.orders_today, 0
    for one, verdict in judged:
        if not verdict.allowed:
            continue
        if one.kind is IntentKind.PROTECTION:
            at_once = one.order_type is OrderType.MARKET
            (sold if at_once else covered)[one.symbol] += int(one.qty)
            free = given_market.positions[one.symbol].qty - before.selling.get(one.symbol, D(0)) - sold[one.symbol]
            assert covered[one.symbol] <= free - before.protecting.get(one.symbol, D(0))
            continue
        volume, count, run = volume + one.qty * one.price_usd, count + 1, run + 1
        automatic = one.source is not Source.MANUAL
        assert one.qty >= 1
        if one.kind is IntentKind.EXIT:
            sold[one.symbol] += int(one.qty)
            held = given_market.positions[one.symbol].qty if one.symbol in given_market.positions else D(0)
            assert sold[one.symbol] <= held - before.selling.get(one.symbol, D(0))
            continue
        spent[one.symbol] += one.qty * one.price_usd
        entries[one.symbol] += 1
        coming = before.reserved_usd + sum(spent.values())
        acc = given_market.account
        assert given_market.state is TradingState.ACTIVE or not automatic
        assert given_market.state is not TradingState.REDUCING
        assert one.symbol not in config.excluded_tickers
        assert coming <= acc.cash_usd - config.cash_reserve_usd
        assert sum(spent.values()) <= acc.buying_power_usd - config.cash_reserve_usd
        assert sum(worth.values()) + coming <= config.trading_capital_usd
        assert volume <= config.daily_notional_cap_usd
        assert count <= config.max_daily_trades
        assert run <= config.max_trades_per_run or not automatic
        assert entries[one.symbol] <= config.max_position_per_ticker
        part = worth.get(one.symbol, D(0)) + before.reserved_by_symbol.get(one.symbol, D(0)) + spent[one.symbol]
        assert part <= acc.equity_usd * config.max_position_pct
        assert one.qty <= config.max_position_size
        assert one.qty <= config.max_position_per_trade or not automatic
        last = bought.get(one.symbol)
        assert last is None or NOW - last >= timedelta(minutes=config.cooldown_minutes)
        bought[one.symbol] = NOW
        symbols = worth.keys() | before.reserved_by_symbol.keys() | spent.keys()
        assert len(symbols) <= config.target_diversification or one.symbol in worth or not automatic
        if one.limit_price_usd is not None:
            assert one.limit_price_usd <= given_market.quotes[one.symbol].price_usd * D("1.02")


@settings(max_examples=150)
@given(st.lists(proposals(), max_size=12), CONFIGS, markets(), LEDGERS)
def test_what_the_gate_allows_passes_no_cap_at_any_step(
    wanted: list[Proposal], config: TradingConfig, given_market: Market, ledger: list[Row]
) -> None:
    before = usage_of(ledger, TODAY, NOW)
    judged = gate(wanted, config, given_market, before)
    assert [one for one, _ in judged] == wanted
    assert_no_cap_is_passed(judged, config, given_market, before)


@settings(max_examples=120)
@given(st.lists(proposals(), max_size=12), markets(), LEDGERS)
def test_the_ledger_counts_after_the_commit_what_the_gate_has_reserved(
    wanted: list[Proposal], given_market: Market, ledger: list[Row]
) -> None:
    generous = replace(
        CONFIG, max_position_per_trade=30, max_position_size=30, max_trades_per_run=12, cooldown_minutes=0.0,
        cash_reserve_usd=D(0), max_position_pct=D(1),
    )  # fmt: skip
    before = usage_of(ledger, TODAY, NOW)
    allowed = [one for one, verdict in gate(wanted, generous, given_market, before) if verdict.allowed]
    reckoned = before
    for one in allowed:
        reckoned = reserve(reckoned, one, NOW)
    assert usage_of([*ledger, *map(intent_row, allowed)], TODAY, NOW) == reckoned


# --- what may never happen ------------------------------------------------------------------------------------------

# What is stricter than what is there: each may only refuse more.
STRICTER: dict[str, Callable[[Case, int], Case]] = {
    "shares per trade": lambda c, n: _less(c, "max_position_per_trade", n),
    "shares per order": lambda c, n: _less(c, "max_position_size", n),
    "orders of a ticker": lambda c, n: _less(c, "max_position_per_ticker", n),
    "orders of a run": lambda c, n: _less(c, "max_trades_per_run", n),
    "orders of a day": lambda c, n: _less(c, "max_daily_trades", n),
    "volume of a day": lambda c, n: _less(c, "daily_notional_cap_usd", 300 * n),
    "capital": lambda c, n: _less(c, "trading_capital_usd", 300 * n),
    "share of the portfolio": lambda c, n: _less(c, "max_position_pct", D(n) / 50),
    "number of positions": lambda c, n: _less(c, "target_diversification", n),
    "cash reserve": lambda c, n: _less(c, "cash_reserve_usd", -300 * n),
    "cooldown": lambda c, n: _less(c, "cooldown_minutes", -5.0 * n),
    "exclusions": lambda c, n: _set(c, excluded_tickers=c.config.excluded_tickers | {SYMBOLS[n % 4]}),
    "loss of a week": lambda c, n: _report(c, rolling_loss_pct=c.market.risk_report.rolling_loss_pct + D(n) / 100),
    "drawdown": lambda c, n: _report(c, drawdown_pct=c.market.risk_report.drawdown_pct + D(n) / 100),
    "orders of a minute": lambda c, n: _usage(c, orders_last_minute=c.usage.orders_last_minute + 10 * n),
    "cash": lambda c, n: _account(c, cash_usd=c.market.account.cash_usd - 300 * n),
    "buying power": lambda c, n: _account(c, buying_power_usd=c.market.account.buying_power_usd - 300 * n),
    "equity": lambda c, n: _account(c, equity_usd=c.market.account.equity_usd - 300 * n),
    "what is reserved": lambda c, n: _usage(c, reserved_usd=c.usage.reserved_usd + 300 * n),
    "state": lambda c, n: replace(c, market=replace(c.market, state=TradingState.HALTED)),
    "latch": lambda c, n: replace(c, market=replace(c.market, latched=True)),
}


def _set(case: Case, **more: Any) -> Case:
    return replace(case, config=replace(case.config, **more))


def _less(case: Case, name: str, amount: Any) -> Case:
    return _set(case, **{name: getattr(case.config, name) - amount})


def _report(case: Case, **more: Any) -> Case:
    assert case.market.risk_report is not None
    return replace(case, market=replace(case.market, risk_report=replace(case.market.risk_report, **more)))


def _usage(case: Case, **more: Any) -> Case:
    return replace(case, usage=replace(case.usage, **more))


def _account(case: Case, **more: Any) -> Case:
    assert case.market.account is not None
    return replace(case, market=replace(case.market, account=replace(case.market.account, **more)))


@settings(max_examples=300)
@given(proposals(), CONFIGS, markets(), LEDGERS, st.sampled_from(sorted(STRICTER)), st.integers(0, 40))
def test_what_is_stricter_never_allows_more(
    wanted: Proposal, config: TradingConfig, given_market: Market, ledger: list[Row], name: str, by: int
) -> None:
    case = Case(wanted, config, given_market, usage_of(ledger, TODAY, NOW), 0)
    if not evaluate(case).allowed:
        assert not evaluate(STRICTER[name](case, by)).allowed


@settings(max_examples=200)
@given(proposals(), CONFIGS, markets(), LEDGERS, st.lists(st.tuples(st.sampled_from(sorted(STRICTER)), st.just(1_000))))
def test_an_exit_is_never_refused_by_what_only_limits_entries(
    wanted: Proposal, config: TradingConfig, given_market: Market, ledger: list[Row], stricter: list[tuple[str, int]]
) -> None:
    unknown = replace(
        given_market, account=None, risk_report=None, quotes={}, reconciled=False, settings_problem="",
        paper_problem="", settings_at_wall=None,
    )  # fmt: skip
    asked = whose(wanted)
    names = {name for rule in RULES if asked in rule.whose for name in rule.refusals}
    for each in (given_market, unknown):
        case = Case(wanted, config, each, usage_of(ledger, TODAY, NOW), 1_000)
        for name, by in stricter if each is given_market else ():
            case = STRICTER[name](case, by)
        assert evaluate(case).refusal in names | {None}
        if asked is Whose.HUMAN_EXIT and each is unknown:
            held = each.positions[wanted.symbol].qty if wanted.symbol in each.positions else D(0)
            enough = 0 < wanted.qty <= held - case.usage.selling.get(wanted.symbol, D(0))
            assert evaluate(case).allowed is enough
    assert not any(check in CHECKS[Whose.HUMAN_EXIT] for check in set(CHECKS[Whose.CYCLE_ENTRY]) - set(COMMON))


COMMON = [rule.check for rule in RULES if {Whose.CYCLE_ENTRY, Whose.HUMAN_EXIT} <= rule.whose]

# Numbers that no entry is judged by: of the signal and of prices that the worst price was made of before.
NOT_LOOKED_AT = {
    "signal": {
        "confidence",
        "strength",
        "predicted_return_pct",
        "target_price_usd",
        "current_price_usd",
        "stop_loss_usd",
    },
    "quote": {"bid_usd", "ask_usd"},
    "position": {"qty", "avg_entry_price_usd", "unrealized_pl_usd", "current_price_usd"},
    "proposal": {"take_profit_usd", "stop_loss_usd", "limit_price_usd", "stop_price_usd"},
}


def numbers_of(value: Any, part: str) -> list[str]:
    """The fields that hold a number, less those that are not looked at."""
    found = [field.name for field in fields(value) if isinstance(getattr(value, field.name), Decimal | float)]
    return [name for name in found if name not in NOT_LOOKED_AT.get(part, set())]


FINE = Case(entry(), CONFIG, market(positions={"AAPL": position(qty="1")}), Usage(reserved_by_symbol={"AAPL": D(1)}), 0)
PARTS: dict[str, tuple[Any, Callable[[Any], Case]]] = {
    "proposal": (FINE.proposal, lambda new: replace(FINE, proposal=new)),
    "config": (FINE.config, lambda new: replace(FINE, config=new)),
    "account": (FINE.market.account, lambda new: replace(FINE, market=replace(FINE.market, account=new))),
    "quote": (quote(), lambda new: replace(FINE, market=replace(FINE.market, quotes={"AAPL": new}))),
    "position": (position(), lambda new: replace(FINE, market=replace(FINE.market, positions={"AAPL": new}))),
    "another position": (position(), lambda new: replace(FINE, market=replace(FINE.market, positions={"SPY": new}))),
    "report": (FINE.market.risk_report, lambda new: replace(FINE, market=replace(FINE.market, risk_report=new))),
    "usage": (FINE.usage, lambda new: replace(FINE, usage=new)),
    "market": (FINE.market, lambda new: replace(FINE, market=new)),
    "case": (FINE, lambda new: new),
}
PLACES = [(part, name) for part, (value, _) in PARTS.items() for name in numbers_of(value, part.split()[-1])]


def test_the_order_of_these_tests_is_allowed_while_all_is_a_number() -> None:
    assert evaluate(FINE).allowed
    assert len(PLACES) > 25


@pytest.mark.parametrize(("part", "name"), PLACES)
@pytest.mark.parametrize("no_number", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_no_number_anywhere_never_lets_an_entry_pass(part: str, name: str, no_number: str) -> None:
    value, within = PARTS[part]
    as_float = isinstance(getattr(value, name), float)
    broken = float(no_number.replace("s", "")) if as_float else D(no_number)
    for case in (within(replace(value, **{name: broken})),):
        assert not evaluate(case).allowed
        by_hand = replace(case, proposal=replace(case.proposal, source=Source.MANUAL, signal=None))
        assert not evaluate(by_hand).allowed


@settings(max_examples=100)
@given(LEDGERS)
def test_a_usage_is_sums_of_parts(ledger: list[Row]) -> None:
    found = usage_of(ledger, TODAY, NOW)
    assert found.reserved_usd == sum(found.reserved_by_symbol.values(), D(0))
    assert found.orders_last_minute == sum(row["created_at_wall"] > NOW - timedelta(minutes=1) for row in ledger)
    alive = [row for row in ledger if row["status"] in ("committed", "in_doubt", "sent") or row["filled_usd"] > 0]
    counted = [row for row in alive if row["kind"] != "protection"]
    assert found.orders_today == sum(row["market_day"] == TODAY for row in counted)
    assert found.orders_today >= sum(found.entries_today.values())
    assert 0 not in found.entries_today.values()
    one_by_one = [usage_of([row], TODAY, NOW) for row in ledger]
    assert found.notional_today_usd == sum((one.notional_today_usd for one in one_by_one), D(0))
    assert usage_of(list(reversed(ledger)), TODAY, NOW) == found


def test_rejected_and_abandoned_intents_count_for_nothing() -> None:
    for status in ("rejected", "abandoned", "closed"):
        assert usage_of([intent_row(entry(), status=status)], TODAY, NOW) == Usage(orders_last_minute=1)


@pytest.mark.parametrize(("ago_s", "counts"), [(0, True), (59, True), (60, False), (61, False)])
@pytest.mark.parametrize("status", ["committed", "sent", "rejected", "denied", "closed"])
def test_every_intent_of_the_last_minute_counts_whatever_became_of_it(ago_s: int, counts: bool, status: str) -> None:
    later = NOW + timedelta(seconds=ago_s)  # the snapshot was taken before that
    row = intent_row(sale(), status=status)
    assert usage_of([row], TODAY, NOW, later).orders_last_minute == counts
    assert usage_of([row], TODAY, later).orders_last_minute == counts


def test_a_partly_filled_order_that_is_closed_counts_what_was_filled() -> None:
    long_closed = NOW - timedelta(minutes=1)
    row = intent_row(
        entry(), status="closed", filled_usd=D(400), closed_at_wall=long_closed, created_at_wall=long_closed
    )
    found = usage_of([row], TODAY, NOW)
    assert (found.orders_today, found.notional_today_usd, found.entries_today) == (1, D(400), {"AAPL": 1})
    assert (found.reserved_usd, found.unsettled, found.last_entry_at) == (D(0), {}, {"AAPL": NOW})


def test_an_open_order_counts_its_worst_price_or_what_it_has_cost_if_that_is_more() -> None:
    assert usage_of([intent_row(entry(), status="sent", filled_usd=D(400))], TODAY, NOW).reserved_usd == D(1_000)
    assert usage_of([intent_row(entry(), status="sent", filled_usd=D(1_100))], TODAY, NOW).reserved_usd == D(1_100)


def test_a_fill_that_the_account_snapshot_may_not_know_is_still_reserved() -> None:
    for closed_ago_s, reserved in ((0, D(1_000)), (1, D(1_000)), (2, D(0))):
        closed = NOW - timedelta(seconds=closed_ago_s)
        row = intent_row(
            entry(),
            status="closed",
            filled_usd=D(1_000),
            closed_at_wall=closed,
            created_at_wall=NOW - timedelta(hours=1),
        )
        assert usage_of([row], TODAY, NOW).reserved_usd == reserved


def test_an_open_entry_of_yesterday_is_reserved_and_its_volume_counts_for_today_when_it_may_fill() -> None:
    found = usage_of([intent_row(entry(), status="sent", market_day="2026-09-24")], TODAY, NOW)
    assert (found.orders_today, found.notional_today_usd, found.entries_today) == (0, D(1_000), {})
    assert (found.reserved_usd, found.unsettled) == (D(1_000), {"AAPL": frozenset({Side.BUY})})


def test_a_sale_counts_as_being_sold_until_the_snapshot_shows_it() -> None:
    earlier = NOW - timedelta(minutes=1)
    for fate, shares in (
        ({"status": "committed", "created_at_wall": earlier}, D(10)),
        ({"status": "in_doubt", "created_at_wall": earlier}, D(10)),
        ({"status": "sent", "created_at_wall": NOW}, D(10)),
        ({"status": "sent", "created_at_wall": earlier}, None),  # it rests at the venue, and a new sale replaces it
        ({"status": "closed", "created_at_wall": earlier, "closed_at_wall": NOW, "filled_usd": D(1_000)}, D(10)),
        ({"status": "closed", "created_at_wall": earlier, "closed_at_wall": earlier, "filled_usd": D(1_000)}, None),
        ({"status": "rejected"}, None),
    ):
        assert usage_of([intent_row(sale(), **fate)], TODAY, NOW).selling.get("AAPL") == shares


# --- cycle after cycle ----------------------------------------------------------------------------------------------

FATES = st.lists(st.sampled_from(["stays", "fills", "half", "rejected", "in_doubt"]), min_size=8, max_size=8)
CYCLES = st.lists(
    st.tuples(st.lists(st.builds(entry, st.sampled_from(SYMBOLS), SHARES.map(str)), max_size=4), FATES),
    min_size=1,
    max_size=6,
)


@settings(max_examples=150)
@given(CYCLES, CONFIGS)
def test_no_cap_is_passed_over_a_day_of_cycles_whatever_becomes_of_the_orders(
    cycles: list[tuple[list[Proposal], list[str]]], config: TradingConfig
) -> None:
    cash, ledger, held = D(20_000), list[dict[str, Any]](), Counter[str]()
    for number, (wanted, fates) in enumerate(cycles):
        now = NOW + timedelta(minutes=10 * number)
        positions: dict[str, Position] = {symbol: position(symbol, str(qty)) for symbol, qty in held.items() if qty}
        taken = market(
            now=now,
            account=account(equity="20000", cash_usd=str(cash), buying_power_usd=str(cash)),
            positions=positions,
            quotes={symbol: quote(symbol, now=now) for symbol in SYMBOLS},
        )
        fresh = [
            replace(one, signal=replace(one.signal, expires_at=now + timedelta(1))) for one in wanted if one.signal
        ]
        judged = gate(fresh, config, taken, usage_of(ledger, TODAY, now))
        ledger += [
            {**intent_row(one, created_at=now, created_at_wall=now)} for one, verdict in judged if verdict.allowed
        ]
        unsettled = [row for row in ledger if row["status"] in ("committed", "in_doubt", "sent")]
        for row, fate in zip(unsettled, fates, strict=False):
            if fate in ("fills", "half"):
                shares = int(row["qty"]) if fate == "fills" else int(row["qty"]) // 2
                paid = D(shares) * D(100)
                row.update(status="closed", filled_usd=paid, closed_at_wall=now + timedelta(minutes=1))
                cash, held[row["symbol"]] = cash - paid, held[row["symbol"]] + shares
            elif fate != "stays":
                row["status"] = fate
        alive = [row for row in ledger if row["status"] != "rejected"]
        by_ticker = Counter(row["symbol"] for row in alive if row["status"] != "closed" or row["filled_usd"])
        open_usd = sum(row["reserved_usd"] for row in alive if row["status"] != "closed")
        bought_usd = D(sum(held.values())) * 100
        assert cash - open_usd >= min(D(20_000), config.cash_reserve_usd) or not alive
        assert bought_usd + open_usd <= config.trading_capital_usd
        assert sum(by_ticker.values()) <= config.max_daily_trades
        assert max(by_ticker.values(), default=0) <= config.max_position_per_ticker
        assert open_usd + bought_usd <= config.daily_notional_cap_usd
        assert not config.excluded_tickers & by_ticker.keys()
