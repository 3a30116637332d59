"""`frontend:manual_orders`: each once for ever, refusals with their reason, and never a lost neighbour."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from qbot import control, limits, manual, pipeline
from qbot.contract import keys
from qbot.contract.board import Board
from qbot.errors import BrokerError, StoreUnavailable
from qbot.runtime import Runtime
from qbot.store import ledger, state, tables
from qbot.store.engine import transaction
from tests.support.runtime import World

AFTER_THE_CLOSE = datetime(2025, 7, 7, 21, 0, tzinfo=UTC)


def asked(order_id: str = "order_1", **more: Any) -> dict[str, Any]:
    return {
        "order_id": order_id, "symbol": "AAPL", "side": "BUY", "quantity": 2, "order_type": "MARKET",
        "limit_price": None, "stop_price": None, "time_in_force": "DAY", "created_at": "2025-09-26T13:15:30.123Z",
        "created_by": "frontend_user", "session_id": "frontend_1", "status": "PENDING", "priority": "MEDIUM", **more,
    }  # fmt: skip


def process(world: World, *orders: Any) -> dict[str, tuple[str, str]]:
    """Ask, let QBot work, and read back the status and its reason by order id."""
    if orders:
        world.say(keys.MANUAL_ORDERS, list(orders))
    pipeline.process_manual_orders(world.rt)
    return answers(world)


def answers(world: World) -> dict[str, tuple[str, str]]:
    items = json.loads(world.redis.get(keys.MANUAL_ORDERS.name) or "[]")
    return {item["order_id"]: (item["status"], item.get("status_reason") or "") for item in items}


def near(world: World, share: str, symbol: str = "AAPL") -> float:
    return float((world.price(symbol) * Decimal(share)).quantize(Decimal("0.01")))


# --- executed as asked ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tif", ["DAY", "GTC", "IOC", "FOK"])
def test_a_market_order_is_filled_and_says_so(world: World, tif: str) -> None:
    assert process(world, asked(time_in_force=tif)) == {"order_1": ("SUBMITTED", "")}
    world.reconcile()
    assert process(world) == {"order_1": ("FILLED", "")}
    assert [(o["side"], o["qty"], o["type"], o["time_in_force"]) for o in world.orders()] == [
        ("buy", "2", "market", tif.lower())
    ]  # fmt: skip
    assert world.positions() == {"AAPL": Decimal(2)}


@pytest.mark.parametrize(("tif", "share", "status"), [
    ("DAY", "0.99", "SUBMITTED"), ("GTC", "0.99", "SUBMITTED"),
    ("IOC", "0.99", "CANCELED"), ("FOK", "0.99", "CANCELED"),
    ("DAY", "1.01", "FILLED"), ("GTC", "1.01", "FILLED"), ("IOC", "1.01", "FILLED"), ("FOK", "1.01", "FILLED"),
])  # fmt: skip
def test_a_limit_order_of_every_time_in_force_ends_as_it_should(
    world: World, tif: str, share: str, status: str
) -> None:
    price = near(world, share)
    process(world, asked(order_type="LIMIT", limit_price=price, time_in_force=tif))
    world.reconcile()
    assert process(world) == {"order_1": (status, "")}
    assert [Decimal(order["limit_price"]) for order in world.orders()] == [Decimal(str(price))]
    assert world.positions() == ({"AAPL": Decimal(2)} if status == "FILLED" else {})


@pytest.mark.parametrize("tif", ["DAY", "GTC"])
def test_a_stop_loss_rests_at_the_venue_in_place_of_the_protection_before(world: World, tif: str) -> None:
    world.buy("AAPL", 2)
    stop = near(world, "0.97")
    order = asked(side="SELL", order_type="STOP_LOSS", stop_price=stop, time_in_force=tif)
    assert process(world, order) == {"order_1": ("SUBMITTED", "")}
    assert [(o["type"], Decimal(o["stop_price"]), o["time_in_force"]) for o in world.resting()] == [
        ("stop", Decimal(str(stop)), tif.lower())
    ]  # fmt: skip


def test_two_sales_of_one_position_rest_beside_each_other(world: World) -> None:
    world.by_hand(symbol="AAPL", side="buy", qty="5")
    world.reconcile()
    first = asked("one", side="SELL", order_type="LIMIT", limit_price=near(world, "1.02"), quantity=3)
    second = asked("two", side="SELL", order_type="LIMIT", limit_price=near(world, "1.03"), quantity=2)
    process(world, first)
    assert process(world, first, second) == {"one": ("SUBMITTED", ""), "two": ("SUBMITTED", "")}
    assert sorted(Decimal(order["qty"]) for order in world.resting("sell")) == [2, 3]
    world.wall.advance(seconds=5)
    process(world, first, second, asked("all", side="SELL", quantity=5))  # what is wanted now goes first
    world.reconcile()
    assert (world.resting(), world.positions()) == ([], {})


def test_orders_are_allowed_while_trading_is_off_and_outside_the_sessions_hours(world: World) -> None:
    assert not control.sync_switch(world.rt).on
    assert process(world, asked())["order_1"][0] == "SUBMITTED"


def test_fields_that_qbot_does_not_know_come_back_as_they_were(world: World) -> None:
    process(world, asked(note="for the pension", tags=[1, 2]))
    (item,) = json.loads(world.redis.get(keys.MANUAL_ORDERS.name) or "")
    assert (item["note"], item["tags"], item["created_by"]) == ("for the pension", [1, 2], "frontend_user")


def test_the_most_urgent_goes_first_then_the_oldest(world: World) -> None:
    def at(second: int) -> str:
        return f"2025-09-26T13:15:{second:02d}Z"

    orders = [
        asked("low", symbol="MSFT", priority="LOW", created_at=at(1)),
        asked("late", symbol="SPY", priority="HIGH", created_at=at(9)),
        asked("early", symbol="QQQ", priority="HIGH", created_at=at(2)),
        asked("critical", symbol="AAPL", priority="CRITICAL", created_at=at(30)),
        asked("medium", symbol="COST", priority="MEDIUM", created_at=at(0)),
    ]
    process(world, *orders)
    assert [order["symbol"] for order in world.sent()] == ["AAPL", "QQQ", "SPY", "COST", "MSFT"]


def test_an_urgent_order_does_not_wait_for_a_long_queue(world: World) -> None:
    """It is appended while the first of many are being sent."""
    world.by_hand(symbol="MSFT", qty="50", side="buy")
    queue = [
        asked(f"low_{number}", symbol="MSFT", side="SELL", quantity=1, priority="LOW")
        for number in range(limits.MANUAL_BATCH + 5)
    ]
    world.say(keys.MANUAL_ORDERS, queue)
    send = world.rt.broker.submit

    class Watching:
        def __getattr__(self, name: str) -> Any:
            return getattr(broker, name)

        def submit(self, *asked_for: Any) -> Any:
            if not world.sent():
                world.say(keys.MANUAL_ORDERS, [*queue, asked("now", symbol="SPY", quantity=1, priority="CRITICAL")])
            return send(*asked_for)

    broker = world.rt.broker
    world.rt.__dict__["broker"] = Watching()
    process(world)
    symbols = [order["symbol"] for order in world.sent()]
    assert (len(symbols), symbols.index("SPY")) == (len(queue) + 1, limits.MANUAL_BATCH)


def test_the_end_of_a_long_queue_is_judged_by_settings_of_its_own_time(world: World) -> None:
    """Each sale takes a minute here; the settings read before them are too old for a purchase by then."""
    world.by_hand(symbol="MSFT", qty="50", side="buy")
    queue = [
        asked(f"sale_{number}", symbol="MSFT", side="SELL", quantity=1, priority="HIGH")
        for number in range(limits.MANUAL_BATCH)
    ]
    world.say(keys.MANUAL_ORDERS, [*queue, asked("last", symbol="SPY", quantity=1, priority="LOW")])
    send, broker = world.rt.broker.submit, world.rt.broker

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(broker, name)

        def submit(self, *asked_for: Any) -> Any:
            world.wall.advance(seconds=60 if asked_for[0].symbol == "MSFT" else 0)
            return send(*asked_for)

    world.rt.__dict__["broker"] = Slow()
    assert process(world)["last"][0] != "REJECTED"
    assert "SPY" in {order["symbol"] for order in world.sent()}


# --- once for ever ----------------------------------------------------------------------------------------------------


def test_an_order_id_is_executed_once_whatever_happens_to_redis(world: World) -> None:
    process(world, asked())
    for _ in range(2):
        world.redis.flushall()
        process(world, asked(), asked("order_1", quantity=9))
    assert (world.posts(), len(world.sent())) == (1, 1)
    world.reconcile()
    assert process(world)["order_1"] == ("FILLED", "")


def test_workers_that_process_the_same_order_at_once_send_it_once(world: World) -> None:
    world.say(keys.MANUAL_ORDERS, [asked("a"), asked("b", symbol="MSFT")])
    errors: list[BaseException] = []
    together = threading.Barrier(4)

    def worker(rt: Any) -> None:
        try:
            together.wait(10)
            pipeline.process_manual_orders(rt)
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=worker, args=(world.another(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert sorted(order["symbol"] for order in world.orders()) == ["AAPL", "MSFT"]
    assert world.posts() == 2


def test_a_crash_after_the_claim_rejects_the_order_and_never_sends_it(world: World) -> None:
    with transaction(world.engine) as connection:
        lost = {"status": "REJECTED", "reason": manual.LOST}
        assert state.first_time(connection, manual.HANDLED, "order_1", world.wall(), lost)
    assert process(world, asked()) == {"order_1": ("REJECTED", manual.LOST)}
    assert world.posts() == 0


def test_a_crash_after_the_commit_is_settled_by_lookup_and_told_in_the_end(world: World) -> None:
    world.exchange.fault("server_error", method="POST", path="/v2/orders", times=1)
    assert process(world, asked()) == {"order_1": ("SUBMITTED", "")}
    assert world.intents() == {"AAPL buy": "in_doubt"}
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    world.reconcile()
    assert process(world) == {"order_1": ("REJECTED", "never reached the venue")}
    assert (world.posts(), world.orders()) == (1, [])


def test_postgres_gone_leaves_the_order_pending_and_unsent(world: World) -> None:
    world.say(keys.MANUAL_ORDERS, [asked()])
    with pytest.raises(StoreUnavailable):
        pipeline.process_manual_orders(world.without_postgres())
    assert answers(world) == {"order_1": ("PENDING", "")}
    assert world.posts() == 0


def test_a_broker_that_does_not_answer_leaves_the_order_pending(world: World) -> None:
    world.say(keys.MANUAL_ORDERS, [asked()])
    world.exchange.fault("server_error", method="GET", path="/v2/account", times=1)
    with pytest.raises(BrokerError):
        pipeline.process_manual_orders(world.rt)
    assert answers(world) == {"order_1": ("PENDING", "")}
    assert process(world)["order_1"][0] == "SUBMITTED"


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "why"), [
    (asked(side="SELL"), "NOT_HELD"),
    (asked(quantity=101), "MAX_SHARES_PER_ORDER"),
    (asked(symbol="NOPE"), "QUOTE_MISSING"),
    (asked(symbol="MA"), "EXCLUDED"),
    (asked(order_type="LIMIT", limit_price=99_999), "PRICE_COLLAR"),
    (asked(quantity=100), "MAX_POSITION_PCT"),
])  # fmt: skip
def test_what_the_gate_refuses_says_why_and_reaches_no_venue(world: World, order: dict[str, Any], why: str) -> None:
    world.say(keys.PORTFOLIO_SETTINGS, {"excluded_tickers": ["MA"]})
    status, reason = process(world, order)["order_1"]
    assert (status, reason.split(":")[0]) == ("REJECTED", why)
    assert len(reason) > len(why) + 5
    assert (world.posts(), world.intents()) == (0, {})
    assert [row["refusal"] for row in world.rows(tables.decisions)] == [why]


def test_a_symbol_that_the_provider_calls_invalid_harms_no_neighbour(world: World) -> None:
    found = process(world, asked("bad", symbol="BRK-B"), asked("worse", symbol="X1Y2Z3"), asked("good", symbol="MSFT"))
    assert {name: reason.split(":")[0] for name, (_, reason) in found.items()} == {
        "bad": "QUOTE_MISSING", "worse": "QUOTE_MISSING", "good": "",
    }  # fmt: skip
    assert [order["symbol"] for order in world.orders()] == ["MSFT"]


def test_what_the_venue_refuses_says_why_too(world: World) -> None:
    world.buy("AAPL", 2)
    order = asked(side="SELL", order_type="STOP_LOSS", stop_price=near(world, "1.05"))
    status, reason = process(world, order)["order_1"]
    assert (status, "stop price must be less than current price" in reason) == ("REJECTED", True)
    assert world.positions() == {"AAPL": Decimal(2)}


@pytest.mark.parametrize("broken", [
    {"order_type": "LIMIT"}, {"quantity": 0}, {"quantity": 1.5}, {"quantity": -3}, {"side": "SHORT"}, {"symbol": ""},
    {"time_in_force": "SOON"}, {"order_type": "STOP_LOSS"}, {"limit_price": -1},
])  # fmt: skip
def test_a_malformed_order_is_rejected_with_its_reason_and_its_neighbour_executed(
    world: World, broken: dict[str, Any]
) -> None:
    found = process(world, asked("bad", **broken), asked("good", symbol="MSFT"))
    assert found["bad"][0] == "REJECTED" and len(found["bad"][1]) > 5
    assert found["good"] == ("SUBMITTED", "")
    assert [order["symbol"] for order in world.orders()] == ["MSFT"]


@pytest.mark.parametrize("nonsense", ["{", '[1, null, "x"]', "{}", "[[]]"])
def test_an_array_that_is_none_is_left_alone(world: World, nonsense: str) -> None:
    world.say(keys.MANUAL_ORDERS, nonsense)
    pipeline.process_manual_orders(world.rt)
    assert world.redis.get(keys.MANUAL_ORDERS.name) == nonsense
    assert world.posts() == 0


def test_while_latched_a_buy_is_refused_and_a_sale_goes_through(world: World) -> None:
    world.buy("AAPL", 2)
    control.sync_switch(world.rt)
    control.latch(world.rt, "test")
    found = process(world, asked("buy", symbol="MSFT"), asked("sell", side="SELL"))
    assert found["buy"][1].startswith("EMERGENCY_LATCHED")
    assert found["sell"] == ("SUBMITTED", "")
    world.reconcile()
    assert (world.positions(), len(world.sent())) == ({}, 2)


@pytest.mark.parametrize("action", ["{", {"action": "STOP_ALL_TRADING", "confirmed": True, "session_id": "f"}])
def test_while_an_emergency_waits_or_cannot_be_read_a_buy_is_refused_and_a_sale_goes_through(
    world: World, action: object
) -> None:
    world.buy("AAPL", 2)
    control.sync_switch(world.rt)
    world.say(keys.EMERGENCY_ACTIONS, action)
    found = process(world, asked("buy", symbol="MSFT"), asked("sell", side="SELL"))
    assert found["buy"][1].startswith("EMERGENCY_LATCHED")
    assert found["sell"] == ("SUBMITTED", "")


def test_a_buy_at_a_closed_exchange_is_refused_and_a_sale_waits_for_the_open(world: World) -> None:
    world.buy("AAPL", 2)
    world.market.set(AFTER_THE_CLOSE)
    found = process(world, asked("buy", symbol="MSFT"), asked("sell", side="SELL"))
    assert found["buy"][1].startswith("MARKET_CLOSED")
    assert found["sell"] == ("SUBMITTED", "")
    assert [(order["side"], order["status"]) for order in world.resting()] == [("sell", "accepted")]


def test_without_any_prices_sales_go_on_and_buys_wait(world: World) -> None:
    world.buy("AAPL", 2)
    world.exchange.fault("server_error", method="GET", path="/v2/stocks")
    found = process(world, asked("buy", symbol="MSFT"), asked("sell", side="SELL"))
    assert found == {"buy": ("PENDING", ""), "sell": ("SUBMITTED", "")}
    world.exchange.clear_faults()
    world.reconcile()
    assert process(world) == {"buy": ("SUBMITTED", ""), "sell": ("FILLED", "")}


class Dripping:
    """A feed that has not answered before `end` is set."""

    def __init__(self) -> None:
        self.end, self.asked = threading.Event(), 0

    def latest(self, _symbols: Any, _received_at: datetime) -> dict[str, Any]:
        self.asked += 1
        assert self.end.wait(60)
        return {}


def test_sales_do_not_wait_for_a_feed_that_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "QUOTES_WITHIN_S", 0.2)
    world.by_hand(symbol="AAPL", qty="50", side="buy")
    world.rt.__dict__["data"] = feed = Dripping()
    buys = [asked(f"buy_{n}", symbol="MSFT", priority="HIGH") for n in range(2 * limits.MANUAL_BATCH)]
    sales = [asked(f"sell_{n}", side="SELL", quantity=1) for n in range(limits.MANUAL_BATCH + 1)]
    try:
        found = process(world, *buys, *sales)
        assert not feed.end.is_set()  # the feed has said nothing all the while
    finally:
        feed.end.set()
    assert feed.asked == 1  # one wait, not one for each few orders
    assert {order_id for order_id, answer in found.items() if answer == ("PENDING", "")} == {
        order["order_id"] for order in buys
    }
    assert [order["side"] for order in world.sent()] == ["sell"] * len(sales)


# --- the shared array -------------------------------------------------------------------------------------------------


class BusyBoard(Board):
    """A board on which a frontend appends an order right after each of QBot's first readings."""

    def __init__(self, world: World) -> None:
        super().__init__(world.rt.board._client)
        self.world, self.appended = world, 0

    def _fetch(self, wanted: Any) -> Any:
        found = super()._fetch(wanted)
        if keys.MANUAL_ORDERS in wanted and self.appended < 12:
            self.appended += 1
            items = json.loads(self.world.redis.get(keys.MANUAL_ORDERS.name) or "[]")
            refused = asked(f"order_{self.appended}", symbol="MSFT", quantity=500)
            self.world.say(keys.MANUAL_ORDERS, [*items, refused])
        return found


