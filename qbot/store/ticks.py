"""Claims of periodic tasks: an advisory lock says who runs, a row says when the last run began."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

from qbot import limits
from qbot.errors import StoreUnavailable
from qbot.store.engine import UNUSABLE, engine
from qbot.store.locks import TICKS_CLASS
from qbot.store.tables import task_ticks

SKEW = timedelta(seconds=limits.CLOCK_SKEW_S)


@contextmanager
def claimed(name: str, sent_at_wall: datetime, now_wall: datetime, on: Engine | None = None) -> Iterator[bool]:
    """Yields whether task `name` is claimed for this block. The lock lives on a connection: a crash frees it.

    Raises StoreUnavailable, before the block only.
    """
    connection = _connect(on or engine())
    try:
        yield _claim(connection, name, sent_at_wall, now_wall)
    finally:
        if not connection.invalidated:  # a broken connection has freed the lock by itself
            with suppress(DBAPIError):
                connection.execute(sa.select(sa.func.pg_advisory_unlock_all()))
        connection.close()


def _connect(on: Engine) -> Connection:
    try:
        return on.connect().execution_options(isolation_level="AUTOCOMMIT")
    except DBAPIError as error:
        raise StoreUnavailable(f"Postgres: {error.orig}") from error


def _claim(connection: Connection, name: str, sent_at_wall: datetime, now_wall: datetime) -> bool:
    key = zlib.crc32(name.encode()) - 2**31  # crc32 is unsigned, Postgres' integer is not
    try:
        if _covered(connection, name, sent_at_wall, now_wall):  # before it locks out a newer one
            return False
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(TICKS_CLASS, key))):
            return False
        if _covered(connection, name, sent_at_wall, now_wall):
            return False
        begin = insert(task_ticks).values(name=name, started_at=now_wall)
        connection.execute(begin.on_conflict_do_update(index_elements=["name"], set_={"started_at": now_wall}))
    except UNUSABLE as error:
        connection.invalidate()
        raise StoreUnavailable(f"Postgres: {error.orig}") from error
    return True


def _covered(connection: Connection, name: str, sent_at_wall: datetime, now_wall: datetime) -> bool:
    """Whether the last run began after this tick was sent."""
    last = connection.scalar(sa.select(task_ticks.c.started_at).where(task_ticks.c.name == name))
    set_back = last is not None and last - now_wall > SKEW  # of the clock: that run tells nothing of now
    return last is not None and sent_at_wall <= last and not set_back
