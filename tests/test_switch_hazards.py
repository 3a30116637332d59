"""A stop under bad luck: a board that is full, lost or old at that moment, words that cross each other, orders on their
way, a second listener, a server without keyspace events.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis

from qbot import control, emergency, mirrors, pipeline
from qbot.contract import keys
from qbot.contract.events import Written
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.errors import BoardUnavailable, StoreUnavailable
from qbot.session import Inputs, Observed, Switch, Touched
from qbot.store import engine, state, tables
from qbot.writes import Writes
from tests.support.listening import listening
from tests.support.runtime import SESSION, World, limit_entry
from tests.support.servers import wait_until
from tests.test_control import by_del, events, installed, recorded, started, with_resting_orders
from tests.test_emergency import STOP, latched, press

AGAIN = {**SESSION, "timestamp": "2025-09-26T17:00:00Z"}
EMERGENCY_OFF = {"emergency_stop_active": False, "cooldown_minutes": 7}
KEYS = {name: key for key, name in mirrors.NAMES.items()}


def automatic(world: World) -> list[str]:
    return [order["symbol"] for order in world.resting("buy") if order["client_order_id"].startswith("qbot-c")]


def backup(world: World) -> dict[Any, Any]:
    raw = admin(world)
    kept = {key: raw.dump(key) for key in raw.scan_iter()}
    raw.close()
    return kept


def restore(world: World, kept: dict[Any, Any]) -> None:
    raw = admin(world)
    raw.flushall()
    for key, value in kept.items():
        raw.restore(key, 0, value)
    raw.close()


def admin(world: World) -> redis.Redis:
    settings = world.rt.settings
    return redis.Redis(port=settings.redis_port, username="admin", password=settings.redis_password.get_secret_value())


# --- words that cross an emergency -----------------------------------------------------------------------------------


def test_a_form_that_never_showed_the_latch_cannot_release_it(world: World) -> None:
    """Blocked, and not yet on the board: whoever saves his risk settings now still has false in his form."""
    started(world)
    press(world, STOP)
    action = world.told(keys.EMERGENCY_ACTIONS)
    assert emergency._block(world.rt, action) == []
    world.say(keys.RISK_SETTINGS, EMERGENCY_OFF)
    assert control.sync_switch(world.another()).latched
    pipeline.emergency_handler(world.rt)
    assert latched(world)
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is True
    world.say(keys.RISK_SETTINGS, EMERGENCY_OFF)
    assert not control.sync_switch(world.rt).latched  # now it was to be seen


# --- Redis full, lost, old -------------------------------------------------------------------------------------------


def test_a_stop_counts_and_cancels_while_redis_takes_no_writes(world: World) -> None:
    with_resting_orders(started(world))
    by_del(world)
    server = admin(world)
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", 1)
    try:
        with pytest.raises(BoardUnavailable):  # the cancels are out by then
            control.sync_switch(world.rt)
        assert (recorded(world).on, automatic(world)) == (False, [])
    finally:
        server.config_set("maxmemory", 0)
        server.close()
    assert not control.sync_switch(world.rt).on
    world.say(keys.AUTOTRADING_ENABLED, AGAIN)
    assert control.sync_switch(world.rt).on


def test_an_emergency_flag_on_a_board_that_was_lost_latches(world: World) -> None:
    started(world)
    world.redis.flushall()
    world.say(keys.RISK_SETTINGS, {"emergency_stop_active": True})
    switch = control.sync_switch(world.rt)
    assert (switch.on, switch.latched) == (False, True)
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is True
    world.say(keys.AUTOTRADING_ENABLED, AGAIN)
    assert not control.sync_switch(world.rt).on


def test_a_release_on_a_board_that_went_back_starts_nothing(world: World) -> None:
    """The backup says ON; the release comes before anybody looked at it."""
    started(world)
    old = backup(world)
    by_del(world)
    control.sync_switch(world.rt)
    world.say(keys.RISK_SETTINGS, {"emergency_stop_active": True})
    assert control.sync_switch(world.rt).latched
    restore(world, old)
    assert not control.release(world.rt).on
    assert not control.sync_switch(world.rt).on
    assert ("CRITICAL", "The board was lost") in world.alerts()


def test_a_board_that_went_back_is_written_anew(world: World) -> None:
    pipeline.update_backend_responses(started(world).rt)
    pipeline.monitor_autotrading_frontend(world.rt)
    world.say(keys.MODEL_TRAINED, "true")  # as it was then: no tick writes it
    old = backup(world)
    by_del(world)
    control.sync_switch(world.rt)
    restore(world, old)
    control.sync_switch(world.rt)
    pipeline.monitor_autotrading_frontend(world.rt)
    assert world.told(keys.MODEL_TRAINED) is False


def test_what_stood_there_before_qbot_ever_looked_starts_nothing_though_a_human_spoke_first(world: World) -> None:
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    assert not control.release(world.rt).on
    control.latch(world.rt, "test")
    assert not control.release(world.another()).on
    assert events(world) == ["released", "latched", "released"]


# --- what a listener knows -------------------------------------------------------------------------------------------


def test_what_could_not_be_told_in_time_is_judged_at_the_next_look() -> None:
    """QBot's ACTIVE went over a frontend's STOPPED, and Redis is too slow to tell within this look."""
    writes = Writes(lambda: False)
    off = Switch(epoch=1)
    assert writes.touched(off, Inputs()) == Touched(epoch=0)
    writes.note(Written(KEYS["status"], own=False))
    writes.touched(replace(off, epoch=2), Inputs(status=Observed("active", True)))
    writes.note(Written(KEYS["status"], own=True))
    assert "status" in writes.touched(replace(off, epoch=2), Inputs(status=Observed("active", True))).overwritten


def test_a_token_of_another_listener_is_not_taken_for_ones_own(world: World) -> None:
    with listening(installed(world)) as one, listening(world) as other:
        other._sent = 1_000_000
        assert other._events is not None
        other._ask(other._events)
        wait_until(lambda: other._passed > 1_000_000, "the token")
        assert one._passed < 1_000


# --- orders on their way ---------------------------------------------------------------------------------------------


def test_an_entry_on_its_way_at_a_stop_is_cancelled_when_it_arrives(world: World) -> None:
    """The cycle's POST was out when the stop came: the broker did not know of the order yet."""
    started(world)
    judged = world.commit(limit_entry(world, "AAPL"), cycle_id="c1")
    assert judged[0].order is not None
    with listening(world):
        by_del(world)
        wait_until(lambda: not recorded(world).on, "the stop")
        assert recorded(world).stopping
        world.rt.broker.submit(judged[0].order.spec)
        wait_until(lambda: automatic(world) == [], "the cancel")
        world.reconcile()
        wait_until(lambda: not recorded(world).stopping, "the end of the stop")
    assert [order["status"] for order in world.sent()] == ["canceled"]


