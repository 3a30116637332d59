"""A sender that was frozen, or is slow, lets nothing out that was stopped meanwhile; and doubt sells nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest

from qbot import committing, execution, limits, pipeline
from qbot.broker import alpaca_wire as wire
from qbot.desk import Desk
from qbot.execution import Fence, Sent
from qbot.store import ledger, tables
from qbot.store.engine import transaction
from qbot.types import BrokerOrder, OrderSpec, Source, TradingState
from tests.support.runtime import World, limit_entry
from tests.test_execution import stop_trading

Happening = Callable[[], object]


@dataclass
class Frozen:
    """The world's broker, whose sender is frozen before an order leaves it, or before it has read the answer."""

    world: World
    before: Happening = lambda: None
    after: Happening = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.rt.broker, name)

    def submit(self, spec: OrderSpec, fence: Happening) -> BrokerOrder:
        self.before()
        try:
            return self.world.rt.broker.submit(spec, fence)  # type: ignore[arg-type]
        finally:
            self.after()


@dataclass
class Seconds:
    """Monotonic time that only the test moves."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_by(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Watched:
    """The world's store: counts the looks, each of which takes some time."""

    world: World
    each: Happening = lambda: None
    looks: list[int] = field(default_factory=list)

    def transaction(self) -> Any:
        self.looks.append(1)
        self.each()
        return self.world.rt.desk.store.transaction()


def desk_of(world: World, **more: Any) -> Desk:
    return replace(world.rt.desk, **more)


def send(world: World, judged: list[committing.Judged], **more: Any) -> Sent:
    return execution.send(desk_of(world, **more), committing.orders_of(judged))


# --- before it leaves ------------------------------------------------------------------------------------------------


def test_frozen_between_the_look_and_the_request_it_looks_again_and_sends_nothing(world: World) -> None:
    judged, seconds = world.commit(world.entry()), Seconds()

    def frozen() -> None:
        seconds.pass_by(limits.FENCE_MAX_S + 0.1)
        stop_trading(world)

    sent = send(world, judged, broker=Frozen(world, frozen), monotonic_s=seconds)
    assert (world.posts(), world.orders(), world.intents()) == (0, [], {"AAPL buy": "denied"})
    assert list(sent.failed.values()) == ["trading was stopped: a test stopped it, before it was sent"]


def test_a_machine_that_slept_looks_again_too(world: World) -> None:
    """Its monotonic clock stood still meanwhile."""
    judged = world.commit(world.entry())

    def slept() -> None:
        world.wall.advance(seconds=limits.FENCE_MAX_S + 0.1)
        stop_trading(world)

    send(world, judged, broker=Frozen(world, slept), monotonic_s=Seconds())
    assert (world.posts(), world.intents()) == (0, {"AAPL buy": "denied"})


def test_waiting_for_the_line_to_the_venue_counts_as_well(world: World) -> None:
    """Another thread has the one session; what was looked at before the wait is old by then."""
    judged, broker = world.commit(world.entry()), world.rt.broker
    world.exchange.fault("latency", method="GET", path="/v2/clock", times=1, seconds=0.6)
    other = threading.Thread(target=broker.clock)
    other.start()
    threading.Event().wait(0.2)
    desk = desk_of(world)
    fence = Fence(desk, committing.orders_of(judged)[0])
    fence()
    fence._seen = (desk.monotonic_s() - limits.FENCE_MAX_S + 0.2, desk.wall())  # nearly too old already
    stop_trading(world)
    with pytest.raises(execution.NotWanted):
        broker.submit(committing.orders_of(judged)[0].spec, fence)
    other.join()
    assert world.posts() == 0


def test_a_look_that_is_young_is_not_repeated(world: World) -> None:
    judged, store = world.commit(world.entry()), Watched(world)
    send(world, judged, store=store)
    assert (world.posts(), len(store.looks)) == (1, 2)  # one before, one with the answer


def test_where_looking_takes_too_long_nothing_is_sent(world: World) -> None:
    judged, seconds = world.commit(world.entry()), Seconds()
    slow = Watched(world, lambda: seconds.pass_by(limits.FENCE_MAX_S + 0.1))
    send(world, judged, store=slow, monotonic_s=seconds)
    assert (world.posts(), world.intents()) == (0, {"AAPL buy": "rejected"})
    assert len(slow.looks) == limits.FENCE_TURNS + 1  # and one to record it


def test_an_entry_that_is_too_old_is_never_sent_and_looked_up_till_it_is_given_up(world: World) -> None:
    judged = world.commit(world.entry())
    world.wall.advance(seconds=limits.SEND_GRACE_S + 1)
    sent = send(world, judged)
    assert (world.posts(), world.intents()) == (0, {"AAPL buy": "committed"})
    assert "looked up, and never sent" in next(iter(sent.failed.values()))
    world.wall.advance(seconds=limits.ABANDON_INTENT_S)
    world.reconcile()
    assert (world.posts(), world.intents()) == (0, {"AAPL buy": "abandoned"})


