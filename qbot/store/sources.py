"""How the sources of market data do, what they refuse, what each ticker got of them, and what passes brought."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import data_needs, fetch_passes, source_outcomes, source_refusals


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a source does. `fault` and `words`: of the last failure."""

    answered_wall: datetime | None = None
    failed_wall: datetime | None = None
    fault: str | None = None
    words: str | None = None

    @property
    def works(self) -> bool:
        """Whether the last thing that came of asking it was an answer, and all that was asked with it was answered."""
        if self.answered_wall is None:
            return False
        return self.failed_wall is None or self.answered_wall > self.failed_wall


@dataclass(frozen=True, slots=True)
class Got:
    """When a ticker last got one thing that is needed of it; see `planning.Wanted`."""

    got_at: datetime | None = None
    confirmed_at: datetime | None = None
    disputed: bool = False


@dataclass(frozen=True, slots=True)
class PassMade:
    """What came of a pass. `sources`: of each, the tickers it `answered` and `failed` for, quotes `refused`."""

    began_at: datetime
    took_s: float
    tickers: int
    priced: int
    unanswered: int
    sources: Mapping[str, Mapping[str, Any]]


# --- how they do ------------------------------------------------------------------------------------------------------


def answered(connection: Connection, names: Iterable[str], wall: datetime) -> None:
    """These sources answered."""
    for name in sorted(names):
        _outcome(connection, name, {"answered_wall": wall})


def failed(connection: Connection, name: str, fault: str, words: str, wall: datetime) -> None:
    """A source did not answer, and why."""
    _outcome(connection, name, {"failed_wall": wall, "fault": fault, "words": words})


def outcomes(connection: Connection) -> dict[str, Outcome]:
    """How each source does that was ever asked."""
    columns = source_outcomes.c
    query = sa.select(columns.source, columns.answered_wall, columns.failed_wall, columns.fault, columns.words)
    return {name: Outcome(*rest) for name, *rest in connection.execute(query)}


def _outcome(connection: Connection, name: str, values: Mapping[str, Any]) -> None:
    statement = insert(source_outcomes).values(source=name, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["source"], set_=dict(values)))


# --- what they refuse -------------------------------------------------------------------------------------------------


def refuse(connection: Connection, faults: Mapping[tuple[str, str], str], wall: datetime) -> None:
    """By source and symbol: not to be asked for again for a while."""
    rows = [
        {"source": source, "symbol": symbol, "fault": fault, "since_wall": wall}
        for (source, symbol), fault in sorted(faults.items())
    ]
    if rows:
        statement = insert(source_refusals)
        changed = {name: statement.excluded[name] for name in ("fault", "since_wall")}
        connection.execute(statement.on_conflict_do_update(index_elements=["source", "symbol"], set_=changed), rows)


def refusals(connection: Connection, since: datetime) -> dict[str, frozenset[str]]:
    """The symbols that each source has refused since then."""
    columns = source_refusals.c
    query = sa.select(columns.source, sa.func.array_agg(columns.symbol)).where(columns.since_wall > since)
    return {name: frozenset(symbols) for name, symbols in connection.execute(query.group_by(columns.source))}


# --- what tickers got -------------------------------------------------------------------------------------------------


def got(connection: Connection, need: str, symbols: Collection[str]) -> dict[str, Got]:
    """What each of the symbols got last of one need; without those that never were asked for."""
    columns = data_needs.c
    query = sa.select(columns.symbol, columns.got_at, columns.confirmed_at, columns.disputed)
    query = query.where(columns.need == need, columns.symbol.in_(list(symbols)))
    return {symbol: Got(*rest) for symbol, *rest in connection.execute(query)}


def note_got(connection: Connection, need: str, found: Mapping[str, Got]) -> None:
    """Remember it, by symbol."""
    rows = [{"symbol": symbol, "need": need, **asdict(one)} for symbol, one in sorted(found.items())]
    if rows:
        statement = insert(data_needs)
        changed = {name: statement.excluded[name] for name in ("got_at", "confirmed_at", "disputed")}
        connection.execute(statement.on_conflict_do_update(index_elements=["symbol", "need"], set_=changed), rows)


# --- passes -----------------------------------------------------------------------------------------------------------


def note_pass(connection: Connection, made: PassMade) -> None:
    """Remember what came of a pass, or of as much as there is of it."""
    row = asdict(made)
    statement = insert(fetch_passes).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["began_at"], set_=row))


def last_pass(connection: Connection, until: datetime) -> PassMade | None:
    """The newest pass that asked for prices, of those that began by then."""
    begun = fetch_passes.select().where(fetch_passes.c.began_at <= until)
    row = connection.execute(begun.order_by(fetch_passes.c.began_at.desc()).limit(1)).mappings().first()
    return PassMade(**row) if row is not None else None


def prune(connection: Connection, passes_before: datetime, refusals_before_wall: datetime) -> int:
    """Remove what nobody looks at any more; the number of rows."""
    old = (
        fetch_passes.delete().where(fetch_passes.c.began_at < passes_before),
        source_refusals.delete().where(source_refusals.c.since_wall < refusals_before_wall),
    )
    return sum(connection.execute(statement).rowcount for statement in old)
