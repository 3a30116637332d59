"""The trade stream: every event at most once into the ledger, in whatever order it comes, and never the only truth."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from qbot import committing, stream
from qbot.contract import keys
from qbot.exchange import wire as venue_wire
from qbot.settings import Settings
from qbot.store import ledger, tables
from qbot.store.engine import transaction
from tests.support.exchange import KEY, SECRET
from tests.support.runtime import World
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
        ledger.record_orders(connection, [answer], world.wall())
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


def test_a_fill_is_on_the_board_as_soon_as_the_stream_tells_of_it(world: World) -> None:
    with listened(world) as told:
        world.send(world.commit(world.entry("AAPL", 2)))
        world.orders()
    for event in told:
        stream.record(world.rt, event)
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
        stream.record(world.rt, event)  # recorded, though it cannot be shown
    stream.reconcile(world.rt)
    world.exchange.clear_faults()
    stream.reconcile(world.rt)
    assert ledger_state(world)[:2] == ("filled", Decimal(4))


@contextmanager
def listening(world: World) -> Iterator[stream.Stream]:
    """The real client on the real websocket, in a thread."""
    client = stream.Stream(KEY, SECRET, paper=True, raw_data=True, url_override=stream.url(world.rt.settings))  # type: ignore[arg-type]
    client.rt = world.rt

    async def on_event(message: Event) -> None:
        stream.record(world.rt, message["data"])

    client.subscribe_trade_updates(on_event)
    thread = threading.Thread(target=client.run, daemon=True)
    thread.start()
    venue = world.exchange.venue
    assert venue is not None
    try:
        wait_until(lambda: venue.hub.listeners == 1, "the stream", 20)
        yield client
    finally:
        client._should_run = False
        client._stop_stream_queue.put_nowait({"should_stop": True})
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
