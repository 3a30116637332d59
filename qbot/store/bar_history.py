"""What there is of bars, what was asked for, and the splits that were seen in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import bars, bars_answered, corporate_actions

Span = tuple[datetime, datetime]


class Answered(NamedTuple):
    """A source has told all it has of a session, which is so many bars. `begin`: of the session."""

    symbol: str
    begin: datetime
    source: str
    bars: int


@dataclass(frozen=True, slots=True)
class Split:
    """`ratio`: new shares for an old one, from `ex_day` on. `bars`: so many were put on the new scale."""

    symbol: str
    ex_day: date
    ratio: Decimal
    source: str
    bars: int

    @property
    def kind(self) -> str:
        """split or reverse_split."""
        return "split" if self.ratio > 1 else "reverse_split"


@dataclass(frozen=True, slots=True)
class Extent:
    """The bars of a symbol: the start of the first and of the last; `sources`: that of most bars first."""

    symbol: str
    bars: int
    first: datetime
    last: datetime
    sources: tuple[str, ...]


_COUNTS = sa.text(
    """
    SELECT bars.symbol, session.begin, count(*)
    FROM unnest(CAST(:begins AS timestamptz[]), CAST(:ends AS timestamptz[])) AS session("begin", "end")
    JOIN bars ON bars.ts >= session.begin AND bars.ts < session.end
    WHERE bars.symbol = ANY(CAST(:symbols AS text[])) GROUP BY 1, 2
    """
)


def counts(connection: Connection, symbols: Sequence[str], sessions: Sequence[Span]) -> dict[tuple[str, datetime], int]:
    """How many bars each symbol has of each session, by symbol and the session's begin; none where it has none."""
    if not symbols or not sessions:
        return {}
    begins, ends = zip(*sessions, strict=True)
    found = connection.execute(_COUNTS, {"symbols": list(symbols), "begins": list(begins), "ends": list(ends)})
    return {(symbol, begin): int(count) for symbol, begin, count in found}


def extents(connection: Connection, symbols: Sequence[str], since: datetime, until: datetime) -> list[Extent]:
    """What there is of each symbol in [since, until): number, first and last start, and by whom, most bars first."""
    query = sa.select(bars.c.symbol, bars.c.source, sa.func.count(), sa.func.min(bars.c.ts), sa.func.max(bars.c.ts))
    query = query.where(bars.c.symbol.in_(list(symbols)), bars.c.ts >= since, bars.c.ts < until)
    by_symbol: dict[str, list[Any]] = {}
    for row in connection.execute(query.group_by(bars.c.symbol, bars.c.source)):
        by_symbol.setdefault(row[0], []).append(row)
    return [
        Extent(
            symbol,
            sum(row[2] for row in rows),
            min(row[3] for row in rows),
            max(row[4] for row in rows),
            tuple(row[1] for row in sorted(rows, key=lambda row: (-row[2], row[1]))),
        )
        for symbol, rows in sorted(by_symbol.items())
    ]


def answered(
    connection: Connection, symbols: Sequence[str], begins: Sequence[datetime], since_wall: datetime
) -> list[Answered]:
    """What is remembered of these sessions; that a source has no bar at all, only if it said so since then."""
    columns = [bars_answered.c[name] for name in Answered._fields]
    here = sa.and_(bars_answered.c.symbol.in_(list(symbols)), bars_answered.c.begin.in_(list(begins)))
    here &= sa.or_(bars_answered.c.bars > 0, bars_answered.c.answered_at_wall >= since_wall)
    return [Answered(*row) for row in connection.execute(sa.select(*columns).where(here))]


def remember(connection: Connection, told: Iterable[Answered], wall: datetime) -> None:
    """Sessions that a source need not be asked for again."""
    rows = [each._asdict() | {"answered_at_wall": wall} for each in sorted(told)]
    if not rows:
        return
    statement = insert(bars_answered)
    newer = {name: statement.excluded[name] for name in ("bars", "answered_at_wall")}
    keyed = statement.on_conflict_do_update(index_elements=["symbol", "begin", "source"], set_=newer)
    connection.execute(keyed, rows)


def note_split(connection: Connection, split: Split, at: datetime, wall: datetime) -> None:
    """Keep that bars were put on another scale, and why."""
    told = {name: getattr(split, name) for name in ("symbol", "ex_day", "kind", "ratio", "source", "bars")}
    connection.execute(corporate_actions.insert().values(**told, noted_at=at, noted_at_wall=wall))


def splits(connection: Connection, symbols: Sequence[str]) -> list[Split]:
    """Those that were seen, oldest first."""
    columns = [corporate_actions.c[name] for name in ("symbol", "ex_day", "ratio", "source", "bars")]
    query = sa.select(*columns).where(corporate_actions.c.symbol.in_(list(symbols)))
    return [Split(*row) for row in connection.execute(query.order_by(corporate_actions.c.id))]


def forget(connection: Connection, before: datetime) -> int:
    """Remove what is remembered of sessions that began before then; the number."""
    return connection.execute(bars_answered.delete().where(bars_answered.c.begin < before)).rowcount
