"""Intent → order. Nothing is sent that is not committed first; doubt is settled by lookup, never by sending again.

This module, `qbot.reconciliation` and `qbot.emergency` are the only ones that talk to the broker.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from sqlalchemy.engine import Connection

from qbot import limits
from qbot.broker.protocol import Broker
from qbot.committing import AUTOMATIC, Order
from qbot.desk import Desk
from qbot.errors import BrokerError, BrokerRejected, OrderInDoubt
from qbot.store import ledger as queries
from qbot.store.protocol import COMMITTED, DENIED, IN_DOUBT, REJECTED
from qbot.types import BrokerOrder, IntentKind, OrderSpec, Side, Source

log = structlog.get_logger(__name__)


def send(desk: Desk, orders: Sequence[Order], *, released: bool = False) -> list[BrokerOrder]:
    """Send each committed order once and record the answer. What is refused or in doubt is marked, never repeated.

    Sending several may take long at a slow venue, so each is asked for again whether it may still go out. `released`:
    the caller has just seen that the shares to be sold are held, and no order on them rests.
    """
    placed = []
    for order in orders:
        if not _still_wanted(desk, order):
            continue
        try:
            if order.kind is IntentKind.EXIT and not released:
                release_shares(desk, order.spec.symbol)
                _require_held(desk.broker, order.spec)
            answer = desk.broker.submit(order.spec)
        except OrderInDoubt as doubt:
            _mark(desk, order, IN_DOUBT, str(doubt))
        except BrokerRejected as refused:
            _mark(desk, order, REJECTED, str(refused))
        except BrokerError as failed:
            # Only what comes before the sale can end here, so the order itself was never sent.
            _mark(desk, order, REJECTED, f"not sent: {failed}")
        else:
            placed.append(answer)
            with desk.store.transaction() as ledger:
                ledger.record_orders([answer], desk.wall())
            log.info("order_sent", client_order_id=order.spec.client_order_id, status=answer.status)
    return placed


def _still_wanted(desk: Desk, order: Order) -> bool:
    """False when the intent has been sent or given up, or trading was stopped since it was committed."""
    with desk.store.transaction() as ledger:
        intent = ledger.intent(order.spec.client_order_id)
        switch = ledger.load_switch()
    if intent is None or intent["status"] != COMMITTED:
        return False
    by_hand = intent["source"] in (Source.MANUAL, Source.EMERGENCY)
    if by_hand and (order.kind is IntentKind.EXIT or not switch.latched):
        return True
    if not by_hand and intent["switch_epoch"] == switch.epoch:
        return True
    _mark(desk, order, DENIED, f"trading was stopped before it was sent: {switch.reason}")
    return False


def _mark(desk: Desk, order: Order, status: str, why: str) -> None:
    log.warning("order_not_placed", client_order_id=order.spec.client_order_id, status=status, why=why)
    with desk.store.transaction() as ledger:
        ledger.mark_unsent(order.spec.client_order_id, status, why)


def release_shares(desk: Desk, symbol: str) -> None:
    """Cancel the resting sell orders of a symbol and wait until its shares are free: an exit before that is refused.

    Raises BrokerError when they are still held after RELEASE_WAIT_S; the exit is then tried by the next cycle.
    """
    deadline, pause_s = desk.monotonic_s() + limits.RELEASE_WAIT_S, limits.RELEASE_POLL_S
    asked: set[str] = set()
    while True:
        resting = [o for o in desk.broker.open_orders() if o.symbol == symbol and o.side is Side.SELL]
        if not resting:
            return
        for order in resting:
            if order.broker_order_id not in asked:
                desk.broker.cancel(order.broker_order_id)
                asked.add(order.broker_order_id)
        if desk.monotonic_s() > deadline:
            raise BrokerError(f"shares of {symbol} are still held by {len(resting)} orders")
        desk.pause(pause_s)
        pause_s = min(2 * pause_s, limits.POLL_MAX_S)


def _require_held(broker: Broker, spec: OrderSpec) -> None:
    """Raises BrokerError when fewer shares are held than the sale is of.

    A stop-loss may have sold them since the books were taken, or while it was being cancelled: where the account may
    sell short, selling again would open a short position.
    """
    held = sum((p.qty for p in broker.positions() if p.symbol == spec.symbol), Decimal(0))
    if held < spec.qty:
        raise BrokerError(f"{held.normalize():f} shares of {spec.symbol} are held, {spec.qty} were to be sold")


def open_entries(connection: Connection, *, automatic_only: bool) -> list[str]:
    """Broker's ids of the entries that the ledger holds for open: what a stop can cancel before it asks the broker."""
    return queries.open_entries(connection, AUTOMATIC if automatic_only else "")


def entries_on_their_way(connection: Connection, wall: datetime, *, automatic_only: bool) -> bool:
    """Whether an entry was committed whose sender may be at it, so that it may reach the broker yet."""
    by_hand = () if automatic_only else (Source.MANUAL,)
    grace = timedelta(seconds=limits.SEND_GRACE_S)
    return queries.entries_on_their_way(connection, wall - grace, wall + grace, by_hand)


def cancel_entries(broker: Broker, *, automatic_only: bool, asked: Set[str] = frozenset()) -> int:
    """Ask for a cancel of every open buy, or of those of the trading cycles; protective stops stay. Their number.

    The broker's own list shows what is open; `asked`: ids whose cancel was taken already. Raises BrokerError when one
    could not be asked for, after the others were.
    """
    entries = [order for order in broker.open_orders() if order.side is Side.BUY and order.broker_order_id not in asked]
    if automatic_only:
        entries = [order for order in entries if order.client_order_id.startswith(AUTOMATIC)]
    failed: list[BrokerError] = []
    for order in entries:
        try:
            broker.cancel(order.broker_order_id)
        except BrokerError as error:
            failed.append(error)
    if failed:
        raise BrokerError(f"{len(failed)} of {len(entries)} entries could not be cancelled: {failed[0]}") from failed[0]
    return len(asked) + len(entries)


def cancel_known(broker: Broker, known: Sequence[str]) -> set[str]:
    """The ids whose cancel was taken. At the first that was not it ends: the broker's list decides about the rest."""
    asked: set[str] = set()
    for broker_order_id in known:
        try:
            broker.cancel(broker_order_id)
        except BrokerError as error:
            log.warning("cancel_failed", broker_order_id=broker_order_id, why=str(error))
            break
        asked.add(broker_order_id)
    return asked