def test_an_order_appended_between_reading_and_writing_back_is_not_lost(world: World) -> None:
    world.say(keys.MANUAL_ORDERS, [asked("order_0")])
    board = BusyBoard(world)
    rt = Runtime(world.rt.settings, board, world.engine, world.wall, world.market, world.uptime)
    while board.appended < 12:
        pipeline.process_manual_orders(rt)
    found = process(world)
    assert list(found) == [f"order_{number}" for number in range(13)]
    assert found.pop("order_0")[0] in ("SUBMITTED", "FILLED")
    assert {status for status, _ in found.values()} == {"REJECTED"}
    assert world.posts() == 1


def test_nothing_new_is_written_back_when_nothing_changed(world: World) -> None:
    process(world, asked())
    before = world.redis.get("qbot:revision")
    pipeline.process_manual_orders(world.rt)
    assert world.redis.get("qbot:revision") == before


def test_a_manual_order_names_its_settings_and_its_verdict(world: World) -> None:
    process(world, asked())
    with transaction(world.engine) as connection:
        (intent,) = ledger.unsettled_intents(connection) or world.rows(tables.intents)
    (decision,) = world.rows(tables.decisions)
    (revision,) = world.rows(tables.settings_revisions)
    assert intent["decision_id"] == decision["decision_id"]
    assert (intent["source"], decision["allowed"], decision["settings_revision"]) == (
        "manual",
        True,
        revision["revision"],
    )
