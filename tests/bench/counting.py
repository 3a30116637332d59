"""Counts round trips to Redis, Postgres and over HTTP while a block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
import sqlalchemy as sa
from redis.connection import AbstractConnection
from sqlalchemy.engine import Engine


@dataclass
class RoundTrips:
    redis: int = 0
    postgres: int = 0
    http: int = 0


@contextmanager
def counted(engine: Engine) -> Iterator[RoundTrips]:
    """A statement, a BEGIN and a COMMIT are one each; a Redis pipeline is one, however long."""
    found = RoundTrips()

    def statement(*_: Any) -> None:
        found.postgres += 1

    send_redis, send_http = AbstractConnection.send_packed_command, requests.Session.send

    def redis_sent(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.redis += 1
        return send_redis(self, *args, **kwargs)

    def http_sent(self: Any, *args: Any, **kwargs: Any) -> Any:
        found.http += 1
        return send_http(self, *args, **kwargs)

    hooks = ("before_cursor_execute", "begin", "commit")
    for hook in hooks:
        sa.event.listen(engine, hook, statement)
    AbstractConnection.send_packed_command = redis_sent  # type: ignore[method-assign]
    requests.Session.send = http_sent  # type: ignore[method-assign]
    try:
        yield found
    finally:
        AbstractConnection.send_packed_command = send_redis  # type: ignore[method-assign]
        requests.Session.send = send_http  # type: ignore[method-assign]
        for hook in hooks:
            sa.event.remove(engine, hook, statement)
