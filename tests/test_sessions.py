"""UI sessions are known by their writes and go stale; the trading session lasts until somebody stops it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot import control, health, limits, pipeline, sessions
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.errors import StoreUnavailable
from qbot.store import sightings, tables
from tests.support.runtime import SESSION, World
from tests.test_manual import asked

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TRADING = str(SESSION["session_id"])
TIMEOUT_S = limits.UI_SESSION_TIMEOUT_S
INPUTS: dict[str, tuple[Key[Any], Any]] = {
    "ui_state": (keys.UI_STATE, {"active_tab": "trading"}),
    "trading_config": (keys.TRADING_CONFIG, {"paper_mode": True}),
    "bot_strategy": (keys.BOT_STRATEGY, {"risk_level": 3}),
    "enabled": (keys.AUTOTRADING_ENABLED, {**SESSION, "enabled": False}),
    "emergency": (keys.EMERGENCY_ACTIONS, {"action": "STOP_ALL_TRADING", "confirmed": False}),
    "manual_orders": (keys.MANUAL_ORDERS, [asked(quantity=500)]),
    "acknowledgements": (keys.ALERT_ACKNOWLEDGEMENTS, [{"alert_id": "none"}]),
    "price_alerts": (keys.PRICE_ALERTS, [{"price_alert_id": "p1", "symbol": "AAPL", "above": 1e6}]),
    "training_request": (keys.TRAINING_REQUEST, {"request_id": "t1"}),
}


def by(session_id: str, value: Any) -> Any:
    return [by(session_id, item) for item in value] if isinstance(value, list) else value | {"session_id": session_id}


def show(world: World, session_id: str, **more: Any) -> None:
    """What a user interface writes at each refresh."""
    world.say(keys.UI_STATE, {"active_tab": "dashboard", "session_id": session_id, **more})


def event(world: World, key: Key[Any]) -> None:
    """What the listener does when it hears of a write."""
    sessions.observe(world.rt, key)


def active(world: World) -> list[str]:
    health.show_health(world.rt)
    return list(world.told(keys.SYSTEM_HEALTH).active_sessions)


def start(world: World, session_id: str = TRADING) -> None:
    world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "session_id": session_id})
    assert control.sync_switch(world.rt).on


@pytest.fixture
def ready(world: World) -> World:
    """QBot has looked at the board once: what is written from now on is a frontend's wish."""
    control.sync_switch(world.rt)
    return world


# --- a write is a sign of life ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INPUTS)
def test_whoever_writes_an_input_is_alive(world: World, name: str) -> None:
    key, value = INPUTS[name]
    world.say(key, by("ui_1", value))
    event(world, key)
    assert active(world) == ["ui_1"]


@pytest.mark.parametrize("name", INPUTS)
def test_the_net_sees_the_same_without_any_event(world: World, name: str) -> None:
    key, value = INPUTS[name]
    world.say(key, by("ui_1", value))
    pipeline.monitor_autotrading_frontend(world.rt)
    assert active(world) == ["ui_1"]


def test_a_write_in_the_same_bytes_is_a_heartbeat_when_an_event_tells_of_it(world: World) -> None:
    for _ in range(4):
        show(world, "ui_1")
        event(world, keys.UI_STATE)
        world.wall.advance(seconds=TIMEOUT_S - 1)
        assert active(world) == ["ui_1"]
    world.wall.advance(seconds=1)
    assert active(world) == []


def test_the_net_takes_only_what_has_changed_for_a_heartbeat(world: World) -> None:
    show(world, "ui_1")
    sessions.observe(world.rt)
    for _ in range(4):
        world.wall.advance(seconds=TIMEOUT_S / 4)
        sessions.observe(world.rt)
    assert active(world) == []
    show(world, "ui_1", last_refresh="2026-03-02T12:00:00Z")
    sessions.observe(world.rt)
    assert active(world) == ["ui_1"]


def test_a_key_that_was_deleted_and_written_again_in_the_same_bytes_is_a_heartbeat(world: World) -> None:
    show(world, "ui_1")
    sessions.observe(world.rt)
    world.wall.advance(seconds=TIMEOUT_S)
    world.redis.flushall()
    sessions.observe(world.rt)
    assert active(world) == []
    show(world, "ui_1")
    sessions.observe(world.rt)
    assert active(world) == ["ui_1"]


