"""What humans want, from the board into Postgres: start, stop, latch, settings, and every way to get them wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

from qbot import configuration, continuity, control, pipeline
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.errors import BoardUnavailable, BrokerError, StoreUnavailable
from qbot.session import Event, Switch
from qbot.store import state, tables
from qbot.store.engine import transaction
from qbot.types import Source
from tests.support.runtime import SESSION, World, limit_entry

OTHER = {**SESSION, "session_id": "another"}


def installed(world: World) -> World:
    """QBot has looked once, so what comes now is a frontend's write."""
    control.sync_switch(world.rt)
    return world


def started(world: World) -> World:
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    assert control.sync_switch(installed(world).rt).on is False  # it stood there before QBot first looked
    world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "timestamp": "2025-09-26T13:15:31Z"})
    assert control.sync_switch(world.rt).on
    return world


def recorded(world: World) -> Switch:
    with transaction(world.engine) as connection:
        return state.load_switch(connection)


def events(world: World) -> list[str]:
    return [row["event"] for row in world.rows(tables.switch_log)]


def with_resting_orders(world: World) -> World:
    """An automatic entry, a human's, and a position with its protection."""
    world.buy("SPY", 1, cycle_id="c0")
    world.send(world.commit(limit_entry(world, "AAPL"), cycle_id="c1"))
    world.send(world.commit(limit_entry(world, "MSFT", source=Source.MANUAL), cycle_id="m1"))
    assert [order["symbol"] for order in world.resting("buy")] == ["AAPL", "MSFT"]
    return world


# --- off by default ---------------------------------------------------------------------------------------------------


def test_a_new_installation_is_off_and_puts_the_documented_defaults_on_the_board(world: World) -> None:
    switch = control.sync_switch(world.rt)
    settings, risk = world.told(keys.TRADING_SETTINGS), world.told(keys.RISK_SETTINGS)
    assert (switch.on, switch.latched, events(world)) == (False, False, [])
    assert (settings.enabled, settings.updated_by, settings.buy_threshold_pct) == (False, "backend_init", 0.05)
    assert (risk.emergency_stop_active, risk.daily_notional_cap) == (False, Decimal(50_000))
    assert control.sync_settings(world.rt).config == configuration.DEFAULTS
    assert not control.sync_switch(world.rt).on  # its own defaults start nothing


@pytest.mark.parametrize("value", [
    {**SESSION, "source": "someone_else"}, {**SESSION, "enabled": False}, {**SESSION, "enabled": "yes"}, "{",
    {"enabled": True}, "true", {**SESSION, "source": None}, "", "null",
])  # fmt: skip
def test_what_is_no_valid_start_starts_nothing(world: World, value: object) -> None:
    installed(world).say(keys.AUTOTRADING_ENABLED, value)
    assert not control.sync_switch(world.rt).on
    assert events(world) == []


def test_a_frontends_write_starts_and_is_recorded(world: World) -> None:
    started(world)
    switch = recorded(world)
    assert (switch.on, switch.session_id, events(world)) == (True, SESSION["session_id"], ["started"])


def test_the_older_switch_starts_too_and_qbot_turns_it_off_after_a_stop(world: World) -> None:
    installed(world).say(keys.TRADING_SETTINGS, {"enabled": True})
    assert control.sync_switch(world.rt).session_id == "trading_settings"
    world.say(keys.AUTOTRADING_STATUS, "STOPPED")
    assert not control.sync_switch(world.rt).on
    assert world.told(keys.TRADING_SETTINGS).enabled is False
    assert not control.sync_switch(world.rt).on


def test_a_new_session_waits_until_the_entries_of_the_old_one_are_cancelled(world: World) -> None:
    with_resting_orders(started(world))
    world.say(keys.AUTOTRADING_ENABLED, OTHER)
    world.exchange.fault("server_error", method="DELETE", path="/v2/orders/")
    with pytest.raises(BrokerError):
        control.sync_switch(world.rt)
    for _ in range(2):
        assert not control.sync_switch(world.another()).on  # asked for again, and still in vain
    assert events(world) == ["started", "stopped"]
    world.exchange.clear_faults()
    assert control.sync_switch(world.rt).session_id == "another"
    assert [order["symbol"] for order in world.resting("buy")] == ["MSFT"]
    assert events(world) == ["started", "stopped", "started"]


