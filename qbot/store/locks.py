"""Postgres advisory locks for what may have one owner only: they end with their connection, so no crash leaves one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Engine

# Every advisory lock of QBot, in one place so that no two are the same.
MIGRATIONS = 7_260_001
BEAT = 7_260_002
GATE = 7_260_003
STREAM = 7_260_004
ORDERS = 7_260_005
TICKS_CLASS = 7_260  # first of two numbers; the second is made from the task's name


@contextmanager
def hold(engine: Engine, key: int) -> Iterator[None]:
    """Wait for the lock and hold it through the block, on a connection of its own."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # the lock lives as long as the session: a pool would keep both
        connection.execute(sa.text("SET statement_timeout = 0"))
        connection.execute(sa.text("SET lock_timeout = 0"))
        connection.execute(sa.select(sa.func.pg_advisory_lock(key)))
        yield
