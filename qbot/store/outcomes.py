"""What became of orders lately: for telling a human."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.store.protocol import ABANDONED, REJECTED
from qbot.store.tables import decisions, intents, orders

Row = Mapping[str, Any]
MOST = 500  # more than are allowed on a day


def ended_orders(connection: Connection, since: datetime) -> list[Row]:
    """Orders that were filled, in part or as a whole, or rejected since then, and are over; oldest first."""
    traded = sa.and_(orders.c.status.in_(("filled", "canceled", "expired")), orders.c.filled_qty > 0)
    over = sa.and_(orders.c.updated_at >= since, sa.or_(traded, orders.c.status == "rejected"))
    query = orders.select().where(over).order_by(orders.c.updated_at).limit(MOST)
    return [dict(row) for row in connection.execute(query).mappings()]


def failed_intents(connection: Connection, since_wall: datetime) -> list[Row]:
    """Intents whose order the venue refused, or that never arrived there; oldest first."""
    failed = sa.and_(intents.c.status.in_((REJECTED, ABANDONED)), intents.c.created_at_wall >= since_wall)
    query = intents.select().where(failed).order_by(intents.c.created_at_wall).limit(MOST)
    return [dict(row) for row in connection.execute(query).mappings()]


def refused_by_hand(connection: Connection, id_prefix: str, since: datetime) -> list[Row]:
    """Orders a human asked for that the gate refused; oldest first. `id_prefix`: of the cycles of such orders."""
    refused = sa.and_(decisions.c.cycle_id.startswith(id_prefix), sa.not_(decisions.c.allowed))
    query = decisions.select().where(refused, decisions.c.decided_at >= since).order_by(decisions.c.decided_at)
    return [dict(row) for row in connection.execute(query.limit(MOST)).mappings()]