def test_of_a_shared_array_only_a_new_element_is_a_sign_of_its_session(world: World) -> None:
    world.say(keys.MANUAL_ORDERS, [asked(session_id="ui_1", quantity=500)])
    event(world, keys.MANUAL_ORDERS)
    world.wall.advance(seconds=TIMEOUT_S)
    pipeline.process_manual_orders(world.rt)  # QBot's own write of the status
    event(world, keys.MANUAL_ORDERS)
    assert active(world) == []
    items = json.loads(world.redis.get(keys.MANUAL_ORDERS.name) or "")
    world.say(keys.MANUAL_ORDERS, [*items, asked("order_2", session_id="ui_2", quantity=500)])
    event(world, keys.MANUAL_ORDERS)
    assert active(world) == ["ui_2"]


@pytest.mark.parametrize("bad", ["x" * 101, "", "ui\n1", "ui\x1b[31m", "ui\x7f", 7, None, ["ui"]])
def test_what_can_be_no_session_id_is_ignored(world: World, bad: Any) -> None:
    for key, value in INPUTS.values():
        world.say(key, by(bad, value))
        event(world, key)
    sessions.observe(world.rt)
    assert active(world) == []
    assert world.rows(tables.ui_sessions) == []


def test_keys_that_name_no_session_and_values_that_are_none_are_no_sign(world: World) -> None:
    for key in (keys.PORTFOLIO_SETTINGS, keys.TRADING_SETTINGS, keys.UI_STATE):
        world.say(key, "{")
        event(world, key)
    world.redis.delete(keys.UI_STATE.name)
    world.redis.lpush(keys.UI_STATE.name, "ui_1")
    event(world, keys.UI_STATE)
    sessions.observe(world.rt)
    assert world.rows(tables.ui_sessions) == []


def test_without_postgres_it_is_named_and_health_goes_on_without_sessions(world: World) -> None:
    show(world, "ui_1")
    dead = world.without_postgres()
    with pytest.raises(StoreUnavailable):
        sessions.observe(dead)
    assert health.observe(dead).sessions == ()


# --- several at once --------------------------------------------------------------------------------------------------


def test_several_user_interfaces_and_the_trading_session_stand_side_by_side_in_order(ready: World) -> None:
    start(ready)
    for name in ("ui_b", "ui_a", "ui_c"):
        show(ready, name)
        event(ready, keys.UI_STATE)
    assert active(ready) == sorted([TRADING, "ui_a", "ui_b", "ui_c"])


def test_a_stale_user_interface_ends_and_its_neighbour_does_not(world: World) -> None:
    show(world, "ui_1")
    event(world, keys.UI_STATE)
    world.wall.advance(seconds=TIMEOUT_S - 10)
    show(world, "ui_2")
    event(world, keys.UI_STATE)
    world.wall.advance(seconds=10)
    assert active(world) == ["ui_2"]
    sessions.observe(world.rt)
    ended = {row["session_id"]: row["ended_at_wall"] for row in world.rows(tables.ui_sessions)}
    assert ended == {"ui_1": world.wall(), "ui_2": None}


def test_one_that_comes_back_is_alive_again_and_was_first_seen_when_it_was(world: World) -> None:
    first = world.wall()
    show(world, "ui_1")
    event(world, keys.UI_STATE)
    world.wall.advance(seconds=TIMEOUT_S)
    sessions.observe(world.rt)
    show(world, "ui_1")
    event(world, keys.UI_STATE)
    (row,) = world.rows(tables.ui_sessions)
    assert (row["first_seen_wall"], row["last_seen_wall"], row["ended_at_wall"]) == (first, world.wall(), None)
    assert active(world) == ["ui_1"]


def test_sessions_of_long_ago_are_forgotten(world: World) -> None:
    show(world, "ui_1")
    event(world, keys.UI_STATE)
    world.wall.advance(seconds=limits.UI_SESSIONS_KEPT_S + 1)
    sessions.observe(world.rt)
    assert world.rows(tables.ui_sessions) == []


# --- the trading session ----------------------------------------------------------------------------------------------


def test_trading_goes_on_when_every_user_interface_has_gone(ready: World) -> None:
    start(ready)
    event(ready, keys.AUTOTRADING_ENABLED)
    ready.wall.advance(days=3)
    pipeline.monitor_autotrading_frontend(ready.rt)
    assert control.sync_switch(ready.rt).on
    assert active(ready) == [TRADING]
    assert ready.told(keys.AUTOTRADING_SESSION_ACTIVE) == TRADING


