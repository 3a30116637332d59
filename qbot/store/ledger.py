"""The ledger: decisions, intents, orders, fills. Caps are reserved in the transaction that commits an intent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot.store import locks
from qbot.store.tables import decisions, equity, fills, intents, orders
from qbot.types import Account, BrokerOrder, Fill, IntentKind, Side, Usage

Row = Mapping[str, Any]
COMMITTED, IN_DOUBT, SENT, REJECTED, CLOSED, ABANDONED = (
    "committed", "in_doubt", "sent", "rejected", "closed", "abandoned",
)  # fmt: skip
UNSETTLED = (COMMITTED, IN_DOUBT, SENT)


def lock_gate(connection: Connection) -> None:
    """Only one transaction at a time may read the caps and reserve; held to the end of the transaction."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(locks.GATE)))


def usage(connection: Connection, day: str, cooldown_since: datetime, snapshot_wall: datetime) -> Usage:
    """What the caps count now.

    An intent that closed after the account snapshot was taken still counts as reserved: the snapshot's cash does not
    know its fill yet.
    """
    late = intents.c.closed_at_wall >= snapshot_wall - timedelta(seconds=1)
    relevant = sa.or_(
        intents.c.market_day == day, intents.c.status.in_(UNSETTLED), late, intents.c.created_at > cooldown_since
    )
    rows = connection.execute(intents.select().where(relevant)).mappings().all()
    return usage_of([dict(row) for row in rows], day, snapshot_wall)


def usage_of(rows: Sequence[Row], day: str, snapshot_wall: datetime) -> Usage:
    """The sums over intents: pure, so that it can be tested against the gate's own reckoning."""
    orders_today, notional = 0, Decimal(0)
    entries: dict[str, int] = {}
    last_entry: dict[str, datetime] = {}
    reserved: dict[str, Decimal] = {}
    unsettled: dict[str, frozenset[Side]] = {}
    for row in rows:
        symbol, side = row["symbol"], Side(row["side"])
        on_its_way = row["status"] in UNSETTLED
        counts = on_its_way or row["filled_usd"] > 0
        if not counts:
            continue
        value = max(row["reserved_usd"], row["filled_usd"]) if on_its_way else row["filled_usd"]
        is_entry = row["kind"] == IntentKind.ENTRY
        if row["market_day"] == day:
            orders_today += 1
            notional += value
            entries[symbol] = entries.get(symbol, 0) + int(is_entry)
        if is_entry:
            last_entry[symbol] = max(row["created_at"], last_entry.get(symbol, row["created_at"]))
        if on_its_way:
            unsettled[symbol] = unsettled.get(symbol, frozenset()) | {side}
        if is_entry and (on_its_way or _closed_after(row, snapshot_wall)):
            reserved[symbol] = reserved.get(symbol, Decimal(0)) + value
    return Usage(orders_today, notional, entries, last_entry, sum(reserved.values(), Decimal(0)), reserved, unsettled)


def _closed_after(row: Row, snapshot_wall: datetime) -> bool:
    closed: datetime | None = row["closed_at_wall"]
    return closed is not None and closed >= snapshot_wall - timedelta(seconds=1)


def add_decisions(connection: Connection, rows: Sequence[Row]) -> None:
    """Write decisions, allowed and refused alike."""
    if rows:
        connection.execute(decisions.insert(), list(rows))


def add_intents(connection: Connection, rows: Sequence[Row]) -> None:
    """Commit intents; a client order id that exists raises IntegrityError and nothing is written."""
    if rows:
        connection.execute(intents.insert(), list(rows))


def intent(connection: Connection, client_order_id: str) -> Row | None:
    """One intent by its id."""
    row = connection.execute(intents.select().where(intents.c.client_order_id == client_order_id)).mappings().first()
    return dict(row) if row else None


def fate(connection: Connection, client_order_id: str) -> Row | None:
    """What became of an intent: `intent_status`, `error`, and `order_status` as far as an order is known."""
    joined = intents.join(orders, orders.c.client_order_id == intents.c.client_order_id, isouter=True)
    columns = (intents.c.status.label("intent_status"), intents.c.error, orders.c.status.label("order_status"))
    query = sa.select(*columns).select_from(joined).where(intents.c.client_order_id == client_order_id)
    row = connection.execute(query).mappings().first()
    return dict(row) if row else None


def unsettled_intents(connection: Connection) -> list[Row]:
    """Intents whose order may still be on its way, oldest first."""
    query = intents.select().where(intents.c.status.in_(UNSETTLED)).order_by(intents.c.created_at_wall)
    return [dict(row) for row in connection.execute(query).mappings()]


def mark_unsent(connection: Connection, client_order_id: str, status: str, why: str) -> None:
    """Record that an intent was refused, given up or is in doubt, unless its order was found meanwhile."""
    mine = sa.and_(intents.c.client_order_id == client_order_id, intents.c.status.in_((COMMITTED, IN_DOUBT)))
    connection.execute(intents.update().where(mine).values(status=status, error=why))


def net_quantities(connection: Connection) -> dict[str, Decimal]:
    """Shares held by the sum of all fills, symbols at zero left out."""
    signed = sa.case((fills.c.side == Side.BUY, fills.c.qty), else_=-fills.c.qty)
    total = sa.func.sum(signed)
    query = sa.select(fills.c.symbol, total).group_by(fills.c.symbol).having(total != 0)
    return dict(connection.execute(query).tuples().all())


