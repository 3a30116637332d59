"""A board on the session's real Redis, empty for each test."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import redis

from qbot.contract.board import Board
from tests.support.servers import RedisServer

NOW = datetime(2026, 9, 25, 14, 0, tzinfo=UTC)


@pytest.fixture
def raw(redis_server: RedisServer, redis_client: redis.Redis) -> Iterator[redis.Redis]:
    """A client that may do anything, answers in bytes; Redis is empty (`redis_client` saw to it)."""
    client = redis.Redis.from_url(redis_server.admin_url)
    yield client
    client.close()


@pytest.fixture
def board(redis_client: redis.Redis, redis_server: RedisServer) -> Iterator[Board]:
    """As QBot has it, with QBot's rights."""
    client = redis.Redis.from_url(redis_server.url)
    yield Board(client)
    client.close()
