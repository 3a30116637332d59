"""Five-minute bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import aggregate_order_by, distinct_on
from sqlalchemy.engine import Connection

from qbot.store.tables import bars
from qbot.types import BAR_MINUTES, Day, Quote

COLUMNS = ("symbol", "ts", "open", "high", "low", "close", "volume")
CHUNK_ROWS = 20_000
Span = tuple[datetime, datetime]

_UPSERT = sa.text(
    """
    INSERT INTO bars (symbol, ts, open, high, low, close, volume, source)
    SELECT *, :source FROM unnest(
        CAST(:symbol AS text[]), CAST(:ts AS timestamptz[]), CAST(:open AS float8[]), CAST(:high AS float8[]),
        CAST(:low AS float8[]), CAST(:close AS float8[]), CAST(:volume AS float8[]))
    ON CONFLICT (symbol, ts) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, volume = excluded.volume, source = excluded.source
    """
)


def upsert(connection: Connection, frame: pd.DataFrame, source: str) -> int:
    """Write bars (columns COLUMNS); a bar already there is replaced, since vendors correct. Returns the rows sent."""
    for first in range(0, len(frame), CHUNK_ROWS):
        part = frame.iloc[first : first + CHUNK_ROWS]
        values = {name: part[name].tolist() for name in COLUMNS if name != "ts"}
        stamps = [stamp.isoformat() for stamp in part["ts"]]
        connection.execute(_UPSERT, {**values, "ts": stamps, "source": source})
    return len(frame)


def load(connection: Connection, symbols: Sequence[str], since: datetime, until: datetime) -> pd.DataFrame:
    """Bars that start in [since, until), columns COLUMNS, ordered by symbol and time."""
    wanted = sa.select(*(bars.c[name] for name in COLUMNS)).where(
        bars.c.symbol.in_(list(symbols)), bars.c.ts >= since, bars.c.ts < until
    )
    rows = connection.execute(wanted.order_by(bars.c.symbol, bars.c.ts)).all()
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True)
    return frame


def last_starts(connection: Connection, symbols: Sequence[str]) -> dict[str, datetime]:
    """The start of the newest bar of each symbol that has any."""
    newest = sa.select(bars.c.symbol, sa.func.max(bars.c.ts)).where(bars.c.symbol.in_(list(symbols)))
    return dict(connection.execute(newest.group_by(bars.c.symbol)).all())


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


def newest_closes(connection: Connection, symbols: Sequence[str]) -> dict[str, float]:
    """The close of the newest bar of each symbol that has any."""
    newest = sa.select(bars.c.symbol, bars.c.close).where(bars.c.symbol.in_(list(symbols)))
    newest = newest.ext(distinct_on(bars.c.symbol)).order_by(bars.c.symbol, bars.c.ts.desc())
    return dict(connection.execute(newest).all())


def closes_at(connection: Connection, symbols: Sequence[str], close: datetime, wall: datetime) -> list[Quote]:
    """The last price of the session that ends then, of each symbol with a bar up to its end, as its source's quote."""
    last = sa.select(bars.c.symbol, bars.c.close, bars.c.source)
    last = last.where(bars.c.symbol.in_(list(symbols)), bars.c.ts == close - timedelta(minutes=BAR_MINUTES))
    return [
        Quote(symbol, price, price, price, close, wall, source)
        for symbol, price, source in ((row[0], Decimal(repr(row[1])), row[2]) for row in connection.execute(last))
    ]


def _closes(symbols: Sequence[str], span: Span) -> sa.Select[Any]:
    last = sa.select(bars.c.symbol, bars.c.close).where(_within(symbols, span))
    return last.ext(distinct_on(bars.c.symbol)).order_by(bars.c.symbol, bars.c.ts.desc())


def _within(symbols: Sequence[str], span: Span) -> sa.ColumnElement[bool]:
    return sa.and_(bars.c.symbol.in_(list(symbols)), bars.c.ts >= span[0], bars.c.ts < span[1])
