"""The connection to Postgres: one engine a process, made when first asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from qbot.errors import StoreUnavailable
from qbot.settings import settings

CONNECT_TIMEOUT_S = 5
# A process that is frozen in the middle of a transaction must not keep the switch from others; no read of Redis within
# one takes nearly as long.
IDLE_TIMEOUT_MS = 15_000
STATEMENT_TIMEOUT_MS = 30_000  # longer than any query of a cycle; a stuck lock must not hold a worker for ever

# Besides a server that is gone: one that only reads, or without the tables. Every stop has to get past these.
UNUSABLE = (OperationalError, InternalError, ProgrammingError)


def make_engine(url: str, *, pool_size: int = 4) -> Engine:
    """An engine with time-outs, UTC sessions and a check of pooled connections before use."""
    options = f"-c timezone=utc -c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout=10000"
    options += f" -c idle_in_transaction_session_timeout={IDLE_TIMEOUT_MS}"
    return sa.create_engine(
        url,
        pool_size=pool_size,
        max_overflow=4,
        pool_pre_ping=True,
        executemany_mode="values_plus_batch",  # else one round trip a row
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": options, "application_name": "qbot"},
        hide_parameters=True,
    )


@lru_cache(maxsize=1)
def engine() -> Engine:
    """The engine of this process."""
    return make_engine(settings().postgres_url)


@contextmanager
def transaction(on: Engine | None = None) -> Iterator[Connection]:
    """One transaction, committed at the end of the block. Raises StoreUnavailable when Postgres cannot be used."""
    try:
        with (on or engine()).begin() as connection:
            yield connection
    except PoolTimeout as error:  # all connections wait for a server that does not answer
        raise StoreUnavailable("Postgres: no connection is free") from error
    except UNUSABLE as error:
        raise StoreUnavailable(f"Postgres: {_first_line(error)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable(f"Postgres: {_first_line(error)}") from error
        raise


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
