"""Which artifact serves each horizon, which did before, and why. What a training left is in `models`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.store import locks
from qbot.store.tables import artifact_log, artifacts

Row = Mapping[str, Any]
STANDS, REFUSED, DEMOTED, ROLLED_BACK = "stands", "refused", "demoted", "rolled_back"


def lock(connection: Connection) -> None:
    """Until the end of the transaction nobody else changes what serves: a training may end while a human rolls back."""
    locks.within(connection, locks.ARTIFACTS)


def trials(connection: Connection) -> dict[int, int]:
    """How many candidates there have been, by horizon: ever, whatever became of them."""
    query = sa.select(artifacts.c.horizon_minutes, sa.func.max(artifacts.c.trial)).group_by(artifacts.c.horizon_minutes)
    return {row[0]: row[1] for row in connection.execute(query)}


def listed(connection: Connection, horizon_minutes: int | None = None) -> list[Row]:
    """Artifacts, newest first; of one horizon or of all."""
    newest_first = (artifacts.c.created_at.desc(), artifacts.c.trial.desc(), artifacts.c.artifact_id)
    query = artifacts.select().order_by(*newest_first)
    if horizon_minutes is not None:
        query = query.where(artifacts.c.horizon_minutes == horizon_minutes)
    return [dict(row) for row in connection.execute(query).mappings()]


def note(
    connection: Connection,
    row: Row,
    event: str,
    before_id: str | None,
    who: str,
    reason: str,
    at: datetime,
    at_wall: datetime,
) -> None:
    """Record what became of an artifact (`row`: of `listed`), and what stood before."""
    values = {"artifact_id": row["artifact_id"], "horizon_minutes": row["horizon_minutes"], "event": event}
    values |= {"before_id": before_id, "who": who, "reason": reason, "at": at, "at_wall": at_wall}
    connection.execute(artifact_log.insert().values(**values))


def history(connection: Connection, artifact_id: str | None = None) -> list[Row]:
    """What was recorded with `note`, oldest first; of one artifact or of all."""
    query = artifact_log.select().order_by(artifact_log.c.id)
    if artifact_id is not None:
        query = query.where(artifact_log.c.artifact_id == artifact_id)
    return [dict(row) for row in connection.execute(query).mappings()]


def replaced_by(connection: Connection, artifact_id: str) -> str | None:
    """What stood when this artifact first came to stand; None when nothing did, or nobody recorded it.

    That it stood again after a roll-back does not count: so one goes back step by step, and not to and fro.
    """
    mine = sa.and_(artifact_log.c.artifact_id == artifact_id, artifact_log.c.event == STANDS)
    query = sa.select(artifact_log.c.before_id).where(mine).order_by(artifact_log.c.id).limit(1)
    found: str | None = connection.execute(query).scalar()
    return found


def stand(connection: Connection, row: Row) -> None:
    """Let this artifact serve its horizon from now on."""
    same = artifacts.c.horizon_minutes == row["horizon_minutes"]
    connection.execute(artifacts.update().where(same, artifacts.c.standing).values(standing=False))
    mine = artifacts.c.artifact_id == row["artifact_id"]
    connection.execute(artifacts.update().where(mine).values(standing=True, unusable=None))


def demote(connection: Connection, artifact_id: str) -> None:
    """It no longer counts as skilled."""
    connection.execute(artifacts.update().where(artifacts.c.artifact_id == artifact_id).values(skilled=False))


def set_unusable(connection: Connection, artifact_id: str, why: str | None) -> None:
    """Record that an artifact cannot be loaded, or that it can again (None)."""
    connection.execute(artifacts.update().where(artifacts.c.artifact_id == artifact_id).values(unusable=why))
