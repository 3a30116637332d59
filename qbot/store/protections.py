"""What the ledger knows of positions that lost their stop-loss: whose shares they are, and what was tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot.protection import PREFIX, Attempts, Execution, Levels
from qbot.session import Event
from qbot.store import account as accounts
from qbot.store.protocol import ABANDONED, DENIED, REJECTED
from qbot.store.tables import decisions, fills, intents, orders, switch_log
from qbot.types import IntentKind, Side, Source

FAILED = (REJECTED, DENIED, ABANDONED)
Row = Mapping[str, Any]


def executions(connection: Connection, symbols: Sequence[str]) -> list[Execution]:
    """Every fill of `symbols` with the entry it belongs to, in the order they took place.

    Without those from before a human took over other shares in their place: their levels are not for these.
    """
    parent = orders.alias("parent")
    asked_by = sa.func.coalesce(parent.c.client_order_id, orders.c.client_order_id)
    joined = (
        fills.join(orders, orders.c.broker_order_id == fills.c.broker_order_id, isouter=True)
        .join(parent, parent.c.broker_order_id == orders.c.parent_id, isouter=True)
        .join(intents, intents.c.client_order_id == asked_by, isouter=True)
        .join(decisions, decisions.c.decision_id == intents.c.decision_id, isouter=True)
    )
    named = [intents.c.client_order_id, intents.c.kind, intents.c.source, intents.c.spec, decisions.c.settings_revision]
    query = sa.select(fills.c.symbol, fills.c.side, fills.c.qty, fills.c.at, *named).select_from(joined)
    query = query.where(fills.c.symbol.in_(symbols)).order_by(fills.c.at, fills.c.execution_id)
    since = accounts.replaced_at(connection, symbols)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    return [execution_of(row) for row in rows if row["symbol"] not in since or row["at"] > since[row["symbol"]]]


def execution_of(row: Row) -> Execution:
    """A fill beside the intent of its order, or of that order's parent; without one it was made elsewhere."""
    side, spec = Side(row["side"]), row["spec"] or {}
    if row["kind"] == IntentKind.PROTECTION:
        return Execution(row["symbol"], side, row["qty"], spec["protects"])
    stop, profit = spec.get("stop_loss_usd"), spec.get("take_profit_usd")
    if row["kind"] != IntentKind.ENTRY or stop is None or profit is None:
        return Execution(row["symbol"], side, row["qty"])
    levels = Levels(Decimal(stop), Decimal(profit), Source(row["source"]), row["settings_revision"])
    return Execution(row["symbol"], side, row["qty"], row["client_order_id"], levels if side is Side.BUY else None)


def protection_attempts(connection: Connection, symbols: Sequence[str]) -> dict[str, Attempts]:
    """What was done to put protection back, by the name of the entry it is for."""
    begin, end = PREFIX, chr(ord(PREFIX) + 1)  # a range of the primary key: everything else is named otherwise
    mine = sa.and_(decisions.c.decision_id.between(begin, end), decisions.c.symbol.in_(symbols))
    names = (decisions.c.cycle_id, decisions.c.decided_at, intents.c.status)
    joined = decisions.join(intents, intents.c.decision_id == decisions.c.decision_id, isouter=True)
    found = connection.execute(sa.select(*names).select_from(joined).where(mine)).mappings()
    return attempts_of(dict(row) for row in found if row["cycle_id"].startswith(PREFIX))


def attempts_of(rows: Iterable[Row]) -> dict[str, Attempts]:
    """The sum over decisions with the status of their intents, in any order.

    What the gate did not allow counts as tried. A failure counts no more once a later order has not failed.
    """
    found: dict[str, Attempts] = {}
    for row in sorted(rows, key=lambda row: (row["decided_at"], row["cycle_id"])):
        name = row["cycle_id"].rpartition("-")[0]
        before = found.get(name, Attempts())
        if row["status"] is None:
            found[name] = replace(before, count=before.count + 1)
        elif row["status"] in FAILED:
            found[name] = Attempts(before.count + 1, before.failed + 1, row["decided_at"])
        else:
            found[name] = Attempts(before.count + 1)
    return found


def protection_withheld(connection: Connection) -> bool:
    """True when every order was cancelled on request, and nobody has started trading since."""
    telling = switch_log.c.event.in_([Event.STARTED, Event.UNPROTECTED])
    last = sa.select(switch_log.c.event).where(telling).order_by(switch_log.c.id.desc()).limit(1)
    return connection.execute(last).scalar() == Event.UNPROTECTED


def withhold_protection(connection: Connection, why: str, wall: datetime) -> None:
    """Record that every order is cancelled on request: protection too, and it stays off."""
    row = {"event": str(Event.UNPROTECTED), "session_id": None, "reason": why, "at_wall": wall}
    connection.execute(switch_log.insert().values(**row))
