"""What was used of each data source's quotas: reserved before a call, by all workers, never over the limit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import source_quotas


class Period(NamedTuple):
    """One quota of one source in one of its periods, which begins then (wall time). `span`: day or month."""

    source: str
    span: str
    begins_wall: datetime


class Claim(NamedTuple):
    """So many units of a quota that has `most` of them."""

    period: Period
    units: int
    most: int


def reserve(connection: Connection, claims: Sequence[Claim], wall: datetime) -> Claim | None:
    """Count a call beforehand, in all its quotas or in none. None when it may be made, else the claim that is too much.

    Two workers at once are one after the other: the row of a quota is locked until the transaction ends.
    """
    savepoint = connection.begin_nested()
    for claim in sorted(claims):  # all workers in one order: none waits for another that waits for it
        if claim.units > claim.most or not _add(connection, claim, wall):
            savepoint.rollback()
            return claim
    savepoint.commit()
    return None


def add(connection: Connection, claims: Iterable[Claim], wall: datetime) -> None:
    """Count what was used already, over the limit or not."""
    for claim in sorted(claims):
        _add(connection, claim, wall, whatever=True)


def give_back(connection: Connection, claims: Iterable[Claim], wall: datetime) -> None:
    """What was reserved and not used: in the periods in which it was reserved."""
    for claim in sorted(claims):
        change = source_quotas.update().where(_is(claim.period))
        left = sa.func.greatest(source_quotas.c.used - claim.units, 0)
        connection.execute(change.values(used=left, changed_wall=wall))


def use_up(connection: Connection, claims: Iterable[Claim], wall: datetime) -> None:
    """The vendor says that nothing is left, whoever used it: another program with the same key, or an earlier QBot."""
    for claim in sorted(claims):
        row = {**claim.period._asdict(), "used": claim.most, "changed_wall": wall}
        at_least = sa.func.greatest(source_quotas.c.used, claim.most)
        statement = insert(source_quotas).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=list(Period._fields), set_={"used": at_least, "changed_wall": wall}
        )
        connection.execute(statement)


def used(connection: Connection, periods: Iterable[Period]) -> dict[Period, int]:
    """What was used in each period; 0 where nothing was."""
    wanted = list(periods)
    if not wanted:
        return {}
    columns = source_quotas.c
    here = sa.tuple_(columns.source, columns.span, columns.begins_wall).in_(wanted)
    query = sa.select(columns.source, columns.span, columns.begins_wall, columns.used).where(here)
    found = {Period(*row[:3]): int(row[3]) for row in connection.execute(query)}
    return {period: found.get(period, 0) for period in wanted}


def prune(connection: Connection, before: datetime) -> int:
    """Remove the periods that began before then; the number."""
    old = source_quotas.delete().where(source_quotas.c.begins_wall < before)
    return len(connection.execute(old.returning(source_quotas.c.source)).all())


def _add(connection: Connection, claim: Claim, wall: datetime, *, whatever: bool = False) -> bool:
    """Whether it was counted: not when the quota has less left, unless it is counted whatever that is."""
    row = {**claim.period._asdict(), "used": claim.units, "changed_wall": wall}
    after = source_quotas.c.used + claim.units
    statement = insert(source_quotas).values(row)
    statement = statement.on_conflict_do_update(
        index_elements=list(Period._fields),
        set_={"used": after, "changed_wall": wall},
        where=sa.true() if whatever else after <= claim.most,
    )
    return connection.execute(statement.returning(source_quotas.c.used)).first() is not None


def _is(period: Period) -> sa.ColumnElement[bool]:
    columns = source_quotas.c
    return sa.and_(
        columns.source == period.source, columns.span == period.span, columns.begins_wall == period.begins_wall
    )
