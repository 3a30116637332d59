"""Which broker account the ledger is of, what a human took over from it, and what changed it besides trades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection

from qbot import accounting
from qbot.store import locks
from qbot.store.protocol import ABANDONED, CLOSED, UNSETTLED
from qbot.store.tables import activities, adjustments, broker_accounts, equity, fills, intents, orders
from qbot.types import LEFT_BEHIND, Activity, Opening, Side

Row = Mapping[str, Any]
CANCELED = "canceled"  # the venue's word for an activity that it took back
ENTRY_PREFIX = "adopted"
FEES = ("FEE", "CFEE", "DIVFEE", "PTC")


# --- the account -----------------------------------------------------------------------------------------------------


def opening(connection: Connection) -> Opening | None:
    """The opening that counts; None before the first reconcile."""
    query = broker_accounts.select().order_by(broker_accounts.c.opening.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return Opening(**row) if row else None


def is_another(connection: Connection) -> bool:
    """Whether an account that the ledger is not of answered last: what comes from it is not taken over."""
    return accounting.another(opening(connection))


def openings(connection: Connection) -> list[Opening]:
    """Every opening there was, oldest first."""
    query = broker_accounts.select().order_by(broker_accounts.c.opening)
    return [Opening(**row) for row in connection.execute(query).mappings()]


def since(connection: Connection) -> datetime | None:
    """Since when the ledger is of its account; None where it has always been."""
    known = openings(connection)
    earlier = [one for one in known if one.account_id != known[-1].account_id]
    return next((one.opened_at for one in known if earlier and one.opening > earlier[-1].opening), None)


def bind(connection: Connection, new: Opening) -> Opening:
    """The opening that counts: `new` becomes it where there is none yet."""
    locks.within(connection, locks.ORDERS)
    found = opening(connection)
    return found or replace(new, opening=open_with(connection, new))


def open_with(connection: Connection, new: Opening) -> int:
    """Begin a new opening; its number. The old ones stay."""
    values = {name: value for name, value in asdict(new).items() if name != "opening"}
    made = connection.execute(broker_accounts.insert().values(**values).returning(broker_accounts.c.opening))
    return int(made.scalar_one())


def saw_other(connection: Connection, account_id: str | None, number: str | None) -> None:
    """Record that another account answers in the place of the one the ledger is of; None, None: it does itself."""
    _amend(connection, other_account_id=account_id, other_number=number)


def set_opening_cash(connection: Connection, cash_usd: Decimal) -> None:
    """From now on the cash can be reckoned."""
    _amend(connection, cash_usd=cash_usd)


def _amend(connection: Connection, **values: Any) -> None:
    newest = sa.select(sa.func.max(broker_accounts.c.opening)).scalar_subquery()
    connection.execute(broker_accounts.update().where(broker_accounts.c.opening == newest).values(**values))


# --- positions -------------------------------------------------------------------------------------------------------


def adjust(connection: Connection, rows: Sequence[Row]) -> None:
    """Write what a human took over."""
    if rows:
        connection.execute(adjustments.insert(), list(rows))


def net_quantities(connection: Connection) -> dict[str, Decimal]:
    """Shares held: what was taken over, and the sum of all fills since. Symbols at zero are left out."""
    now = opening(connection)
    signed = sa.case((fills.c.side == Side.BUY, fills.c.qty), else_=-fills.c.qty)
    parts = sa.select(fills.c.symbol, signed.label("qty")).where(_counts(now))
    if now is not None and now.positions_from is not None:
        taken = sa.select(adjustments.c.symbol, adjustments.c.qty).where(adjustments.c.opening == now.opening)
        every = sa.union_all(parts, taken).subquery()
    else:
        every = parts.subquery()
    total = sa.func.sum(every.c.qty)
    query = sa.select(every.c.symbol, total).group_by(every.c.symbol).having(total != 0)
    return dict(connection.execute(query).all())


def _counts(now: Opening | None) -> sa.ColumnElement[bool]:
    """Which fills count: those that the opening does not hold already."""
    if now is None or now.positions_from is None:
        return sa.true()
    return fills.c.at > now.positions_from


def replaced_at(connection: Connection, symbols: Sequence[str]) -> dict[str, datetime]:
    """Symbols whose shares are others than their fills tell of, and since when: taken over in another number, as after
    a split, or of another account."""
    known = openings(connection)
    taken_at = {one.opening: one.positions_from or one.opened_at for one in known}
    changed = sa.and_(adjustments.c.symbol.in_(symbols), adjustments.c.qty_before != adjustments.c.qty)
    rows = connection.execute(sa.select(adjustments.c.symbol, adjustments.c.opening).where(changed))
    found: list[tuple[str, int]] = [(symbol, number) for symbol, number in rows]
    for before, now in pairwise(known):
        if (before.account_id or before.number) != (now.account_id or now.number):
            found += [(symbol, now.opening) for symbol in symbols]
    last: dict[str, datetime] = {}
    for symbol, number in found:
        last[symbol] = max(taken_at[number], last.get(symbol, taken_at[number]))
    return last


def leave_behind(connection: Connection, order_ids: Sequence[str], wall: datetime, *, all_others: bool) -> None:
    """Close orders that the broker does not know, and the intents behind them.

    `all_others`: those too whose order was never seen. They went to an account that the ledger leaves.
    """
    mine = orders.c.broker_order_id.in_(list(order_ids))
    connection.execute(orders.update().where(mine).values(status=LEFT_BEHIND))
    why = "its order went to an account that the ledger has left"
    sent = sa.and_(intents.c.broker_order_id.in_(list(order_ids)), intents.c.status.in_(UNSETTLED))
    connection.execute(intents.update().where(sent).values(status=CLOSED, error=why, closed_at_wall=wall))
    if all_others:
        unseen = intents.update().where(intents.c.status.in_(UNSETTLED))
        connection.execute(unseen.values(status=ABANDONED, error=why, closed_at_wall=wall))


# --- cash ------------------------------------------------------------------------------------------------------------


def cash_flow(connection: Connection) -> Decimal:
    """What every fill and activity that counts has brought into the account, or (negative) taken out of it."""
    now = opening(connection)
    value = fills.c.qty * fills.c.price_usd
    flow = sa.func.sum(sa.case((fills.c.side == Side.BUY, -value), else_=value))
    traded = connection.execute(sa.select(flow).where(_counts(now))).scalar() or Decimal(0)
    if now is None:
        return Decimal(traded)
    mine = sa.and_(activities.c.opening == now.opening, activities.c.status != CANCELED)
    other = connection.execute(sa.select(sa.func.sum(activities.c.amount_usd)).where(mine)).scalar() or Decimal(0)
    return Decimal(traded + other)


def expected_cash(connection: Connection) -> Decimal | None:
    """What the cash should be: that of the opening, and what came and went since. None: not reckoned yet."""
    now = opening(connection)
    return None if now is None or now.cash_usd is None else now.cash_usd + cash_flow(connection)


def standing_cash_drift(connection: Connection) -> Decimal:
    """How much more cash the broker had than expected, at each of the last two reconciles alike; else 0."""
    difference = equity.c.cash_usd - equity.c.expected_cash_usd
    query = sa.select(difference).order_by(equity.c.at.desc()).limit(2)
    last = list(connection.execute(query).scalars())
    return Decimal(last[0]) if len(last) == 2 and last[0] == last[1] and last[0] is not None else Decimal(0)


# --- what changed it besides trades ----------------------------------------------------------------------------------


def record_activities(connection: Connection, seen: Sequence[Activity]) -> None:
    """Take over activities; of one that is known only status and amount can change, and it stays with its opening."""
    now = opening(connection)
    if not seen or now is None:
        return
    rows = [{**asdict(one), "opening": now.opening} for one in sorted(seen, key=lambda one: one.activity_id)]
    upsert = insert(activities)
    changed = {name: upsert.excluded[name] for name in ("status", "amount_usd")}
    connection.execute(upsert.on_conflict_do_update(index_elements=["activity_id"], set_=changed), rows)


def unrecorded(connection: Connection, seen: Sequence[Activity]) -> list[Activity]:
    """Those of the activities that were not taken over yet, and count."""
    ids = sa.select(activities.c.activity_id).where(activities.c.activity_id.in_([one.activity_id for one in seen]))
    known = set(connection.execute(ids).scalars())
    return [one for one in seen if one.activity_id not in known and one.status != CANCELED]


def last_activity_at(connection: Connection) -> datetime | None:
    """When the newest activity of this opening was made."""
    now = opening(connection)
    mine = activities.c.opening == (now.opening if now else None)
    return connection.execute(sa.select(sa.func.max(activities.c.at)).where(mine)).scalar()


def fees_usd(connection: Connection) -> Decimal:
    """All fees that the venue took and did not take back: a positive sum."""
    mine = sa.and_(activities.c.kind.in_(FEES), activities.c.status != CANCELED)
    return -Decimal(connection.execute(sa.select(sa.func.sum(activities.c.amount_usd)).where(mine)).scalar() or 0)


def fees_by_day(connection: Connection, count: int) -> list[tuple[Any, Decimal]]:
    """The last days with fees, newest first, and their sums."""
    mine = sa.and_(activities.c.kind.in_(FEES), activities.c.status != CANCELED)
    query = sa.select(activities.c.day, -sa.func.sum(activities.c.amount_usd)).where(mine).group_by(activities.c.day)
    rows = connection.execute(query.order_by(activities.c.day.desc()).limit(count))
    return [(day, total) for day, total in rows]