def test_a_new_session_ends_the_old_one_first(world: World) -> None:
    started(world).say(keys.AUTOTRADING_ENABLED, OTHER)
    assert control.sync_switch(world.rt).session_id == "another"
    assert events(world) == ["started", "stopped", "started"]


# --- stops ------------------------------------------------------------------------------------------------------------


def by_del(world: World) -> None:
    world.redis.delete(keys.AUTOTRADING_ENABLED.name)


def by_enabled_false(world: World) -> None:
    world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "enabled": False})


def by_settings(world: World) -> None:
    world.say(keys.TRADING_SETTINGS, {"enabled": False})


def by_status(world: World) -> None:
    world.say(keys.AUTOTRADING_STATUS, "STOPPED")


STOPS_BY = (by_del, by_enabled_false, by_settings, by_status)


@pytest.mark.parametrize("stop", STOPS_BY)
def test_every_way_to_stop_cancels_automatic_entries_and_leaves_the_rest(world: World, stop: Any) -> None:
    with_resting_orders(started(world))
    stop(world)
    assert not control.sync_switch(world.another()).on
    assert [order["symbol"] for order in world.resting("buy")] == ["MSFT"]
    assert {(order["symbol"], order["type"]) for order in world.resting("sell")} == {("SPY", "limit"), ("SPY", "stop")}
    assert world.positions() == {"SPY": Decimal(1)}
    assert world.told(keys.AUTOTRADING_STOPPED_AT) == world.wall()
    assert events(world) == ["started", "stopped"]


@pytest.mark.parametrize("stop", [by_settings, by_status])
def test_a_stop_in_the_same_bytes_as_an_earlier_one_still_stops(world: World, stop: Any) -> None:
    installed(world)
    stop(world)
    assert not control.sync_switch(world.rt).on
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    assert control.sync_switch(world.rt).on
    assert control.sync_switch(world.rt).on  # what QBot mirrored is neither a start nor a stop
    stop(world)
    assert not control.sync_switch(world.rt).on


def test_a_stop_whose_cancels_fail_is_a_stop_all_the_same_alerts_and_is_finished_by_the_next_tick(world: World) -> None:
    with_resting_orders(started(world))
    by_del(world)
    world.exchange.fault("server_error", method="DELETE", path="/v2/orders/", times=2)
    with pytest.raises(BrokerError):
        control.sync_switch(world.rt)
    assert (recorded(world).on, recorded(world).stopping) == (False, True)
    assert world.alerts() == [("CRITICAL", "Entries could not be cancelled")]
    pipeline.emergency_handler(world.rt)
    assert [order["symbol"] for order in world.resting("buy")] == ["MSFT"]


def test_a_stop_between_reading_and_commit_leaves_nothing_at_the_venue(world: World) -> None:
    switch = control.sync_switch(started(world).rt)
    books, proposal = world.reconcile(), world.entry()
    by_del(world)
    control.sync_switch(world.another())
    world.send(world.commit(proposal, books=books, epoch=switch.epoch))
    assert world.refusals() == {"AAPL": "TRADING_OFF"}
    assert world.posts() == 0


# --- restarts and lost boards -----------------------------------------------------------------------------------------


def test_after_a_restart_it_goes_on_while_redis_says_the_same_as_postgres(world: World) -> None:
    started(world)
    again = control.sync_switch(world.another())
    assert (again.on, again.session_id) == (True, SESSION["session_id"])
    assert events(world) == ["started"]


@pytest.mark.parametrize("stop", STOPS_BY)
def test_what_was_stopped_while_qbot_was_down_is_off_after_a_restart(world: World, stop: Any) -> None:
    stop(started(world))
    assert not control.sync_switch(world.another()).on


def test_a_stopped_left_over_from_before_the_start_stops_nothing(world: World) -> None:
    world.say(keys.AUTOTRADING_STATUS, "STOPPED")
    assert control.sync_switch(started(world).rt).on


def test_after_flushall_it_is_off_says_why_and_needs_a_new_start(world: World) -> None:
    with_resting_orders(started(world))
    world.redis.flushall()
    switch = control.sync_switch(world.rt)
    assert (switch.on, switch.latched, events(world)) == (False, False, ["started", "stopped"])
    assert ("CRITICAL", "The board was lost") in world.alerts()
    assert [order["symbol"] for order in world.resting("buy")] == ["MSFT"]
    assert len(world.resting("sell")) == 2
    assert world.told(keys.TRADING_SETTINGS).enabled is False
    assert not control.sync_switch(world.rt).on
    world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "timestamp": "2025-09-26T14:00:00Z"})
    assert control.sync_switch(world.rt).on


