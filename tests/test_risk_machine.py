"""Gate and ledger over days of trading: whatever is asked for and whatever becomes of it, every cap holds at each step.

What is checked is reckoned from this test's own book of orders, never from the ledger's sums. Account and positions are
as old as the last look at the broker, as in QBot: fills in between are known to the ledger alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from qbot import clock, limits
from qbot.risk import gate
from qbot.store.ledger import CLOSED, COMMITTED, IN_DOUBT, REJECTED, SENT, usage_of
from qbot.types import (
    IntentKind,
    Position,
    Proposal,
    RiskReport,
    Source,
    TradingConfig,
    TradingState,
)
from tests.support.values import NOW, account, entry, intent_row, market, position, quote, sale, signal

D = Decimal
PRICES = {"AAPL": D(100), "MSFT": D(50), "SPY": D(200)}
WORST = D("1.02")
BEGIN_USD = D(20_000)
SYMBOLS = st.sampled_from(sorted(PRICES))
STARTED: tuple[TradingState, bool, tuple[str, ...]] = (TradingState.ACTIVE, False, ())
TRIPPED = ("drawdown",)
STOPPED = st.sampled_from(
    [
        *[STARTED] * 5,
        *((state, False, ()) for state in TradingState),
        (STARTED[0], True, ()),
        (STARTED[0], False, ("x",)),
    ]
)
MANY = st.sampled_from([30, 20, 10, 29, 11, 5, 3, 1])  # most first: it is the large orders that come near a cap

# One cap is near in each run, the others far: with all of them near, the first would hide the rest.
NEAR: dict[str, st.SearchStrategy[Any]] = {
    "max_position_per_trade": st.integers(1, 20),
    "max_position_size": st.integers(1, 20),
    "max_position_per_ticker": st.integers(1, 2),
    "max_trades_per_run": st.integers(1, 2),
    "max_daily_trades": st.integers(1, 5),
    "daily_notional_cap_usd": st.integers(2_000, 9_000).map(D),
    "cooldown_minutes": st.sampled_from([5.0, 30.0]),
    "cash_reserve_usd": st.integers(12_000, 21_000).map(D),
    "trading_capital_usd": st.integers(1_000, 9_000).map(D),
    "max_position_pct": st.sampled_from([D("0.1"), D("0.3")]),
    "target_diversification": st.integers(1, 2),
    "excluded_tickers": st.just(frozenset({"MSFT"})),
}
FAR = TradingConfig(
    max_position_per_trade=30, max_position_size=30, max_position_per_ticker=99, max_trades_per_run=99,
    max_daily_trades=999, daily_notional_cap_usd=D(10**7), cooldown_minutes=0.0, cash_reserve_usd=D(0),
    trading_capital_usd=D(10**7), max_position_pct=D(1), target_diversification=9,
)  # fmt: skip


@dataclass
class Order:
    """One intent in the test's own book. `row` is what the ledger holds of it."""

    proposal: Proposal
    made: datetime
    day: str
    row: dict[str, Any]
    filled: int = 0
    ended: bool = False

    @property
    def counts(self) -> bool:
        return not self.ended or self.filled > 0

    @property
    def rest(self) -> int:
        return 0 if self.ended else int(self.proposal.qty) - self.filled

    @property
    def entry(self) -> bool:
        return self.proposal.kind is IntentKind.ENTRY


