"""The emergency switch: it blocks first, beats everything, happens once, and is verified at the broker."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from qbot import control, emergency, limits, pipeline
from qbot.contract import keys
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.contract.payloads_orders import EmergencyAction, EmergencyKind
from qbot.errors import BrokerError, QBotError, StoreUnavailable
from qbot.store import ledger, locks, state, tables
from qbot.store.engine import transaction
from qbot.types import Source
from tests.support.runtime import SESSION, WALL, World, limit_entry

CLOSE, STOP, CANCEL = "CLOSE_ALL_POSITIONS", "STOP_ALL_TRADING", "CANCEL_ALL_ORDERS"
AFTER_THE_CLOSE = datetime(2025, 7, 7, 21, 0, tzinfo=UTC)


def press(world: World, action: str, *, at: datetime | None = WALL, **more: Any) -> None:
    body = {"action": action, "reason": "test", "session_id": "frontend_1", "confirmed": True, **more}
    world.say(keys.EMERGENCY_ACTIONS, {**body, **({"timestamp": at.isoformat()} if at else {})})


def trading(world: World) -> World:
    """On, with a position and its protection, an automatic entry at rest and one by hand."""
    control.sync_switch(world.rt)
    start(world, 0)
    world.buy("SPY", 2, cycle_id="c0")
    world.send(world.commit(limit_entry(world, "AAPL"), cycle_id="c1"))
    world.send(world.commit(limit_entry(world, "MSFT", source=Source.MANUAL), cycle_id="m1"))
    assert len(world.resting()) == 6  # the entry of the cycle is a bracket, its legs are there already
    return world


def start(world: World, second: int) -> bool:
    world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "timestamp": f"2025-09-26T13:15:{second:02d}Z"})
    return control.sync_switch(world.rt).on


def latched(world: World) -> bool:
    with transaction(world.engine) as connection:
        return state.load_switch(connection).latched


# --- what each action does --------------------------------------------------------------------------------------------


def test_stop_all_latches_and_cancels_every_entry_but_no_protection(world: World) -> None:
    press(trading(world), STOP)
    pipeline.emergency_handler(world.rt)
    assert latched(world)
    assert [(order["symbol"], order["side"]) for order in world.resting()] == [("SPY", "sell")] * 2
    assert world.positions() == {"SPY": Decimal(2)}
    assert world.alerts() == [("CRITICAL", "Emergency stop")]
    pipeline.monitor_autotrading_frontend(world.rt)
    assert world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.STOPPED
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is True
    assert world.told(keys.TRADING_SETTINGS).enabled is False


def test_cancel_all_cancels_protection_too_warns_and_does_not_stop(world: World) -> None:
    press(trading(world), CANCEL)
    pipeline.emergency_handler(world.rt)
    assert (world.resting(), world.positions(), latched(world)) == ([], {"SPY": Decimal(2)}, False)
    assert world.alerts() == [("CRITICAL", "All orders were cancelled")]
    assert "unprotected" in world.rows(tables.alerts)[0]["message"]
    assert control.sync_switch(world.rt).on


def test_close_all_latches_sells_everything_and_looks_until_the_broker_is_flat(world: World) -> None:
    trading(world).by_hand(symbol="MSFT", qty="3", side="buy", order_class="bracket", time_in_force="gtc",
                           take_profit={"limit_price": "900"}, stop_loss={"stop_price": "100"})  # fmt: skip
    press(world, CLOSE)
    assert emergency.handle(world.rt) == "2 positions closed and verified"
    assert (world.positions(), world.resting(), latched(world)) == ({}, [], True)
    sales = [row for row in world.rows(tables.intents) if row["source"] == "emergency"]
    assert sorted((row["symbol"], row["qty"]) for row in sales) == [("MSFT", 3), ("SPY", 2)]
    assert world.reconcile().drift == {}


def test_close_all_waits_for_cancels_that_take_long_and_then_sells(world: World) -> None:
    press(trading(world), CLOSE)
    world.exchange.fault("hold_cancels")
    free = threading.Timer(0.6, world.exchange.clear_faults)
    free.start()
    assert emergency.handle(world.rt) == "1 positions closed and verified"
    free.join()
    assert (world.positions(), world.resting()) == ({}, [])


def test_close_all_is_not_done_while_an_entry_could_still_fill(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held, but the cancel of a resting buy is stuck: flat it is only when that is gone."""
    monkeypatch.setattr(limits, "FLATTEN_WAIT_S", 0.3)
    world.send(world.commit(limit_entry(world, "AAPL"), cycle_id="c1"))
    press(world, CLOSE)
    world.exchange.fault("hold_cancels")
    with pytest.raises(BrokerError, match="AAPL"):
        emergency.handle(world.rt)
    world.exchange.clear_faults()
    assert emergency.handle(world.rt) == "0 positions closed and verified"
    assert (world.resting(), world.positions()) == ([], {})


def test_close_all_sells_fractions_that_no_order_of_ours_could(world: World) -> None:
    world.by_hand(symbol="AAPL", qty="1.5", side="buy")
    world.by_hand(symbol="SPY", qty="2", side="buy")
    press(world, CLOSE)
    assert emergency.handle(world.rt) == "2 positions closed and verified"
    assert world.positions() == {}