def test_a_start_that_reappears_with_an_old_backup_of_redis_starts_nothing(world: World) -> None:
    started(world)
    backup: dict[Any, Any] = {key: world.redis.get(key) for key in world.redis.scan_iter(_type="string")}
    by_del(world)
    assert not control.sync_switch(world.rt).on
    world.redis.flushall()
    world.redis.mset(backup)
    assert not control.sync_switch(world.another()).on
    assert not control.sync_switch(world.rt).on
    assert ("CRITICAL", "The board was lost") in world.alerts()


def test_a_board_that_is_as_qbot_left_it_raises_no_alarm(world: World) -> None:
    started(world)
    by_del(world)
    for rt in (world.rt, world.another(), world.rt):
        control.sync_switch(rt)
    assert world.alerts() == []
    assert events(world) == ["started", "stopped"]


def test_workers_that_look_at_once_agree_and_start_once(world: World) -> None:
    installed(world).say(keys.AUTOTRADING_ENABLED, SESSION)
    together = threading.Barrier(4)
    seen: list[Switch] = []

    def worker() -> None:
        together.wait(10)
        seen.append(control.sync_switch(world.rt))

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [switch.on for switch in seen] == [True] * 4
    assert events(world) == ["started"]
    assert control.sync_switch(world.rt).on  # nobody's mirrored default ended it


def test_without_redis_nothing_can_be_read_and_without_postgres_nothing_recorded(world: World) -> None:
    started(world)
    with pytest.raises(BoardUnavailable):
        control.sync_switch(world.without_redis())
    with pytest.raises(StoreUnavailable):
        control.sync_switch(world.without_postgres())
    assert events(world) == ["started"]


def test_a_board_set_back_behind_its_last_revision_is_lost_though_its_sentinel_fits(world: World) -> None:
    """An old backup of the same session: all that tells is the counter."""
    started(world)
    continuity.note_revision(world.rt)
    settings = world.rt.settings
    raw = redis.Redis(port=settings.redis_port, username="admin", password=settings.redis_password.get_secret_value())
    backup: dict[Any, Any] = {key: raw.dump(key) for key in raw.scan_iter()}
    for number in range(3):
        world.rt.board.write(keys.AUTOTRADING_STOPPED_AT, world.wall() + timedelta(seconds=number), now=world.wall())
    continuity.note_revision(world.rt)
    assert control.sync_switch(world.rt).on
    highest = world.rt.board.read_many([]).revision
    raw.flushall()
    for key, value in backup.items():
        raw.restore(key, 0, value)
    raw.close()
    assert not control.sync_switch(world.another()).on
    assert ("CRITICAL", "The board was lost") in world.alerts()
    assert world.rt.board.read_many([]).revision > highest  # a frontend takes a lower one for old news
    assert not control.sync_switch(world.rt).on
    world.say(keys.AUTOTRADING_ENABLED, OTHER)
    assert control.sync_switch(world.rt).on


