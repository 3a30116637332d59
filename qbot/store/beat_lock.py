"""The right to be the one beat of a database."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from qbot import clock
from qbot.errors import StoreUnavailable
from qbot.settings import settings
from qbot.store.engine import make_engine
from qbot.store.locks import BEAT

TRY_EVERY_S = 0.5


class BeatLock:
    """An advisory lock, held as long as the connection of this object lives."""

    def __init__(self, url: str | None = None) -> None:
        """Raises StoreUnavailable when Postgres cannot be reached."""
        self._engine = make_engine(url or settings().postgres_url, pool_size=1)
        try:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        except DBAPIError as error:
            raise StoreUnavailable(f"Postgres: {error.orig}") from error

    def acquire(self, wait_s: float) -> bool:
        """Waits for the lock; False when another beat keeps it for that long."""
        deadline = clock.monotonic_s() + wait_s
        while not self._connection.scalar(sa.select(sa.func.pg_try_advisory_lock(BEAT))):
            if clock.monotonic_s() > deadline:
                return False
            time.sleep(TRY_EVERY_S)
        return True

    def held(self) -> bool:
        """False when the connection is gone: another beat may have the lock by now."""
        try:
            return bool(self._connection.scalar(sa.select(1)))
        except DBAPIError:
            return False

    def release(self) -> None:
        """Lets the next beat in."""
        self._connection.close()
        self._engine.dispose()
