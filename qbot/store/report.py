"""Queries of what an observer shows: the last cycle, orders with their intents, and the sums over one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.store.tables import alerts, decisions, equity, fills, forecasts, intents, orders, trainings

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HorizonRecord:
    """Matured forecasts of one horizon: how many, their mean absolute error and that of "no change" in USD a share,
    and how many had the direction right, of those that moved at all."""

    horizon_minutes: int
    matured: int
    mae_usd: float
    naive_mae_usd: float
    moved: int
    direction_right: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Sums over what happened since a moment. `intents` counts by status."""

    decisions: int
    refused: int
    intents: Mapping[str, int]
    orders: int
    fills: int
    traded_usd: float
    forecasts: int
    quality: tuple[HorizonRecord, ...]
    trainings: Mapping[str, int]
    critical_alerts: tuple[str, ...]
    equity_first_usd: float | None
    equity_last_usd: float | None


def last_cycle(connection: Connection) -> list[Row]:
    """All decisions of the newest cycle, by symbol."""
    newest = sa.select(decisions.c.cycle_id).order_by(decisions.c.decided_at.desc()).limit(1).scalar_subquery()
    query = decisions.select().where(decisions.c.cycle_id == newest).order_by(decisions.c.symbol)
    return [dict(row) for row in connection.execute(query).mappings()]


def allowed_decisions(connection: Connection, count: int) -> list[Row]:
    """The last decisions that became an intent, with its `qty`, `intent_status` and `error`; newest first."""
    joined = decisions.join(intents, intents.c.decision_id == decisions.c.decision_id)
    columns = [*decisions.c, intents.c.qty, intents.c.status.label("intent_status"), intents.c.error]
    query = sa.select(*columns).select_from(joined).order_by(decisions.c.decided_at.desc(), decisions.c.symbol)
    return [dict(row) for row in connection.execute(query.limit(count)).mappings()]


def recent_orders(connection: Connection, count: int) -> list[Row]:
    """The last orders of any state, newest first, with `kind` of their intent: none for legs and foreign orders."""
    query = (
        sa.select(*orders.c, intents.c.kind)
        .select_from(orders.join(intents, intents.c.client_order_id == orders.c.client_order_id, isouter=True))
        .order_by(orders.c.created_at.desc(), orders.c.broker_order_id)
    )
    return [dict(row) for row in connection.execute(query.limit(count)).mappings()]


def recent_executions(connection: Connection, count: int) -> list[Row]:
    """The last executions, newest first, with source, type, parent and the intent's `kind` of their order."""
    joined = fills.join(orders, orders.c.broker_order_id == fills.c.broker_order_id, isouter=True).join(
        intents, intents.c.client_order_id == orders.c.client_order_id, isouter=True
    )
    columns = [*fills.c, orders.c.source, orders.c.order_type, orders.c.parent_id, intents.c.kind]
    query = sa.select(*columns).select_from(joined).order_by(fills.c.at.desc(), fills.c.execution_id.desc())
    return [dict(row) for row in connection.execute(query.limit(count)).mappings()]


def run_record(connection: Connection, since: datetime, since_wall: datetime) -> RunRecord:
    """The sums since `since` (market time) and `since_wall`."""
    judged = connection.execute(
        sa.select(sa.func.count(), sa.func.count().filter(sa.not_(decisions.c.allowed))).where(
            decisions.c.decided_at >= since
        )
    ).one()
    traded = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(fills.c.qty * fills.c.price_usd), 0)).where(
            fills.c.at >= since
        )
    ).one()
    first, last = _equity_span(connection, since)
    return RunRecord(
        decisions=judged[0],
        refused=judged[1],
        intents=_by_status(connection, intents, intents.c.created_at_wall >= since_wall),
        orders=_count(connection, orders.c.created_at >= since),
        fills=traded[0],
        traded_usd=float(traded[1]),
        forecasts=_count(connection, forecasts.c.issued_at >= since),
        quality=_quality(connection, since),
        trainings=_by_status(connection, trainings, trainings.c.started_at_wall >= since_wall),
        critical_alerts=_critical(connection, since_wall),
        equity_first_usd=first,
        equity_last_usd=last,
    )


def _count(connection: Connection, condition: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).where(condition)).scalar_one())


def _by_status(connection: Connection, table: sa.Table, condition: sa.ColumnElement[bool]) -> dict[str, int]:
    query = sa.select(table.c.status, sa.func.count()).where(condition).group_by(table.c.status)
    return {row[0]: row[1] for row in connection.execute(query)}


def _critical(connection: Connection, since_wall: datetime) -> tuple[str, ...]:
    mine = sa.and_(alerts.c.severity == "CRITICAL", alerts.c.triggered_at_wall >= since_wall)
    query = sa.select(alerts.c.title, alerts.c.message).where(mine).order_by(alerts.c.triggered_at_wall)
    return tuple(f"{title}: {message}" for title, message in connection.execute(query))


def _equity_span(connection: Connection, since: datetime) -> tuple[float | None, float | None]:
    """The first and the last equity since `since`."""
    query = sa.select(equity.c.equity_usd).where(equity.c.at >= since).limit(1)
    first = connection.execute(query.order_by(equity.c.at)).scalar()
    last = connection.execute(query.order_by(equity.c.at.desc())).scalar()
    return (float(first) if first is not None else None), (float(last) if last is not None else None)


def _quality(connection: Connection, since: datetime) -> tuple[HorizonRecord, ...]:
    made, came = forecasts.c.current_price_usd, forecasts.c.actual_price_usd
    target = made * (1 + forecasts.c.return_pct)
    query = (
        sa.select(
            forecasts.c.horizon_minutes,
            sa.func.count(),
            sa.func.avg(sa.func.abs(target - came)),
            sa.func.avg(sa.func.abs(made - came)),
            sa.func.count().filter(came != made),
            sa.func.count().filter((came - made) * forecasts.c.return_pct > 0),
        )
        .where(forecasts.c.issued_at >= since, came.is_not(None))
        .group_by(forecasts.c.horizon_minutes)
        .order_by(forecasts.c.horizon_minutes)
    )
    return tuple(HorizonRecord(*row) for row in connection.execute(query))
