"""The shared array of manual orders: what QBot has seen outlives whatever frontends write over it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot import clock, limits, manual, manual_orders, pipeline
from qbot.contract import keys
from qbot.contract.payloads_orders import MalformedOrder, ManualOrder, ManualOrderStatus
from qbot.manual_orders import Recorded, merged
from qbot.store import state, tables
from qbot.store.engine import transaction
from tests.support.runtime import World
from tests.test_manual import answers, asked, near, process

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
NAME = keys.MANUAL_ORDERS.name


def array(world: World) -> list[Any]:
    found: list[Any] = json.loads(world.redis.get(NAME) or "null")
    return found


def recorded(world: World) -> list[str]:
    rows = world.rows(tables.manual_orders)
    return [row["order_id"] for row in sorted(rows, key=lambda row: row["number"])]


def resting(world: World, order_id: str = "order_1", symbol: str = "AAPL") -> dict[str, Any]:
    """A buy far enough under the market to rest."""
    return asked(order_id, symbol=symbol, order_type="LIMIT", limit_price=near(world, "0.99", symbol))


# --- once seen --------------------------------------------------------------------------------------------------------


def test_an_order_once_seen_outlives_a_blind_set(world: World) -> None:
    process(world, resting(world), resting(world, "order_2", "MSFT"))
    world.say(keys.MANUAL_ORDERS, [resting(world, "order_3", "SPY")])
    assert process(world) == dict.fromkeys(("order_1", "order_2", "order_3"), ("SUBMITTED", ""))
    assert [item["order_id"] for item in array(world)] == ["order_1", "order_2", "order_3"]
    assert world.posts() == 3


def test_an_order_that_waits_for_prices_is_sent_though_the_array_was_emptied_meanwhile(world: World) -> None:
    world.exchange.fault("server_error", method="GET", path="/v2/stocks")
    assert process(world, asked()) == {"order_1": ("PENDING", "")}
    world.exchange.clear_faults()
    world.say(keys.MANUAL_ORDERS, [])
    assert process(world) == {"order_1": ("SUBMITTED", "")}
    assert world.posts() == 1


@pytest.mark.parametrize("removed", ["deleted", "flushed", "emptied"])
def test_an_open_order_comes_back_whatever_happened_to_the_array(world: World, removed: str) -> None:
    process(world, resting(world))
    if removed == "emptied":
        world.say(keys.MANUAL_ORDERS, [])
    else:
        world.redis.delete(NAME) if removed == "deleted" else world.redis.flushall()
    assert process(world) == {"order_1": ("SUBMITTED", "")}
    assert world.posts() == 1


def test_an_ended_order_comes_back_until_its_end_was_shown_once_and_then_may_go(world: World) -> None:
    process(world, asked())
    world.reconcile()  # filled; nobody was told yet
    world.say(keys.MANUAL_ORDERS, [])
    assert process(world) == {"order_1": ("FILLED", "")}
    world.say(keys.MANUAL_ORDERS, [])
    assert process(world) == {}
    world.redis.delete(NAME)
    assert process(world) == {}
    assert not world.redis.exists(NAME)


def test_the_first_content_seen_under_an_id_counts_and_is_what_the_array_shows(world: World) -> None:
    first = resting(world)
    process(world, first)
    process(world, asked(quantity=9, side="SELL", note="now for something else"))
    (item,) = array(world)
    assert (item["quantity"], item["side"], item["order_type"], item["status"]) == (2, "BUY", "LIMIT", "SUBMITTED")
    assert "note" not in item
    assert (world.posts(), [order["qty"] for order in world.orders()]) == (1, ["2"])


def test_of_two_elements_with_one_id_the_first_is_the_order_and_the_second_goes(world: World) -> None:
    process(world, asked("twice"), asked("twice", symbol="MSFT"), asked("other", symbol="SPY"))
    assert [(item["order_id"], item["symbol"]) for item in array(world)] == [("twice", "AAPL"), ("other", "SPY")]
    assert sorted(order["symbol"] for order in world.orders()) == ["AAPL", "SPY"]


@pytest.mark.parametrize("written", ["PENDING", "CANCELED", "FILLED", "REJECTED"])
def test_a_status_that_a_frontend_writes_over_qbots_is_put_right(world: World, written: str) -> None:
    process(world, resting(world))
    (item,) = array(world)
    world.say(keys.MANUAL_ORDERS, [item | {"status": written, "status_reason": "I say so"}])
    assert process(world) == {"order_1": ("SUBMITTED", "")}
    assert (world.posts(), len(world.resting())) == (1, 1)


@pytest.mark.parametrize(("came", "shown"), [
    ("SUBMITTED", "REJECTED"), ("FILLED", "FILLED"), ("CANCELED", "CANCELED"), ("REJECTED", "REJECTED"),
])  # fmt: skip
def test_an_order_that_was_not_pending_when_first_seen_is_never_executed(world: World, came: str, shown: str) -> None:
    assert process(world, asked(status=came))["order_1"][0] == shown
    assert process(world, asked(status="PENDING"))["order_1"][0] == shown
    assert world.posts() == 0


def test_an_order_that_could_not_be_sent_for_an_hour_is_refused_not_sent_late(world: World) -> None:
    world.exchange.fault("server_error", method="GET", path="/v2/stocks")
    process(world, asked())
    world.exchange.clear_faults()
    world.wall.advance(seconds=limits.MANUAL_ORDER_WAIT_S + 1)
    assert process(world) == {"order_1": ("REJECTED", manual.LATE)}
    assert process(world, asked()) == {"order_1": ("REJECTED", manual.LATE)}
    assert world.posts() == 0


def test_an_order_that_another_worker_is_at_shows_no_end_before_there_is_one(world: World) -> None:
    begun = {"status": "REJECTED", "reason": manual.LOST, manual_orders.SINCE: world.wall().isoformat()}
    with transaction(world.engine) as connection:
        assert state.first_time(connection, manual.HANDLED, "order_1", world.wall(), begun)
    assert process(world, asked()) == {"order_1": ("PENDING", "")}
    world.wall.advance(seconds=limits.MANUAL_HANDLING_S)
    assert process(world) == {"order_1": ("REJECTED", manual.LOST)}
    assert world.posts() == 0


def test_what_a_frontend_added_for_itself_is_kept_to_the_letter(world: World) -> None:
    odd = '"note": "a\\u0000b", "big": 1' + "0" * 400 + ', "tags": [1, {"b": 1, "a": 2}]'
    text = json.dumps(resting(world))[:-1] + ", " + odd + "}"
    world.say(keys.MANUAL_ORDERS, f"[{text}]")
    process(world)
    world.say(keys.MANUAL_ORDERS, [])
    assert process(world) == {"order_1": ("SUBMITTED", "")}
    (item,) = array(world)
    assert (item["note"], item["big"], list(item["tags"][1])) == ("a\0b", 10**400, ["b", "a"])


def test_an_order_that_another_version_recorded_differently_is_told_and_not_sent(world: World) -> None:
    with transaction(world.engine) as connection:
        row = {"order_id": "order_1", "body": {"order_id": "order_1", "what": "?"}, "first_seen_wall": world.wall()}
        connection.execute(tables.manual_orders.insert().values(**row))
    assert process(world, asked()) == {"order_1": ("PENDING", "")}
    assert world.posts() == 0
    assert world.alerts() == [("WARNING", "A manual order is unreadable")]


# --- what cannot be read, and what does not fit -----------------------------------------------------------------------


@pytest.mark.parametrize("write", [
    lambda world: world.redis.lpush(NAME, "x"),
    lambda world: world.say(keys.MANUAL_ORDERS, "{"),
    lambda world: world.say(keys.MANUAL_ORDERS, [asked(f"more_{n}", quantity=500) for n in range(1_001)]),
    lambda world: world.say(keys.MANUAL_ORDERS, [asked("more", note="x" * limits.MAX_PAYLOAD_BYTES)]),
], ids=["a Redis list", "no JSON", "over 1,000 elements", "over a megabyte"])  # fmt: skip
def test_an_array_that_cannot_be_read_is_left_alone_and_recorded_orders_go_on(
    world: World, write: Callable[[World], object]
) -> None:
    world.exchange.fault("server_error", method="GET", path="/v2/stocks")
    process(world, asked())
    world.exchange.clear_faults()
    world.redis.delete(NAME)
    write(world)
    before = world.redis.dump(NAME) if world.redis.type(NAME) == "list" else world.redis.get(NAME)
    pipeline.process_manual_orders(world.rt)
    after = world.redis.dump(NAME) if world.redis.type(NAME) == "list" else world.redis.get(NAME)
    assert after == before
    assert [order["symbol"] for order in world.orders()] == ["AAPL"]
    assert recorded(world) == ["order_1"]
    world.redis.delete(NAME)
    assert process(world) == {"order_1": ("SUBMITTED", "")}


def test_a_full_array_takes_what_is_missing_as_soon_as_there_is_room(world: World) -> None:
    process(world, resting(world))
    full = [asked(f"no_{n:04d}", status="CANCELED") for n in range(1_000)]
    assert "order_1" not in process(world, *full)
    assert (len(answers(world)), world.posts()) == (1_000, 1)
    found = process(world)  # each end was on the board: the oldest make room
    assert found["order_1"] == ("SUBMITTED", "")
    assert len(found) == limits.MANUAL_ORDERS_SHOWN_FINAL + 1


def test_the_newest_ended_orders_stay_on_the_board_and_older_ones_in_postgres(world: World) -> None:
    process(world, *[asked(f"no_{n:04d}", status="CANCELED") for n in range(300)], resting(world))
    assert len(process(world)) == limits.MANUAL_ORDERS_SHOWN_FINAL + 1
    assert list(answers(world)) == [*(f"no_{n:04d}" for n in range(100, 300)), "order_1"]
    assert len(recorded(world)) == 301
    world.say(keys.MANUAL_ORDERS, [*array(world), asked("no_0000")])
    assert process(world).get("no_0000") is None
    assert world.posts() == 1


def test_malformed_elements_say_so_once_and_do_not_fill_the_array_for_ever(world: World) -> None:
    process(world, *[{"order_id": f"bad_{n:04d}"} for n in range(300)], resting(world))
    assert (len(array(world)), {item["status"] for item in array(world)}) == (301, {"REJECTED", "SUBMITTED"})
    process(world)
    newest = [f"bad_{n:04d}" for n in range(100, 300)]
    assert [item["order_id"] for item in array(world)] == [*newest, "order_1"]


def test_statuses_that_do_not_fit_are_told_and_the_array_is_left_alone(world: World) -> None:
    note = "x" * 3_200
    orders = [asked(f"no_{n:03d}", quantity=1_000_000, note=note) for n in range(283)]
    text = json.dumps(orders)
    assert limits.MAX_PAYLOAD_BYTES - 15_000 < len(text) < limits.MAX_PAYLOAD_BYTES
    world.say(keys.MANUAL_ORDERS, text)
    pipeline.process_manual_orders(world.rt)
    assert world.redis.get(NAME) == text
    assert ("WARNING", "Manual orders do not fit") in world.alerts()
    assert world.posts() == 0


# --- many writers at once ---------------------------------------------------------------------------------------------


def append_by_compare_and_set(client: redis.Redis, order: dict[str, Any]) -> None:
    """What a careful frontend does."""
    with client.pipeline() as pipe:
        while True:
            try:
                pipe.watch(NAME)
                items = json.loads(pipe.get(NAME) or "[]")
                if any(item["order_id"] == order["order_id"] for item in items):
                    return
                pipe.multi()
                pipe.set(NAME, json.dumps([*items, order]))
                pipe.execute()
                return
            except redis.WatchError:
                continue


def append_blindly(client: redis.Redis, order: dict[str, Any]) -> None:
    """What a careless one does: whatever was written since it looked is gone."""
    items = json.loads(client.get(NAME) or "[]")
    clock.pause(0.002)
    client.set(NAME, json.dumps([*[item for item in items if item["order_id"] != order["order_id"]], order]))


def test_two_careful_writers_a_careless_one_and_two_workers_at_once_lose_no_order_and_send_none_twice(
    world: World,
) -> None:
    world.by_hand(symbol="AAPL", side="buy", qty="90")  # time stands still: the gate counts what it sold twice
    world.reconcile()
    writers = {"a": append_by_compare_and_set, "b": append_by_compare_and_set, "c": append_blindly}
    errors: list[BaseException] = []
    over = threading.Event()
    deadline_s = clock.monotonic_s() + 60

    def write(name: str, append: Callable[[redis.Redis, dict[str, Any]], None]) -> None:
        """Each order is written again until QBot has answered it: one that nobody saw yet may be lost."""
        try:
            for number in range(8):
                order = asked(f"{name}{number}", side="SELL", quantity=1)
                while answers(world).get(order["order_id"], ("PENDING", ""))[0] == "PENDING":
                    append(world.redis, order)
                    assert clock.monotonic_s() < deadline_s
                    clock.pause(0.005)
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            errors.append(error)

    def work(rt: Any) -> None:
        try:
            while not over.is_set():
                pipeline.process_manual_orders(rt)
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            errors.append(error)

    frontends = [threading.Thread(target=write, args=one) for one in writers.items()]
    workers = [threading.Thread(target=work, args=(world.another(),)) for _ in range(2)]
    for thread in (*frontends, *workers):
        thread.start()
    for thread in frontends:
        thread.join(70)
    over.set()
    for thread in workers:
        thread.join(70)
    assert errors == []
    everything = sorted(f"{name}{number}" for name in writers for number in range(8))
    assert sorted(recorded(world)) == everything
    assert [(row["refusal"], row["message"]) for row in world.rows(tables.decisions) if not row["allowed"]] == []
    assert len([order for order in world.sent() if order["side"] == "sell"]) == 24
    assert world.posts() == 24 + 1
    world.reconcile()
    assert world.positions() == {"AAPL": Decimal(66)}
    world.redis.delete(NAME)
    ended = {row["order_id"] for row in world.rows(tables.manual_orders) if row["final_shown_wall"]}
    assert process(world) == {name: ("FILLED", "") for name in everything if name not in ended}


# --- the merge, as a pure rule ----------------------------------------------------------------------------------------

IDS = [f"o{n}" for n in range(12)]
STATUSES = st.sampled_from(list(ManualOrderStatus))


def order_of(order_id: str, status: ManualOrderStatus) -> ManualOrder:
    return ManualOrder.model_validate_json(json.dumps(asked(order_id, status=str(status))))


@st.composite
def boards(draw: st.DrawFn) -> tuple[manual_orders.Items, dict[str, Recorded]]:
    known = {
        order_id: Recorded(number, order_of(order_id, draw(STATUSES)), NOW, True, draw(st.booleans()))
        for number, order_id in enumerate(IDS)
        if draw(st.booleans())
    }
    broken = st.builds(lambda n: MalformedOrder(raw={"n": n}, problem="bad"), st.integers(0, 3))
    shown = st.lists(st.one_of(st.builds(order_of, st.sampled_from(IDS), STATUSES), broken), max_size=20)
    return tuple(draw(shown)), known


def ids(items: manual_orders.Items) -> list[str]:
    return [item.order_id for item in items if isinstance(item, ManualOrder)]


@settings(max_examples=150)
@given(boards(), st.integers(0, 4))
def test_whatever_stands_there_no_order_owed_is_missing_none_is_twice_and_a_second_merge_changes_nothing(
    board: tuple[manual_orders.Items, dict[str, Recorded]], ends: int
) -> None:
    items, known = board
    found = merged(items, known, NOW, room=1_000, ends=ends)
    assert len(ids(found)) == len(set(ids(found)))
    assert {order_id for order_id, one in known.items() if one.owed} <= set(ids(found))
    assert set(ids(items)) - set(known) <= set(ids(found))
    later = NOW + timedelta(minutes=1)
    settled = merged(found, known, later, room=1_000, ends=ends)  # malformed ones that just said so may be dropped now
    assert merged(settled, known, later, room=1_000, ends=ends) == settled
    assert ids(settled) == ids(found)
    for item in found:
        if isinstance(item, ManualOrder) and item.order_id in known:
            assert item.status is known[item.order_id].order.status


@settings(max_examples=100)
@given(boards())
def test_what_stands_there_keeps_its_order(board: tuple[manual_orders.Items, dict[str, Recorded]]) -> None:
    items, known = board
    found = ids(merged(items, known, NOW, room=1_000, ends=1_000))
    there = list(dict.fromkeys(ids(items)))
    assert [order_id for order_id in found if order_id in set(there)] == there


@settings(max_examples=100)
@given(boards(), st.integers(0, 25))
def test_what_is_missing_is_put_back_only_while_there_is_room(
    board: tuple[manual_orders.Items, dict[str, Recorded]], room: int
) -> None:
    items, known = board
    without = merged(items, known, NOW, room=0, ends=1_000)
    assert len(merged(items, known, NOW, room=room, ends=1_000)) <= max(room, len(without))
