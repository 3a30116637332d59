"""What frontends write is acted upon at once, once, whatever happens to Redis, the broker and the listener itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis

from qbot import control, pipeline
from qbot.contract import keys
from qbot.contract.board import Board, Snapshot
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.contract.payloads_orders import ManualOrder, ManualOrderStatus
from qbot.errors import StackError, StoreUnavailable
from qbot.runtime import Runtime
from qbot.store import tables
from tests.support.listening import listener_process, listening
from tests.support.runtime import SESSION, World, limit_entry
from tests.support.servers import RedisServer, free_port, redis_running, wait_until
from tests.test_control import (
    STOPS_BY,
    by_del,
    by_status,
    events,
    installed,
    recorded,
    started,
    with_resting_orders,
)
from tests.test_emergency import CANCEL, CLOSE, STOP, latched, press, trading

ORDER = {
    "order_id": "manual_1", "symbol": "AAPL", "side": "BUY", "quantity": 1, "order_type": "MARKET", "status": "PENDING",
    "created_at": "2026-03-02T12:00:00Z",
}  # fmt: skip


def automatic_entries(world: World) -> list[str]:
    return [order["symbol"] for order in world.resting("buy") if order["client_order_id"].startswith("qbot-c")]


def deletes(world: World) -> list[str]:
    """What was asked to be cancelled, one by one."""
    return [path for method, path in world.place.faults.seen if method == "DELETE"]


def on(world: World) -> bool:
    return recorded(world).on


def start_again(world: World, second: int, session_id: str = "frontend_2") -> None:
    at = f"2025-09-26T15:00:{second:02d}Z"
    world.say(keys.AUTOTRADING_ENABLED, {**SESSION, "session_id": session_id, "timestamp": at})


# --- each kind of write, at once --------------------------------------------------------------------------------------


def test_a_start_is_acted_upon_and_shown(world: World) -> None:
    with listening(installed(world)):
        world.say(keys.AUTOTRADING_ENABLED, SESSION)
        wait_until(
            lambda: world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.RUNNING, "the start on the board"
        )
    assert on(world)
    assert world.told(keys.AUTOTRADING_SESSION_ACTIVE) == SESSION["session_id"]
    assert events(world) == ["started"]


@pytest.mark.parametrize("stop", STOPS_BY)
def test_every_stop_cancels_the_automatic_entries_each_once_and_is_shown(world: World, stop: Any) -> None:
    with_resting_orders(started(world))
    with listening(world) as listener:
        world.place.faults.seen.clear()
        stop(world)
        wait_until(lambda: automatic_entries(world) == [], "the cancel")
        wait_until(
            lambda: world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.STOPPED, "the stop on the board"
        )
        wait_until(listener.quiet, "the rest")
    assert [order["symbol"] for order in world.resting("buy")] == ["MSFT"]
    assert len(world.resting("sell")) == 2
    assert (len(deletes(world)), events(world)) == (1, ["started", "stopped"])
    assert world.told(keys.TRADING_SETTINGS).enabled is False
    assert (recorded(world).stopping, world.alerts()) == (False, [])


def test_the_emergency_flag_of_the_risk_settings_latches(world: World) -> None:
    with_resting_orders(started(world))
    with listening(world):
        world.say(keys.RISK_SETTINGS, {"emergency_stop_active": True})
        wait_until(lambda: world.resting("buy") == [], "the cancels")
        wait_until(
            lambda: world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.STOPPED, "the stop on the board"
        )
    assert latched(world)


@pytest.mark.parametrize("action", [CLOSE, STOP, CANCEL])
def test_each_emergency_is_carried_out_once(world: World, action: str) -> None:
    trading(world)
    with listening(world) as listener:
        world.place.faults.seen.clear()
        press(world, action)
        wait_until(lambda: ("CRITICAL", _title(action)) in world.alerts(), "the report")
        wait_until(listener.quiet, "the rest")
    left = [] if action != STOP else [("SPY", "sell")] * 2
    assert [(order["symbol"], order["side"]) for order in world.resting()] == left
    assert world.positions() == ({} if action == CLOSE else {"SPY": Decimal(2)})
    assert (latched(world), world.posts()) == (action != CANCEL, action == CLOSE)
    assert events(world) == {
        STOP: ["started", "latched"], CLOSE: ["started", "latched", "unprotected"], CANCEL: ["started", "unprotected"],
    }[action]  # fmt: skip


def _title(action: str) -> str:
    return "All orders were cancelled" if action == CANCEL else "Emergency stop"


def test_a_manual_order_is_sent_and_its_status_written_back(world: World) -> None:
    with listening(installed(world)):
        world.say(keys.MANUAL_ORDERS, [ORDER])
        wait_until(lambda: _status(world) is not ManualOrderStatus.PENDING, "the status")
        wait_until(lambda: world.positions() == {"AAPL": Decimal(1)}, "the fill")
    assert world.posts() == 1


def _status(world: World) -> ManualOrderStatus | None:
    orders = world.told(keys.MANUAL_ORDERS)
    return orders[0].status if orders and isinstance(orders[0], ManualOrder) else None


def test_a_setting_makes_a_revision_and_nonsense_shows_as_config_error(world: World) -> None:
    started(world)
    with listening(world):
        before = len(world.rows(tables.settings_revisions))
        world.say(keys.TRADING_CONFIG, {"max_daily_trades": 7})
        wait_until(lambda: len(world.rows(tables.settings_revisions)) == before + 1, "the revision")
        world.say(keys.TRADING_CONFIG, "{")
        wait_until(lambda: world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.CONFIG_ERROR, "the error")
    assert len(world.rows(tables.settings_revisions)) == before + 1


def test_other_frontends_hear_of_what_one_wrote_and_of_nothing_twice(world: World) -> None:
    with listening(installed(world)) as listener:
        channel = world.redis.pubsub()  # type: ignore[no-untyped-call]
        channel.subscribe(keys.UPDATES.name)
        world.say(keys.TRADING_CONFIG, {"max_daily_trades": 7})
        world.say(keys.BOT_STRATEGY, {"risk_level": 2})
        heard: list[str] = []

        def hear() -> bool:
            message = channel.get_message(ignore_subscribe_messages=True, timeout=0.05)
            heard.extend([json.loads(message["data"])["key"]] if message else [])
            return keys.BOT_STRATEGY.name in heard and keys.TRADING_CONFIG.name in heard

        wait_until(hear, "both announcements")
        wait_until(listener.quiet, "the rest")
        while channel.get_message(timeout=0.05) is not None:
            pass
        channel.close()
    assert heard.count(keys.TRADING_CONFIG.name) == heard.count(keys.BOT_STRATEGY.name) == 1


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_a_stop_in_old_bytes_in_the_moment_of_a_start_is_a_stop(world: World) -> None:
    """STOPPED stands there from before; it is written again after the start was recorded, before the mirror of it."""
    by_status(installed(world))
    control.sync_switch(world.rt)
    rt = disturbed(world, by_status)
    with listening(world, rt):
        world.say(keys.AUTOTRADING_ENABLED, SESSION)
        wait_until(lambda: events(world) == ["started", "stopped"], "the stop")
    assert not on(world)


def test_a_stop_in_old_bytes_together_with_a_start_is_a_stop(world: World) -> None:
    by_status(installed(world))
    control.sync_switch(world.rt)
    with listening(world) as listener:
        for second in range(10):
            at = f"2025-09-26T15:00:{second:02d}Z"
            both = {keys.AUTOTRADING_ENABLED.name: json.dumps({**SESSION, "timestamp": at})}
            world.redis.mset({**both, keys.AUTOTRADING_STATUS.name: "STOPPED"})
            wait_until(lambda made=second: len(events(world)) > made, "the look")
            wait_until(listener.quiet, "the rest")
            assert not on(world)
            by_status(world)
            wait_until(listener.quiet, "the rest")


def test_what_a_frontend_writes_after_the_mirror_in_its_very_bytes_is_no_stop(world: World) -> None:
    """As every start goes: the key that starts, and then ACTIVE, which QBot may have written first."""
    by_status(installed(world))
    control.sync_switch(world.rt)
    with listening(world) as listener:
        for second in range(20):
            start_again(world, second)
            world.say(keys.AUTOTRADING_STATUS, "ACTIVE")
            wait_until(lambda: on(world), "the start")
            wait_until(listener.quiet, "the rest")
            assert on(world)
            world.redis.delete(keys.AUTOTRADING_ENABLED.name)
            wait_until(lambda: not on(world) and not recorded(world).stopping, "the stop")
            wait_until(listener.quiet, "the rest")


def disturbed(world: World, write: Callable[[World], None]) -> Runtime:
    """A runtime whose first mirrors of a start are met by a frontend's write."""
    rt = world.another()
    met: list[bool] = []

    class Met(Board):
        def write_over(self, seen: Snapshot, writes: Any, *, now: datetime) -> int:
            if on(world) and not met:
                met.append(True)
                write(world)
            return super().write_over(seen, writes, now=now)

    return replace(rt, board=Met(rt.board._client))


