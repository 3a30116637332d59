"""The ledger's sums against the gate's own reckoning, and what its statements promise on a real Postgres."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from qbot import clock, committing, risk
from qbot.store import ledger, order_book, tables
from qbot.store.engine import transaction
from qbot.types import BrokerOrder, Fill, IntentKind, Proposal, Side, Source, Usage
from tests.support.exchange import MID_SESSION
from tests.support.runtime import WALL, World

DAY = clock.market_day(MID_SESSION)
LONG_AGO = WALL - timedelta(hours=1)


def intent(symbol: str = "AAPL", side: Side = Side.BUY, status: str = ledger.COMMITTED, **more: Any) -> dict[str, Any]:
    return {
        "symbol": symbol, "side": str(side), "kind": "entry" if side is Side.BUY else "exit", "status": status,
        "qty": Decimal(2), "reserved_usd": Decimal(400), "filled_usd": Decimal(0), "market_day": DAY,
        "created_at": MID_SESSION, "created_at_wall": LONG_AGO, "closed_at_wall": None, **more,
    }  # fmt: skip


def usage(*rows: dict[str, Any]) -> Usage:
    return ledger.usage_of(rows, DAY, WALL)


# --- sums -----------------------------------------------------------------------------------------------------------


orders_asked = st.lists(
    st.builds(
        Proposal,
        symbol=st.sampled_from(["AAPL", "MSFT", "SPY"]),
        side=st.sampled_from(list(Side)),
        qty=st.integers(1, 50).map(Decimal),
        kind=st.just(IntentKind.ENTRY),
        source=st.just(Source.ML),
        price_usd=st.integers(1, 500).map(Decimal),
    ).map(lambda p: replace(p, kind=IntentKind.ENTRY if p.side is Side.BUY else IntentKind.EXIT)),
    max_size=12,
)


@given(orders_asked)
def test_what_the_gate_reserves_is_what_the_ledger_counts_once_it_is_committed(asked: list[Proposal]) -> None:
    reckoned = Usage()
    rows = []
    for number, proposal in enumerate(asked):
        now = MID_SESSION + timedelta(minutes=number)
        reckoned = risk.reserve(reckoned, proposal, now)
        rows.append(intent(proposal.symbol, proposal.side, qty=proposal.qty, reserved_usd=proposal.notional_usd,
                           created_at=now, created_at_wall=WALL))  # fmt: skip
    counted = usage(*rows)
    entered = {symbol: count for symbol, count in counted.entries_today.items() if count}
    assert replace(counted, entries_today=entered) == reckoned


@pytest.mark.parametrize("status", ledger.UNSETTLED)
def test_what_is_on_its_way_is_reserved_in_full(status: str) -> None:
    found = usage(intent(status=status))
    assert (found.orders_today, found.notional_today_usd, found.reserved_usd) == (1, Decimal(400), Decimal(400))
    assert found.unsettled == {"AAPL": frozenset({Side.BUY})}
    assert found.last_entry_at == {"AAPL": MID_SESSION}


@pytest.mark.parametrize("status", [ledger.REJECTED, ledger.DENIED, ledger.ABANDONED, ledger.CLOSED])
def test_what_ended_without_a_fill_counts_nowhere(status: str) -> None:
    assert usage(intent(status=status, closed_at_wall=LONG_AGO)) == Usage()


def test_a_fill_counts_what_it_cost_and_is_no_longer_reserved() -> None:
    found = usage(intent(status=ledger.CLOSED, filled_usd=Decimal(390), closed_at_wall=LONG_AGO))
    assert (found.orders_today, found.notional_today_usd) == (1, Decimal(390))
    assert (found.reserved_usd, found.unsettled) == (Decimal(0), {})


def test_a_fill_that_the_account_snapshot_cannot_know_stays_reserved() -> None:
    found = usage(intent(status=ledger.CLOSED, filled_usd=Decimal(390), closed_at_wall=WALL + timedelta(seconds=2)))
    assert found.reserved_usd == Decimal(390) == found.reserved_by_symbol["AAPL"]


def test_a_partial_fill_above_the_reserved_price_counts_what_it_cost() -> None:
    assert usage(intent(status=ledger.SENT, filled_usd=Decimal(450))).notional_today_usd == Decimal(450)


def test_yesterdays_orders_count_for_the_cooldown_and_what_is_on_its_way_and_its_volume_for_today() -> None:
    yesterday = {"market_day": "2025-07-03", "created_at": MID_SESSION - timedelta(days=4)}
    found = usage(intent(status=ledger.SENT, **yesterday, filled_usd=Decimal(150)))
    assert (found.orders_today, found.notional_today_usd, found.entries_today) == (0, Decimal(250), {})
    assert found.reserved_usd == Decimal(400)
    assert usage(intent(status=ledger.CLOSED, **yesterday, filled_usd=Decimal(400))).notional_today_usd == 0


def test_what_was_sent_within_a_minute_counts_for_the_throttle_whatever_became_of_it() -> None:
    ended = {"status": ledger.REJECTED, "closed_at_wall": LONG_AGO}
    now = WALL + timedelta(seconds=30)
    rows = [intent(created_at_wall=WALL - timedelta(seconds=ago), **ended) for ago in (0, 29, 31, 60)]
    assert ledger.usage_of(rows, DAY, WALL, now).orders_last_minute == 2
    assert ledger.usage_of(rows, DAY, WALL).orders_last_minute == 3


def test_a_protection_uses_up_no_cap_and_what_it_sells_at_once_is_on_sale() -> None:
    rests = {"kind": "protection", "spec": {"order_type": "limit"}}
    at_once = {"kind": "protection", "spec": {"order_type": "market"}}
    found = usage(intent(side=Side.SELL, **rests), intent("MSFT", Side.SELL, **at_once))
    assert (found.protecting, found.selling) == ({"AAPL": Decimal(2)}, {"MSFT": Decimal(2)})
    assert (found.orders_today, found.notional_today_usd) == (0, Decimal(0))
    assert found.unsettled == {"MSFT": frozenset({Side.SELL})}
    sent = usage(intent(side=Side.SELL, status=ledger.SENT, **rests))
    assert (sent.protecting, sent.selling) == ({}, {})
    assert usage(intent("MSFT", Side.SELL, status=ledger.CLOSED, filled_usd=Decimal(1), **at_once)).unsettled == {}


# --- on Postgres ----------------------------------------------------------------------------------------------------


def committed(world: World, client_order_id: str, **more: Any) -> None:
    decision = {
        "decision_id": f"d-{client_order_id}", "cycle_id": "c", "symbol": "AAPL", "action": "BUY", "allowed": True,
        "refusal": None, "message": "", "numbers": {}, "signal": None, "forecast_id": None, "settings_revision": 1,
        "decided_at": MID_SESSION,
    }  # fmt: skip
    row = {
        "source": "ml_prediction", **intent(**more), "client_order_id": client_order_id,
        "decision_id": decision["decision_id"], "spec": {}, "switch_epoch": 0,
    }  # fmt: skip
    with transaction(world.engine) as connection:
        ledger.add_decisions(connection, [decision])
        ledger.add_intents(connection, [row])


def order(
    number: int = 1, *, at: datetime = MID_SESSION, status: str = "new", filled: int = 0, **more: Any
) -> BrokerOrder:
    values: dict[str, Any] = {
        "broker_order_id": f"o{number}", "client_order_id": f"id-{number}", "symbol": "AAPL", "side": Side.BUY,
        "qty": Decimal(4), "filled_qty": Decimal(filled), "filled_avg_price_usd": Decimal(100) if filled else None,
        "order_type": "market", "time_in_force": "day", "limit_price_usd": None, "stop_price_usd": None,
        "status": status, "created_at": MID_SESSION, "updated_at": at,
    }  # fmt: skip
    return BrokerOrder(**{**values, **more})


def record(world: World, *told: BrokerOrder) -> None:
    with transaction(world.engine) as connection:
        order_book.record_orders(connection, told, world.wall())


def test_usage_reads_today_what_is_unsettled_the_cooldown_and_late_fills_and_nothing_else(world: World) -> None:
    old = {"market_day": "2025-07-01", "created_at": MID_SESSION - timedelta(days=6), "status": ledger.CLOSED,
           "filled_usd": Decimal(1)}  # fmt: skip
    committed(world, "today", symbol="A1")
    committed(world, "unsettled", symbol="A2", **{**old, "status": ledger.IN_DOUBT})
    committed(world, "cooling", symbol="A3", **{**old, "created_at": MID_SESSION - timedelta(minutes=5)})
    committed(world, "late", symbol="A4", **{**old, "closed_at_wall": WALL + timedelta(seconds=5)})
    committed(world, "history", symbol="A5", **{**old, "closed_at_wall": LONG_AGO})
    with transaction(world.engine) as connection:
        found = ledger.usage(connection, DAY, MID_SESSION - timedelta(minutes=30), WALL)
    assert set(found.last_entry_at) == {"A1", "A2", "A3", "A4"}
    assert set(found.reserved_by_symbol) == {"A1", "A2", "A4"}


def test_a_client_order_id_is_used_once_and_a_second_use_writes_nothing(world: World) -> None:
    committed(world, "id-1")
    with pytest.raises(IntegrityError):
        committed(world, "id-1")
    assert len(world.rows(tables.intents)) == len(world.rows(tables.decisions)) == 1


@pytest.mark.parametrize("status", [
    ledger.COMMITTED, ledger.IN_DOUBT, ledger.SENT, ledger.REJECTED, ledger.DENIED, ledger.ABANDONED,
])  # fmt: skip
def test_an_order_that_exists_settles_its_intent_whatever_was_thought_of_it(world: World, status: str) -> None:
    committed(world, "id-1", status=status)
    record(world, order(status="partially_filled", filled=1))
    (row,) = world.rows(tables.intents)
    assert (row["status"], row["filled_usd"], row["closed_at_wall"], row["error"]) == ("sent", 100, None, None)
    record(world, order(status="canceled", filled=1, at=MID_SESSION + timedelta(seconds=1)))
    (row,) = world.rows(tables.intents)
    assert (row["status"], row["filled_usd"], row["closed_at_wall"]) == ("closed", 100, WALL)
    assert row["broker_order_id"] == "o1"


def test_an_intent_keeps_the_moment_it_was_closed(world: World) -> None:
    committed(world, "id-1")
    for _ in range(2):
        record(world, order(status="filled", filled=4))
        world.wall.advance(minutes=5)
    assert world.rows(tables.intents)[0]["closed_at_wall"] == WALL


def test_nothing_marks_an_intent_unsent_whose_order_was_found(world: World) -> None:
    committed(world, "id-1")
    record(world, order())
    with transaction(world.engine) as connection:
        ledger.mark_unsent(connection, "id-1", ledger.ABANDONED, "never reached the venue")
    assert world.intents() == {"AAPL buy": "sent"}


@pytest.mark.parametrize(("first", "second", "kept"), [
    (order(status="filled", filled=4), order(status="new"), "filled"),  # of one moment: the end is the end
    (order(status="partially_filled", filled=2), order(status="new"), "partially_filled"),
    (order(status="new"), order(status="filled", filled=4), "filled"),
    (order(status="canceled"), order(status="pending_cancel"), "canceled"),
    (order(status="filled", filled=4, at=MID_SESSION + timedelta(seconds=1)), order(status="canceled"), "filled"),
    (order(status="held"), order(status="new", at=MID_SESSION + timedelta(seconds=1)), "new"),
    (order(status="pending_new"), order(status="a_word_nobody_knows"), "a_word_nobody_knows"),
])  # fmt: skip
def test_only_what_is_later_changes_an_order(world: World, first: BrokerOrder, second: BrokerOrder, kept: str) -> None:
    record(world, first)
    record(world, second)
    assert [row["status"] for row in world.rows(tables.orders)] == [kept]


def test_a_leg_keeps_its_parent_and_source_however_late_either_is_told(world: World) -> None:
    committed(world, "id-1")
    leg = order(2, side=Side.SELL, status="held")
    record(world, leg)
    assert world.rows(tables.orders)[0]["source"] == "foreign"
    later = replace(leg, updated_at=MID_SESSION + timedelta(minutes=1), status="new")
    record(world, later)
    record(world, replace(order(1), legs=(replace(leg, parent_id="o1"),)))  # an older view, but the only one with both
    rows = {row["broker_order_id"]: row for row in world.rows(tables.orders)}
    assert (rows["o2"]["parent_id"], rows["o2"]["source"], rows["o2"]["status"]) == ("o1", "ml_prediction", "new")
    record(world, replace(later, status="filled", filled_qty=Decimal(4), updated_at=MID_SESSION + timedelta(hours=1)))
    rows = {row["broker_order_id"]: row for row in world.rows(tables.orders)}
    assert (rows["o2"]["parent_id"], rows["o2"]["source"], rows["o2"]["status"]) == ("o1", "ml_prediction", "filled")


def test_a_leg_that_comes_alone_has_the_source_of_the_parent_recorded_before(world: World) -> None:
    committed(world, "id-1")
    record(world, order(1))
    record(world, order(2, side=Side.SELL, parent_id="o1"))
    assert {row["source"] for row in world.rows(tables.orders)} == {"ml_prediction"}


def test_what_took_the_place_of_a_leg_is_its_parents_leg_too_however_the_venue_tells_it(world: World) -> None:
    """A human changes a stop-loss at the venue: as a sale of its own it would seem to sell more than is held."""
    committed(world, "c1")
    leg = order(2, side=Side.SELL, parent_id="o1")
    record(world, replace(order(1), client_order_id="c1", legs=(leg,)))
    changed = replace(order(3, side=Side.SELL), replaces="o2")
    record(world, changed)  # alone, as in a flat list
    record(world, replace(order(4, side=Side.SELL), replaces="o3"), changed)  # once more, both told at once
    record(world, replace(order(5, side=Side.SELL), replaces="of nobody knows what"))
    parents = {row["broker_order_id"]: row["parent_id"] for row in world.rows(tables.orders)}
    assert (parents["o3"], parents["o4"], parents["o5"]) == ("o1", "o1", None)


def test_a_fill_is_recorded_once_and_adds_up_to_what_is_held(world: World) -> None:
    fills = [
        Fill("e1", "o1", "AAPL", Side.BUY, Decimal(3), Decimal(100), MID_SESSION),
        Fill("e2", "o2", "AAPL", Side.SELL, Decimal(1), Decimal(101), MID_SESSION + timedelta(seconds=1)),
        Fill("e3", "o3", "MSFT", Side.BUY, Decimal(2), Decimal(500), MID_SESSION),
        Fill("e4", "o4", "MSFT", Side.SELL, Decimal(2), Decimal(501), MID_SESSION + timedelta(seconds=2)),
    ]
    for expected in (4, 0):
        with transaction(world.engine) as connection:
            assert ledger.record_fills(connection, fills) == expected
            assert ledger.net_quantities(connection) == {"AAPL": Decimal(2)}
            assert ledger.last_fill_at(connection) == MID_SESSION + timedelta(seconds=2)
            assert ledger.all_fills(connection) == [fills[0], fills[2], fills[1], fills[3]]


def test_the_oldest_intent_without_an_order_is_known_as_far_back_as_asked(world: World) -> None:
    for number, (status, minutes) in enumerate([
        (ledger.SENT, 50), (ledger.REJECTED, 40), (ledger.ABANDONED, 30), (ledger.IN_DOUBT, 20), (ledger.COMMITTED, 10),
    ]):  # fmt: skip
        committed(world, f"id-{number}", status=status, created_at=MID_SESSION - timedelta(minutes=minutes))
    with transaction(world.engine) as connection:
        for span, expected in ((60, 30), (25, 20), (15, 10)):
            since = MID_SESSION - timedelta(minutes=span)
            assert ledger.oldest_without_order(connection, since) == MID_SESSION - timedelta(minutes=expected)
        assert ledger.oldest_without_order(connection, MID_SESSION) is None


def test_recent_fills_come_oldest_first_with_the_reasons_behind_them(world: World) -> None:
    world.buy("AAPL", 2)
    with transaction(world.engine) as connection:
        (row,) = ledger.recent_fills(connection, 10)
    assert (row["source"], row["client_order_id"]) == ("ml_prediction", "qbot-c1-AAPL-buy")
    assert row["signal"]["reasons"] == ["60 min: made up"]


def test_an_order_id_is_never_too_long_and_never_the_same_for_two_orders() -> None:
    names = {
        committing.client_order_id(cycle, symbol, side)
        for cycle in ("c1", "c2", "m" + "x" * 200, "m" + "x" * 201)
        for symbol in ("AAPL", "BRK.B")
        for side in Side
    }
    assert len(names) == 16
    assert all(len(name) <= 128 and name.startswith("qbot-") for name in names)


def test_a_sale_to_even_out_the_portfolio_is_known_for_its_day(world: World) -> None:
    committed(world, "id-1", side=Side.SELL, source="autotrading")
    committed(world, "id-2", symbol="MSFT", side=Side.SELL)
    with transaction(world.engine) as connection:
        assert ledger.rebalanced(connection, DAY) == {"AAPL"}
        assert ledger.rebalanced(connection, "2025-07-08") == frozenset()


def test_executions_are_known_by_name_from_a_moment_on(world: World) -> None:
    told = [Fill(f"e{n}", "o1", "AAPL", Side.BUY, Decimal(1), Decimal(100), MID_SESSION + timedelta(n)) for n in (0, 1)]
    with transaction(world.engine) as connection:
        ledger.record_fills(connection, told)
        assert ledger.execution_ids(connection, MID_SESSION) == {"e1"}


def test_nothing_told_is_nothing_written(world: World) -> None:
    with transaction(world.engine) as connection:
        order_book.record_orders(connection, [], WALL)
        assert ledger.record_fills(connection, []) == 0
        ledger.add_decisions(connection, [])
        ledger.add_intents(connection, [])
    assert world.rows(tables.orders) == world.rows(tables.decisions) == []


def test_orders_are_recorded_by_one_writer_at_a_time(world: World) -> None:
    with ThreadPoolExecutor(1) as pool, transaction(world.engine) as connection:
        order_book.record_orders(connection, [order(1)], world.wall())
        second = pool.submit(record, world, order(2))
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        connection.commit()
        second.result(timeout=10)
    assert len(world.rows(tables.orders)) == 2
