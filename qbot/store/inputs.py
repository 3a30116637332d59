"""What humans ask for besides orders: alerts seen, levels watched, trainings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import alerts, last_good_inputs, training_requests


def keep(connection: Connection, key: str, body: Any, wall: datetime) -> bool:
    """Remember the last valid value of an input. Whether it is another one than before."""
    if last_good(connection, key) == body:
        return False
    values = {"body": body, "seen_wall": wall}
    upsert = insert(last_good_inputs).values(key=key, **values)
    connection.execute(upsert.on_conflict_do_update(index_elements=[last_good_inputs.c.key], set_=values))
    return True


def last_good(connection: Connection, key: str) -> Any:
    """The last valid value of an input; None before the first."""
    return connection.execute(sa.select(last_good_inputs.c.body).where(last_good_inputs.c.key == key)).scalar()


def not_acknowledged(connection: Connection, alert_ids: Sequence[str]) -> set[str]:
    """Those of these alerts that there are and nobody has marked as seen."""
    new = sa.and_(alerts.c.alert_id.in_(alert_ids), sa.not_(alerts.c.acknowledged))
    return set(connection.execute(sa.select(alerts.c.alert_id).where(new)).scalars())


def acknowledge(connection: Connection, alert_id: str, by: str | None, wall: datetime) -> None:
    """A human has seen an alert. Who was first, and when, stays."""
    mine = sa.and_(alerts.c.alert_id == alert_id, sa.not_(alerts.c.acknowledged))
    seen = {"acknowledged": True, "acknowledged_by": by, "acknowledged_at_wall": wall}
    connection.execute(alerts.update().where(mine).values(**seen))


def ask_for_training(
    connection: Connection, request_id: str, session_id: str | None, reason: str | None, wall: datetime
) -> bool:
    """Record that a human wants a training; False for a request that is known, trained or not."""
    values = {"request_id": request_id, "session_id": session_id, "reason": reason, "asked_at_wall": wall}
    made = insert(training_requests).values(**values).on_conflict_do_nothing()
    return connection.execute(made.returning(training_requests.c.request_id)).first() is not None


def serve_training_requests(connection: Connection, training_id: str) -> Sequence[str]:
    """The training that starts now serves every request that waits; their ids. None of them is trained for again."""
    waiting = training_requests.c.training_id.is_(None)
    served = training_requests.update().where(waiting).values(training_id=training_id)
    return sorted(connection.execute(served.returning(training_requests.c.request_id)).scalars())


def training_of(connection: Connection, request_id: str) -> str | None:
    """The training that serves a request; None while it waits, or is not known."""
    query = sa.select(training_requests.c.training_id).where(training_requests.c.request_id == request_id)
    return connection.execute(query).scalar()
