"""A human takes the broker's present positions and cash as the ledger's: the way out of a drift that stays.

After another account, a split, a merger or a transfer of shares. What was written before stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from sqlalchemy.engine import Connection, Engine

from qbot import accounting, limits
from qbot.desk import Desk
from qbot.errors import AdoptionRefused
from qbot.performance import Lot
from qbot.store import account as accounts
from qbot.store import ledger, locks, order_book, risk, state, trades
from qbot.store.engine import transaction
from qbot.types import Account, Activity, Opening, Position, Side

log = structlog.get_logger(__name__)
BEGINNING_OF_CASH = timedelta(days=3650)  # activities older than that are in nobody's cash of today
MOVING = "orders filled or money moved while the broker was asked: nothing was written; try again"


@dataclass(frozen=True, slots=True)
class Change:
    """One symbol's shares by the ledger and by the broker. `price_usd`: what a share cost, by the broker."""

    symbol: str
    before: Decimal
    after: Decimal
    price_usd: Decimal


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be written. `left_behind`: orders that the ledger holds open and the broker does not know."""

    opening: Opening | None
    account: Account
    other_account: str | None
    changes: Sequence[Change]
    cash_expected_usd: Decimal | None
    left_behind: Sequence[str]
    activities: Sequence[Activity]
    at: datetime  # the venue's own time: what filled until then stands in the positions

    @property
    def cash_differs(self) -> bool:
        """Whether the ledger makes the cash another sum than the broker, by more than a cent."""
        if self.cash_expected_usd is None:
            return False
        return abs(self.account.cash_usd - self.cash_expected_usd) > limits.CASH_TOLERANCE_USD

    @property
    def needed(self) -> bool:
        """Whether anything does not agree."""
        uneven = any(one.before != one.after for one in self.changes)
        return uneven or self.cash_differs or self.other_account is not None


def plan(desk: Desk, engine: Engine) -> Plan:
    """Compare ledger and broker; nothing is written. Raises BrokerError, StoreUnavailable or AdoptionRefused."""
    at = desk.broker.clock().at
    account = desk.broker.account()
    held = {position.symbol: position for position in desk.broker.positions() if position.qty}
    resting = {order.broker_order_id for order in desk.broker.open_orders()}
    activities = desk.broker.activities_since(at - BEGINNING_OF_CASH)
    if desk.broker.fills_since(at) or desk.broker.account().cash_usd != account.cash_usd:
        raise AdoptionRefused(MOVING)
    with transaction(engine) as connection:
        opening = accounts.opening(connection)
        ours = accounts.net_quantities(connection)
        believed = order_book.open_orders(connection)
        expected = accounts.expected_cash(connection)
        if expected is not None:  # with what the next reconcile would take over by itself
            expected += sum((one.amount_usd for one in accounts.unrecorded(connection, activities)), Decimal(0))
    gone = [row for row in believed if row["broker_order_id"] not in resting]
    unknown = [row["broker_order_id"] for row in gone if desk.broker.order_by_client_id(row["client_order_id"]) is None]
    changes = [_change(symbol, ours, held) for symbol in sorted(ours.keys() | held.keys())]
    other = accounting.changed(opening, account) if opening else None
    return Plan(opening, account, other, changes, expected, unknown, activities, at)


def _change(symbol: str, ours: Mapping[str, Decimal], held: Mapping[str, Position]) -> Change:
    there = held.get(symbol)
    price = there.avg_entry_price_usd if there else Decimal(0)
    return Change(symbol, ours.get(symbol, Decimal(0)), there.qty if there else Decimal(0), price)


def adopt(engine: Engine, found: Plan, who: str, reason: str, at: datetime, wall: datetime) -> int:
    """Write what was planned, in one transaction; the number of the new opening.

    Raises AdoptionRefused while trading is on, or when the ledger is not what it was: then nothing is written.
    """
    with transaction(engine) as connection:
        ledger.lock_gate(connection)
        locks.within(connection, locks.ORDERS)
        _require_still(connection, found)
        new = Opening(
            found.account.account_id, found.account.number, accounting.kind(found.account.number), at, wall, who,
            reason, positions_from=found.at,
        )  # fmt: skip
        number = accounts.open_with(connection, new)
        accounts.adjust(connection, [_row(one, number, who, reason, at, wall) for one in found.changes])
        trades.start_over(connection, [_lot(one, number, found.at) for one in found.changes if one.after])
        accounts.record_activities(connection, found.activities)
        accounts.set_opening_cash(connection, found.account.cash_usd - accounts.cash_flow(connection))
        accounts.leave_behind(connection, found.left_behind, wall, all_others=found.other_account is not None)
        if found.other_account is not None or found.cash_differs:
            risk.begin_anew(connection, at)
    log.warning("adopted", who=who, reason=reason, opening=number, account=found.account.number)
    return number


def _require_still(connection: Connection, found: Plan) -> None:
    if state.load_switch(connection, for_update=True).on:
        raise AdoptionRefused("trading is on: stop it first, so that nothing is bought or sold meanwhile")
    now = accounts.opening(connection)
    same = (now.opening if now else None) == (found.opening.opening if found.opening else None)
    held = {one.symbol: one.before for one in found.changes if one.before}
    if not same or accounts.net_quantities(connection) != held:
        raise AdoptionRefused("the ledger has changed meanwhile: nothing was written; look again")


def _row(one: Change, opening: int, who: str, reason: str, at: datetime, wall: datetime) -> accounts.Row:
    return {
        "adjustment_id": _id(one, opening),
        "opening": opening,
        "symbol": one.symbol,
        "qty_before": one.before,
        "qty": one.after,
        "price_usd": one.price_usd,
        "reason": reason,
        "who": who,
        "at": at,
        "at_wall": wall,
    }


def _lot(one: Change, opening: int, at: datetime) -> Lot:
    side = Side.BUY if one.after > 0 else Side.SELL
    name = _id(one, opening)
    return Lot(one.symbol, side, abs(one.after), one.price_usd, at, name, name)


def _id(one: Change, opening: int) -> str:
    return f"{accounts.ENTRY_PREFIX}:{opening}:{one.symbol}"
