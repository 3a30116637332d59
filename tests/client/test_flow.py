"""The client and the real QBot: start, order, emergency and stop, each told by the board alone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import redis

from qbot import pipeline
from qbot.client import EmergencyLatched, NotInTime, OrderNotFinal, QBotClient, StartNotTakenUp
from qbot.contract import keys
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.contract.payloads_orders import ManualOrderStatus
from tests.support.exchange import ManualClock
from tests.support.runtime import World, limit_entry
from tests.support.servers import RedisServer, redis_running, wait_until

START = {"buy_threshold_pct": 0.001, "sell_threshold_pct": 0.001, "max_position_per_trade": 5, "strategy": "MODERATE"}
ON = {BackendStatus.RUNNING, BackendStatus.MARKET_CLOSED}
TASKS = (
    pipeline.emergency_handler,
    pipeline.monitor_autotrading_frontend,
    pipeline.process_manual_orders,
    pipeline.reconcile_orders,
    pipeline.update_backend_responses,
)


@pytest.fixture
def client(world: World, redis_server: RedisServer) -> Iterator[QBotClient]:
    with QBotClient(redis_server.host, redis_server.port, redis_server.frontend_password, wall=world.wall) as one:
        yield one


@contextmanager
def qbot(world: World, *tasks: Callable[..., None]) -> Iterator[None]:
    """QBot at work: the tasks in turn, as beat would send them, until the block ends. It has looked once before."""
    over = threading.Event()

    def work() -> None:
        for task in tasks or TASKS:
            task(world.rt)

    def work_on() -> None:
        while not over.wait(0.02):
            work()

    work()
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work_on)
        try:
            yield
        finally:
            over.set()
            working.result(30)


def test_a_day_of_a_frontend(world: World, client: QBotClient) -> None:
    with qbot(world):
        assert client.start(**START, wait_s=20) in ON
        assert client.get(keys.AUTOTRADING_SESSION_ACTIVE).value == client.session_id
        order_id = client.place_order("AAPL", "BUY", 2)
        order = client.wait_for_order(order_id, timeout_s=20)
        assert order.status is ManualOrderStatus.FILLED
        assert world.positions() == {"AAPL": Decimal(2)}
        refused = client.place_order("AAPL", "SELL", 500)
        order = client.wait_for_order(refused, timeout_s=20)
        assert order.status is ManualOrderStatus.REJECTED and order.status_reason
        client.stop()
        assert client.wait_until(BackendStatus.STOPPED, 20) is BackendStatus.STOPPED
        assert client.get(keys.AUTOTRADING_SESSION_ACTIVE).value is None


def test_a_second_start_of_the_same_session_is_taken_up_too(world: World, client: QBotClient) -> None:
    with qbot(world):
        client.start(**START, wait_s=20)
        client.stop()
        client.wait_until(BackendStatus.STOPPED, 20)
        world.wall.set(world.wall() + timedelta(seconds=1))
        assert client.start(**START, wait_s=20) in ON


def test_a_start_without_qbot_is_told_and_withdrawn(
    world: World, client: QBotClient, redis_client: redis.Redis
) -> None:
    with pytest.raises(StartNotTakenUp, match="withdrawn: QBot is not there"):
        client.start(**START, wait_s=0.2)
    assert not redis_client.exists("autotrading:enabled")
    assert redis_client.get("autotrading:status") == "STOPPED"
    with qbot(world):
        assert client.get(keys.AUTOTRADING_BACKEND_STATUS).value is BackendStatus.STOPPED
    with pytest.raises(StartNotTakenUp, match="has not looked since"):
        client.start(**START, wait_s=0.2)
    pipeline.monitor_autotrading_frontend(world.rt)
    assert client.get(keys.AUTOTRADING_SESSION_ACTIVE).value is None


def test_a_start_that_cannot_be_withdrawn_is_told_to_stand(tmp_path: Path, wall: ManualClock) -> None:
    with redis_running(tmp_path) as server:
        client = QBotClient(
            server.host, server.port, server.frontend_password, username="frontend", wall=wall, patience_s=0.2
        )
        with ThreadPoolExecutor(1) as frontend:
            started = frontend.submit(client.start, **START, wait_s=1.0)
            wait_until(lambda: client.get(keys.AUTOTRADING_ENABLED).value is not None, "the start")
            os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(StartNotTakenUp, match="may stand and come true later"):
                started.result(30)
    client.close()


def test_what_stood_there_before_qbot_went_away_is_no_answer(world: World, client: QBotClient) -> None:
    with qbot(world):
        client.start(**START, wait_s=20)
    world.wall.set(world.wall() + timedelta(seconds=1))
    assert client.get(keys.AUTOTRADING_SESSION_ACTIVE).value == client.session_id
    with pytest.raises(StartNotTakenUp, match="QBot has not looked since"):
        client.start(**START, wait_s=0.2)


def test_what_another_frontend_started_meanwhile_is_not_withdrawn(
    world: World, client: QBotClient, redis_client: redis.Redis
) -> None:
    def takes_over() -> None:
        other = '{"enabled": true, "session_id": "other", "source": "frontend_ui"}'
        redis_client.set("autotrading:enabled", other)

    timer = threading.Timer(0.1, takes_over)
    timer.start()
    with pytest.raises(StartNotTakenUp):
        client.start(**START, wait_s=0.6)
    timer.join()
    assert '"other"' in (redis_client.get("autotrading:enabled") or "")


def test_a_stop_of_all_trading_is_reported_refuses_starts_and_can_be_released(
    world: World, client: QBotClient, redis_client: redis.Redis
) -> None:
    with qbot(world):
        client.start(**START, wait_s=20)
        report = client.emergency("STOP_ALL_TRADING", "a test", wait_s=20)
        assert report is not None and report.complete and report.latched
        client.wait_until(BackendStatus.STOPPED, 20)
        before = redis_client.get("autotrading:enabled")
        with pytest.raises(EmergencyLatched, match="release it first"):
            client.start(**START, wait_s=20)
        assert redis_client.get("autotrading:enabled") == before  # nothing was written
    world.wall.set(world.wall() + timedelta(seconds=1))
    with qbot(world):
        client.release_emergency_stop(wait_s=20)
        assert client.start(**START, wait_s=20) in ON


def test_closing_everything_is_complete_when_nothing_is_left(world: World, client: QBotClient) -> None:
    world.buy("AAPL", 2)
    with qbot(world):
        report = client.emergency("CLOSE_ALL_POSITIONS", "a test", wait_s=30)
    assert report is not None and report.complete
    assert (report.orders_left, report.positions_left) == ((), ())
    assert world.positions() == {}


def test_cancelling_all_orders_is_complete_when_none_is_left(world: World, client: QBotClient) -> None:
    world.send(world.commit(limit_entry(world, "AAPL")))
    assert world.resting()
    with qbot(world):
        report = client.emergency("CANCEL_ALL_ORDERS", "a test", wait_s=20)
    assert report is not None and report.complete and not report.latched
    assert world.resting() == []


def test_an_emergency_that_nobody_carries_out_is_reported_as_not_complete(world: World, client: QBotClient) -> None:
    report = client.emergency("CLOSE_ALL_POSITIONS", "a test", wait_s=0.2)
    assert report is not None and not report.complete
    assert (report.orders_left, report.positions_left, report.alerts) == (None, None, None)


def test_waits_that_come_to_nothing_say_what_stands_there(world: World, client: QBotClient) -> None:
    with qbot(world, pipeline.monitor_autotrading_frontend):
        with pytest.raises(NotInTime, match="QBot is STOPPED, not RUNNING"):
            client.wait_until(BackendStatus.RUNNING, 0.2)
        order_id = client.place_order("AAPL", "BUY", 1)
        with pytest.raises(OrderNotFinal, match=f"{order_id} is PENDING"):
            client.wait_for_order(order_id, timeout_s=0.2)
        with pytest.raises(OrderNotFinal, match="is not on the list"):
            client.wait_for_order("never_placed", timeout_s=0.2)
    with pytest.raises(NotInTime, match="has not looked at the release"):
        client.release_emergency_stop(wait_s=0.1)