def test_an_order_that_never_went_out_holds_up_a_new_session_no_longer_than_its_sender_may_take(world: World) -> None:
    started(world)
    world.commit(limit_entry(world, "AAPL"), cycle_id="c1")
    by_del(world)
    assert control.sync_switch(world.rt).stopping
    world.say(keys.AUTOTRADING_ENABLED, AGAIN)
    assert not control.sync_switch(world.rt).on
    world.wall.advance(seconds=25)
    assert control.sync_switch(world.rt).on
    assert events(world) == ["started", "stopped", "started"]


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_a_cycle_that_a_stop_overtook_does_not_show_it_as_running(world: World) -> None:
    from qbot import showing
    from qbot.market.calendar import market_hours

    control.sync_switch(started(world).rt)
    settings, books, hours = control.sync_settings(world.rt), world.reconcile(), market_hours(world.market())
    by_del(world)
    assert not control.sync_switch(world.another()).on
    showing.cycle(world.rt, settings, hours, books, world.market())
    assert world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.STOPPED
    assert world.told(keys.AUTOTRADING_SESSION_ACTIVE) is None


def test_what_an_emergency_has_to_say_stands_on_the_board_without_any_tick(world: World) -> None:
    with listening(started(world)):
        press(world, STOP)
        wait_until(lambda: "Emergency stop" in {one.title for one in world.told(keys.ALERTS_ACTIVE) or ()}, "the alert")


def test_a_process_that_is_frozen_while_it_holds_the_switch_loses_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "IDLE_TIMEOUT_MS", 300)
    frozen = engine.make_engine(world.engine.url.render_as_string(hide_password=False))
    started(world)
    with pytest.raises(StoreUnavailable), engine.transaction(frozen) as connection:
        state.load_switch(connection, for_update=True)
        by_del(world)
        assert not control.sync_switch(world.rt).on
        state.load_switch(connection)
    assert not recorded(world).on
    frozen.dispose()


# --- servers and keys ------------------------------------------------------------------------------------------------


def test_a_server_without_keyspace_events_is_told_once_and_what_to_set(world: World) -> None:
    world.redis.config_set("notify-keyspace-events", "")
    with listening(installed(world)):
        wait_until(lambda: world.alerts() != [], "the alert")
    assert world.alerts() == [("WARNING", "Redis sends no keyspace events")]
    assert "notify-keyspace-events" in world.rows(tables.alerts)[0]["message"]


def test_without_broker_keys_the_urgent_lanes_do_not_fail(world: World) -> None:
    from pydantic import SecretStr

    with listening(installed(world), world.another(alpaca_api_key=SecretStr(""))) as listener:
        listener._keep_warm("switch")
        listener._keep_warm("emergency")
    assert world.alerts() == []