@pytest.mark.parametrize(("after_s", "sold"), [(limits.SEND_GRACE_S + 1, True), (limits.EXIT_LIFE_S + 1, False)])
def test_a_sale_may_go_out_later_than_an_entry_but_not_when_it_is_nearly_given_up(
    world: World, after_s: int, sold: bool
) -> None:
    world.buy("AAPL", 2)
    judged = world.commit(world.exit("AAPL"), cycle_id="c2")
    world.wall.advance(seconds=after_s)
    posts = world.posts()
    send(world, judged)
    assert (world.posts() - posts, world.positions() == {}) == (int(sold), sold)
    assert len(world.resting("sell")) == (0 if sold else 2)  # its protection was not touched for nothing


def test_a_clock_that_was_set_back_makes_nothing_young_again(world: World) -> None:
    judged = world.commit(world.entry())
    world.wall.advance(seconds=-limits.SEND_GRACE_S - 1)
    send(world, judged)
    assert world.posts() == 0


def test_the_intent_of_a_lost_database_is_not_sent(world: World) -> None:
    judged = world.commit(world.entry())
    with world.engine.begin() as connection:
        connection.execute(tables.intents.delete())
    sent = send(world, judged)
    assert (world.posts(), list(sent.failed.values())) == (0, ["it was sent or given up before"])


# --- after it left ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [Source.ML, Source.MANUAL])
def test_an_entry_that_was_stopped_while_on_its_way_is_cancelled_at_once(world: World, source: Source) -> None:
    judged = world.commit(limit_entry(world, "AAPL", source=source))
    frozen = Frozen(world, after=lambda: stop_trading(world, latched=True))
    sent = send(world, judged, broker=frozen)
    assert (world.posts(), world.resting()) == (1, [])
    assert sent.recalled == {judged[0].order.spec.client_order_id: "trading was stopped: a test stopped it"}  # type: ignore[union-attr]
    world.reconcile()
    assert world.intents() == {"AAPL buy": "closed"}


def test_a_sale_that_was_on_its_way_when_trading_stopped_stays(world: World) -> None:
    world.buy("AAPL", 2)
    judged = world.commit(world.exit("AAPL"), cycle_id="c2")
    sent = send(world, judged, broker=Frozen(world, after=lambda: stop_trading(world, latched=True)))
    assert (sent.recalled, world.positions()) == ({}, {})


def test_an_entry_in_doubt_that_was_stopped_is_cancelled_when_it_is_found(world: World) -> None:
    judged = world.commit(limit_entry(world, "AAPL"))
    world.exchange.fault("timeout_after_accept", method="POST", path="/v2/orders", times=1)
    send(world, judged, broker=Frozen(world, after=lambda: stop_trading(world)))
    assert world.intents() == {"AAPL buy": "in_doubt"}
    assert world.resting("buy")
    pipeline.reconcile_orders(world.rt)
    assert world.resting() == []
    assert ("WARNING", "An order was cancelled right after it was sent") in world.alerts()
    assert world.reconcile().recalled == {}
    assert world.intents() == {"AAPL buy": "closed"}


def test_what_rests_by_right_is_not_called_back(world: World) -> None:
    world.send(world.commit(limit_entry(world, "AAPL"), cycle_id="c1"))
    world.send(world.commit(limit_entry(world, "MSFT", source=Source.MANUAL), cycle_id="m1"))
    assert world.reconcile().recalled == {}
    stop_trading(world)
    assert list(world.reconcile().recalled) == ["qbot-c1-AAPL-buy"]  # a human's may rest while trading is off
    assert [order["symbol"] for order in world.resting("buy")] == ["MSFT"]


# --- doubt about a sale ----------------------------------------------------------------------------------------------


def arrives(world: World, client_order_id: str) -> int:
    """The HTTP status with which the venue answers the order of an intent that was long on its way."""
    with transaction(world.engine) as connection:
        intent = ledger.intent(connection, client_order_id)
    assert intent is not None
    spec = OrderSpec(**{**intent["spec"], "qty": Decimal(intent["spec"]["qty"])})
    return int(world.exchange.call("POST", "/v2/orders", json=wire.order_payload(spec)).status_code)


def doubtful_exit(world: World) -> str:
    """Two shares, whose sale timed out and is not at the venue; its id."""
    world.buy("AAPL", 2)
    judged = world.commit(world.exit("AAPL"), cycle_id="c2")
    world.exchange.fault("server_error", method="POST", path="/v2/orders", times=1)
    world.send(judged)
    assert world.intents()["AAPL sell"] == "in_doubt"
    return "qbot-c2-AAPL-sell"


def given_up(world: World) -> None:
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    world.reconcile()
    assert world.intents()["AAPL sell"] == "abandoned"
    world.wall.advance(seconds=5)


