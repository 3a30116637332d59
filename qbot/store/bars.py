"""Five-minute bars."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import psycopg2
import pyarrow as pa
import sqlalchemy as sa
from pyarrow.csv import WriteOptions, write_csv  # type: ignore[attr-defined]  # made in Cython, its names are not told
from sqlalchemy.dialects.postgresql import aggregate_order_by, distinct_on
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from qbot.store.tables import bars
from qbot.types import BAR_MINUTES, Day, Quote

COLUMNS = ("symbol", "ts", "open", "high", "low", "close", "volume")
LOADED = (*COLUMNS, "source")
CHUNK_ROWS = 50_000  # a second or so at most
COPY_ROWS = 500  # for fewer a table of its own costs more than it saves
Span = tuple[datetime, datetime]

# Rows in the order of the key: two writers never wait for each other crosswise.
_INTO_BARS = """
    INSERT INTO bars (symbol, ts, open, high, low, close, volume, source)
    SELECT symbol, ts, open, high, low, close, volume, :source FROM {rows} ORDER BY symbol, ts
    ON CONFLICT (symbol, ts) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, volume = excluded.volume, source = excluded.source
    WHERE NOT bars.source = ANY(CAST(:keeps AS text[]))
        AND (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.source) IS DISTINCT FROM
        (excluded.open, excluded.high, excluded.low, excluded.close, excluded.volume, excluded.source)
    """
_FROM_ARRAYS = sa.text(
    _INTO_BARS.format(
        rows="""unnest(
        CAST(:symbol AS text[]), CAST(:ts AS timestamptz[]), CAST(:open AS float8[]), CAST(:high AS float8[]),
        CAST(:low AS float8[]), CAST(:close AS float8[]), CAST(:volume AS float8[]))
        AS r(symbol, ts, open, high, low, close, volume)"""
    )
)
_FROM_COPY = sa.text(_INTO_BARS.format(rows="new_bars"))
_NEW_BARS = sa.text(
    """
    CREATE TEMPORARY TABLE IF NOT EXISTS new_bars (symbol text, ts timestamptz, open float8, high float8, low float8,
        close float8, volume float8) ON COMMIT DROP
    """
)
_COPY = "COPY pg_temp.new_bars (symbol, ts, open, high, low, close, volume) FROM STDIN WITH (FORMAT csv)"


def upsert(
    connection: Connection,
    frame: pd.DataFrame,
    source: str,
    *,
    keeps: Collection[str] = (),
) -> int:
    """Write bars (columns COLUMNS). Returns how many were new or changed: the same bars again change nothing.

    A bar already there is replaced, since vendors correct, but where it is of one of the sources `keeps`: those that
    are better than this one. Of two bars of one symbol and time the last counts.
    """
    once = frame.drop_duplicates(["symbol", "ts"], keep="last")
    given = {"source": source, "keeps": list(keeps)}
    written = 0
    for first in range(0, len(once), CHUNK_ROWS):
        part = once.iloc[first : first + CHUNK_ROWS]
        if len(part) < COPY_ROWS:
            values: dict[str, Any] = {name: part[name].tolist() for name in COLUMNS if name != "ts"}
            values["ts"] = [stamp.isoformat() for stamp in part["ts"]]
            written += connection.execute(_FROM_ARRAYS, values | given).rowcount
        else:
            _copy(connection, part)
            written += connection.execute(_FROM_COPY, given).rowcount
    return written


def _copy(connection: Connection, part: pd.DataFrame) -> None:
    """The rows into `new_bars`, a table of this transaction alone."""
    connection.execute(_NEW_BARS)
    connection.execute(sa.text("TRUNCATE new_bars"))
    names = [str(symbol) for symbol in part["symbol"]]
    columns = [pa.array(names), pa.array(part["ts"].dt.tz_convert("UTC"))]
    columns += [pa.array(part[name].to_numpy(dtype=np.float64), from_pandas=False) for name in COLUMNS[2:]]
    text = io.BytesIO()
    write_csv(pa.table(columns, names=list(COLUMNS)), text, WriteOptions(include_header=False))
    text.seek(0)
    try:
        connection.connection.cursor().copy_expert(_COPY, text)
    except psycopg2.Error as error:  # as every other statement's errors are
        raise DBAPIError.instance(_COPY, None, error, psycopg2.Error) from error


def load(connection: Connection, symbols: Sequence[str], since: datetime, until: datetime) -> pd.DataFrame:
    """Bars that start in [since, until), columns LOADED, ordered by symbol and time."""
    wanted = sa.select(*(bars.c[name] for name in LOADED)).where(
        bars.c.symbol.in_(list(symbols)), bars.c.ts >= since, bars.c.ts < until
    )
    rows = connection.execute(wanted.order_by(bars.c.symbol, bars.c.ts)).all()
    frame = pd.DataFrame(rows, columns=list(LOADED))
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True)
    return frame.astype({"source": "category"})


def rescale(connection: Connection, symbol: str, ratio: Decimal) -> int:
    """Put all bars of a symbol on the scale after a split; how many there were.

    `ratio`: new shares for an old one.
    """
    prices = {name: bars.c[name] / float(ratio) for name in ("open", "high", "low", "close")}
    change = bars.update().where(bars.c.symbol == symbol).values(**prices, volume=bars.c.volume * float(ratio))
    return connection.execute(change).rowcount


def prune(connection: Connection, before: datetime, most: int) -> int:
    """Remove bars that start before then, the oldest first and `most` of them; the number."""
    old = sa.select(bars.c.symbol, bars.c.ts).where(bars.c.ts < before).order_by(bars.c.ts).limit(most)
    gone = bars.delete().where(sa.tuple_(bars.c.symbol, bars.c.ts).in_(old))
    return connection.execute(gone).rowcount


def closes(connection: Connection, symbols: Sequence[str], since: datetime, until: datetime) -> pd.DataFrame:
    """Of the bars that start in [since, until): symbol, ts, close."""
    columns = (bars.c.symbol, bars.c.ts, bars.c.close)
    rows = connection.execute(sa.select(*columns).where(_within(symbols, (since, until))))
    frame = pd.DataFrame(rows.all(), columns=["symbol", "ts", "close"])
    return frame.assign(ts=pd.to_datetime(frame["ts"], utc=True))


def last_starts(connection: Connection, symbols: Sequence[str]) -> dict[str, datetime]:
    """The start of the newest bar of each symbol that has any."""
    return {symbol: ts for symbol, (ts, _close) in newest(connection, symbols).items()}


def newest(connection: Connection, symbols: Sequence[str]) -> dict[str, tuple[datetime, float]]:
    """Start and close of the newest bar of each symbol that has any."""
    last = sa.select(bars.c.symbol, bars.c.ts, bars.c.close).where(bars.c.symbol.in_(list(symbols)))
    last = last.ext(distinct_on(bars.c.symbol)).order_by(bars.c.symbol, bars.c.ts.desc())
    return {symbol: (ts, close) for symbol, ts, close in connection.execute(last)}


def fresh(connection: Connection, symbols: Sequence[str], since: datetime) -> set[str]:
    """Those of the symbols that have a bar that starts at `since` or later."""
    query = sa.select(bars.c.symbol).distinct().where(bars.c.ts >= since, bars.c.symbol.in_(list(symbols)))
    return set(connection.execute(query).scalars())


def days(connection: Connection, symbols: Sequence[str], today: Span, before: Span) -> dict[str, Day]:
    """What the bars of a session come to, and the last close of the session before it. Without bars: None."""
    closes: dict[str, float] = dict(connection.execute(_closes(symbols, before)).all())
    opening = sa.func.array_agg(aggregate_order_by(bars.c.open, bars.c.ts))[1]
    columns = (bars.c.symbol, opening, sa.func.max(bars.c.high), sa.func.min(bars.c.low), sa.func.sum(bars.c.volume))
    rows = connection.execute(sa.select(*columns).where(_within(symbols, today)).group_by(bars.c.symbol))
    found = {symbol: Day(*figures) for symbol, *figures in rows}
    return {s: replace(found.get(s, Day()), previous_close=closes.get(s)) for s in symbols}


def last_closes(connection: Connection, symbols: Collection[str], session: Span) -> dict[str, Decimal]:
    """The last close within a session, USD, of each symbol with a bar of it."""
    found = connection.execute(_closes(symbols, session))
    return {symbol: Decimal(repr(close)) for symbol, close in found}


def newest_closes(connection: Connection, symbols: Sequence[str]) -> dict[str, float]:
    """The close of the newest bar of each symbol that has any."""
    return {symbol: close for symbol, (_ts, close) in newest(connection, symbols).items()}


def closes_at(connection: Connection, symbols: Sequence[str], close: datetime, wall: datetime) -> list[Quote]:
    """The last price of the session that ends then, of each symbol with a bar up to its end, as its source's quote."""
    last = sa.select(bars.c.symbol, bars.c.close, bars.c.source)
    last = last.where(bars.c.symbol.in_(list(symbols)), bars.c.ts == close - timedelta(minutes=BAR_MINUTES))
    return [
        Quote(symbol, price, price, price, close, wall, source)
        for symbol, price, source in ((row[0], Decimal(repr(row[1])), row[2]) for row in connection.execute(last))
    ]


def _closes(symbols: Collection[str], span: Span) -> sa.Select[Any]:
    last = sa.select(bars.c.symbol, bars.c.close).where(_within(symbols, span))
    return last.ext(distinct_on(bars.c.symbol)).order_by(bars.c.symbol, bars.c.ts.desc())


def _within(symbols: Collection[str], span: Span) -> sa.ColumnElement[bool]:
    return sa.and_(bars.c.symbol.in_(list(symbols)), bars.c.ts >= span[0], bars.c.ts < span[1])