def test_a_user_interface_that_closes_or_goes_stale_stops_nothing(ready: World) -> None:
    start(ready)
    show(ready, "ui_1")
    event(ready, keys.UI_STATE)
    ready.redis.delete(keys.UI_STATE.name)
    event(ready, keys.UI_STATE)
    pipeline.monitor_autotrading_frontend(ready.rt)
    assert control.sync_switch(ready.rt).on
    ready.wall.advance(seconds=TIMEOUT_S)
    pipeline.monitor_autotrading_frontend(ready.rt)
    assert control.sync_switch(ready.rt).on
    assert active(ready) == [TRADING]


def test_any_user_interface_may_stop_what_another_started(ready: World) -> None:
    start(ready)
    show(ready, "ui_2")
    event(ready, keys.UI_STATE)
    ready.redis.delete(keys.AUTOTRADING_ENABLED.name)
    assert not control.sync_switch(ready.rt).on
    pipeline.monitor_autotrading_frontend(ready.rt)
    assert active(ready) == ["ui_2"]


def test_only_a_new_start_with_a_new_session_id_replaces_the_trading_session(ready: World) -> None:
    start(ready)
    for key, value in (INPUTS["ui_state"], INPUTS["trading_config"], INPUTS["bot_strategy"]):
        ready.say(key, by("ui_2", value))
        event(ready, key)
    assert control.sync_switch(ready.rt).session_id == TRADING
    start(ready, "ui_2")
    assert control.sync_switch(ready.rt).session_id == "ui_2"
    assert [row["event"] for row in ready.rows(tables.switch_log)] == ["started", "stopped", "started"]


# --- the time-out, as a pure rule -------------------------------------------------------------------------------------

SIGHTINGS = st.dictionaries(st.sampled_from("abcdef"), st.integers(-2 * TIMEOUT_S, 2 * TIMEOUT_S), max_size=6)


@settings(max_examples=200)
@given(SIGHTINGS)
def test_those_live_who_wrote_within_the_time_out_and_nobody_else(ages_s: dict[str, int]) -> None:
    seen = {name: NOW - timedelta(seconds=age_s) for name, age_s in ages_s.items()}
    found = sessions.live(seen, NOW)
    assert found == {name for name, age_s in ages_s.items() if -TIMEOUT_S < age_s < TIMEOUT_S}


@settings(max_examples=200)
@given(SIGHTINGS, SIGHTINGS, st.integers(0, TIMEOUT_S))
def test_sessions_do_not_disturb_one_another_and_time_alone_brings_none_back(
    ages_s: dict[str, int], others_s: dict[str, int], later_s: int
) -> None:
    seen = {name: NOW - timedelta(seconds=abs(age_s)) for name, age_s in ages_s.items()}
    others = {name.upper(): NOW - timedelta(seconds=age_s) for name, age_s in others_s.items()}
    assert sessions.live(seen | others, NOW) == sessions.live(seen, NOW) | sessions.live(others, NOW)
    assert sessions.live(seen, NOW + timedelta(seconds=later_s)) <= sessions.live(seen, NOW)


@settings(max_examples=100)
@given(st.text(max_size=120))
def test_a_session_id_can_be_shown_on_one_line(name: str) -> None:
    assert sessions.valid(name) == (0 < len(name) <= 100 and name.isprintable())


def test_however_many_sessions_a_frontend_makes_up_the_newest_are_kept_and_no_more(world: World) -> None:
    with world.engine.begin() as connection:
        sightings.alive(connection, [f"old_{number}" for number in range(limits.UI_SESSIONS_MAX)], world.wall())
    world.wall.advance(seconds=1)
    for batch in range(11):
        names = [{"symbol": "AAPL", "above": 9_999, "session_id": f"ui_{batch}_{number}"} for number in range(1_000)]
        world.say(keys.PRICE_ALERTS, [{**one, "price_alert_id": f"p{n}"} for n, one in enumerate(names)])
        event(world, keys.PRICE_ALERTS)
        world.wall.advance(seconds=1)
    sessions.observe(world.rt)
    left = {row["session_id"] for row in world.rows(tables.ui_sessions)}
    assert left == {f"ui_{batch}_{number}" for batch in range(1, 11) for number in range(1_000)}
