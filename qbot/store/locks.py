"""Postgres advisory locks for what may have one owner only: they end with their connection, so no crash leaves one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from qbot.errors import StoreUnavailable
from qbot.store.engine import UNUSABLE

# Every advisory lock of QBot, in one place so that no two are the same.
MIGRATIONS = 7_260_001
BEAT = 7_260_002
GATE = 7_260_003
STREAM = 7_260_004
ORDERS = 7_260_005
SWITCH = 7_260_006
EMERGENCY = 7_260_007
SETTINGS = 7_260_008
RISK = 7_260_009
ARTIFACTS = 7_260_010
GROK = 7_260_011
BARS = 7_260_012
TICKS_CLASS = 7_260  # first of two numbers; the second is made from the task's name


@contextmanager
def hold(engine: Engine, key: int) -> Iterator[Connection]:
    """Wait for the lock and hold it through the block, on a connection of its own: the lock lives as long as that."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # the lock lives as long as the session: a pool would keep both
        connection.execute(sa.text("SET statement_timeout = 0"))
        connection.execute(sa.text("SET lock_timeout = 0"))
        connection.execute(sa.select(sa.func.pg_advisory_lock(key)))
        yield connection


def within(connection: Connection, key: int) -> None:
    """Wait for the lock and hold it to the end of the transaction."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))


@contextmanager
def tried(engine: Engine, key: int) -> Iterator[bool]:
    """Yields whether the lock was free, and holds it through the block if it was.

    Raises StoreUnavailable, before the block only.
    """
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    except DBAPIError as error:
        raise StoreUnavailable(f"Postgres: {error.orig}") from error
    try:
        try:
            mine = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(key))))
        except UNUSABLE as error:
            connection.invalidate()
            raise StoreUnavailable(f"Postgres: {error.orig}") from error
        yield mine
    finally:
        if not connection.invalidated:  # a broken connection has freed the lock by itself
            with suppress(DBAPIError):
                connection.execute(sa.select(sa.func.pg_advisory_unlock_all()))
        connection.close()