# --- at the same time as others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [CLOSE, STOP, CANCEL])
def test_listener_and_beat_task_at_once_do_nothing_twice(world: World, action: str) -> None:
    trading(world)
    with ExitStack() as all_of_them:
        for _ in range(2):
            all_of_them.enter_context(listening(world))
        world.place.faults.seen.clear()
        ticks = [threading.Thread(target=pipeline.emergency_handler, args=(world.another(),)) for _ in range(3)]
        press(world, action)
        for tick in ticks:
            tick.start()
        for tick in ticks:
            tick.join(60)
        wait_until(lambda: world.rows(tables.handled), "the report")
    requests = world.place.faults.seen
    assert world.posts() == (1 if action == CLOSE else 0)
    assert requests.count(("DELETE", "/v2/orders")) == (0 if action == STOP else 1)
    assert (world.positions(), latched(world)) == ({} if action == CLOSE else {"SPY": Decimal(2)}, action != CANCEL)
    assert world.alerts() == [("CRITICAL", _title(action))]
    assert events(world).count("latched") == (action != CANCEL)


def test_a_manual_order_that_listener_and_tick_see_at_once_is_sent_once(world: World) -> None:
    with listening(installed(world)):
        ticks = [threading.Thread(target=pipeline.process_manual_orders, args=(world.another(),)) for _ in range(3)]
        world.say(keys.MANUAL_ORDERS, [ORDER])
        for tick in ticks:
            tick.start()
        for tick in ticks:
            tick.join(60)
        wait_until(lambda: world.positions() == {"AAPL": Decimal(1)}, "the fill")
    assert world.posts() == 1


