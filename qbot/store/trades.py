"""Closed trades and open lots, first in first out: kept with the fills, in their transaction.

They follow from the fills alone, and are worked out again from the earliest new one: one that comes late, as the stream
and the reconcile may bring them, leads to the same trades as if it had come in time. What that takes is bounded by the
open lots and what came after the new fill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot import performance
from qbot.performance import Lot, RoundTrip
from qbot.store import account
from qbot.store.tables import fills, lots, trades
from qbot.types import Fill, Side

Row = Mapping[str, Any]
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
NEXT = timedelta(microseconds=1)  # the smallest step of a time
FILL_NAMES = tuple(Fill.__dataclass_fields__)


def follow(connection: Connection, new: Sequence[Fill]) -> None:
    """Bring trades and lots to what the fills say, after `new` ones were written. Under the lock of the orders."""
    first: dict[str, datetime] = {}
    for fill in new:
        first[fill.symbol] = min(fill.at, first.get(fill.symbol, fill.at))
    opening = account.opening(connection)
    cut = opening.positions_from if opening else None
    for symbol in sorted(first):
        _work_out(connection, symbol, first[symbol], cut)


def complete(connection: Connection) -> None:
    """Work out what is missing: fills that were written before there were trades."""
    known = sa.select(lots.c.symbol).union(sa.select(trades.c.symbol))
    missing = sa.select(fills.c.symbol).where(fills.c.symbol.not_in(known)).distinct()
    opening = account.opening(connection)
    for symbol in connection.execute(missing.order_by(fills.c.symbol)).scalars().all():
        _work_out(connection, symbol, BEGINNING, opening.positions_from if opening else None)


def _work_out(connection: Connection, symbol: str, since: datetime, cut: datetime | None) -> None:
    """Trades and lots of one symbol, anew from `since` on. What lies before `cut`, a human took over: it stays."""
    if _nothing_known(connection, symbol):
        since = BEGINNING
    if cut is not None:
        since = max(since, cut + NEXT)
    held = _lots_before(connection, symbol, since)
    mine = sa.and_(fills.c.symbol == symbol, fills.c.at >= since)
    rows = connection.execute(sa.select(*(fills.c[name] for name in FILL_NAMES)).where(mine)).mappings()
    told = performance.in_order(Fill(**{**row, "side": Side(row["side"])}) for row in rows)
    trips, left = performance.match(told, held)
    connection.execute(trades.delete().where(trades.c.symbol == symbol, trades.c.closed_at >= since))
    connection.execute(lots.delete().where(lots.c.symbol == symbol))
    if trips:
        connection.execute(trades.insert(), [_trade_row(trip) for trip in trips])
    put(connection, left)


def _nothing_known(connection: Connection, symbol: str) -> bool:
    known = [sa.select(sa.literal(1)).where(table.c.symbol == symbol).limit(1) for table in (lots, trades)]
    return all(connection.execute(query).first() is None for query in known)


def _lots_before(connection: Connection, symbol: str, since: datetime) -> list[Lot]:
    """What was open just before `since`: of the lots from then what is left, and what was closed of them later."""
    found: dict[str, Lot] = {}
    for row in connection.execute(lots.select().where(lots.c.symbol == symbol, lots.c.at < since)).mappings():
        found[row["entry_id"]] = _lot(dict(row))
    undone = sa.and_(trades.c.symbol == symbol, trades.c.closed_at >= since, trades.c.opened_at < since)
    for row in connection.execute(trades.select().where(undone)).mappings():
        one = Lot(
            symbol, Side(row["side"]), row["qty"], row["entry_price_usd"], row["opened_at"], row["entry_order_id"],
            row["entry_id"],
        )  # fmt: skip
        before = found.get(one.execution_id)
        found[one.execution_id] = replace(one, qty=one.qty + before.qty) if before else one
    return sorted(found.values(), key=lambda lot: (lot.at, lot.side is not Side.BUY, lot.execution_id))


def put(connection: Connection, found: Sequence[Lot]) -> None:
    """Write lots."""
    if found:
        connection.execute(lots.insert(), [_lot_row(lot) for lot in found])


def start_over(connection: Connection, found: Sequence[Lot]) -> None:
    """Drop every lot for those that a human took over. What they replace made no profit and no loss."""
    connection.execute(lots.delete())
    put(connection, found)


def open_lots(connection: Connection, symbol: str | None = None) -> list[Lot]:
    """What is open, oldest first."""
    query = lots.select() if symbol is None else lots.select().where(lots.c.symbol == symbol)
    return [_lot(dict(row)) for row in connection.execute(query.order_by(lots.c.at, lots.c.entry_id)).mappings()]


def closed(connection: Connection, since: datetime = BEGINNING) -> list[RoundTrip]:
    """Every round trip that was closed since, in the order of closing."""
    return _trips(connection, trades.c.closed_at >= since)


def closed_by(connection: Connection, execution_ids: Sequence[str]) -> list[RoundTrip]:
    """The round trips that these executions closed."""
    return _trips(connection, trades.c.exit_id.in_(list(execution_ids)))


def of_orders(connection: Connection, order_ids: Sequence[str]) -> list[RoundTrip]:
    """The round trips that these orders, by broker's id, opened or closed."""
    ids = list(order_ids)
    return _trips(connection, sa.or_(trades.c.entry_order_id.in_(ids), trades.c.exit_order_id.in_(ids)))


def _trips(connection: Connection, condition: sa.ColumnElement[bool]) -> list[RoundTrip]:
    query = trades.select().where(condition).order_by(trades.c.closed_at, trades.c.exit_id, trades.c.opened_at)
    return [_trip(dict(row)) for row in connection.execute(query.order_by(trades.c.entry_id)).mappings()]


def _trip(row: Row) -> RoundTrip:
    return RoundTrip(
        symbol=row["symbol"],
        side=Side(row["side"]),
        qty=row["qty"],
        entry_price_usd=row["entry_price_usd"],
        exit_price_usd=row["exit_price_usd"],
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
        entry_order_id=row["entry_order_id"],
        exit_order_id=row["exit_order_id"],
        exit_execution_id=row["exit_id"],
        entry_execution_id=row["entry_id"],
    )


def _trade_row(trip: RoundTrip) -> Row:
    return {
        "entry_id": trip.entry_execution_id,
        "exit_id": trip.exit_execution_id,
        "entry_order_id": trip.entry_order_id,
        "exit_order_id": trip.exit_order_id,
        "symbol": trip.symbol,
        "side": str(trip.side),
        "qty": trip.qty,
        "entry_price_usd": trip.entry_price_usd,
        "exit_price_usd": trip.exit_price_usd,
        "fees_usd": Decimal(0),  # no commission; the regulatory fees come by the day, as activities
        "pnl_usd": trip.pnl_usd,
        "pnl_pct": trip.pnl_pct,
        "opened_at": trip.opened_at,
        "closed_at": trip.closed_at,
    }


def _lot(row: Row) -> Lot:
    return Lot(
        row["symbol"], Side(row["side"]), row["qty"], row["price_usd"], row["at"], row["order_id"], row["entry_id"]
    )


def _lot_row(lot: Lot) -> Row:
    return {
        "entry_id": lot.execution_id,
        "order_id": lot.order_id,
        "symbol": lot.symbol,
        "side": str(lot.side),
        "qty": lot.qty,
        "price_usd": lot.price_usd,
        "at": lot.at,
    }
