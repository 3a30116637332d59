"""The stand-in frontend writes what the documents say, where a frontend may, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis

from qbot.client import QBotClient
from qbot.contract import keys
from qbot.contract.board import Board
from qbot.contract.key import Direction
from qbot.contract.payloads_trading import SystemStatus
from qbot.demo.frontend import STARTS_AT_MOST, TAKEN_UP_WITHIN_S, StandInFrontend
from qbot.errors import BoardUnavailable
from qbot.session import Event, Inputs, Observed, Switch, step
from tests.support.exchange import ManualClock
from tests.support.servers import RedisServer, free_port

WALL = datetime(2026, 3, 2, 12, 0, 0, 123_456, tzinfo=UTC)
SETTINGS = {"frontend:trading_config", "frontend:bot_strategy", "frontend:portfolio_settings", "frontend:ui_state"}
STARTED = {"autotrading:enabled", "autotrading:status", "autotrading:timestamp"}
MILLISECONDS = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


@pytest.fixture
def board(redis_client: redis.Redis, redis_server: RedisServer) -> Board:
    return Board(redis.Redis.from_url(redis_server.url))


@pytest.fixture
def frontend(redis_client: redis.Redis, redis_server: RedisServer) -> Iterator[StandInFrontend]:
    with QBotClient(
        redis_server.host, redis_server.port, redis_server.frontend_password, "frontend", wall=ManualClock(WALL)
    ) as client:
        yield StandInFrontend(client, since_wall=WALL)


def tick(frontend: StandInFrontend, wall: datetime) -> None:
    clock(frontend).set(wall)
    frontend.tick()


def stop(frontend: StandInFrontend, wall: datetime) -> None:
    clock(frontend).set(wall)
    frontend.stop()


def clock(frontend: StandInFrontend) -> ManualClock:
    wall = frontend.client.wall
    assert isinstance(wall, ManualClock)
    return wall


def qbot_looks(board: Board, wall: datetime, session: str | None = None) -> None:
    status = SystemStatus(
        redis_connected=True, postgres_connected=True, finnhub_api_active=False, alpaca_api_active=True,
        grok_api_active=False, yfinance_api_active=False, worker_running=True, last_heartbeat=wall, uptime_seconds=1,
        memory_usage_mb=1.0, cpu_usage_percent=1.0,
    )  # fmt: skip
    writes = [(keys.SYSTEM_STATUS, status), (keys.AUTOTRADING_LAST_UPDATE, wall)]
    board.write_many([*writes, (keys.AUTOTRADING_SESSION_ACTIVE, session)], now=wall)


def contents(client: redis.Redis) -> dict[str, str]:
    return {name: client.get(name) for name in client.scan_iter() if not name.startswith("qbot:")}


def written(client: redis.Redis) -> set[str]:
    """All keys but those that the board, as QBot, wrote."""
    own = {name for name, key in keys.ENTRIES.items() if key.direction is Direction.BACKEND}
    return {name for name in client.scan_iter() if name not in own and not name.startswith("qbot:")}


def test_settings_come_first_and_nothing_is_started_before_qbot_is_there(
    frontend: StandInFrontend, redis_client: redis.Redis
) -> None:
    for seconds in range(200):
        tick(frontend, WALL + timedelta(seconds=seconds))
    assert set(redis_client.keys()) == SETTINGS


def test_what_qbot_wrote_before_this_run_is_no_sign_that_it_is_there(
    frontend: StandInFrontend, redis_client: redis.Redis, board: Board
) -> None:
    qbot_looks(board, WALL - timedelta(seconds=1))
    tick(frontend, WALL)
    assert written(redis_client) == SETTINGS


def test_a_start_is_exactly_the_documented_one(
    frontend: StandInFrontend, redis_client: redis.Redis, board: Board
) -> None:
    qbot_looks(board, WALL)
    tick(frontend, WALL + timedelta(seconds=1))
    assert written(redis_client) == SETTINGS | STARTED
    sent, documented = json.loads(redis_client.get("autotrading:enabled")), json.loads(keys.AUTOTRADING_ENABLED.example)
    assert list(sent) == list(documented)
    assert {name: type(value) for name, value in sent.items()} == {name: type(v) for name, v in documented.items()}
    assert sent["trading_hours"] == documented["trading_hours"]
    assert (sent["enabled"], sent["source"], sent["market_hours_check"]) == (True, "frontend_ui", True)
    assert MILLISECONDS.match(sent["timestamp"])
    assert re.match(r"^frontend_\d{13}_[0-9a-f]{8}$", sent["session_id"])
    assert redis_client.get("autotrading:status") == "ACTIVE"
    assert redis_client.get("autotrading:timestamp") == sent["timestamp"]


def test_every_key_it_writes_is_a_frontends_and_valid(
    frontend: StandInFrontend, redis_client: redis.Redis, board: Board
) -> None:
    qbot_looks(board, WALL)
    tick(frontend, WALL + timedelta(seconds=1))
    stop(frontend, WALL + timedelta(seconds=9))
    for name in written(redis_client):
        key = keys.ENTRIES[name]
        assert key.direction is not Direction.BACKEND
        reading = board.read(key)
        assert reading.present and reading.problem is None
    for key in (keys.TRADING_CONFIG, keys.BOT_STRATEGY, keys.PORTFOLIO_SETTINGS, keys.UI_STATE):
        assert list(json.loads(redis_client.get(key.name))) == list(json.loads(key.example)), key.name


def test_a_stop_is_exactly_the_documented_one(
    frontend: StandInFrontend, redis_client: redis.Redis, board: Board
) -> None:
    qbot_looks(board, WALL)
    tick(frontend, WALL + timedelta(seconds=1))
    stop(frontend, WALL + timedelta(seconds=9))
    assert not redis_client.exists("autotrading:enabled")
    assert redis_client.get("autotrading:status") == "STOPPED"
    assert redis_client.get("autotrading:stopped_at") == "2026-03-02T12:00:09.123Z"
    before = contents(redis_client)
    tick(frontend, WALL + timedelta(seconds=60))
    assert contents(redis_client) == before


def test_a_frontend_that_never_started_trading_stops_nothing(
    frontend: StandInFrontend, redis_client: redis.Redis
) -> None:
    tick(frontend, WALL)
    stop(frontend, WALL)
    assert set(redis_client.keys()) == SETTINGS


def test_its_start_counts_as_a_start_and_its_stop_as_a_stop(
    frontend: StandInFrontend, redis_client: redis.Redis, board: Board
) -> None:
    def inputs() -> Inputs:
        enabled, status = board.read(keys.AUTOTRADING_ENABLED), board.read(keys.AUTOTRADING_STATUS)
        value = enabled.value
        on = value.enabled if value else None
        session, source = (value.session_id, value.source) if value else (None, None)
        wanted = None if status.value is None else str(status.value) == "ACTIVE"
        return Inputs(Observed(enabled.fingerprint, on, session, source), status=Observed(status.fingerprint, wanted))

    switch, events = step(Switch(), inputs())
    qbot_looks(board, WALL)
    tick(frontend, WALL + timedelta(seconds=1))
    switch, events = step(switch, inputs())
    assert (switch.on, switch.session_id, events) == (True, frontend.client.session_id, [Event.STARTED])
    stop(frontend, WALL + timedelta(seconds=9))
    switch, events = step(switch, inputs())
    assert (switch.on, events) == (False, [Event.STOPPED])


def test_the_heartbeat_goes_on_and_touches_nothing_else(
    frontend: StandInFrontend, redis_client: redis.Redis, board: Board
) -> None:
    qbot_looks(board, WALL)
    tick(frontend, WALL + timedelta(seconds=1))
    session = frontend.client.session_id
    qbot_looks(board, WALL, session)
    before = {name: redis_client.get(name) for name in written(redis_client)}
    tick(frontend, WALL + timedelta(seconds=120))
    after = {name: redis_client.get(name) for name in written(redis_client)}
    assert {name for name in after if after[name] != before.get(name)} == {"frontend:ui_state"}
    assert json.loads(after["frontend:ui_state"])["last_refresh"] == "2026-03-02T12:02:00.123Z"


def test_a_start_that_was_not_taken_up_is_pressed_again_a_few_times(
    frontend: StandInFrontend, redis_client: redis.Redis, board: Board
) -> None:
    qbot_looks(board, WALL)
    sessions = set()
    for number in range(1, 10):
        tick(frontend, WALL + timedelta(seconds=number * (TAKEN_UP_WITHIN_S + 1)))
        qbot_looks(board, WALL + timedelta(seconds=number * (TAKEN_UP_WITHIN_S + 1)))
        sessions.add(frontend.client.session_id)
    assert len(sessions) == frontend.starts == STARTS_AT_MOST


def test_a_session_that_someone_stopped_is_not_started_again(
    frontend: StandInFrontend, redis_client: redis.Redis, board: Board
) -> None:
    qbot_looks(board, WALL)
    tick(frontend, WALL + timedelta(seconds=1))
    qbot_looks(board, WALL, frontend.client.session_id)
    tick(frontend, WALL + timedelta(seconds=2))
    redis_client.delete("autotrading:enabled")
    qbot_looks(board, WALL + timedelta(seconds=100), None)
    tick(frontend, WALL + timedelta(seconds=200))
    assert frontend.starts == 1 and not redis_client.exists("autotrading:enabled")


def test_without_redis_it_says_so_and_goes_on_where_it_was(
    frontend: StandInFrontend, redis_client: redis.Redis
) -> None:
    alive = frontend.client
    frontend.client = QBotClient(port=free_port(), patience_s=0.0, wall=ManualClock(WALL))
    with pytest.raises(BoardUnavailable):
        tick(frontend, WALL)
    frontend.client = alive
    tick(frontend, WALL)
    assert set(redis_client.keys()) == SETTINGS
