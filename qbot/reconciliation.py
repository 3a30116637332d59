"""The broker's truth into the ledger: orders, fills, positions and cash; what is in doubt is settled by lookup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog

from qbot import accounting, limits, risk_engine
from qbot.committing import age, unwanted
from qbot.desk import Desk
from qbot.errors import BrokerError
from qbot.store.protocol import ABANDONED, COMMITTED, SENT
from qbot.types import Account, BrokerOrder, IntentKind, Position

log = structlog.get_logger(__name__)
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
COMPARE_ATTEMPTS = 2
OVERLAP = timedelta(minutes=1)  # asked for again at every reconcile: recording twice is harmless, a gap is not
LOOK_BACK = timedelta(days=7)  # for fills when the books disagree: the stream may have lost one and brought later ones
AWAITED = timedelta(days=1)  # so long an order whose intent was given up is looked for


@dataclass(frozen=True, slots=True)
class Books:
    """The broker's state at one moment, after the ledger took it over. `drift` names symbols that do not agree."""

    account: Account
    positions: Mapping[str, Position]
    open_orders: Sequence[BrokerOrder]
    taken_at_wall: datetime
    new_fills: int
    drift: Mapping[str, str]
    other_account: str | None = None  # why these are not the books of the account that the ledger is of
    cash_drift_usd: Decimal | None = None  # how much more the broker has than the ledger makes it; None: not reckoned
    recalled: Mapping[str, str] = field(default_factory=dict)  # orders that were cancelled since nobody wants them

    @property
    def reconciled(self) -> bool:
        """Positions alone decide: the caps reckon with the broker's cash, and fees or interest may come any day."""
        return not self.drift and self.other_account is None

    @property
    def believed(self) -> bool:
        """Whether cash and positions add up to the equity; one that they contradict is no point of the curve."""
        return risk_engine.believable(self.account, self.positions.values())


def reconcile(desk: Desk, at: datetime) -> Books:
    """Take over orders, fills, positions and cash from the broker; settle what is in doubt; compare.

    Of another account than before nothing is taken over. Raises BrokerError or StoreUnavailable; then nothing is known
    and nothing may be entered.
    """
    before = desk.broker.account()
    other = _other_account(desk, before, at)
    if other is not None:
        there = snapshot(desk)
        return replace(there, drift=dict.fromkeys(there.positions, "of another account"), other_account=other)
    with desk.store.transaction() as ledger:
        since_orders = ledger.last_order_at() or BEGINNING
        awaited = ledger.oldest_without_order(at - AWAITED)
        since_fills = ledger.last_fill_at() or BEGINNING
        believed_open = {row["broker_order_id"]: row for row in ledger.open_orders()}
    since_orders = min(since_orders, awaited or since_orders)
    orders = {order.broker_order_id: order for order in desk.broker.orders_since(since_orders - OVERLAP)}
    parents = {order_id: row["parent_id"] for order_id, row in believed_open.items()}
    for order in desk.broker.open_orders():
        if order.broker_order_id not in orders:
            parent = parents.get(order.broker_order_id)
            orders[order.broker_order_id] = order if parent == order.parent_id else replace(order, parent_id=parent)
    for order_id, order in orders.items():
        if order.parent_id is None and order.replaces is not None:  # a human changed a leg: it is still one
            orders[order_id] = replace(order, parent_id=parents.get(order_id) or parents.get(order.replaces))
    for gone in sorted(believed_open.keys() - orders.keys()):
        found = desk.broker.order_by_client_id(believed_open[gone]["client_order_id"])
        if found is not None:
            orders[gone] = replace(found, parent_id=parents[gone])
    with desk.store.transaction() as ledger:
        ledger.record_orders(list(orders.values()), desk.wall())
    settle(desk)
    recalled = recall(desk)
    resting = [order for order in orders.values() if order.open]
    return _compared(desk, at, since_fills, resting, before.cash_usd, recalled)


def _other_account(desk: Desk, account: Account, at: datetime) -> str | None:
    """Why the ledger is not of this account; None when it is. The first account that answers is the ledger's."""
    with desk.store.transaction() as ledger:
        opening = ledger.opening() or ledger.bind(accounting.first_opening(account, at, desk.wall()))
        other = accounting.changed(opening, account)
        if other is not None:
            ledger.saw_other(account.account_id, account.number)
        elif accounting.another(opening):
            ledger.saw_other(None, None)
    return other


