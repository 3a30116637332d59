"""What each source is asked with, by fingerprints; with another key or plan, what the old one met does not count."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import source_accesses, source_quotas, source_refusals


class Access(NamedTuple):
    """Fingerprints. `key`: of the key alone, whose account has the quotas; `access`: of all that a source is asked
    with, its plan too.
    """

    key: str
    access: str


def note(connection: Connection, source: str, now: Access, wall: datetime) -> int:
    """Remember it. Where it is another one than before, the source's refusals are forgotten, and with another key what
    was used of its quotas: how many rows. Processes that note one source come one after the other.
    """
    row = {"source": source, **now._asdict(), "since_wall": wall}
    if connection.execute(insert(source_accesses).values(row).on_conflict_do_nothing()).rowcount:
        return 0  # nothing is known of one before
    mine = source_accesses.c.source == source
    query = sa.select(source_accesses.c.key, source_accesses.c.access).where(mine).with_for_update()
    before = Access(*connection.execute(query).one())
    if before == now:
        return 0
    connection.execute(source_accesses.update().where(mine).values(row))
    gone = [source_refusals.delete().where(source_refusals.c.source == source)]
    if before.key != now.key:
        gone.append(source_quotas.delete().where(source_quotas.c.source == source))
    return sum(connection.execute(statement).rowcount for statement in gone)
