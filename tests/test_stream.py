"""The trade stream: every event at most once into the ledger, in whatever order it comes, and never the only truth."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from pydantic import SecretStr

from qbot import committing, limits, stream
from qbot.contract import keys
from qbot.errors import StackError
from qbot.exchange import wire as venue_wire
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.store import locks, order_book, tables
from qbot.store.engine import transaction
from tests.chaos import proxy
from tests.chaos.toxics import Kind, Toxic
from tests.support.runtime import WALL, World
from tests.support.servers import wait_until

Event = dict[str, Any]


@contextmanager
def listened(world: World) -> Iterator[list[Event]]:
    """The events the venue tells while the block runs, as its stream would send them."""
    venue = world.exchange.venue
    assert venue is not None
    told: list[Event] = []
    publish = venue.hub.publish

    def noted(events: Any) -> None:
        told.extend(json.loads(json.dumps(venue_wire.trade_update(event)))["data"] for event in events)
        publish(events)

    venue.hub.publish = noted  # type: ignore[method-assign]
    try:
        yield told
    finally:
        venue.hub.publish = publish  # type: ignore[method-assign]


def partially_filled(world: World) -> list[Event]:
    """new, partial_fill and fill of one bracket entry of 4 shares, which QBot sent; then what its legs tell."""
    venue = world.exchange.venue
    assert venue is not None
    venue.book.partial_one_in = 1
    with listened(world) as told:
        world.send(world.commit(world.entry("AAPL", 4)))
        world.orders()
        world.market.advance(seconds=30)
        world.orders()
    mine = [event for event in told if event["order"]["client_order_id"].startswith("qbot-")]
    assert [event["event"] for event in mine] == ["new", "partial_fill", "fill"]
    return mine


def ledger_state(world: World) -> tuple[Any, ...]:
    (order,) = [row for row in world.rows(tables.orders) if row["side"] == "buy"]
    fills = world.rows(tables.fills)
    (intent,) = world.rows(tables.intents)
    return (
        order["status"], order["filled_qty"], sorted(fill["qty"] for fill in fills), intent["status"],
        intent["filled_usd"] == sum(fill["qty"] * fill["price_usd"] for fill in fills),
    )  # fmt: skip


def test_events_in_any_order_and_any_number_of_times_leave_the_same_books(world: World) -> None:
    events = partially_filled(world)
    parts = sorted(Decimal(event["qty"]) for event in events[1:])
    for number, order in enumerate(permutations(events)):
        for event in (*order, *reversed(order)):
            stream.record(world.rt, event)
        expected = ("filled", Decimal(4), parts, "closed", True)
        assert ledger_state(world) == expected, f"after order {number}"
        with world.engine.begin() as connection:
            connection.execute(tables.fills.delete())
            connection.execute(tables.orders.delete())
            reset = {"status": "committed", "filled_usd": 0, "closed_at_wall": None, "broker_order_id": None}
            connection.execute(tables.intents.update().values(**reset))


def test_the_answer_to_a_post_that_comes_after_the_fill_takes_nothing_back(world: World) -> None:
    """At the paper exchange both are of the same moment; the stream may well be the faster one."""
    judged = world.commit(world.entry("AAPL", 2))
    with listened(world) as told:
        answer = world.rt.broker.submit(committing.orders_of(judged)[0].spec)
        world.orders()
    for event in told:
        stream.record(world.rt, event)
    assert ledger_state(world)[:4] == ("filled", Decimal(2), [Decimal(2)], "closed")
    assert answer.status == "pending_new"
    with transaction(world.engine) as connection:
        order_book.record_orders(connection, [answer], world.wall())
    assert ledger_state(world)[:4] == ("filled", Decimal(2), [Decimal(2)], "closed")


def test_a_fill_of_the_stream_and_of_rest_is_one_execution(world: World) -> None:
    for event in partially_filled(world):
        stream.record(world.rt, event)
    books = world.reconcile()
    assert (books.new_fills, books.drift) == (0, {})
    assert len(world.rows(tables.fills)) == 2


def test_a_lost_event_is_made_up_for_by_the_next_reconcile(world: World) -> None:
    new, _partial, fill = partially_filled(world)
    stream.record(world.rt, new)
    stream.record(world.rt, fill)
    books = world.reconcile()
    assert (books.new_fills, books.drift) == (1, {})
    assert ledger_state(world)[:4] == ("filled", Decimal(4), ledger_state(world)[2], "closed")


def test_what_the_stream_told_of_is_on_the_board(world: World) -> None:
    with listened(world) as told:
        world.send(world.commit(world.entry("AAPL", 2)))
        world.orders()
    for event in told:
        stream.record(world.rt, event)
    stream.show(world.rt)
    (position,), (trade,) = world.told(keys.PORTFOLIO_POSITIONS), world.told(keys.TRADES_LOG)
    assert (position.ticker, position.qty) == ("AAPL", Decimal(2))
    assert (trade.ticker, trade.side, trade.qty, trade.order_id) == ("AAPL", "buy", 2, world.sent()[0]["id"])
    assert world.told(keys.AUTOTRADING_LAST_TRADE) == trade
    assert {order.order_type for order in world.told(keys.ACTIVE_ORDERS)} == {"LIMIT", "STOP_LOSS"}
    assert {order.source for order in world.told(keys.ACTIVE_ORDERS)} == {"ml_prediction"}


@pytest.mark.parametrize("event", [
    {"event": "fill"}, {"event": "fill", "order": {}}, {"event": "fill", "order": None}, {},
    {"event": "new", "order": {"id": "x"}},
])  # fmt: skip
def test_an_event_that_cannot_be_read_is_left_to_the_reconcile(world: World, event: Event) -> None:
    stream.record(world.rt, event)
    assert (world.rows(tables.orders), world.rows(tables.fills)) == ([], [])


def test_an_event_without_execution_price_or_quantity_changes_the_order_only(world: World) -> None:
    new, *_ = partially_filled(world)
    stream.record(world.rt, {"event": "calculated", "order": new["order"]})
    assert world.rows(tables.fills) == []


def test_without_postgres_or_broker_an_event_is_lost_and_the_listener_lives_on(world: World) -> None:
    events = partially_filled(world)
    for event in events:
        stream.record(world.without_postgres(), event)
    assert world.rows(tables.fills) == []
    world.exchange.fault("server_error", method="GET")
    for event in events:
        stream.record(world.rt, event)
    stream.show(world.rt)  # recorded, though it cannot be shown
    stream.reconcile(world.rt)
    world.exchange.clear_faults()
    stream.reconcile(world.rt)
    assert ledger_state(world)[:2] == ("filled", Decimal(4))


@contextmanager
def listening(world: World, rt: Runtime | None = None) -> Iterator[stream.Stream]:
    """The real client on the real websocket, in a thread."""
    made: list[stream.Stream] = []

    async def run() -> None:
        made.append(stream.Stream(rt or world.rt))
        await made[0]._run_forever()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    venue = world.exchange.venue
    assert venue is not None
    try:
        wait_until(lambda: bool(made) and made[0].told.since is not None, "the stream", 20)
        yield made[0]
    finally:
        made[0].stop()
        thread.join(15)
        assert not thread.is_alive()


def eventually(condition: Callable[[], object], what: str) -> None:
    wait_until(condition, what, 15)


def test_over_the_real_websocket_fills_arrive_and_a_connect_catches_up_with_what_was_missed(world: World) -> None:
    world.by_hand(symbol="MSFT", qty="1", side="buy")
    world.orders()
    with listening(world):
        eventually(lambda: [row["symbol"] for row in world.rows(tables.fills)] == ["MSFT"], "the reconcile at connect")
        world.send(world.commit(world.entry("AAPL", 2)))
        eventually(lambda: len(world.rows(tables.fills)) == 2, "the fill")
        eventually(lambda: world.intents() == {"AAPL buy": "closed"}, "the intent")
    assert world.reconcile().drift == {}


def test_only_the_embedded_exchange_has_another_address() -> None:
    assert stream.url(Settings(_env_file=None)) is None
    assert stream.url(Settings(_env_file=None, alpaca_url="http://127.0.0.1:6390")) == "ws://127.0.0.1:6390/stream"


# --- noticing what it does not tell ----------------------------------------------------------------------------------


def test_a_fill_that_others_brought_is_missed_when_two_looks_do_not_find_it_told() -> None:
    told = stream.Told()
    told.listening(WALL)
    told.note("a")
    assert told.missed({"a", "b"}) == set()  # it may be on its way
    told.note("b")
    assert told.missed({"a", "b", "c"}) == set()
    assert told.missed({"a", "b", "c"}) == {"c"}
    told.listening(WALL)
    assert told.missed({"c"}) == set()


def test_what_is_remembered_of_the_stream_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_TOLD_MAX", 2)
    told = stream.Told()
    for name in "abc":
        told.note(name)
    told.missed({"a", "b", "c"})
    assert told.missed({"a", "b", "c"}) == {"a"}


def test_a_silent_stream_is_told_to_a_human_and_connects_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lesson 6: connected, and not a word."""
    monkeypatch.setattr(limits, "STREAM_CHECK_S", 0.2)
    with listening(world) as client:
        world.exchange.fault("silent_stream")
        world.market.advance(seconds=5)
        world.send(world.commit(world.entry("AAPL", 2)))
        first = client.told.since
        world.reconcile()
        eventually(lambda: [title for _, title in world.alerts() if "silent" in title], "the alert")
        world.exchange.clear_faults()
        eventually(lambda: client.told.since not in (None, first), "the next connection")
        world.market.advance(seconds=5)
        world.send(world.commit(world.entry("MSFT", 1), cycle_id="c2"))
        eventually(lambda: world.intents()["MSFT buy"] == "closed", "its events")
    assert sum("silent" in title for _, title in world.alerts()) == 1


