"""The broker's orders as they were told: recorded, given their parent and source, and what follows for intents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.engine import Connection

from qbot.store import locks
from qbot.store.ledger import CLOSED, SENT, Row
from qbot.store.tables import intents, orders
from qbot.types import CLOSED_ORDER_STATUSES, BrokerOrder, Side, Source


def record_orders(connection: Connection, seen: Sequence[BrokerOrder], wall: datetime) -> None:
    """Take over orders and their legs as the broker tells them, and settle the intents behind them.

    An update older than what is recorded changes nothing: events may come twice or out of order. A leg that comes
    without its parent keeps the one that is known.
    """
    family = {one.broker_order_id: one for order in seen for one in (*order.legs, order)}
    if not family:
        return
    # One writer at a time: two that bring the same new order meet at its second unique key, which no upsert arbitrates.
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(locks.ORDERS)))
    told = _with_parents(connection, [family[order_id] for order_id in sorted(family)])
    known = _sources(connection, told)
    rows = [{**_order_row(order), "source": known[order.broker_order_id]} for order in told]
    upsert = insert(orders)
    keep = ("broker_order_id", "created_at", "parent_id", "source")
    changed = {name: upsert.excluded[name] for name in rows[0] if name not in keep}
    newer, key = _newer(upsert.excluded), ["broker_order_id"]
    connection.execute(upsert.on_conflict_do_update(index_elements=key, set_=changed, where=newer), rows)
    _adopt(connection, [row for row in rows if row["source"] != Source.FOREIGN or row["parent_id"]])
    _settle(connection, list(family), wall)


def _with_parents(connection: Connection, told: Sequence[BrokerOrder]) -> list[BrokerOrder]:
    lost = sorted({order.replaces for order in told if order.replaces and order.parent_id is None})
    query = sa.select(orders.c.broker_order_id, orders.c.parent_id).where(orders.c.broker_order_id.in_(lost))
    return inherited(told, dict(connection.execute(query).all()) if lost else {})


def inherited(told: Sequence[BrokerOrder], recorded: Mapping[str, str | None]) -> list[BrokerOrder]:
    """What took the place of a leg is its parent's leg too; a flat list tells only what it replaced. Pure.

    `recorded`: parents of orders that are known, by broker's id.
    """
    family = {order.broker_order_id: order for order in told}
    found = []
    for order in told:
        parent, at, seen = order.parent_id, order.replaces, {order.broker_order_id}
        while parent is None and at is not None and at not in seen:
            seen.add(at)
            before = family.get(at)
            parent = recorded.get(at) or (before.parent_id if before else None)
            at = before.replaces if before else None
        found.append(order if parent == order.parent_id else replace(order, parent_id=parent))
    return found


def _newer(new: Any) -> sa.ColumnElement[bool]:
    """Whether a told order is later than the recorded one. Of one moment, what an order cannot take back decides."""
    over = sa.literal(sorted(CLOSED_ORDER_STATUSES), ARRAY(sa.Text))
    onward = sa.and_(
        new.updated_at == orders.c.updated_at,
        new.filled_qty >= orders.c.filled_qty,
        sa.or_(orders.c.status != sa.all_(over), new.status == sa.any_(over)),
    )
    return sa.or_(new.updated_at > orders.c.updated_at, onward)


def _adopt(connection: Connection, rows: Sequence[Row]) -> None:
    """Add parent and source to orders that were recorded before these were known."""
    if not rows:
        return
    foreign = orders.c.source == Source.FOREIGN
    lacks = sa.or_(orders.c.parent_id.is_(None), foreign)
    change = orders.update().where(orders.c.broker_order_id == sa.bindparam("id"), lacks)
    parent = sa.func.coalesce(orders.c.parent_id, sa.bindparam("parent"))
    change = change.values(parent_id=parent, source=sa.case((foreign, sa.bindparam("asked_by")), else_=orders.c.source))
    params = [{"id": row["broker_order_id"], "parent": row["parent_id"], "asked_by": row["source"]} for row in rows]
    connection.execute(change, params)


def _sources(connection: Connection, told: Sequence[BrokerOrder]) -> dict[str, str]:
    """Who asked for each order: the intent's source; for a leg its parent's, and for one that took the place of
    another, that one's; else it was made elsewhere."""
    ids = [order.client_order_id for order in told]
    asked = sa.select(intents.c.client_order_id, intents.c.source).where(intents.c.client_order_id.in_(ids))
    by_id = dict(connection.execute(asked).all())
    kin = {one for order in told for one in (order.parent_id, order.replaces) if one}
    ours = sa.and_(orders.c.broker_order_id.in_(sorted(kin)), orders.c.source != Source.FOREIGN)
    recorded = dict(connection.execute(sa.select(orders.c.broker_order_id, orders.c.source).where(ours)).all())
    return asked_by(told, by_id, recorded)