class GateAndLedger(RuleBasedStateMachine):
    """A broker that fills as it likes, workers that look and propose, days that pass."""

    near: str

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.config = replace(FAR, **{self.near: data.draw(NEAR[self.near])})
        self.now, self.wall = NOW, NOW
        self.cash, self.held = BEGIN_USD, Counter[str]()
        self.orders: list[Order] = []
        self.state, self.latched, self.tripped = STARTED
        self.strangers: list[dict[str, Any]] = []
        self.look()

    # --- the world ---

    @rule()
    def look(self) -> None:
        """Books are taken: cash, positions and buying power as the venue has them now."""
        self.tick()
        self.seen_wall, self.seen_cash, self.seen = self.wall, self.cash, +self.held
        resting = [order for order in self.orders if order.row["status"] == SENT]
        held_back = sum((order.rest * order.proposal.price_usd for order in resting if order.entry), D(0))
        self.seen_power, self.seen_equity = self.cash - held_back, self.worth()

    @rule(minutes=st.sampled_from([1, 6, 31]))
    def wait(self, minutes: int) -> None:
        self.tick(timedelta(minutes=minutes))

    @rule()
    def a_day_passes(self) -> None:
        """Every second order was for the day alone and has expired."""
        self.tick(timedelta(days=1))
        for order in self.orders[::2]:
            self.end(order, REJECTED if order.row["status"] == COMMITTED else CLOSED)

    @rule(stopped=STOPPED)
    def it_is_stopped(self, stopped: tuple[TradingState, bool, tuple[str, ...]]) -> None:
        self.state, self.latched, self.tripped = stopped

    @precondition(lambda self: (self.state, self.latched, self.tripped) != STARTED)
    @rule()
    def a_human_starts_it(self) -> None:
        self.state, self.latched, self.tripped = STARTED

    @rule(count=st.integers(1, limits.ORDERS_PER_MINUTE_MAX))
    def another_worker_is_refused_by_the_venue(self, count: int) -> None:
        self.tick()
        self.strangers += [dict(intent_row(entry(), status=REJECTED, **self.times())) for _ in range(count)]

    @precondition(lambda self: any(order.rest for order in self.orders))
    @rule(data=st.data(), part=MANY, paid=st.sampled_from([D("0.97"), D(1), WORST]))
    def it_fills_in_part_or_whole(self, data: st.DataObject, part: int, paid: Decimal) -> None:
        order = data.draw(st.sampled_from([order for order in self.orders if order.rest]))
        symbol, side = order.proposal.symbol, 1 if order.entry else -1
        shares = min(part, order.rest) if order.entry else min(part, order.rest, self.held[symbol])
        self.tick()
        # What is bought is worth at most what it cost, so that a cap on what is held keeps its room through a fill.
        price = PRICES[symbol] * (max(paid, D(1)) if order.entry else paid)
        self.held[symbol] += side * shares
        self.cash -= side * shares * price
        order.filled += shares
        order.row.update(status=SENT, filled_usd=order.row["filled_usd"] + shares * price)
        if not order.rest:
            self.end(order, CLOSED)

    @precondition(lambda self: any(order.rest for order in self.orders))
    @rule(data=st.data(), fate=st.sampled_from([SENT, IN_DOUBT, REJECTED, CLOSED]))
    def it_is_answered_doubted_refused_or_cancelled(self, data: st.DataObject, fate: str) -> None:
        order = data.draw(st.sampled_from([order for order in self.orders if order.rest]))
        self.tick()
        if fate in (REJECTED, CLOSED):
            self.end(order, REJECTED if fate == REJECTED and not order.filled else CLOSED)
        elif order.row["status"] != SENT:
            order.row["status"] = fate

    # --- what is asked for ---

    @rule(wanted=st.lists(st.tuples(SYMBOLS, st.integers(1, 30), st.booleans()), min_size=1, max_size=5))
    def a_cycle_proposes(self, wanted: list[tuple[str, int, bool]]) -> None:
        self.commit([self.proposal(symbol, qty, buys, Source.ML) for symbol, qty, buys in wanted])

    @rule(symbols=st.permutations(sorted(PRICES)), qty=MANY)
    def a_cycle_buys_one_after_the_other(self, symbols: list[str], qty: int) -> None:
        most = min(qty, self.config.max_position_size, self.config.max_position_per_trade)
        self.commit([self.proposal(symbol, most, True, Source.ML) for symbol in symbols])

    @rule(symbol=SYMBOLS, qty=MANY, source=st.sampled_from([Source.ML, Source.MANUAL]))
    def somebody_buys(self, symbol: str, qty: int, source: Source) -> None:
        self.commit([self.proposal(symbol, min(qty, self.config.max_position_size), True, source)])

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), source=st.sampled_from([Source.ML, Source.MANUAL]), all_of_it=st.booleans())
    def somebody_sells(self, data: st.DataObject, source: Source, all_of_it: bool) -> None:
        symbol = data.draw(st.sampled_from(sorted(self.seen)))
        qty = self.seen[symbol] if all_of_it else data.draw(st.integers(1, self.seen[symbol]))
        self.commit([self.proposal(symbol, qty, False, source)])

    def proposal(self, symbol: str, qty: int, buys: bool, source: Source) -> Proposal:
        price, told = PRICES[symbol], signal(symbol, expires_at=self.now + timedelta(minutes=1))
        more: dict[str, Any] = {"source": source, "signal": None if source is Source.MANUAL else told}
        return (
            entry(symbol, str(qty), str(price * WORST), **more) if buys else sale(symbol, str(qty), str(price), **more)
        )

    def commit(self, wanted: list[Proposal]) -> None:
        """As `committing.commit`: judged and written in one step; then the cycle's exits take resting sales away."""
        self.tick()
        rows = [*self.strangers, *(order.row for order in self.orders)]
        day = clock.market_day(self.now)
        judged = gate(wanted, self.config, self.market(), usage_of(rows, day, self.seen_wall, self.wall))
        allowed = [proposal for proposal, verdict in judged if verdict.allowed]
        before = list(self.orders)
        for number, proposal in enumerate(allowed):
            order = Order(proposal, self.now, day, dict(intent_row(proposal, **self.times())))
            self.orders.append(order)
            if order.entry:
                self.check_entry(order, number + 1, before)
            else:
                self.check_exit(order)
            before.append(order)
            if len(self.orders) % 3:  # most are answered at once
                order.row["status"] = SENT
        assert len({(one.symbol, one.side) for one in allowed}) == len(allowed), "two orders of one id"

    def market(self) -> Any:
        positions: dict[str, Position] = {symbol: position(symbol, str(qty), str(PRICES[symbol])) for symbol, qty in
                                          self.seen.items()}  # fmt: skip
        cash, power = str(self.seen_cash), str(self.seen_power)
        books = account(str(self.seen_equity), last_equity_usd=str(BEGIN_USD), cash_usd=cash, buying_power_usd=power)
        return market(
            now=self.now, wall=self.wall, settings_at_wall=self.wall, state=self.state, latched=self.latched,
            risk_report=RiskReport(self.now, D(1), (), self.tripped, D(0), D(0)), positions=positions, account=books,
            quotes={symbol: quote(symbol, str(price), now=self.now) for symbol, price in PRICES.items()},
        )  # fmt: skip

    # --- what must hold ---

    def check_entry(self, order: Order, nth: int, before: list[Order]) -> None:
        """What an entry may not pass at the moment it is allowed."""
        proposal, config, day = order.proposal, self.config, order.day
        cycle = proposal.source is Source.ML
        mine = [one for one in self.orders if one.counts]
        symbol, today = proposal.symbol, [one for one in mine if one.day == day]
        assert not self.latched and not self.tripped
        assert self.state is TradingState.ACTIVE or (self.state is TradingState.OFF and not cycle)
        assert symbol not in config.excluded_tickers
        assert proposal.qty <= config.max_position_size
        assert proposal.qty <= config.max_position_per_trade or not cycle
        assert nth <= config.max_trades_per_run or not cycle
        assert len(today) <= config.max_daily_trades
        assert sum((self.spent(one) for one in today), D(0)) <= config.daily_notional_cap_usd
        value = self.held[symbol] * PRICES[symbol] + self.open_usd(symbol)
        assert value <= self.seen_equity * config.max_position_pct
        symbols = {*(+self.held), *(one.proposal.symbol for one in mine if one.entry and one.rest)}
        assert len(symbols) <= config.target_diversification or symbol in self.seen or not cycle
        minute = self.wall - timedelta(minutes=1)
        lately = sum(row["created_at_wall"] > minute for row in (*self.strangers, *(one.row for one in self.orders)))
        assert lately <= limits.ORDERS_PER_MINUTE_MAX
        assert not any(one.rest and not one.entry and one.proposal.symbol == symbol for one in before), "wash trade"

    def check_exit(self, order: Order) -> None:
        """Never more than was held at the last look, less what was sold since; a cycle's passes in some states only."""
        since = [one for one in self.orders if not one.entry and one.row["created_at_wall"] > self.seen_wall]
        sold = sum(one.filled + one.rest for one in since if one.proposal.symbol == order.proposal.symbol)
        assert sold <= self.seen[order.proposal.symbol]
        if order.proposal.source is Source.ML:
            assert not self.latched and self.state in (TradingState.ACTIVE, TradingState.REDUCING)

    @invariant()
    def cash_reserve_and_capital_hold(self) -> None:
        if any(order.entry and order.counts for order in self.orders):
            assert self.cash - self.open_usd() >= self.config.cash_reserve_usd
        exposed = sum((qty * PRICES[symbol] for symbol, qty in self.held.items()), D(0))
        assert exposed + self.open_usd() <= self.config.trading_capital_usd

    @invariant()
    def entries_of_a_symbol_are_few_and_far_between(self) -> None:
        entries = [order for order in self.orders if order.entry and order.counts]
        each_day = Counter((order.day, order.proposal.symbol) for order in entries)
        assert max(each_day.values(), default=0) <= self.config.max_position_per_ticker
        apart = timedelta(minutes=self.config.cooldown_minutes)
        last: dict[str, datetime] = {}
        for order in entries:
            symbol = order.proposal.symbol
            assert symbol not in last or order.made - last[symbol] >= apart
            last[symbol] = order.made

    @invariant()
    def nothing_is_sold_short(self) -> None:
        assert all(qty >= 0 for qty in self.held.values())

    # --- helpers ---

    def tick(self, by: timedelta = timedelta(seconds=3)) -> None:
        """Time between two steps; a second more than clocks may differ by."""
        self.now, self.wall = self.now + by, self.wall + by

    def times(self) -> dict[str, Any]:
        day = clock.market_day(self.now)
        return {"market_day": day, "created_at": self.now, "created_at_wall": self.wall}

    def end(self, order: Order, status: str) -> None:
        if not order.ended:
            order.ended = True
            order.row.update(status=status, closed_at_wall=self.wall)

    def worth(self) -> Decimal:
        return self.cash + sum((qty * PRICES[symbol] for symbol, qty in self.held.items()), D(0))

    def open_usd(self, symbol: str | None = None) -> Decimal:
        """What entries on their way may still cost."""
        mine = [one for one in self.orders if one.entry and symbol in (None, one.proposal.symbol)]
        return sum((one.rest * one.proposal.price_usd for one in mine), D(0))

    def spent(self, order: Order) -> Decimal:
        """What an order of today has cost or brought, and may yet."""
        done: Decimal = order.row["filled_usd"]
        return done + order.rest * order.proposal.price_usd


@pytest.mark.parametrize("near", NEAR)
def test_every_cap_holds_at_each_step(near: str) -> None:
    machine = type("GateAndLedger", (GateAndLedger,), {"near": near})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=25))