def test_a_slow_broker_for_manual_orders_does_not_delay_a_stop(world: World) -> None:
    with_resting_orders(started(world))
    with listening(world):
        world.place.faults.seen.clear()
        world.exchange.fault("latency", method="POST", path="/v2/orders", times=1, seconds=5.0)
        world.say(keys.MANUAL_ORDERS, [{**ORDER, "symbol": "QQQ"}])
        wait_until(lambda: world.posts() == 1, "the order on its way")
        by_del(world)
        wait_until(lambda: automatic_entries(world) == [], "the cancel")
        assert world.intents()["QQQ buy"] == "committed"  # its answer is still awaited
        wait_until(lambda: world.positions().get("QQQ") == Decimal(1), "the order, in the end")


# --- when something fails ---------------------------------------------------------------------------------------------


def test_a_stop_whose_cancel_fails_is_asked_for_again_without_any_tick(world: World) -> None:
    with_resting_orders(started(world))
    with listening(world):
        world.exchange.fault("server_error", method="DELETE", path="/v2/orders/", times=5)
        by_del(world)
        wait_until(lambda: automatic_entries(world) == [], "the cancel")
        wait_until(lambda: not recorded(world).stopping, "the end of the stop")
    assert ("CRITICAL", "Entries could not be cancelled") in world.alerts()
    assert events(world) == ["started", "stopped"]


def test_without_postgres_it_goes_on_and_acts_when_that_is_back(world: World) -> None:
    with_resting_orders(started(world))
    gone = threading.Event()

    class Flaky:
        """An engine that cannot be reached while `gone`."""

        def __getattr__(self, name: str) -> Any:
            if gone.is_set():
                raise StoreUnavailable("Postgres: nobody there")
            return getattr(world.engine, name)

    with listening(world, replace(world.another(), engine=Flaky())):  # type: ignore[arg-type]
        gone.set()
        by_del(world)
        tried = len(world.place.faults.seen)
        wait_until(lambda: len(world.place.faults.seen) == tried, "no request")
        assert on(world)
        gone.clear()
        wait_until(lambda: automatic_entries(world) == [], "the cancel")
    assert events(world) == ["started", "stopped"]