@pytest.mark.parametrize(("source", "refusal"), [(Source.ML, "ORDER_ON_ITS_WAY"), (Source.MANUAL, "NOT_HELD")])
def test_while_a_sale_is_in_doubt_its_shares_are_not_sold_again_nor_protected(
    world: World, source: Source, refusal: str
) -> None:
    doubtful_exit(world)
    again = world.commit(world.exit("AAPL", source), cycle_id="c3")
    assert again[0].verdict.refusal == refusal
    posts = world.posts()
    pipeline.reconcile_orders(world.rt)
    assert (world.posts(), world.resting()) == (posts, [])


def test_a_sale_that_arrives_after_the_next_one_sold_is_refused(world: World) -> None:
    late = doubtful_exit(world)
    given_up(world)
    world.send(world.commit(world.exit("AAPL"), cycle_id="c3"))
    assert world.positions() == {}
    assert arrives(world, late) == 403
    assert (world.positions(), world.reconcile().drift) == ({}, {})


def test_a_sale_that_arrives_when_its_shares_are_protected_again_is_refused(world: World) -> None:
    late = doubtful_exit(world)
    given_up(world)
    pipeline.reconcile_orders(world.rt)
    assert len(world.resting("sell")) == 2
    assert arrives(world, late) == 403
    assert world.positions() == {"AAPL": Decimal(2)}


def test_a_sale_that_arrived_before_the_next_one_leaves_nothing_to_sell(world: World) -> None:
    late = doubtful_exit(world)
    given_up(world)
    before = world.reconcile()
    again = world.commit(world.exit("AAPL"), cycle_id="c3", books=before)
    assert arrives(world, late) == 200
    assert world.positions() == {}
    posts = world.posts()
    world.send(again)
    assert world.posts() == posts
    world.reconcile()
    sales = {row["client_order_id"]: row["status"] for row in world.rows(tables.intents) if row["side"] == "sell"}
    assert sales == {late: "closed", "qbot-c3-AAPL-sell": "rejected"}


def test_a_purchase_by_hand_into_a_protected_position_is_refused_with_the_reason(world: World) -> None:
    """The venue would refuse it: a simple order beside a stop of the other side."""
    world.buy("AAPL", 2)
    world.market.advance(minutes=40)
    (judged,) = world.commit(limit_entry(world, "AAPL", source=Source.MANUAL), cycle_id="m1")
    assert judged.verdict.refusal == "OPPOSITE_ORDER_OPEN"
    world.buy("AAPL", 1, cycle_id="c2")  # a bracket is taken
    assert world.positions() == {"AAPL": Decimal(3)}


def test_a_humans_sale_while_latched_passes_the_fence(world: World) -> None:
    world.buy("AAPL", 2)
    judged = world.commit(world.exit(source=Source.MANUAL), cycle_id="m1", latched=True, state=TradingState.HALTED)
    stop_trading(world, latched=True)
    assert send(world, judged).failed == {}
    assert world.positions() == {}


def test_looks_that_become_quick_enough_let_it_out(world: World) -> None:
    judged, seconds = world.commit(world.entry()), Seconds()
    slow = Watched(world)
    slow.each = lambda: seconds.pass_by(limits.FENCE_MAX_S + 0.1 if len(slow.looks) < limits.FENCE_TURNS else 0.0)
    send(world, judged, store=slow, monotonic_s=seconds)
    assert (world.posts(), len(slow.looks)) == (1, limits.FENCE_TURNS + 1)


def test_what_its_stop_sold_while_another_sale_went_out_is_not_sold_again(world: World) -> None:
    """Nothing rests on the shares any more then, and a look at the positions from before that says they are held."""
    world.buy("AAPL", 2)
    world.buy("MSFT", 1, cycle_id="c2")
    judged = world.commit(world.exit("AAPL"), world.exit("MSFT"), cycle_id="c3")
    posts = world.posts()

    def stopped_out() -> None:
        for order in world.resting("sell"):
            if order["symbol"] == "MSFT":
                world.exchange.call("DELETE", f"/v2/orders/{order['id']}")
        if "MSFT" in world.positions():
            world.by_hand(symbol="MSFT", side="sell", qty="1")

    sent = send(world, judged, broker=Frozen(world, before=stopped_out))
    assert list(sent.failed) == ["qbot-c3-MSFT-sell"]
    assert (world.posts() - posts, world.positions()) == (2, {})  # of AAPL, and by hand


def test_a_cancel_that_fails_leaves_the_rest_to_the_brokers_own_list(world: World) -> None:
    world.send(world.commit(limit_entry(world, "AAPL"), limit_entry(world, "MSFT")))
    known = [order["id"] for order in world.resting("buy")]
    world.exchange.fault("server_error", method="DELETE", times=1)
    assert execution.cancel_known(world.rt.broker, known) == set()
    assert execution.cancel_known(world.rt.broker, known) == set(known)
    assert world.resting("buy") == []
