"""A client as a frontend has it, with the rights of the Redis user `frontend`, and the board as QBot has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from qbot.client import QBotClient
from qbot.contract.board import Board
from tests.support.exchange import ManualClock
from tests.support.runtime import WALL
from tests.support.servers import RedisServer

MakeClient = Callable[..., QBotClient]


@pytest.fixture
def board(redis_client: redis.Redis, redis_server: RedisServer) -> Board:
    return Board(redis.Redis.from_url(redis_server.url))


@pytest.fixture
def wall() -> ManualClock:
    return ManualClock(WALL)


@pytest.fixture
def make(redis_client: redis.Redis, redis_server: RedisServer, wall: ManualClock) -> Iterator[MakeClient]:
    """More clients of the same server; all are closed at the end."""
    with ExitStack() as stack:

        def one(**more: Any) -> QBotClient:
            given = {"username": "frontend", "wall": wall, **more}
            return stack.enter_context(
                QBotClient(redis_server.host, redis_server.port, redis_server.frontend_password, **given)
            )

        yield one


@pytest.fixture
def client(make: MakeClient) -> QBotClient:
    return make()