def test_a_stream_that_tells_is_not_called_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_CHECK_S", 0.05)
    with listening(world) as client:
        world.market.advance(seconds=5)
        world.send(world.commit(world.entry("AAPL", 2)))
        eventually(lambda: world.intents() == {"AAPL buy": "closed"}, "the fill")
        since = client.told.since
        threading.Event().wait(0.4)
        assert client.told.since == since
    assert world.alerts() == []


def test_without_postgres_nothing_is_compared(world: World) -> None:
    told = stream.Told()
    assert stream.silent(world.rt, told) is False  # not connected
    told.listening(world.market())
    assert stream.silent(world.without_postgres(), told) is False
    assert stream.silent(world.rt, told) is False


def test_a_line_that_carries_nothing_any_more_is_left_after_two_pings(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-open: the connection stands, and nobody answers."""
    monkeypatch.setattr(limits, "STREAM_PING_S", 0.3)
    with proxy.running(proxy.Proxy(int(world.exchange.url.rsplit(":", 1)[1]))) as line:
        rt = world.another(alpaca_url=f"http://127.0.0.1:{line.port}")
        with listening(world, rt) as client:
            first = client._ws
            line.poison(Toxic(Kind.TIMEOUT, seconds=60))
            eventually(lambda: client._ws is not first, "the end of the old connection")
            line.heal()
            eventually(lambda: client._running and client._ws is not None and client._ws is not first, "a new one")


def test_a_burst_of_events_is_shown_once_a_second_and_the_last_one_always(world: World) -> None:
    with listening(world):
        asked = len(world.place.faults.seen)
        for number in range(10):
            world.by_hand(symbol="MSFT", qty="1", side="buy", client_order_id=f"hand-{number}")
            threading.Event().wait(0.06)  # the venue is asked quicker than that
        eventually(lambda: [p.qty for p in world.told(keys.PORTFOLIO_POSITIONS) or ()] == [Decimal(10)], "the last one")
        looks = [path for method, path in world.place.faults.seen[asked:] if path == "/v2/positions"]
    assert 1 <= len(looks) <= 3


# --- one owner -------------------------------------------------------------------------------------------------------


def test_a_second_owner_waits_until_the_first_is_gone(world: World) -> None:
    second = threading.Event()

    def wait() -> None:
        with locks.hold(world.engine, locks.STREAM):
            second.set()

    thread = threading.Thread(target=wait)
    with locks.hold(world.engine, locks.STREAM):
        thread.start()
        assert not second.wait(0.3)
    assert second.wait(10)
    thread.join()


def test_an_owner_whose_lock_went_with_its_connection_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_CHECK_S", 0.1)
    with locks.hold(world.engine, locks.STREAM) as connection:
        assert stream.owns(connection)
        with world.engine.begin() as other:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
        eventually(lambda: not stream.owns(connection), "the loss")
        asyncio.run(asyncio.wait_for(_run(stream_of(world, lambda: stream.owns(connection))), 20))


def stream_of(world: World, owned: Callable[[], bool]) -> Callable[[], stream.Stream]:
    return lambda: stream.Stream(world.rt, owned)


async def _run(make: Callable[[], stream.Stream]) -> None:
    await make()._run_forever()


def test_without_keys_there_is_nothing_to_listen_to(world: World) -> None:
    rt = Runtime(world.rt.settings.model_copy(update={"alpaca_api_key": SecretStr("")}), world.rt.board, world.engine)
    with pytest.raises(StackError):
        stream.Stream(rt)
