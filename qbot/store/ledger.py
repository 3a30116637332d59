"""The ledger: decisions, intents, orders, fills. Caps are reserved in the transaction that commits an intent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.engine import Connection

from qbot import performance
from qbot.clock import NEW_YORK, Uptime
from qbot.store import account as accounts
from qbot.store import locks, trades
from qbot.store.tables import decisions, equity, fills, intents, orders
from qbot.types import Account, Fill, IntentKind, OrderType, Side, Source, Usage

Row = Mapping[str, Any]
COMMITTED, IN_DOUBT, SENT, REJECTED, DENIED, CLOSED, ABANDONED = (
    "committed", "in_doubt", "sent", "rejected", "denied", "closed", "abandoned",
)  # fmt: skip
UNSETTLED = (COMMITTED, IN_DOUBT, SENT)
MINUTE = timedelta(minutes=1)


def lock_gate(connection: Connection) -> None:
    """Only one transaction at a time may read the caps and reserve; held to the end of the transaction."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(locks.GATE)))


def usage(
    connection: Connection, day: str, cooldown_since: datetime, snapshot_wall: datetime, wall: datetime | None = None
) -> Usage:
    """What the caps count at `wall`; at the moment of the snapshot if it is not given.

    An intent that closed after the account snapshot was taken still counts as reserved: the snapshot's cash does not
    know its fill yet.
    """
    late = intents.c.closed_at_wall >= snapshot_wall - timedelta(seconds=1)
    relevant = sa.or_(
        intents.c.market_day == day,
        intents.c.status.in_(UNSETTLED),
        late,
        intents.c.created_at > cooldown_since,
        intents.c.created_at_wall > (wall or snapshot_wall) - MINUTE,
    )
    rows = connection.execute(intents.select().where(relevant)).mappings().all()
    counted = usage_of([dict(row) for row in rows], day, snapshot_wall, wall)
    return replace(counted, notional_today_usd=counted.notional_today_usd + _filled_past_intents(connection, day))


def _filled_past_intents(connection: Connection, day: str) -> Decimal:
    """What was traded on `day` by other orders than those of its intents: by protective legs, by orders that rested
    overnight, by hand at the broker.
    """
    begin = datetime.combine(date.fromisoformat(day), time(), NEW_YORK)
    end = datetime.combine(date.fromisoformat(day) + timedelta(days=1), time(), NEW_YORK)
    ours = sa.select(intents.c.broker_order_id).where(
        intents.c.market_day == day, intents.c.broker_order_id.is_not(None), intents.c.kind != IntentKind.PROTECTION
    )
    theirs = sa.and_(fills.c.at >= begin, fills.c.at < end, fills.c.broker_order_id.not_in(ours))
    return Decimal(
        connection.execute(sa.select(sa.func.sum(fills.c.qty * fills.c.price_usd)).where(theirs)).scalar() or 0
    )


def usage_of(rows: Sequence[Row], day: str, snapshot_wall: datetime, wall: datetime | None = None) -> Usage:
    """The sums over intents: pure, so that it can be tested against the gate's own reckoning."""
    orders_today, notional = 0, Decimal(0)
    entries: dict[str, int] = {}
    last_entry: dict[str, datetime] = {}
    reserved: dict[str, Decimal] = {}
    unsettled: dict[str, frozenset[Side]] = {}
    selling: dict[str, Decimal] = {}
    protecting: dict[str, Decimal] = {}
    for row in rows:
        symbol, side = row["symbol"], Side(row["side"])
        on_its_way = row["status"] in UNSETTLED
        counts = on_its_way or row["filled_usd"] > 0
        if not counts:
            continue
        if row["kind"] == IntentKind.PROTECTION:  # no cap is used up by it, as by the legs of a bracket
            at_once = row["spec"]["order_type"] == OrderType.MARKET
            if at_once and on_its_way:
                unsettled[symbol] = unsettled.get(symbol, frozenset()) | {side}
            if _unknown_to_the_snapshot(row, snapshot_wall):
                held_by = selling if at_once else protecting
                held_by[symbol] = held_by.get(symbol, Decimal(0)) + row["qty"]
            continue
        value = max(row["reserved_usd"], row["filled_usd"]) if on_its_way else row["filled_usd"]
        is_entry = row["kind"] == IntentKind.ENTRY
        if row["market_day"] == day:
            orders_today += 1
            notional += value
            if is_entry:
                entries[symbol] = entries.get(symbol, 0) + 1
        elif on_its_way:  # of an earlier day; what of it has filled today is counted with the fills
            notional += max(value - row["filled_usd"], Decimal(0))
        if is_entry:
            last_entry[symbol] = max(row["created_at"], last_entry.get(symbol, row["created_at"]))
        if on_its_way:
            unsettled[symbol] = unsettled.get(symbol, frozenset()) | {side}
        if is_entry and (on_its_way or _after(row["closed_at_wall"], snapshot_wall)):
            reserved[symbol] = reserved.get(symbol, Decimal(0)) + value
        if side is Side.SELL and _unknown_to_the_snapshot(row, snapshot_wall):
            selling[symbol] = selling.get(symbol, Decimal(0)) + row["qty"]
    total = sum(reserved.values(), Decimal(0))
    lately = sum(row["created_at_wall"] > (wall or snapshot_wall) - MINUTE for row in rows)
    return Usage(orders_today, notional, entries, last_entry, total, reserved, unsettled, selling, protecting, lately)