def test_an_error_nobody_foresaw_ends_the_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def read_many(self, _keys: object) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr(threading, "excepthook", lambda _args: None)
    with pytest.raises(StackError, match="poll died"), listening(world) as listener:
        listener._rt["poll"].__dict__["board"] = Broken()
        wait_until(lambda: not listener._poll.is_alive(), "the end of the lane")
        wait_until(lambda: not any(lane.is_alive() for lane in listener._lanes), "the end of them all")


def test_a_killed_listener_leaves_the_stop_to_the_tick_and_a_new_one_takes_over(world: World) -> None:
    with_resting_orders(started(world))
    with listener_process(world) as process:
        by_del(world)
        wait_until(lambda: automatic_entries(world) == [], "the cancel by the process")
        process.kill()
        process.wait(10)
    wait_until(lambda: not recorded(world).stopping or pipeline.emergency_handler(world.rt) is None, "the end")
    start_again(world, 1)
    assert control.sync_switch(world.rt).on
    world.send(world.commit(limit_entry(world, "QQQ"), cycle_id="c9"))
    by_del(world)
    pipeline.emergency_handler(world.rt)
    assert (on(world), automatic_entries(world)) == (False, [])
    with listener_process(world):
        start_again(world, 2)
        wait_until(lambda: on(world), "the start")


# --- Redis ------------------------------------------------------------------------------------------------------------


def test_after_flushall_it_is_off_the_board_is_whole_again_and_nothing_was_sent(world: World) -> None:
    with_resting_orders(started(world))
    with listening(world):
        posts = world.posts()
        world.redis.flushall()
        wait_until(lambda: not on(world), "the stop")
        wait_until(lambda: automatic_entries(world) == [], "the cancel")
        wait_until(lambda: world.told(keys.PORTFOLIO_POSITIONS) is not None, "the books on the board")
        wait_until(lambda: world.told(keys.AUTOTRADING_BACKEND_STATUS) is BackendStatus.STOPPED, "the state")
        assert world.told(keys.AUTOTRADING_ENABLED) is None
        assert world.posts() == posts
        start_again(world, 1)
        wait_until(lambda: on(world), "a new start")
    assert ("CRITICAL", "The board was lost") in world.alerts()


def test_a_connection_that_is_cut_is_made_again_and_what_was_written_meanwhile_counts(
    world: World, redis_server: RedisServer
) -> None:
    with_resting_orders(started(world))
    admin = redis.Redis.from_url(redis_server.admin_url)
    with listening(world):
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        by_del(world)
        wait_until(lambda: automatic_entries(world) == [], "the cancel")
        start_again(world, 1)
        wait_until(lambda: on(world), "the start")
    admin.close()


def test_a_redis_that_was_down_is_found_again_and_what_was_written_before_counts(world: World, tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "board"
    with redis_running(folder, port) as server:
        other = moved(world, server)
        with_resting_orders(started(other))
    rt = other.another()
    with ExitStack() as running:
        with redis_running(folder, port):
            running.enter_context(listening(other, rt))
            by_down = other.redis.get(keys.AUTOTRADING_ENABLED.name)
        assert by_down is not None
        with pytest.raises(redis.ConnectionError):
            other.redis.ping()
        with redis_running(folder, port):
            by_del(other)
            wait_until(lambda: automatic_entries(world) == [], "the cancel")
            wait_until(lambda: not recorded(other).stopping, "the end of the stop")
            start_again(other, 1)
            wait_until(lambda: on(other), "a new start")
    assert ("CRITICAL", "The board was lost") not in world.alerts()


def moved(world: World, server: RedisServer) -> World:
    """The same world with another Redis."""
    rt = world.another(redis_port=server.port)
    board = redis.Redis.from_url(server.admin_url, decode_responses=True)
    return World(rt, world.place, board, world.wall, world.uptime)
