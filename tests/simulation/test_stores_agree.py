"""What is promised of a store, asked of both: the one at Postgres and the one in memory that the simulation runs on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Engine

from qbot import clock
from qbot.clock import Uptime
from qbot.errors import AlreadyCommitted, StoreUnavailable
from qbot.session import Event, Switch
from qbot.store import protocol
from qbot.store.engine import make_engine
from qbot.store.postgres import PostgresStore
from qbot.store.protocol import Store
from qbot.types import Account, BrokerOrder, Fill, IntentKind, Side, Source
from tests.simulation.memory import MemoryStore
from tests.support.exchange import MID_SESSION
from tests.support.runtime import WALL, empty

DAY = clock.market_day(MID_SESSION)
SYMBOLS = ("AAPL", "MSFT")
PAID = Decimal("200.25")
LONG_AGO = WALL - timedelta(hours=1)
Row = dict[str, Any]


def polling(until: Callable[[], bool]) -> None:
    """Threads stand for processes here."""
    while not until():
        time.sleep(0.001)


@pytest.fixture(params=["postgres", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore(wait=polling)
        return
    engine: Engine = request.getfixturevalue("world_engine")
    empty(engine)
    yield PostgresStore(engine)


def decision(decision_id: str) -> Row:
    return {
        "decision_id": decision_id, "cycle_id": decision_id.split(":")[0], "symbol": "AAPL", "action": "BUY",
        "allowed": True, "refusal": None, "message": "", "numbers": {}, "signal": None, "forecast_id": None,
        "settings_revision": 1, "decided_at": MID_SESSION,
    }  # fmt: skip


def intent(client_order_id: str, **more: Any) -> Row:
    return {
        "client_order_id": client_order_id, "decision_id": f"d:{client_order_id}", "symbol": "AAPL",
        "side": str(Side.BUY), "kind": str(IntentKind.ENTRY), "source": str(Source.ML), "qty": Decimal(2),
        "reserved_usd": Decimal(400), "spec": {}, "status": protocol.COMMITTED, "market_day": DAY,
        "created_at": MID_SESSION, "created_at_wall": WALL, "switch_epoch": 1, **more,
    }  # fmt: skip


def order(broker_order_id: str, client_order_id: str, **more: Any) -> BrokerOrder:
    plain = BrokerOrder(
        broker_order_id, client_order_id, "AAPL", Side.BUY, Decimal(2), Decimal(0), None, "market", "day", None, None,
        "new", MID_SESSION, MID_SESSION,
    )  # fmt: skip
    return replace(plain, **more)


def fill(execution_id: str, broker_order_id: str, **more: Any) -> Fill:
    plain = Fill(execution_id, broker_order_id, "AAPL", Side.BUY, Decimal(2), Decimal(200), MID_SESSION)
    return replace(plain, **more)


def add(store: Store, *rows: Row) -> None:
    with store.transaction() as ledger:
        ledger.add_decisions([decision(row["decision_id"]) for row in rows])
        ledger.add_intents(rows)


def status_of(store: Store, client_order_id: str) -> str:
    with store.transaction() as ledger:
        row = ledger.intent(client_order_id)
    assert row is not None
    return str(row["status"])


# --- transactions -----------------------------------------------------------------------------------------------------


def test_what_raises_is_taken_back(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as ledger:
        ledger.add_decisions([decision("d:a")])
        ledger.add_intents([intent("a")])
        ledger.record_orders([order("1", "a")], WALL)
        ledger.record_fills([fill("x", "1")])
        ledger.save_switch(Switch(on=True), [Event.STARTED], WALL)
        raise ZeroDivisionError
    with store.transaction() as ledger:
        assert (ledger.intent("a"), ledger.open_orders(), ledger.net_quantities()) == (None, [], {})
        assert (ledger.load_switch().on, ledger.last_fill_at(), ledger.last_order_at()) == (False, None, None)


def test_an_intent_is_committed_once_and_a_second_one_leaves_nothing(store: Store) -> None:
    add(store, intent("a"))
    with pytest.raises(AlreadyCommitted), store.transaction() as ledger:
        ledger.add_decisions([decision("d:b")])
        ledger.add_intents([intent("b", decision_id="d:b"), intent("a")])
    with store.transaction() as ledger:
        assert ledger.intent("b") is None
    with pytest.raises(AlreadyCommitted), store.transaction() as ledger:
        ledger.add_decisions([decision("d:a")])


def test_one_transaction_does_not_see_what_another_has_not_committed(store: Store) -> None:
    with store.transaction() as first:
        first.add_decisions([decision("d:a")])
        first.add_intents([intent("a")])
        assert first.intent("a") is not None
        with store.transaction() as second:
            assert second.intent("a") is None
            assert second.usage(DAY, LONG_AGO, WALL).orders_today == 0
    with store.transaction() as third:
        assert third.usage(DAY, LONG_AGO, WALL).orders_today == 1


def in_another_thread(work: Callable[[], None]) -> tuple[threading.Thread, threading.Event]:
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    return thread, done


def test_the_gate_lets_one_in_at_a_time(store: Store) -> None:
    seen = []

    def second() -> None:
        with store.transaction() as ledger:
            ledger.lock_gate()
            seen.append(ledger.usage(DAY, LONG_AGO, WALL).orders_today)

    with store.transaction() as first:
        first.lock_gate()
        thread, done = in_another_thread(second)
        assert not done.wait(0.1)
        first.add_decisions([decision("d:a")])
        first.add_intents([intent("a")])
    thread.join(10)
    assert seen == [1]


def test_the_same_order_recorded_by_two_at_once_is_recorded_once(store: Store) -> None:
    def second() -> None:
        with store.transaction() as ledger:
            ledger.record_orders([order("1", "a")], WALL)

    with store.transaction() as first:
        first.record_orders([order("1", "a", filled_qty=Decimal(1))], WALL)
        thread, done = in_another_thread(second)
        assert not done.wait(0.1)
    thread.join(10)
    with store.transaction() as ledger:
        assert [row["filled_qty"] for row in ledger.open_orders()] == [Decimal(1)]


def test_a_fill_brought_by_two_at_once_counts_once(store: Store) -> None:
    brought = []

    def second() -> None:
        with store.transaction() as ledger:
            brought.append(ledger.record_fills([fill("x", "1")]))

    with store.transaction() as first:
        assert first.record_fills([fill("x", "1")]) == 1
        thread, done = in_another_thread(second)
        assert not done.wait(0.1)
    thread.join(10)
    with store.transaction() as ledger:
        assert (brought, ledger.net_quantities()) == ([0], {"AAPL": Decimal(2)})


def test_a_store_that_is_gone_says_so() -> None:
    memory = MemoryStore()
    memory.down = True
    dead = PostgresStore(make_engine("postgresql+psycopg2://qbot:secret@127.0.0.1:1/qbot"))
    for store in (memory, dead):
        with pytest.raises(StoreUnavailable), store.transaction():
            pytest.fail("nothing can be done in it")


# --- orders settle intents --------------------------------------------------------------------------------------------


def test_an_order_settles_its_intent_and_a_late_update_does_not_reopen_it(store: Store) -> None:
    add(store, intent("a"))
    later = MID_SESSION + timedelta(seconds=5)
    with store.transaction() as ledger:
        ledger.record_orders([order("1", "a")], WALL)
    assert status_of(store, "a") == protocol.SENT
    filled = {"filled_qty": Decimal(2), "filled_avg_price_usd": Decimal("200.5"), "updated_at": later}
    with store.transaction() as ledger:
        ledger.record_orders([order("1", "a", status="filled", **filled)], WALL)
        ledger.record_orders([order("1", "a")], WALL)
        ledger.mark_unsent("a", protocol.DENIED, "too late to be denied")
    with store.transaction() as ledger:
        row = ledger.intent("a")
        assert row is not None
        assert (row["status"], row["filled_usd"], row["closed_at_wall"]) == (protocol.CLOSED, Decimal(401), WALL)
        assert (row["broker_order_id"], row["error"], ledger.open_orders()) == ("1", None, [])


def test_an_intent_that_was_given_up_is_taken_over_when_its_order_turns_up(store: Store) -> None:
    add(store, intent("a"))
    with store.transaction() as ledger:
        ledger.mark_unsent("a", protocol.ABANDONED, "never seen")
        assert ledger.usage(DAY, LONG_AGO, WALL).reserved_usd == 0
        assert ledger.oldest_without_order(MID_SESSION - timedelta(days=1)) == MID_SESSION
    with store.transaction() as ledger:
        ledger.record_orders([order("1", "a")], WALL)
        assert ledger.usage(DAY, LONG_AGO, WALL).reserved_usd == 400
    assert status_of(store, "a") == protocol.SENT


def test_legs_belong_to_whoever_asked_for_their_parent(store: Store) -> None:
    add(store, intent("a"))
    leg = order("2", "leg", side=Side.SELL, parent_id="1")
    with store.transaction() as ledger:
        ledger.record_orders([replace(leg, parent_id=None), order("3", "by-hand")], WALL)
    with store.transaction() as ledger:
        ledger.record_orders([order("1", "a", legs=(leg,))], WALL)
        ledger.record_orders([replace(leg, parent_id=None)], WALL)
        known = {row["broker_order_id"]: (row["source"], row["parent_id"]) for row in ledger.open_orders()}
    assert known == {"1": (Source.ML, None), "2": (Source.ML, "1"), "3": (Source.FOREIGN, None)}


# --- anything at all --------------------------------------------------------------------------------------------------


def at(second: int) -> datetime:
    return MID_SESSION + timedelta(seconds=second)


names = st.sampled_from("abcd")
shares = st.integers(0, 3).map(Decimal)
seconds = st.integers(-100_000, 100_000)
states = st.sampled_from(["new", "partially_filled", "filled", "canceled", "pending_cancel", "rejected"])
told_orders = st.builds(
    lambda name, when, age, status, filled, leg: order(
        name.upper(), name, status=status, filled_qty=filled, filled_avg_price_usd=PAID if filled else None,
        created_at=at(min(when, 0)), updated_at=at(when + age),
        legs=(order(f"{name}-leg", f"{name}-leg", side=Side.SELL, parent_id=name.upper()),) if leg else (),
    ),
    names, seconds, st.integers(0, 3), states, shares, st.booleans(),
)  # fmt: skip
told_fills = st.builds(
    lambda name, number, qty, side, when: fill(f"{name}{number}", name.upper(), qty=qty, side=side, at=at(when)),
    names, st.integers(0, 2), st.integers(1, 3).map(Decimal), st.sampled_from(list(Side)), seconds,
)  # fmt: skip
intents = st.builds(
    lambda name, symbol, side, kind, source, day, age: intent(
        name, symbol=symbol, side=str(side), kind=str(IntentKind.ENTRY if side is Side.BUY else kind),
        decision_id=f"p{name}-1:{name}" if side is Side.SELL and kind is IntentKind.PROTECTION else f"d:{name}",
        spec={"order_type": "limit", "protects": "a", "stop_loss_usd": "95", "take_profit_usd": "110"},
        source=str(source), market_day=day, created_at=at(age), created_at_wall=WALL + timedelta(seconds=age),
    ),
    names, st.sampled_from(SYMBOLS), st.sampled_from(list(Side)),
    st.sampled_from([IntentKind.EXIT, IntentKind.PROTECTION]), st.sampled_from([Source.ML, Source.MANUAL]),
    st.sampled_from([DAY, "2026-01-02"]), seconds,
)  # fmt: skip
unsent = st.sampled_from([protocol.IN_DOUBT, protocol.REJECTED, protocol.DENIED, protocol.ABANDONED])
steps = st.one_of(
    st.tuples(st.just("add"), intents),
    st.tuples(st.just("orders"), st.lists(told_orders, min_size=1, max_size=2)),
    st.tuples(st.just("fills"), st.lists(told_fills, min_size=1, max_size=2)),
    st.tuples(st.just("unsent"), st.tuples(names, unsent)),
    st.tuples(st.just("equity"), st.integers(0, 2)),
    st.tuples(st.just("switch"), st.booleans()),
    st.tuples(st.just("withhold"), st.none()),
    st.tuples(st.just("since"), st.tuples(names, st.builds(Uptime, st.sampled_from(["x", "y"]), st.floats(0, 1e9)))),
)


def take(ledger: protocol.Ledger, what: str, value: Any, wall: datetime) -> Any:
    """One step; what it answers, an error by its name."""
    match what:
        case "add":
            ledger.add_decisions([decision(value["decision_id"])])
            return ledger.add_intents([value])
        case "orders":
            return ledger.record_orders(value, wall)
        case "fills":
            return ledger.record_fills(value)
        case "unsent":
            return ledger.mark_unsent(*value, "why")
        case "equity":
            money = Decimal(100)
            return ledger.record_equity(Account(money, money, money, money), at(value))
        case "since":
            return ledger.note_since(*value)
        case "withhold":
            return ledger.withhold_protection("why", wall)
        case _:
            return ledger.save_switch(Switch(on=value, epoch=int(value)), [Event.STARTED], wall)


def answers(ledger: protocol.Ledger, wall: datetime) -> Row:
    """What every query says, in the order in which two stores can agree where theirs is free."""
    by_id = {"key": lambda row: row["broker_order_id"]}
    return {
        "usage": [ledger.usage(DAY, at(since), wall - timedelta(seconds=ago)) for since in (-60, 60) for ago in (0, 5)],
        "intents": {name: plain(ledger.intent(name)) for name in "abcd"},
        "unsettled": sorted(row["client_order_id"] for row in ledger.unsettled_intents()),
        "orders": sorted(map(plain, ledger.open_orders()), **by_id),
        "entries": sorted(ledger.open_entries("")),
        "coming": ledger.entries_on_their_way(WALL - timedelta(minutes=5), WALL + timedelta(minutes=5)),
        "by_hand": ledger.entries_on_their_way(LONG_AGO, WALL, (Source.MANUAL,)),
        "without": ledger.oldest_without_order(at(-3600)),
        "net": ledger.net_quantities(),
        "last": (ledger.last_fill_at(), ledger.last_order_at()),
        "switch": ledger.load_switch(),
        "executions": ledger.executions(SYMBOLS),
        "attempts": ledger.protection_attempts(SYMBOLS),
        "withheld": ledger.protection_withheld(),
    }


def plain(row: Any) -> Row | None:
    return None if row is None else {name: value for name, value in sorted(row.items()) if name != "spec"}


@given(st.lists(st.tuples(st.lists(steps, min_size=1, max_size=3), st.booleans()), max_size=8))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_stores_say_the_same_whatever_happened(
    world_engine: Engine, history: list[tuple[list[Any], bool]]
) -> None:
    empty(world_engine)
    stores: tuple[Store, Store] = (PostgresStore(world_engine), MemoryStore())
    for number, (batch, keeps) in enumerate(history):
        wall = WALL + timedelta(seconds=3 * number)
        outcomes = [_run(store, batch, keeps, wall) for store in stores]
        assert outcomes[0] == outcomes[1]


def _run(store: Store, batch: list[Any], keeps: bool, wall: datetime) -> list[Any]:
    """One transaction of several steps, then every query within it and after it."""
    told: list[Any] = []
    try:
        with store.transaction() as ledger:
            told += [take(ledger, what, value, wall) for what, value in batch]
            told.append(answers(ledger, wall))
            if not keeps:
                raise ZeroDivisionError
    except (AlreadyCommitted, ZeroDivisionError) as error:
        told = [type(error).__name__]
    with store.transaction() as ledger:
        told.append(answers(ledger, wall))
    return told
