"""Orders asked for by hand: each as first seen, for ever, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store.tables import handled, intents, manual_orders, orders

Row = Mapping[str, Any]
KIND = "manual_order"  # of `handled`: who claims an order there is the one to send it


def record(connection: Connection, bodies: Mapping[str, Any], wall: datetime) -> None:
    """Keep orders by id, in the order given. The first content seen under an id counts for ever."""
    if bodies:
        rows = [{"order_id": order_id, "body": body, "first_seen_wall": wall} for order_id, body in bodies.items()]
        connection.execute(insert(manual_orders).on_conflict_do_nothing(), rows)


def fates(connection: Connection, order_ids: Sequence[str]) -> list[Row]:
    """What is recorded of these orders and of all that are owed to the board, in the order first seen.

    `outcome` is None while nobody has claimed the order; `intent_status`, `error` and `order_status` as far as known.
    """
    claim = sa.and_(handled.c.kind == KIND, handled.c.key == manual_orders.c.order_id)
    joined = (
        manual_orders.join(handled, claim, isouter=True)
        .join(intents, intents.c.client_order_id == handled.c.outcome["client_order_id"].astext, isouter=True)
        .join(orders, orders.c.client_order_id == intents.c.client_order_id, isouter=True)
    )
    columns = [
        *manual_orders.c, handled.c.outcome, intents.c.status.label("intent_status"), intents.c.error,
        orders.c.status.label("order_status"),
    ]  # fmt: skip
    wanted = sa.or_(manual_orders.c.final_shown_wall.is_(None), manual_orders.c.order_id.in_(order_ids))
    query = sa.select(*columns).select_from(joined).where(wanted).order_by(manual_orders.c.number)
    return [dict(row) for row in connection.execute(query).mappings()]


def final_was_shown(connection: Connection, order_ids: Sequence[str], wall: datetime) -> None:
    """Remember that the final status of these orders stood on the board: a frontend may remove them from now on."""
    if order_ids:
        mine = sa.and_(manual_orders.c.order_id.in_(order_ids), manual_orders.c.final_shown_wall.is_(None))
        connection.execute(manual_orders.update().where(mine).values(final_shown_wall=wall))
