"""Trainings, artifacts and forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.engine import Connection

from qbot.store.tables import artifacts, forecast_quality, forecasts, training_requests, trainings
from qbot.types import Forecast

Row = Mapping[str, Any]
RUNNING, SUCCESS, FAILED = "running", "success", "failed"
_FORECAST_FIELDS = tuple(Forecast.__dataclass_fields__)


def start_training(
    connection: Connection, training_id: str, trigger: str, at: datetime, at_wall: datetime, begun: str | None = None
) -> None:
    """Record that a training begins, and what with."""
    row = {"training_id": training_id, "trigger": trigger, "status": RUNNING, "started_at": at, "begun": begun}
    connection.execute(trainings.insert().values(**row, started_at_wall=at_wall))


def finish_training(
    connection: Connection,
    training_id: str,
    status: str,
    stats: Row,
    found: Sequence[Row],
    at: datetime,
    wall: datetime,
    outcome: str | None = None,
) -> None:
    """Record the end of a training and its artifacts (`found`: the columns of the table).

    They stand from now on, but for those whose `standing` says no.
    """
    changed = {"status": status, "stats": dict(stats), "finished_at_wall": wall, "outcome": outcome}
    connection.execute(trainings.update().where(trainings.c.training_id == training_id).values(**changed))
    for row in found:
        values = {"standing": True, **row, "training_id": training_id, "created_at": at}
        if values["standing"]:
            same = artifacts.c.horizon_minutes == row["horizon_minutes"]
            connection.execute(artifacts.update().where(same, artifacts.c.standing).values(standing=False))
        connection.execute(artifacts.insert().values(**values))


def set_progress(connection: Connection, training_id: str, progress: Row) -> None:
    """Record the last event of a training."""
    mine = trainings.c.training_id == training_id
    connection.execute(trainings.update().where(mine).values(progress=dict(progress)))


def fail_abandoned_trainings(connection: Connection, before_wall: datetime) -> int:
    """Mark trainings as failed whose process must be gone; the number of them."""
    gone = sa.and_(trainings.c.status == RUNNING, trainings.c.started_at_wall < before_wall)
    ended = {"status": FAILED, "finished_at_wall": before_wall, "outcome": "ended from outside before it was done"}
    return connection.execute(trainings.update().where(gone).values(**ended)).rowcount


def recent_trainings(connection: Connection, count: int, status: str | None = None) -> list[Row]:
    """The last trainings, or those of one status, oldest first."""
    query = trainings.select().order_by(trainings.c.started_at_wall.desc(), trainings.c.training_id.desc())
    if status is not None:
        query = query.where(trainings.c.status == status)
    return [dict(row) for row in reversed(connection.execute(query.limit(count)).mappings().all())]


def training(connection: Connection, training_id: str) -> Row:
    """One training that is recorded."""
    query = trainings.select().where(trainings.c.training_id == training_id)
    return dict(connection.execute(query).mappings().one())


def artifacts_of(connection: Connection, training_id: str) -> list[Row]:
    """The artifacts that a training made, by horizon."""
    query = artifacts.select().where(artifacts.c.training_id == training_id).order_by(artifacts.c.horizon_minutes)
    return [dict(row) for row in connection.execute(query).mappings()]


def training_asked_for(connection: Connection) -> bool:
    """Whether a human asked for a training that has not begun."""
    waiting = sa.exists().where(training_requests.c.training_id.is_(None))
    return bool(connection.execute(sa.select(waiting)).scalar_one())


def standing_artifacts(connection: Connection) -> dict[int, Row]:
    """The artifact that serves each horizon."""
    rows = connection.execute(artifacts.select().where(artifacts.c.standing)).mappings()
    return {row["horizon_minutes"]: dict(row) for row in rows}


def usable(standing: Mapping[int, Row]) -> dict[int, Row]:
    """Those of the standing artifacts that can be loaded, as far as is known."""
    return {horizon: row for horizon, row in standing.items() if row["unusable"] is None}


def add_forecasts(connection: Connection, made: Sequence[Forecast]) -> None:
    """Store forecasts; one already stored is left as it is."""
    if not made:
        return
    rows = [{**asdict(f), "eta": f.issued_at + timedelta(minutes=f.horizon_minutes)} for f in made]
    connection.execute(insert(forecasts).on_conflict_do_nothing(), rows)


def forecast_of(row: Row) -> Forecast:
    """The forecast that a row holds, without what became of it."""
    return Forecast(**{name: row[name] for name in _FORECAST_FIELDS})


def latest_forecasts(connection: Connection, since: datetime) -> list[Forecast]:
    """The newest forecast of each symbol and horizon that was issued after `since`."""
    columns = [forecasts.c[name] for name in _FORECAST_FIELDS]
    newest = (
        sa.select(*columns)
        .ext(distinct_on(forecasts.c.symbol, forecasts.c.horizon_minutes))
        .where(forecasts.c.issued_at > since)
        .order_by(forecasts.c.symbol, forecasts.c.horizon_minutes, forecasts.c.issued_at.desc())
    )
    return [Forecast(**row) for row in connection.execute(newest).mappings()]


def newest_confidences(connection: Connection, since: datetime) -> list[float]:
    """Of each symbol that the newest forecasts after `since` are of, the confidence of the surest."""
    newest = sa.select(sa.func.max(forecasts.c.issued_at)).where(forecasts.c.issued_at > since).scalar_subquery()
    query = sa.select(sa.func.max(forecasts.c.confidence)).where(forecasts.c.issued_at == newest)
    return list(connection.execute(query.group_by(forecasts.c.symbol)).scalars())


def pending_forecasts(connection: Connection, after: datetime, most: int = 5_000) -> list[Row]:
    """Forecasts whose time comes after that moment, the next ones first."""
    waiting = sa.and_(forecasts.c.matured_at.is_(None), forecasts.c.eta > after)
    query = forecasts.select().where(waiting).order_by(forecasts.c.eta, forecasts.c.forecast_id)
    return [dict(row) for row in connection.execute(query.limit(most)).mappings()]


def recent_outcomes(connection: Connection, count: int) -> list[Row]:
    """The last forecasts with a known outcome by their eta, oldest first."""
    known = forecasts.select().where(forecasts.c.actual_price_usd.is_not(None))
    query = known.order_by(forecasts.c.eta.desc(), forecasts.c.forecast_id.desc()).limit(count)
    return [dict(row) for row in reversed(connection.execute(query).mappings().all())]


def add_quality(connection: Connection, at: datetime, window_hours: float, per_horizon: Row) -> None:
    """Record how the forecasts of the last hours did; of one moment the first record stays."""
    row = {"at": at, "window_hours": window_hours, "per_horizon": dict(per_horizon)}
    connection.execute(insert(forecast_quality).values(**row).on_conflict_do_nothing())


def recent_quality(connection: Connection, count: int) -> list[Row]:
    """The last records of `add_quality`, oldest first."""
    query = forecast_quality.select().order_by(forecast_quality.c.at.desc()).limit(count)
    return [dict(row) for row in reversed(connection.execute(query).mappings().all())]