def _compared(
    desk: Desk,
    at: datetime,
    since: datetime,
    resting: list[BrokerOrder],
    cash_before_usd: Decimal,
    recalled: Mapping[str, str],
) -> Books:
    """Fills, positions and cash, read again once when they do not agree.

    A fill may have come between two requests, or the stream lost one and brought a later one; a fee or a transfer may
    explain the rest.
    """
    new_fills = 0
    attempt = 0
    while True:
        attempt += 1
        taken_at = desk.wall()
        fills = desk.broker.fills_since(since - (OVERLAP if attempt == 1 else LOOK_BACK))
        positions = {position.symbol: position for position in desk.broker.positions()}
        account = desk.broker.account()
        with desk.store.transaction() as ledger:
            new_fills += ledger.record_fills(fills)
            drift = differences(ledger.net_quantities(), positions)
            opening, flow = ledger.opening(), ledger.cash_flow()
            cash_drift = accounting.cash_drift(account, opening, flow)
            if not (drift or cash_drift) or attempt == COMPARE_ATTEMPTS:
                if risk_engine.believable(account, positions.values()):
                    ledger.record_equity(account, at, None if cash_drift is None else account.cash_usd - cash_drift)
                break
        _take_activities(desk)
    if opening is not None and opening.cash_usd is None and not drift and account.cash_usd == cash_before_usd:
        _begin_cash(desk, account.cash_usd)
    return Books(account, positions, resting, taken_at, new_fills, drift, cash_drift_usd=cash_drift, recalled=recalled)


def _begin_cash(desk: Desk, cash_usd: Decimal) -> None:
    """Reckon the opening cash back from the present one. Only from books that agree, while no money moves.

    A venue that does not tell the activities has no cash compared; it is asked again next time.
    """
    if _take_activities(desk):
        with desk.store.transaction() as ledger:
            ledger.set_opening_cash(cash_usd - ledger.cash_flow())


def _take_activities(desk: Desk) -> bool:
    """Take over what changed the account besides trades; whether the venue told it."""
    with desk.store.transaction() as ledger:
        newest = ledger.last_activity_at()
    try:
        told = desk.broker.activities_since(newest - LOOK_BACK if newest else BEGINNING)
    except BrokerError as error:
        log.warning("no_activities", why=str(error))
        return False
    with desk.store.transaction() as ledger:
        ledger.record_activities(told)
    return True


def snapshot(desk: Desk) -> Books:
    """The broker's account and positions as they are, nothing taken over: for showing, not for trading."""
    taken_at = desk.wall()
    positions = {position.symbol: position for position in desk.broker.positions()}
    return Books(desk.broker.account(), positions, (), taken_at, 0, {})


def differences(held: Mapping[str, Decimal], positions: Mapping[str, Position]) -> dict[str, str]:
    """Symbols whose fills in the ledger do not add up to the broker's position."""
    found = {}
    for symbol in sorted(held.keys() | positions.keys()):
        here = held.get(symbol, Decimal(0))
        there = positions[symbol].qty if symbol in positions else Decimal(0)
        if here != there:
            found[symbol] = f"ledger {here.normalize():f}, broker {there.normalize():f}"
    return found


def settle(desk: Desk) -> int:
    """Look up every intent whose fate is unknown; the number that still is.

    "Not found" is not "cancelled": the intent keeps its reservation until ABANDON_INTENT_S have passed for certain,
    and an order that turns up later is taken over all the same. A machine that did not commit it counts from its own
    first look: clocks may differ and jump.
    """
    with desk.store.transaction() as ledger:
        # A young one that was not sent yet is left to its sender, who is probably still at it.
        unknown = [
            (row, old.least_s)
            for row in ledger.unsettled_intents()
            if row["status"] != SENT
            and ((old := age(desk, row)).most_s >= limits.SEND_GRACE_S or row["status"] != COMMITTED)
        ]
    open_doubts = 0
    for row, age_s in unknown:
        found = desk.broker.order_by_client_id(row["client_order_id"])
        with desk.store.transaction() as ledger:
            if found is not None:
                ledger.record_orders([found], desk.wall())
            elif age_s > limits.ABANDON_INTENT_S:
                ledger.mark_unsent(row["client_order_id"], ABANDONED, "never reached the venue")
            else:
                open_doubts += 1
                if (up := desk.uptime()).boot not in row["since_uptime_s"]:
                    ledger.note_since(row["client_order_id"], up)
    return open_doubts


def recall(desk: Desk) -> dict[str, str]:
    """Cancel what rests at the venue though nobody wants it any more; which orders, by client order id, and why.

    As an entry that was on its way at a stop, whose arrival nobody saw. Raises BrokerError.
    """
    with desk.store.transaction() as ledger:
        switch, sent = ledger.load_switch(), [row for row in ledger.unsettled_intents() if row["status"] == SENT]
        put_back = any(row["kind"] == IntentKind.PROTECTION for row in sent)
        withheld = put_back and ledger.protection_withheld()
    late = {}
    for row in sent:
        why = None if row["kind"] == IntentKind.EXIT else unwanted(row, switch, withheld=withheld)
        if why is not None:
            desk.broker.cancel(row["broker_order_id"])
            late[row["client_order_id"]] = why
    if late:
        log.warning("orders_recalled", orders=late)
    return late
