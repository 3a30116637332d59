"""Bars into Postgres: rows a second as a backfill writes them, beside plain INSERTs of the same rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pandas as pd
import psycopg2
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from qbot import clock
from qbot.market import keeping
from qbot.stack.replay import SAMPLE
from qbot.store import bars, migrate
from qbot.store.engine import make_engine, transaction
from tests.support.servers import PostgresServer, postgres_running

ROWS, QUICK_ROWS = 200_000, 20_000
PAGE = 10_000  # bars of one answer, each written in a transaction of its own
PLAIN = (
    "INSERT INTO bars (symbol, ts, open, high, low, close, volume, source)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, 'alpaca')"
    " ON CONFLICT (symbol, ts) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,"
    " close = excluded.close, volume = excluded.volume, source = excluded.source"
)


def run(*, quick: bool = False) -> Iterator[str]:
    """Lines to print."""
    rows = made(QUICK_ROWS if quick else ROWS)
    with tempfile.TemporaryDirectory(prefix="qbot-bench-") as name, postgres_running(Path(name) / "pg") as postgres:
        migrate.upgrade(postgres.url)
        engine = make_engine(postgres.url)
        try:
            yield from _measured(engine, postgres, rows)
        finally:
            engine.dispose()


def _measured(engine: Engine, postgres: PostgresServer, rows: pd.DataFrame) -> Iterator[str]:
    pages = [rows.iloc[first : first + PAGE] for first in range(0, len(rows), PAGE)]
    values = [tuple(row) for row in rows[list(bars.COLUMNS)].itertuples(index=False)]

    def plain() -> int:
        return _plain(postgres, values)

    def whole() -> int:
        return sum(_kept(engine, page) for page in pages)

    first, first_s = timed(plain)
    _empty(engine)
    written, written_s = timed(whole)
    assert first == written == _count(engine) == len(rows)
    again, again_s = timed(whole)
    plain_again, plain_again_s = timed(plain)
    assert again == 0 and plain_again == len(rows) == _count(engine)
    for what, took_s, beside_s in (("new bars", written_s, first_s), ("the same again", again_s, plain_again_s)):
        yield (
            f"{what:<15} {len(rows) / took_s:9,.0f} rows/s   {beside_s / took_s:5.1f} × plain INSERTs "
            f"({len(rows) / beside_s:,.0f} rows/s)   {len(rows):,} rows, {took_s:.1f} s beside {beside_s:.1f} s"
        )
    yield f"{'':<15} of the same again {again} rows were written, by plain INSERTs all {plain_again:,}"


def made(count: int) -> pd.DataFrame:
    """So many rows of the shipped bars, copied under other names, in the order in which answers come: by symbol."""
    sample = pd.read_parquet(SAMPLE)[list(bars.COLUMNS)].astype({"symbol": str})
    copies = [sample.assign(symbol=sample["symbol"] + f".{n}") for n in range(-(-count // len(sample)))]
    return pd.concat(copies, ignore_index=True).head(count).astype({"volume": float})


def timed(work: Callable[[], int]) -> tuple[int, float]:
    """What it gives, and its seconds."""
    begun_s = clock.monotonic_s()
    found = work()
    return found, clock.monotonic_s() - begun_s


def _kept(engine: Engine, page: pd.DataFrame) -> int:
    """As `backfilling` does with an answer: the look for a split, the lock and the transaction counted."""
    now = page["ts"].max().to_pydatetime() + timedelta(days=1)
    with transaction(engine) as connection:
        return keeping.keep(connection, page, "alpaca", now, now).written


def _plain(postgres: PostgresServer, values: list[tuple[object, ...]]) -> int:
    """A row a statement, PAGE rows a transaction."""
    connection = psycopg2.connect(
        host=postgres.host, port=postgres.port, user=postgres.user, password=postgres.password, dbname=postgres.database
    )
    try:
        for first in range(0, len(values), PAGE):
            with connection, connection.cursor() as cursor:
                cursor.executemany(PLAIN, values[first : first + PAGE])
    finally:
        connection.close()
    return len(values)


def _empty(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("TRUNCATE bars"))


def _count(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM bars")).scalar_one())
