"""Intent → order. Nothing is sent that is not committed first; doubt is settled by lookup, never by sending again.

This module, `qbot.reconciliation` and `qbot.emergency` are the only ones that talk to the broker.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from sqlalchemy.engine import Connection

from qbot import limits
from qbot.broker.pace import urgent
from qbot.broker.protocol import Broker
from qbot.committing import AUTOMATIC, Order, age, unwanted
from qbot.desk import Desk
from qbot.errors import BrokerError, BrokerRejected, OrderInDoubt, QBotError
from qbot.store import ledger as queries
from qbot.store import order_book
from qbot.store.protocol import COMMITTED, DENIED, IN_DOUBT, REJECTED, Ledger
from qbot.types import BrokerOrder, IntentKind, Side, Source

log = structlog.get_logger(__name__)
SIMPLE = ("", "simple")  # the venue's words for an order that stands alone
BEING_SOLD = "its shares are about to be sold"


@dataclass(slots=True)
class Sent:
    """What came of orders: at the venue, not there and why, and cancelled at once since nobody wanted them any more."""

    placed: list[BrokerOrder] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    recalled: dict[str, str] = field(default_factory=dict)


def send(desk: Desk, orders: Sequence[Order], *, released: bool = False) -> Sent:
    """Send each committed order once and record the answer. What is refused or in doubt is marked, never repeated.

    Sending several may take long at a slow venue, so each is asked for again whether it may still go out. `released`:
    the caller has just seen that the shares to be sold are held, and no order on them rests.
    """
    sent, shares = Sent(), Shares(desk, released)
    for order in orders:
        _send(desk, order, shares, sent)
    return sent


def _send(desk: Desk, order: Order, shares: Shares, sent: Sent) -> None:
    fence, name = Fence(desk, order), order.spec.client_order_id
    try:
        fence()
        if order.spec.side is Side.SELL:
            with urgent():
                shares.ready(order)
        answer = desk.broker.submit(order.spec, fence)
    except NotWanted as kept:
        sent.failed[name] = str(kept)
        log.warning("order_not_sent", client_order_id=name, why=str(kept))
        if kept.denied:
            _mark(desk, order, DENIED, str(kept))
    except OrderInDoubt as doubt:
        sent.failed[name] = f"in doubt: {doubt}"
        _mark(desk, order, IN_DOUBT, str(doubt))
    except BrokerRejected as refused:
        sent.failed[name] = str(refused)
        _mark(desk, order, REJECTED, str(refused))
    except BrokerError as failed:
        # Only what comes before the order can end here, so the order itself was never sent.
        sent.failed[name] = f"not sent: {failed}"
        _mark(desk, order, REJECTED, f"not sent: {failed}")
    else:
        sent.placed.append(answer)
        log.info("order_sent", client_order_id=name, status=answer.status)
        _look_again(desk, order, answer, sent)


def _look_again(desk: Desk, order: Order, answer: BrokerOrder, sent: Sent) -> None:
    """Record the answer, and cancel at once what was stopped while the order was on its way."""
    with desk.store.transaction() as ledger:
        ledger.record_orders([answer], desk.wall())
        why = _unwanted(ledger, order)
    if why is None or order.kind is IntentKind.EXIT:
        return
    desk.broker.cancel(answer.broker_order_id)
    sent.recalled[order.spec.client_order_id] = why
    log.warning("order_recalled", client_order_id=order.spec.client_order_id, why=why)


def _unwanted(ledger: Ledger, order: Order) -> str | None:
    """Why an order of a committed intent must not rest at the venue, by what is recorded now."""
    intent = ledger.intent(order.spec.client_order_id)
    withheld = order.kind is IntentKind.PROTECTION and ledger.protection_withheld()
    if order.kind is IntentKind.PROTECTION and _being_sold(ledger, order.spec.symbol):
        return BEING_SOLD
    return "it is not recorded" if intent is None else unwanted(intent, ledger.load_switch(), withheld=withheld)


def _being_sold(ledger: Ledger, symbol: str) -> bool:
    """Whether a sale of the symbol may be on its way: it was committed, maybe after a protection of these shares."""
    coming = [row for row in ledger.unsettled_intents() if row["status"] in (COMMITTED, IN_DOUBT)]
    return any(row["symbol"] == symbol and row["kind"] == IntentKind.EXIT for row in coming)


class NotWanted(QBotError):
    """The order was not sent. `denied`: for good; else its intent is another sender's, or is looked up till it ends."""

    def __init__(self, why: str, *, denied: bool) -> None:
        super().__init__(why)
        self.denied = denied