def record_orders(connection: Connection, seen: Sequence[BrokerOrder], wall: datetime) -> None:
    """Take over orders as the broker tells them, and settle the intents behind them.

    An update older than what is recorded changes nothing: events may come twice or out of order.
    """
    if not seen:
        return
    known = _sources(connection, seen)
    rows = [{**_order_row(order), "source": known[order.broker_order_id]} for order in seen]
    upsert = insert(orders)
    keep = ("broker_order_id", "source", "created_at")
    changed = {name: upsert.excluded[name] for name in rows[0] if name not in keep}
    newer = orders.c.updated_at <= upsert.excluded.updated_at
    key = [orders.c.broker_order_id]
    connection.execute(upsert.on_conflict_do_update(index_elements=key, set_=changed, where=newer), rows)
    _settle(connection, seen, wall)


def _sources(connection: Connection, seen: Sequence[BrokerOrder]) -> dict[str, str]:
    """Who asked for each order: the intent's source, the parent's for a leg, else it was made elsewhere."""
    ids = [order.client_order_id for order in seen]
    query = sa.select(intents.c.client_order_id, intents.c.source).where(intents.c.client_order_id.in_(ids))
    by_id = dict(connection.execute(query).tuples().all())
    parents = {order.broker_order_id: by_id.get(order.client_order_id) for order in seen}
    return {
        order.broker_order_id: by_id.get(order.client_order_id) or parents.get(order.parent_id or "") or "foreign"
        for order in seen
    }


def _order_row(order: BrokerOrder) -> dict[str, Any]:
    names = orders.c.keys()
    values = {name: getattr(order, name) for name in names if name != "source"}
    return {**values, "side": str(order.side)}


def _settle(connection: Connection, seen: Sequence[BrokerOrder], wall: datetime) -> None:
    """Bring intents to the state of their orders: sent while open, closed with what was filled when not."""
    change = (
        intents.update()
        .where(intents.c.client_order_id == sa.bindparam("id"), intents.c.status != CLOSED)
        .values(
            status=sa.bindparam("new_status"),
            broker_order_id=sa.bindparam("order_id"),
            filled_usd=sa.bindparam("filled"),
            closed_at_wall=sa.bindparam("closed"),
        )
    )
    connection.execute(
        change,
        [
            {
                "id": order.client_order_id,
                "new_status": SENT if order.open else CLOSED,
                "order_id": order.broker_order_id,
                "filled": order.filled_qty * (order.filled_avg_price_usd or Decimal(0)),
                "closed": None if order.open else wall,
            }
            for order in seen
        ],
    )


def record_fills(connection: Connection, seen: Sequence[Fill]) -> int:
    """Write fills; one already recorded is left alone. The number of new ones."""
    if not seen:
        return 0
    rows = [{**asdict(fill), "side": str(fill.side)} for fill in seen]
    written = connection.execute(insert(fills).on_conflict_do_nothing().returning(fills.c.execution_id), rows)
    return len(written.all())


def record_equity(connection: Connection, account: Account, at: datetime) -> None:
    """One point of the equity curve."""
    values = {"at": at, "equity_usd": account.equity_usd, "cash_usd": account.cash_usd}
    connection.execute(insert(equity).values(**values).on_conflict_do_nothing())


def equity_curve(connection: Connection, since: datetime) -> list[tuple[datetime, Decimal]]:
    """Equity over time, oldest first."""
    query = sa.select(equity.c.at, equity.c.equity_usd).where(equity.c.at >= since).order_by(equity.c.at)
    return [(at, value) for at, value in connection.execute(query)]


def all_fills(connection: Connection) -> list[Fill]:
    """Every execution, oldest first."""
    names = tuple(Fill.__dataclass_fields__)
    query = sa.select(*(fills.c[name] for name in names)).order_by(fills.c.at, fills.c.execution_id)
    return [Fill(**{**row, "side": Side(row["side"])}) for row in connection.execute(query).mappings()]


def recent_fills(connection: Connection, count: int) -> list[Row]:
    """The last executions with the order, intent and decision behind them, oldest first."""
    joined = (
        fills.join(orders, orders.c.broker_order_id == fills.c.broker_order_id, isouter=True)
        .join(intents, intents.c.client_order_id == orders.c.client_order_id, isouter=True)
        .join(decisions, decisions.c.decision_id == intents.c.decision_id, isouter=True)
    )
    columns = [
        *fills.c, orders.c.source, orders.c.status, orders.c.client_order_id, orders.c.order_type,
        orders.c.parent_id, decisions.c.signal, decisions.c.message, decisions.c.settings_revision,
    ]  # fmt: skip
    query = sa.select(*columns).select_from(joined).order_by(fills.c.at.desc(), fills.c.execution_id.desc())
    return [dict(row) for row in reversed(connection.execute(query.limit(count)).mappings().all())]


def recent_decisions(connection: Connection, count: int) -> list[Row]:
    """The last decisions, newest first."""
    query = decisions.select().order_by(decisions.c.decided_at.desc(), decisions.c.symbol).limit(count)
    return [dict(row) for row in connection.execute(query).mappings()]


def open_orders(connection: Connection) -> list[Row]:
    """Orders the ledger holds for open, oldest first."""
    closed = ("filled", "canceled", "expired", "rejected", "replaced")
    query = orders.select().where(orders.c.status.not_in(closed)).order_by(orders.c.created_at)
    return [dict(row) for row in connection.execute(query).mappings()]


def last_fill_at(connection: Connection) -> datetime | None:
    """When the newest recorded execution took place."""
    return connection.execute(sa.select(sa.func.max(fills.c.at))).scalar()


def last_order_at(connection: Connection) -> datetime | None:
    """When the newest recorded order was made."""
    return connection.execute(sa.select(sa.func.max(orders.c.created_at))).scalar()
