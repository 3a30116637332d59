"""The days of the standing artifacts, alarms about them, and the trainings that answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import artifacts, deviation_alarms, forecast_days, trainings

Row = Mapping[str, Any]


def days_since_alarm(connection: Connection, artifact_id: str) -> list[Row]:
    """The closed days of an artifact after its last alarm, oldest first."""
    last = sa.select(sa.func.max(deviation_alarms.c.day)).where(deviation_alarms.c.artifact_id == artifact_id)
    after = forecast_days.c.day > sa.func.coalesce(last.scalar_subquery(), date.min)
    query = forecast_days.select().where(forecast_days.c.artifact_id == artifact_id, after)
    return [dict(row) for row in connection.execute(query.order_by(forecast_days.c.day)).mappings()]


def outside(connection: Connection, artifact_ids: Collection[str]) -> dict[str, dict[date, float]]:
    """By artifact the share of outcomes outside the interval on each of its closed days, in their order."""
    shares: dict[str, dict[date, float]] = {artifact_id: {} for artifact_id in artifact_ids}
    query = forecast_days.select().where(forecast_days.c.artifact_id.in_(artifact_ids)).order_by(forecast_days.c.day)
    for row in connection.execute(query).mappings():
        shares[row["artifact_id"]][row["day"]] = row["outside"]
    return shares


def newest_day(connection: Connection, artifact_id: str) -> date | None:
    """The newest closed day of an artifact."""
    query = sa.select(sa.func.max(forecast_days.c.day)).where(forecast_days.c.artifact_id == artifact_id)
    return connection.execute(query).scalar()


def raise_alarm(connection: Connection, row: Row) -> bool:
    """Record an alarm; False when there is one of this artifact and day."""
    made = insert(deviation_alarms).values(**row).on_conflict_do_nothing().returning(deviation_alarms.c.day)
    return connection.execute(made).first() is not None


def waiting(connection: Connection) -> list[Row]:
    """Alarms about standing artifacts that no training has answered, oldest first."""
    of = deviation_alarms.join(artifacts, artifacts.c.artifact_id == deviation_alarms.c.artifact_id)
    query = sa.select(deviation_alarms, artifacts.c.horizon_minutes).select_from(of)
    open_ = sa.and_(artifacts.c.standing, deviation_alarms.c.training_id.is_(None))
    return [dict(row) for row in connection.execute(query.where(open_).order_by(deviation_alarms.c.at)).mappings()]


def serve(connection: Connection, training_id: str, until_wall: datetime) -> None:
    """A training that began at `until_wall` succeeded: it answers every alarm raised by then."""
    open_ = sa.and_(deviation_alarms.c.training_id.is_(None), deviation_alarms.c.at_wall <= until_wall)
    connection.execute(deviation_alarms.update().where(open_).values(training_id=training_id))


def starts(connection: Connection, trigger: str | None = None, most: int = 50) -> list[datetime]:
    """When the last trainings began, of one trigger or of any, in market time, newest first."""
    query = sa.select(trainings.c.started_at).order_by(trainings.c.started_at.desc()).limit(most)
    if trigger is not None:
        query = query.where(trainings.c.trigger == trigger)
    return list(connection.execute(query).scalars())