class Fence:
    """Between a decision and the venue: called right before the request, it stops what must not go out any more.

    A process may be frozen anywhere. What it looked at before counts for FENCE_MAX_S; then it looks again. By both
    clocks: one stands still while the machine sleeps, the other can be set.
    """

    def __init__(self, desk: Desk, order: Order) -> None:
        self._desk, self._order = desk, order
        self._seen: tuple[float, datetime] | None = None

    def __call__(self) -> None:
        """Return when the order may leave now. Raises NotWanted, BrokerError when looking takes too long, or
        StoreUnavailable."""
        for _ in range(limits.FENCE_TURNS):
            if self._fresh():
                return
            self._seen = self._desk.monotonic_s(), self._desk.wall()
            self._look()
        if not self._fresh():
            raise BrokerError(f"whether it may still go out took over {limits.FENCE_MAX_S} s to find out")

    def _fresh(self) -> bool:
        if self._seen is None:
            return False
        monotonic_s, wall = self._seen
        waited_s = max(self._desk.monotonic_s() - monotonic_s, abs((self._desk.wall() - wall).total_seconds()))
        return waited_s <= limits.FENCE_MAX_S

    def _look(self) -> None:
        with self._desk.store.transaction() as ledger:
            intent = ledger.intent(self._order.spec.client_order_id)
            why = _unwanted(ledger, self._order)
        if intent is None or intent["status"] != COMMITTED:
            raise NotWanted("it was sent or given up before", denied=False)
        age_s = age(self._desk, intent).most_s
        if age_s > life_s(self._order.spec.side):
            raise NotWanted(f"it was committed {age_s:.0f} s ago: it is looked up, and never sent", denied=False)
        if why is not None:
            raise NotWanted(f"{why}, before it was sent", denied=True)


def life_s(side: Side) -> float:
    """How long after its commit an order may be sent."""
    return limits.SEND_GRACE_S if side is Side.BUY else limits.EXIT_LIFE_S


def _mark(desk: Desk, order: Order, status: str, why: str) -> None:
    log.warning("order_not_placed", client_order_id=order.spec.client_order_id, status=status, why=why)
    with desk.store.transaction() as ledger:
        ledger.mark_unsent(order.spec.client_order_id, status, why)


class Shares:
    """The shares that a number of orders sell: freed of what rests on them, and seen to be held."""

    def __init__(self, desk: Desk, released: bool) -> None:
        self._desk, self._released = desk, released

    def ready(self, order: Order) -> None:
        """Raises BrokerError when the shares are still held by other orders, or fewer are held than are sold.

        A stop-loss may have sold them since the books were taken, or while it was being cancelled: where the account
        may sell short, selling again would open a short position. So each sale looks for itself.
        """
        if self._released:
            return
        spec = order.spec
        if order.kind is IntentKind.EXIT:
            release_shares(self._desk, spec.symbol, spec.qty)
        held = _held(self._desk, spec.symbol)
        if held < spec.qty:
            raise BrokerError(f"{held.normalize():f} shares of {spec.symbol} are held, {spec.qty} were to be sold")


def _held(desk: Desk, symbol: str) -> Decimal:
    return next((position.qty for position in desk.broker.positions() if position.symbol == symbol), Decimal(0))


def release_shares(desk: Desk, symbol: str, qty: Decimal | None = None) -> bool:
    """Cancel the resting sell orders of a symbol and wait until its shares are free: an exit before that is refused.

    Sales that are no protection stay where they leave `qty` shares free. Whether any was cancelled. Raises BrokerError
    when they are still held after RELEASE_WAIT_S; the exit is then tried by the next cycle.
    """
    deadline, pause_s = desk.monotonic_s() + limits.RELEASE_WAIT_S, limits.RELEASE_POLL_S
    asked: set[str] = set()
    while True:
        resting = [o for o in desk.broker.open_orders() if o.symbol == symbol and o.side is Side.SELL]
        if not resting or (not asked and qty is not None and _leaves(desk, resting, qty)):
            return bool(asked)
        for order in resting:
            if order.broker_order_id not in asked:
                desk.broker.cancel(order.broker_order_id)
                asked.add(order.broker_order_id)
        if desk.monotonic_s() > deadline:
            raise BrokerError(f"shares of {symbol} are still held by {len(resting)} orders")
        desk.pause(pause_s)
        pause_s = min(2 * pause_s, limits.POLL_MAX_S)


def _leaves(desk: Desk, resting: Sequence[BrokerOrder], qty: Decimal) -> bool:
    """Whether beside these orders, none of them a protection, so many shares are free."""
    if any(order.order_class not in SIMPLE for order in resting):
        return False
    on_sale = sum((order.qty - order.filled_qty for order in resting), Decimal(0))
    return _held(desk, resting[0].symbol) - on_sale >= qty


def open_entries(connection: Connection, *, automatic_only: bool) -> list[str]:
    """Broker's ids of the entries that the ledger holds for open: what a stop can cancel before it asks the broker."""
    return order_book.open_entries(connection, AUTOMATIC if automatic_only else "")


def entries_on_their_way(connection: Connection, wall: datetime, *, automatic_only: bool) -> bool:
    """Whether an entry was committed whose sender may be at it, so that it may reach the broker yet."""
    by_hand = () if automatic_only else (Source.MANUAL,)
    grace = timedelta(seconds=limits.SEND_GRACE_S)
    return queries.entries_on_their_way(connection, wall - grace, wall + grace, by_hand)


@urgent()
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
