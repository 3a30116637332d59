"""What the board shows of the ledger besides the ledger itself: the newest cycle, what stands behind trades, alerts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.engine import Connection

from qbot.session import Event
from qbot.store import ledger
from qbot.store.tables import (
    alerts,
    decisions,
    fills,
    intents,
    newest_cycle,
    orders,
    settings_revisions,
    switch_log,
    task_ticks,
)
from qbot.types import Source

Row = Mapping[str, Any]
ALERTS_MAX = 100
LIFE_OF_A_SIGNAL = timedelta(days=1)  # many times over: it bounds the search, nothing else


class Context(NamedTuple):
    """Under which strategy a trade was made, and in which trading session; None where there was none."""

    strategy: str | None
    session_id: str | None


def record_cycle(connection: Connection, at: datetime, error: str | None, worker_pid: int) -> None:
    """Record how the newest trading cycle ended."""
    values = {"ran_at": at, "error": error, "worker_pid": worker_pid}
    upsert = insert(newest_cycle).values(one=True, **values)
    connection.execute(upsert.on_conflict_do_update(index_elements=[newest_cycle.c.one], set_=values))


def last_cycle(connection: Connection) -> Row | None:
    """When the newest trading cycle ran, its error and its worker; None before the first."""
    row = connection.execute(newest_cycle.select()).mappings().first()
    return dict(row) if row else None


def traded_usd(connection: Connection, begin: datetime, end: datetime) -> Decimal:
    """The volume of all executions in a span, buys and sells."""
    total = sa.func.coalesce(sa.func.sum(fills.c.qty * fills.c.price_usd), 0)
    return Decimal(connection.execute(sa.select(total).where(fills.c.at >= begin, fills.c.at < end)).scalar_one())


def used_signals(connection: Connection, signal_ids: Sequence[str], now: datetime) -> frozenset[str]:
    """Those of the signals that a cycle made an order of, unless it was held back before it was sent."""
    name = decisions.c.signal["signal_id"].astext
    acted = sa.and_(intents.c.decision_id == decisions.c.decision_id, intents.c.status != ledger.DENIED)
    query = sa.select(name).join_from(decisions, intents, acted)
    recent = decisions.c.decided_at > now - LIFE_OF_A_SIGNAL
    return frozenset(connection.execute(query.where(recent, name.in_(list(signal_ids)))).scalars())


def contexts(connection: Connection, order_ids: Sequence[str]) -> dict[str, Context]:
    """What stood behind orders when they were decided on, by broker's id; a leg has its parent's.

    Orders made outside QBot are left out. A human's have no trading session.
    """
    parent = orders.alias("parent")
    asked_by = intents.c.client_order_id == sa.func.coalesce(parent.c.client_order_id, orders.c.client_order_id)
    strategy = settings_revisions.c.effective["config"]["strategy"].astext
    started = sa.and_(switch_log.c.event == Event.STARTED, switch_log.c.at_wall <= intents.c.created_at_wall)
    newest = sa.select(switch_log.c.session_id).where(started).order_by(switch_log.c.at_wall.desc()).limit(1)
    by_hand = intents.c.source.in_((Source.MANUAL, Source.EMERGENCY))
    session_id = sa.case((by_hand, None), else_=newest.correlate(intents).scalar_subquery())
    query = (
        sa.select(orders.c.broker_order_id, strategy, session_id)
        .join_from(orders, parent, parent.c.broker_order_id == orders.c.parent_id, isouter=True)
        .join(intents, asked_by)
        .join(decisions, decisions.c.decision_id == intents.c.decision_id)
        .join(settings_revisions, settings_revisions.c.revision == decisions.c.settings_revision, isouter=True)
        .where(orders.c.broker_order_id.in_(list(order_ids)))
    )
    return {order_id: Context(*rest) for order_id, *rest in connection.execute(query)}


def standing_alerts(connection: Connection, wall: datetime) -> list[Row]:
    """Alerts that a human should see, newest first: those that have not expired, and critical ones until acknowledged.

    Trouble that is told again and again stands there once, as told last.
    """
    same = alerts.c.trouble
    last = sa.select(alerts).ext(distinct_on(same)).order_by(same, alerts.c.triggered_at_wall.desc()).subquery()
    waits = sa.and_(last.c.severity == "CRITICAL", sa.not_(last.c.acknowledged))
    query = sa.select(last).where(sa.or_(last.c.expires_at_wall > wall, waits))
    newest = (last.c.triggered_at_wall.desc(), last.c.alert_id)
    # However many others there are, those that wait for a human are not pushed out by them.
    kept = query.order_by(waits.desc(), *newest).limit(ALERTS_MAX)
    rows = [dict(row) for row in connection.execute(kept).mappings()]
    return sorted(rows, key=lambda row: row["triggered_at_wall"], reverse=True)


def last_ticks(connection: Connection) -> dict[str, datetime]:
    """When the last run of each periodic task began, wall time."""
    return dict(connection.execute(sa.select(task_ticks.c.name, task_ticks.c.started_at)).all())