def test_close_all_at_a_closed_exchange_cancels_now_and_sells_at_the_open(world: World) -> None:
    world.buy("SPY", 2)
    world.market.set(AFTER_THE_CLOSE)
    press(world, CLOSE)
    assert emergency.handle(world.rt) == "1 positions are sold when the market opens"
    assert [(order["symbol"], order["side"]) for order in world.resting()] == [("SPY", "sell")]
    world.market.set(datetime(2025, 7, 8, 13, 31, tzinfo=UTC))
    assert (world.positions(), world.resting()) == ({}, [])


def test_close_all_at_a_closed_exchange_is_not_done_before_the_sale_is_queued(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLATTEN_WAIT_S", 0.3)
    world.buy("SPY", 2)
    world.market.set(AFTER_THE_CLOSE)
    press(world, CLOSE)
    world.exchange.fault("hold_cancels")
    with pytest.raises(BrokerError, match="SPY"):
        emergency.handle(world.rt)
    world.exchange.clear_faults()
    assert emergency.handle(world.rt) == "1 positions are sold when the market opens"


# --- once, and only when it is meant ----------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [CLOSE, STOP, CANCEL])
def test_unconfirmed_does_nothing(world: World, action: str) -> None:
    press(trading(world), action, confirmed=False)
    pipeline.emergency_handler(world.rt)
    assert len(world.resting()) == 6
    assert (world.alerts(), latched(world), world.rows(tables.handled)) == ([], False, [])
    assert control.sync_switch(world.rt).on


@pytest.mark.parametrize("action", [CLOSE, STOP, CANCEL])
def test_an_action_is_carried_out_once_for_its_session_and_time(world: World, action: str) -> None:
    press(trading(world), action)
    assert emergency.handle(world.rt) is not None
    if latched(world):
        control.release(world.rt)
        assert start(world, 30)
    world.buy("AAPL", 1, cycle_id="c9")
    world.send(world.commit(limit_entry(world, "QQQ"), cycle_id="c10"))
    orders = world.resting()
    for rt in (world.rt, world.another()):
        assert emergency.handle(rt) is None
        pipeline.emergency_handler(rt)
    assert (world.resting(), world.positions()["AAPL"]) == (orders, Decimal(1))
    press(world, action, at=WALL + timedelta(seconds=1))
    assert emergency.handle(world.rt) is not None


def test_a_stop_without_a_time_holds_for_as_long_as_it_stands_there(world: World) -> None:
    press(trading(world), STOP, at=None)
    pipeline.emergency_handler(world.rt)
    control.release(world.rt)
    start(world, 30)
    pipeline.emergency_handler(world.rt)
    assert latched(world)
    world.redis.delete(keys.EMERGENCY_ACTIONS.name)
    control.release(world.rt)
    assert start(world, 40)
    pipeline.emergency_handler(world.rt)
    assert control.sync_switch(world.rt).on


@pytest.mark.parametrize("at", [WALL - timedelta(seconds=limits.EMERGENCY_MAX_AGE_S + 1), None])
def test_a_close_all_that_is_too_old_or_has_no_time_stops_and_sells_nothing(world: World, at: datetime | None) -> None:
    press(trading(world), CLOSE, at=at)
    report = emergency.handle(world.rt)
    assert report is not None and "nothing was sold" in report
    assert (latched(world), world.positions()) == (True, {"SPY": Decimal(2)})
    assert [(order["symbol"], order["side"]) for order in world.resting()] == [("SPY", "sell")] * 2
    assert world.alerts() == [("CRITICAL", "Emergency stop")]


@pytest.mark.parametrize("nonsense", ["{", '{"action": "PANIC", "confirmed": true}', "STOP"])
def test_an_action_that_cannot_be_read_alerts_and_keeps_new_entries_out(world: World, nonsense: str) -> None:
    control.sync_switch(world.rt)
    assert start(world, 0)
    world.say(keys.EMERGENCY_ACTIONS, nonsense)
    pipeline.emergency_handler(world.rt)
    assert world.alerts() == [("CRITICAL", "The emergency action is unreadable")]
    world.believe("AAPL", 0.01)
    pipeline.trade_bot(world.rt)
    assert world.posts() == 0
    world.redis.delete(keys.EMERGENCY_ACTIONS.name)
    world.market.advance(seconds=1)
    pipeline.trade_bot(world.rt)
    assert world.posts() == 1


def test_a_cycle_that_runs_before_the_handler_sees_the_action_enters_nothing(world: World) -> None:
    control.sync_switch(world.rt)
    assert start(world, 0)
    world.believe("AAPL", 0.01)
    press(world, STOP)
    pipeline.trade_bot(world.rt)
    assert (world.posts(), world.intents()) == (0, {})


@pytest.mark.parametrize("kind", [CANCEL, CLOSE])
def test_what_was_cancelled_at_a_terminal_is_not_put_back(world: World, kind: str) -> None:
    """A sale at a closed exchange waits for the open: until then its shares are bare, as was asked for."""
    world.buy("SPY", 2)
    world.market.set(AFTER_THE_CLOSE)
    asked = EmergencyAction(action=EmergencyKind(kind), confirmed=True, timestamp=WALL, session_id="terminal")
    emergency.by_hand(world.rt, asked)
    world.exchange.call("DELETE", "/v2/orders")
    world.wall.advance(seconds=5)
    posts = world.posts()
    pipeline.reconcile_orders(world.rt)
    assert (world.posts(), world.resting()) == (posts, [])
    assert ("CRITICAL", "A position is unprotected") in world.alerts()


# --- with parts down --------------------------------------------------------------------------------------------------


def test_close_all_works_without_postgres_and_latches_when_it_is_back(world: World) -> None:
    press(trading(world), CLOSE)
    blind = world.without_postgres()
    with pytest.raises(StoreUnavailable):
        pipeline.emergency_handler(blind)
    assert (world.positions(), world.resting()) == ({}, [])
    world.redis.delete(keys.EMERGENCY_ACTIONS.name)  # the frontend thinks that all is done
    assert control.sync_switch(world.rt).latched
    assert not start(world, 30)
    assert world.reconcile().drift == {}


def test_stop_all_works_without_postgres(world: World) -> None:
    press(trading(world), STOP)
    with pytest.raises(StoreUnavailable):
        pipeline.emergency_handler(world.without_postgres())
    assert [(order["symbol"], order["side"]) for order in world.resting()] == [("SPY", "sell")] * 2
    pipeline.emergency_handler(world.rt)
    assert latched(world)


def test_while_the_broker_does_not_answer_trading_is_blocked_and_the_next_tick_goes_on(world: World) -> None:
    press(trading(world), CLOSE)
    world.exchange.fault("server_error", times=3)
    with pytest.raises(QBotError):
        pipeline.emergency_handler(world.rt)
    world.exchange.clear_faults()
    assert (latched(world), world.positions()) == (True, {"SPY": Decimal(2)})
    world.wall.advance(seconds=10)
    pipeline.emergency_handler(world.rt)
    assert (world.positions(), world.resting()) == ({}, [])


@pytest.mark.parametrize("fault", ["timeout_after_accept", "drop_after_accept", "server_error", "rate_limited"])
def test_a_sale_whose_answer_is_lost_is_not_sold_twice(
    world: World, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLATTEN_WAIT_S", 0.5)
    world.buy("SPY", 2)
    press(world, CLOSE)
    world.exchange.fault(fault, method="POST", path="/v2/orders", times=1)
    for waits_s in (10, limits.ABANDON_INTENT_S, 0):  # what got a 5xx may yet arrive: until then nothing is verified
        try:
            emergency.handle(world.rt)
            break
        except BrokerError:
            world.wall.advance(seconds=waits_s)
    assert (world.positions(), world.resting()) == ({}, [])
    filled = [order for order in world.orders() if order["side"] == "sell" and order["filled_qty"] != "0"]
    assert [order["filled_qty"] for order in filled] == ["2"]
    assert world.reconcile().drift == {}
    assert emergency.handle(world.rt) is None


def test_whoever_hangs_is_taken_over_from(world: World) -> None:
    """Another process holds the emergency for itself and gives no sign of life."""
    world.buy("SPY", 2)
    press(world, CLOSE)
    with locks.tried(world.engine, locks.EMERGENCY) as mine:
        assert mine
        assert emergency.handle(world.rt) is None, "it has given none yet, and may be about to"
        action = world.told(keys.EMERGENCY_ACTIONS)
        emergency._alive(world.rt, action)
        world.wall.advance(seconds=limits.EMERGENCY_STUCK_S)
        assert (emergency.handle(world.rt), world.positions()) == (None, {"SPY": Decimal(2)})
        world.wall.advance(seconds=1)
        assert emergency.handle(world.rt) == "1 positions closed and verified"
    assert ("CRITICAL", "An emergency is taken over") in world.alerts()
    assert emergency.handle(world.rt) is None


def test_orders_that_were_still_on_their_way_are_not_sent_after_the_emergency(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.sync_switch(world.rt)
    start(world, 0)
    judged = world.commit(world.entry("AAPL"), world.entry("MSFT"))
    press(world, CLOSE)
    monkeypatch.setattr(limits, "FLATTEN_WAIT_S", 0.1)
    with pytest.raises(BrokerError, match="AAPL, MSFT"):  # for all that is known, a sender has them in hand
        emergency.handle(world.rt)
    world.send(judged)
    assert (world.posts(), world.positions()) == (0, {})
    assert set(world.intents().values()) == {ledger.DENIED}
    assert emergency.handle(world.rt) == "0 positions closed and verified"


def test_the_handler_needs_well_under_a_second_for_a_stop(world: World) -> None:
    """Measured on a busy machine, so generous; what is shown is that nothing waits for a time-out."""
    from qbot import clock

    press(trading(world), STOP)
    begun = clock.monotonic_s()
    emergency.handle(world.rt)
    assert clock.monotonic_s() - begun < 2.0