def asked_by(
    told: Sequence[BrokerOrder], by_client_id: Mapping[str, str], recorded: Mapping[str, str]
) -> dict[str, str]:
    """The source of each order by broker's id, from intents and from orders that are known: pure."""
    family = {order.broker_order_id: order for order in told}
    found = {}
    for order in told:
        source, waiting = None, [order]
        looked_at: set[str] = set()
        while waiting and source is None:
            one = waiting.pop(0)
            looked_at.add(one.broker_order_id)
            kin = [other for other in (one.parent_id, one.replaces) if other and other not in looked_at]
            source = by_client_id.get(one.client_order_id) or next((recorded[k] for k in kin if k in recorded), None)
            waiting += [family[k] for k in kin if k in family]
        found[order.broker_order_id] = source or Source.FOREIGN.value
    return found


def _order_row(order: BrokerOrder) -> dict[str, Any]:
    names = orders.c.keys()
    values = {name: getattr(order, name) for name in names if name != "source"}
    return {**values, "side": str(order.side)}


def _settle(connection: Connection, order_ids: Sequence[str], wall: datetime) -> None:
    """Bring intents, given up or not, to the state of their recorded orders: sent while open, closed when not."""
    ended = orders.c.status.in_(CLOSED_ORDER_STATUSES)
    mine = sa.and_(intents.c.client_order_id == orders.c.client_order_id, orders.c.broker_order_id.in_(order_ids))
    change = intents.update().values(
        status=sa.case((ended, CLOSED), else_=SENT),
        broker_order_id=orders.c.broker_order_id,
        filled_usd=orders.c.filled_qty * sa.func.coalesce(orders.c.filled_avg_price_usd, 0),
        closed_at_wall=sa.case((ended, sa.func.coalesce(intents.c.closed_at_wall, wall)), else_=None),
        error=None,
    )
    connection.execute(change.where(mine))


def open_orders(connection: Connection) -> list[Row]:
    """Orders the ledger holds for open, oldest first."""
    query = orders.select().where(orders.c.status.not_in(CLOSED_ORDER_STATUSES)).order_by(orders.c.created_at)
    return [dict(row) for row in connection.execute(query).mappings()]


def open_entries(connection: Connection, id_prefix: str) -> list[str]:
    """Broker's ids of the buys held for open whose client order id begins with `id_prefix`, newest first."""
    mine = sa.and_(
        orders.c.status.not_in(CLOSED_ORDER_STATUSES),
        orders.c.side == str(Side.BUY),
        orders.c.client_order_id.startswith(id_prefix, autoescape=True),
    )
    query = sa.select(orders.c.broker_order_id).where(mine).order_by(orders.c.created_at.desc())
    return list(connection.execute(query).scalars())


def last_order_at(connection: Connection) -> datetime | None:
    """When the newest recorded order was made."""
    return connection.execute(sa.select(sa.func.max(orders.c.created_at))).scalar()