def _unknown_to_the_snapshot(row: Row, snapshot_wall: datetime) -> bool:
    """True when the snapshot's open orders and positions may not show this intent. A resting order they do show."""
    if row["status"] in (COMMITTED, IN_DOUBT):
        return True
    return _after(row["created_at_wall"], snapshot_wall) or _after(row["closed_at_wall"], snapshot_wall)


def _after(wall: datetime | None, snapshot_wall: datetime) -> bool:
    """A second is allowed for clocks that differ."""
    return wall is not None and wall >= snapshot_wall - timedelta(seconds=1)


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


def unsettled_intents(connection: Connection) -> list[Row]:
    """Intents whose order may still be on its way, oldest first."""
    query = intents.select().where(intents.c.status.in_(UNSETTLED)).order_by(intents.c.created_at_wall)
    return [dict(row) for row in connection.execute(query).mappings()]


def note_since(connection: Connection, client_order_id: str, up: Uptime) -> None:
    """Record since when a machine that did not commit an intent knows of it; the first time counts."""
    mine, seen = intents.c.client_order_id == client_order_id, sa.literal({up.boot: up.seconds}, JSONB)
    connection.execute(intents.update().where(mine).values(since_uptime_s=seen.concat(intents.c.since_uptime_s)))


def rebalanced(connection: Connection, day: str) -> frozenset[str]:
    """Symbols of which a sale to even out the portfolio was committed on a New York day, whatever became of it."""
    even = sa.and_(intents.c.market_day == day, intents.c.source == Source.AUTOTRADING)
    query = sa.select(intents.c.symbol).where(even, intents.c.kind == IntentKind.EXIT)
    return frozenset(connection.execute(query).scalars())


def oldest_without_order(connection: Connection, since: datetime) -> datetime | None:
    """When the oldest intent after `since` was made whose order may yet turn up, though none is known."""
    awaited = sa.and_(intents.c.status.in_((COMMITTED, IN_DOUBT, ABANDONED)), intents.c.created_at > since)
    return connection.execute(sa.select(sa.func.min(intents.c.created_at)).where(awaited)).scalar()


def mark_unsent(connection: Connection, client_order_id: str, status: str, why: str) -> None:
    """Record that an intent was refused, given up or is in doubt, unless its order was found meanwhile."""
    mine = sa.and_(intents.c.client_order_id == client_order_id, intents.c.status.in_((COMMITTED, IN_DOUBT)))
    connection.execute(intents.update().where(mine).values(status=status, error=why))


def net_quantities(connection: Connection) -> dict[str, Decimal]:
    """Shares held, symbols at zero left out: the sum of all fills, from what a human took over last."""
    return accounts.net_quantities(connection)


def record_fills(connection: Connection, seen: Sequence[Fill]) -> int:
    """Write fills, and the trades and lots that follow from them; a fill already recorded is left alone.

    The number of new ones.
    """
    if not seen:
        return 0
    # As with orders, and before the first row: who waits for a row of another must not hold what that one waits for.
    locks.within(connection, locks.ORDERS)
    rows = [{**asdict(fill), "side": str(fill.side)} for fill in sorted(seen, key=lambda fill: fill.execution_id)]
    written = connection.execute(insert(fills).on_conflict_do_nothing().returning(fills.c.execution_id), rows)
    new = set(written.scalars())
    if new:
        trades.follow(connection, [fill for fill in seen if fill.execution_id in new])
    return len(new)


def record_equity(
    connection: Connection, account: Account, at: datetime, expected_cash_usd: Decimal | None = None
) -> None:
    """One point of the equity curve, and what the ledger makes the cash come to, where it can be reckoned."""
    values = {"at": at, "equity_usd": account.equity_usd, "cash_usd": account.cash_usd}
    values["expected_cash_usd"] = expected_cash_usd
    connection.execute(insert(equity).values(**values).on_conflict_do_nothing())


def execution_ids(connection: Connection, since: datetime) -> set[str]:
    """Names of the executions that took place after `since`."""
    return set(connection.execute(sa.select(fills.c.execution_id).where(fills.c.at > since)).scalars())


def equity_curve(connection: Connection, since: datetime) -> list[tuple[datetime, Decimal]]:
    """Equity over time, oldest first."""
    query = sa.select(equity.c.at, equity.c.equity_usd).where(equity.c.at >= since).order_by(equity.c.at)
    return [(at, value) for at, value in connection.execute(query)]


def all_fills(connection: Connection) -> list[Fill]:
    """Every execution, in the order in which they took place."""
    query = sa.select(*(fills.c[name] for name in Fill.__dataclass_fields__))
    told = (Fill(**{**row, "side": Side(row["side"])}) for row in connection.execute(query).mappings())
    return performance.in_order(told)


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


def entries_on_their_way(
    connection: Connection, begin: datetime, end: datetime, by_hand: Sequence[Source] = ()
) -> bool:
    """Whether an entry committed in this span of wall time is not known to have arrived or not to have been sent.

    Of the cycles, and of a human where `by_hand` says so.
    """
    left_out = sorted({Source.MANUAL, Source.EMERGENCY} - set(by_hand))
    mine = sa.and_(
        intents.c.status.in_((COMMITTED, IN_DOUBT)),
        intents.c.kind == IntentKind.ENTRY,
        intents.c.source.not_in(left_out),
        intents.c.created_at_wall.between(begin, end),
    )
    return connection.execute(sa.select(sa.literal(1)).where(mine).limit(1)).first() is not None


def last_fill_at(connection: Connection) -> datetime | None:
    """When the newest recorded execution took place."""
    return connection.execute(sa.select(sa.func.max(fills.c.at))).scalar()