def test_many_who_look_write_and_note_revisions_at_once_raise_no_false_alarm(world: World) -> None:
    started(world)
    together = threading.Barrier(6)

    def busy(deed: Callable[[int], object]) -> None:
        together.wait(10)
        for number in range(15):
            deed(number)

    def toggle(number: int) -> None:
        world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "timestamp": f"2025-09-26T16:00:{number:02d}Z"})
        control.sync_switch(world.rt)
        by_del(world)

    def show(number: int) -> None:
        world.rt.board.write(keys.AUTOTRADING_STOPPED_AT, world.wall(), now=world.wall())

    deeds: list[Callable[[int], object]] = [
        toggle, show, lambda _: continuity.note_revision(world.rt), lambda _: continuity.note_revision(world.rt),
        lambda _: control.sync_switch(world.rt), lambda _: control.sync_switch(world.rt),
    ]  # fmt: skip
    threads = [threading.Thread(target=busy, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    control.sync_switch(world.rt)
    assert "The board was lost" not in {title for _, title in world.alerts()}


def test_a_rehearsal_of_a_stop_leaves_nothing_behind(world: World) -> None:
    with_resting_orders(started(world))
    before = recorded(world), events(world), world.redis.get(keys.SENTINEL.name), len(world.resting())
    control.rehearse(world.rt)
    assert (recorded(world), events(world), world.redis.get(keys.SENTINEL.name), len(world.resting())) == before
    assert control.sync_switch(world.rt).on


def test_mirrors_of_a_start_that_a_stop_has_overtaken_are_not_written(world: World) -> None:
    installed(world).say(keys.AUTOTRADING_STATUS, "STOPPED")
    control.sync_switch(world.rt)
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    overtaken = control.look(world.rt)
    assert overtaken.switch.on and overtaken.mirrors
    by_del(world)
    assert not control.sync_switch(world.another()).on
    control._show(world.rt, [overtaken])
    assert world.redis.get(keys.AUTOTRADING_STATUS.name) == "STOPPED"
    assert world.told(keys.TRADING_SETTINGS).enabled is False


def test_a_mirror_goes_only_over_the_very_bytes_that_were_seen(world: World) -> None:
    """The same value in other bytes is a frontend's new word."""
    installed(world).say(keys.TRADING_SETTINGS, '{"enabled": false}')
    control.sync_switch(world.rt)
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    found = control.look(world.rt)
    world.say(keys.TRADING_SETTINGS, '{"enabled":false}')
    control._show(world.rt, [found])
    assert world.redis.get(keys.TRADING_SETTINGS.name) == '{"enabled":false}'
    assert not control.sync_switch(world.rt).on


# --- the latch --------------------------------------------------------------------------------------------------------


def test_a_latch_shows_on_the_board_and_refuses_every_start_until_it_is_released(world: World) -> None:
    switch = control.latch(started(world).rt, "a human said so")
    assert (switch.on, switch.latched) == (False, True)
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is True
    assert world.told(keys.AUTOTRADING_STOPPED_AT) == world.wall()
    world.say(keys.AUTOTRADING_ENABLED, OTHER)
    assert not control.sync_switch(world.another()).on
    assert events(world) == ["started", "latched", "start_refused"]
    world.say(keys.RISK_SETTINGS, {"emergency_stop_active": False})
    switch = control.sync_switch(world.rt)
    assert (switch.on, switch.latched) == (False, False)  # released is not started
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    assert control.sync_switch(world.rt).on


def test_a_human_latches_by_the_documented_setting_and_all_entries_go(world: World) -> None:
    with_resting_orders(started(world)).say(keys.RISK_SETTINGS, {"emergency_stop_active": True})
    switch = control.sync_switch(world.rt)
    assert (switch.on, switch.latched) == (False, True)
    assert world.resting("buy") == []
    assert len(world.resting("sell")) == 2


def test_the_same_emergency_written_again_after_a_release_latches_again(world: World) -> None:
    installed(world)
    for _ in range(2):
        world.say(keys.RISK_SETTINGS, {"emergency_stop_active": True})
        assert control.sync_switch(world.rt).latched
        control.sync_switch(world.rt)
        world.say(keys.RISK_SETTINGS, {"emergency_stop_active": False})
        assert not control.sync_switch(world.rt).latched
        control.sync_switch(world.rt)


def test_a_release_by_command_is_mirrored_and_recorded(world: World) -> None:
    control.latch(installed(world).rt, "test")
    assert not control.release(world.rt).latched
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is False
    assert events(world) == [Event.LATCHED, Event.RELEASED]


def test_a_latch_outlives_flushall(world: World) -> None:
    control.latch(started(world).rt, "test")
    world.redis.flushall()
    assert control.sync_switch(world.another()).latched
    assert world.told(keys.RISK_SETTINGS).emergency_stop_active is True


def test_a_latch_is_recorded_though_redis_is_gone(world: World) -> None:
    installed(world)
    with pytest.raises(BoardUnavailable):
        control.latch(world.without_redis(), "test")
    assert recorded(world).latched


# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_change_makes_a_new_revision_once_and_is_told_on_its_channel(world: World) -> None:
    first = control.sync_settings(world.rt).revision
    channel = world.redis.pubsub()  # type: ignore[no-untyped-call]
    channel.subscribe(keys.STRATEGY_CONFIG.name)
    channel.get_message(timeout=2)
    world.say(keys.TRADING_CONFIG, {"max_daily_trades": 7, "cash_reserve": 9_000})
    settings = control.sync_settings(world.rt)
    assert settings.revision == first + 1 == control.sync_settings(world.another()).revision
    assert (settings.config.max_daily_trades, settings.config.cash_reserve_usd) == (7, Decimal(9_000))
    told = [json.loads(channel.get_message(timeout=2)["data"]) for _ in range(2)]
    assert {(change["key"], change["revision"]) for change in told} == {
        ("max_daily_trades", first + 1), ("cash_reserve_usd", first + 1),
    }  # fmt: skip
    assert channel.get_message(timeout=0.05) is None
    channel.close()


def test_a_partial_write_changes_just_what_it_has(world: World) -> None:
    world.say(keys.RISK_SETTINGS, {"daily_notional_cap": 1_000, "max_trades_per_run": 2})
    control.sync_settings(world.rt)
    world.say(keys.RISK_SETTINGS, {"max_trades_per_run": 1})
    config = control.sync_settings(world.another()).config
    assert (config.daily_notional_cap_usd, config.max_trades_per_run) == (Decimal(1_000), 1)


GOOD: dict[Key[Any], dict[str, object]] = {
    keys.TRADING_SETTINGS: {"max_position_per_trade": 2},
    keys.RISK_SETTINGS: {"max_trades_per_run": 2, "emergency_stop_active": False},
    keys.AUTOTRADING_ENABLED: {**SESSION, "max_position_per_trade": 3},
    keys.TRADING_CONFIG: {"max_daily_trades": 9},
    keys.BOT_STRATEGY: {"risk_level": 2},
    keys.PORTFOLIO_SETTINGS: {"excluded_tickers": ["MA"]},
}


@pytest.mark.parametrize("bad", ["{'single': 'quotes'}", "[1, 2]"])
@pytest.mark.parametrize("key", GOOD, ids=lambda key: key.name)
def test_nonsense_in_a_settings_key_keeps_the_last_good_ones_and_stops_entries_only(
    world: World, key: Key[Any], bad: str
) -> None:
    world.buy("SPY", 1)
    installed(world)
    for name, value in GOOD.items():
        world.say(name, value)
    assert control.sync_switch(world.rt).on
    good = control.sync_settings(world.rt)
    assert good.problem is None
    world.say(key, bad)
    pipeline.monitor_autotrading_frontend(world.rt)
    settings = control.sync_settings(world.another())
    assert (settings.config, settings.revision) == (good.config, good.revision)
    assert settings.problem is not None and key.name in settings.problem
    assert recorded(world).on  # neither a start nor a stop
    assert world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.CONFIG_ERROR
    assert key.name in world.told(keys.AUTOTRADING_ERROR)
    assert ("WARNING", "Settings are invalid") in world.alerts()
    wanted = (world.entry("AAPL", 1), world.exit("SPY"))
    world.send(world.commit(*wanted, cycle_id="c2", settings_problem=settings.invalid))
    assert world.refusals() == {"AAPL": "SETTINGS_INVALID", "SPY": None}
    assert world.positions() == {}
    world.say(key, GOOD[key])
    pipeline.monitor_autotrading_frontend(world.rt)
    assert world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.RUNNING
    assert world.told(keys.AUTOTRADING_ERROR) is None


@pytest.mark.parametrize("allow_live", [False, True])
def test_live_trading_is_not_done_and_the_state_says_config_error(world: World, allow_live: bool) -> None:
    started(world).say(keys.TRADING_CONFIG, {"paper_mode": False})
    rt = world.another(allow_live=allow_live)
    settings = control.sync_settings(rt)
    assert settings.invalid is None and settings.live_problem is not None and "paper" in settings.live_problem
    pipeline.monitor_autotrading_frontend(rt)
    assert world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.CONFIG_ERROR
    assert world.told(keys.AUTOTRADING_ERROR) == settings.live_problem
    world.believe("AAPL", 0.01)
    pipeline.trade_bot(rt)
    assert world.refusals() == {"AAPL": "LIVE_NOT_ALLOWED"}
    assert world.posts() == 0


def test_the_same_trouble_alerts_once_an_hour(world: World) -> None:
    world.say(keys.TRADING_CONFIG, "{")
    for _ in range(3):
        control.sync_settings(world.rt)
    assert len(world.alerts()) == 1
    world.wall.advance(hours=1)
    control.sync_settings(world.rt)
    assert len(world.alerts()) == 2
