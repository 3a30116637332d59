"""Closed trades and open lots: whatever way fills come, they are those of all fills matched at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from qbot import performance
from qbot.performance import Lot, RoundTrip
from qbot.store import ledger, tables, trades
from qbot.store.engine import transaction
from qbot.types import Fill, Side
from tests.support.exchange import MID_SESSION
from tests.support.runtime import World

SECOND = timedelta(seconds=1)


def fill(number: int, side: Side, qty: int, price: int, *, after: int = 0, symbol: str = "AAPL") -> Fill:
    at = MID_SESSION + after * SECOND
    return Fill(f"e{number}", f"o{number}", symbol, side, Decimal(qty), Decimal(price), at)


def bought(number: int, qty: int, price: int, after: int) -> Fill:
    return fill(number, Side.BUY, qty, price, after=after)


def sold(number: int, qty: int, price: int, after: int) -> Fill:
    return fill(number, Side.SELL, qty, price, after=after)


def record(engine: Engine, *told: Fill) -> None:
    with transaction(engine) as connection:
        ledger.record_fills(connection, told)


def books(engine: Engine) -> tuple[list[RoundTrip], list[Lot]]:
    with transaction(engine) as connection:
        return trades.closed(connection), trades.open_lots(connection)


def empty(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in (tables.fills, tables.trades, tables.lots):
            connection.execute(table.delete())


def at_once(told: Sequence[Fill]) -> tuple[set[RoundTrip], set[Lot]]:
    trips, lots = performance.match(performance.in_order(told))
    return set(trips), set(lots)


made = st.builds(
    fill,
    number=st.just(0),
    side=st.sampled_from(list(Side)),
    qty=st.integers(1, 9),
    price=st.integers(1, 9),
    after=st.integers(0, 6),
    symbol=st.sampled_from(["AAPL", "MSFT"]),
)
days = st.lists(made, min_size=1, max_size=10).map(
    lambda found: [replace(one, execution_id=f"e{n}", broker_order_id=f"o{n}") for n, one in enumerate(found)]
)


@given(days.flatmap(lambda day: st.tuples(st.just(day), st.permutations(day), st.integers(1, 4))))
@example(([bought(0, 3, 5, 0), sold(1, 2, 9, 2), sold(2, 1, 4, 1)],) * 2 + (1,))  # the earlier sale comes last
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_whatever_order_and_portions_fills_come_the_trades_are_those_of_all_of_them_at_once(
    world_engine: Engine, told: tuple[list[Fill], list[Fill], int]
) -> None:
    day, order, portion = told
    empty(world_engine)
    for begin in range(0, len(order), portion):
        record(world_engine, *order[begin : begin + portion], *order[:begin][-1:])  # and one of those before, again
    trips, lots = books(world_engine)
    assert (set(trips), set(lots)) == at_once(day)
    assert len(trips) == len(set(trips))
    with transaction(world_engine) as connection:
        assert ledger.all_fills(connection) == performance.in_order(day)
    empty(world_engine)


@pytest.fixture
def engine(world: World) -> Iterator[Engine]:
    yield world.engine


def test_a_trade_is_recorded_with_its_profit_the_return_and_no_fee(engine: Engine, world: World) -> None:
    record(engine, bought(1, 10, 100, 0), sold(2, 4, 105, 60))
    (row,) = world.rows(tables.trades)
    assert (row["qty"], row["pnl_usd"], row["pnl_pct"], row["fees_usd"]) == (4, 20, 0.05, 0)
    assert (row["entry_order_id"], row["exit_order_id"], row["side"]) == ("o1", "o2", "buy")
    assert row["closed_at"] - row["opened_at"] == 60 * SECOND
    assert [(lot.execution_id, lot.qty) for lot in books(engine)[1]] == [("e1", 6)]


def test_the_oldest_shares_are_sold_first_and_a_sale_may_close_several(engine: Engine) -> None:
    record(engine, bought(1, 1, 100, 0), bought(2, 2, 90, 1), sold(3, 2, 110, 2))
    trips, lots = books(engine)
    assert [(t.entry_execution_id, t.qty, t.pnl_usd) for t in trips] == [("e1", 1, 10), ("e2", 1, 20)]
    assert [(lot.execution_id, lot.qty) for lot in lots] == [("e2", 1)]


def test_a_sale_of_more_than_is_held_turns_the_position_and_the_way_back_is_a_trade_too(engine: Engine) -> None:
    record(engine, bought(1, 2, 100, 0), sold(2, 5, 110, 1))
    record(engine, bought(3, 3, 100, 2))
    trips, lots = books(engine)
    assert [(t.side, t.qty, t.pnl_usd) for t in trips] == [(Side.BUY, 2, 20), (Side.SELL, 3, 30)]
    assert lots == []


def test_what_is_bought_and_sold_in_one_moment_is_a_long_trade_whatever_the_ids_say(engine: Engine) -> None:
    record(engine, sold(1, 2, 110, 0), bought(2, 2, 100, 0))
    ((trip,), lots) = books(engine)
    assert (trip.side, trip.entry_order_id, trip.pnl_usd, lots) == (Side.BUY, "o2", 20, [])


def test_shares_that_cost_nothing_have_no_return(engine: Engine, world: World) -> None:
    record(engine, bought(1, 1, 0, 0), sold(2, 1, 5, 1))
    (row,) = world.rows(tables.trades)
    assert (row["pnl_usd"], row["pnl_pct"]) == (5, None)


def test_a_billionth_of_a_share_is_neither_lost_nor_rounded(engine: Engine) -> None:
    part = Decimal("0.123456789")
    record(engine, replace(bought(1, 1, 100, 0), qty=part), replace(sold(2, 1, 100, 1), qty=part))
    ((trip,), lots) = books(engine)
    assert (trip.qty, lots) == (part, [])


def test_a_late_fill_rewrites_only_what_came_after_it(engine: Engine) -> None:
    record(engine, bought(1, 1, 100, 0), sold(2, 1, 101, 1), bought(3, 1, 102, 10), sold(4, 1, 104, 20))
    before = books(engine)[0][0]
    record(engine, bought(5, 1, 90, 9))
    trips, lots = books(engine)
    assert trips[0] == before
    assert [(t.entry_execution_id, t.exit_execution_id, t.pnl_usd) for t in trips[1:]] == [("e5", "e4", 14)]
    assert [lot.execution_id for lot in lots] == ["e3"]


def test_fills_from_before_there_were_trades_are_worked_out_once(engine: Engine, world: World) -> None:
    told = [bought(1, 2, 100, 0), sold(2, 1, 110, 1), fill(3, Side.BUY, 1, 5, symbol="MSFT")]
    record(engine, *told)
    expected = books(engine)
    with engine.begin() as connection:
        connection.execute(tables.trades.delete())
        connection.execute(tables.lots.delete())
    for _ in range(2):
        with transaction(engine) as connection:
            trades.complete(connection)
        assert books(engine) == expected


def test_the_next_fill_of_a_symbol_brings_its_older_ones_along(engine: Engine) -> None:
    record(engine, bought(1, 2, 100, 0))
    with engine.begin() as connection:
        connection.execute(tables.lots.delete())
    record(engine, sold(2, 2, 110, 1))
    assert [t.pnl_usd for t in books(engine)[0]] == [20]


def test_recorders_at_the_same_time_leave_the_same_trades(engine: Engine) -> None:
    told = [fill(n, Side.BUY if n % 3 else Side.SELL, 1 + n % 4, 100 + n, after=n) for n in range(30)]

    def one(number: int) -> None:
        mine = told[number % 7 :: 2] if number % 2 else told[: 30 - number]
        record(engine, *(mine if number % 3 else mine[::-1]))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(8)))
    record(engine, *told)
    trips, lots = books(engine)
    assert (set(trips), set(lots)) == at_once(told)


def test_fills_are_recorded_by_one_writer_at_a_time_so_that_none_works_out_trades_without_the_others(
    engine: Engine,
) -> None:
    with ThreadPoolExecutor(1) as pool, transaction(engine) as connection:
        ledger.record_fills(connection, [bought(1, 1, 100, 0)])
        second = pool.submit(record, engine, sold(2, 1, 101, 1))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.3)
        connection.commit()
        second.result(timeout=10)
    trips, lots = books(engine)
    assert ([trip.pnl_usd for trip in trips], lots) == ([1], [])


def test_a_transaction_that_fails_takes_its_trades_back_with_its_fills(engine: Engine) -> None:
    record(engine, bought(1, 1, 100, 0))
    with pytest.raises(RuntimeError), transaction(engine) as connection:
        ledger.record_fills(connection, [sold(2, 1, 101, 1)])
        raise RuntimeError
    trips, lots = books(engine)
    assert (trips, [lot.execution_id for lot in lots]) == ([], ["e1"])


def test_the_trades_of_an_order_are_those_it_opened_and_those_it_closed(engine: Engine) -> None:
    record(engine, bought(1, 1, 100, 0), sold(2, 1, 101, 1), bought(3, 1, 100, 2), sold(4, 1, 101, 3))
    with transaction(engine) as connection:
        assert [t.exit_order_id for t in trades.of_orders(connection, ["o1", "o4"])] == ["o2", "o4"]
        assert [t.entry_order_id for t in trades.closed_by(connection, ["e4", "e9"])] == ["o3"]
        assert trades.open_lots(connection, "AAPL") == []
