"""The shared array `frontend:manual_orders`. An order once seen outlives it: Postgres keeps the order as first seen.

Frontends append, and may overwrite the array blindly; QBot brings it back to what is recorded, by compare-and-set. What
it cannot read (no array, too long, too large) it leaves alone: recorded orders are worked off all the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from qbot import control, limits
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_orders import MalformedOrder, ManualOrder, ManualOrderStatus
from qbot.runtime import Runtime
from qbot.store import ledger
from qbot.store import manual_orders as store
from qbot.store.engine import transaction
from qbot.types import LEFT_BEHIND

log = structlog.get_logger(__name__)
Items = tuple[ManualOrder | MalformedOrder, ...]

HANDLING = timedelta(seconds=limits.MANUAL_HANDLING_S)
SINCE = "since"  # in a claim's outcome while it is being worked on: when that began, wall time
CAME_SENT = "It came with status SUBMITTED, but QBot has no record of having sent it: look for it at the broker."
FINAL = frozenset({ManualOrderStatus.FILLED, ManualOrderStatus.CANCELED, ManualOrderStatus.REJECTED})
AT_THE_VENUE = {
    "filled": ManualOrderStatus.FILLED,
    "canceled": ManualOrderStatus.CANCELED,
    "expired": ManualOrderStatus.CANCELED,
    "replaced": ManualOrderStatus.CANCELED,
    LEFT_BEHIND: ManualOrderStatus.CANCELED,
    "rejected": ManualOrderStatus.REJECTED,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One order as first seen, with the status that QBot gives it. `owed`: its end was not yet on the board."""

    number: int
    order: ManualOrder
    first_seen_wall: datetime
    claimed: bool
    owed: bool

    @property
    def final(self) -> bool:
        """True when its status changes no more."""
        return self.order.status in FINAL

    @property
    def pending(self) -> bool:
        """True when it is still to be sent or refused."""
        return not self.claimed and self.order.status is ManualOrderStatus.PENDING


# --- what is recorded -------------------------------------------------------------------------------------------------


def take(rt: Runtime, items: Items) -> dict[str, Recorded]:
    """Record the orders among `items` that are new. All orders that are in it or owed to the board, oldest first."""
    orders = [item for item in items if isinstance(item, ManualOrder)]
    bodies: dict[str, object] = {}
    for order in orders:  # of two with one id, the first counts
        bodies.setdefault(order.order_id, json.loads(order.model_dump_json(exclude_unset=True)))
    with transaction(rt.engine) as connection:
        store.record(connection, bodies, rt.wall())
        rows = store.fates(connection, list(bodies))
    found = (_recorded(rt, row) for row in rows)
    return {one.order.order_id: one for one in found if one is not None}


def _recorded(rt: Runtime, row: store.Row) -> Recorded | None:
    """None for an order that another version of QBot stored in a form that this one does not know: it is not sent."""
    try:
        came = ManualOrder.model_validate_json(json.dumps(row["body"]))
    except ValidationError:
        message = f"The recorded order {row['order_id']} is of another version of QBot; it is not executed."
        control.raise_alert(rt, AlertType.TRADE_ALERT, Severity.WARNING, "A manual order is unreadable", message)
        return None
    status, reason = _status(row, came.status, rt.wall())
    if status is not came.status:
        came = came.model_copy(update={"status": status, "status_reason": reason or ""})
    owed = row["final_shown_wall"] is None
    return Recorded(row["number"], came, row["first_seen_wall"], row["outcome"] is not None, owed)


def _status(row: store.Row, came: ManualOrderStatus, wall: datetime) -> tuple[ManualOrderStatus, str | None]:
    """Claimed orders are as their claim, their intent and their order say. One that never was stays as it came."""
    outcome = row["outcome"]
    if outcome is None:
        return (ManualOrderStatus.REJECTED, CAME_SENT) if came is ManualOrderStatus.SUBMITTED else (came, None)
    if outcome.get(SINCE) and wall - datetime.fromisoformat(outcome[SINCE]) < HANDLING:
        return ManualOrderStatus.PENDING, None  # somebody is at it
    if row["intent_status"] in (ledger.REJECTED, ledger.DENIED, ledger.ABANDONED):
        return ManualOrderStatus.REJECTED, row["error"]
    if outcome.get("client_order_id"):
        return AT_THE_VENUE.get(row["order_status"] or "", ManualOrderStatus.SUBMITTED), None
    return ManualOrderStatus(outcome["status"]), outcome.get("reason")


# --- what the board shows ---------------------------------------------------------------------------------------------


def write_back(rt: Runtime) -> None:
    """Bring the array to what is recorded, by compare-and-set: an order appended meanwhile is recorded, and stays."""
    known: dict[str, Recorded] = {}
    now = rt.wall()

    def changed(current: Items | None) -> Items | None:
        items = current or ()
        if not known or any(item.order_id not in known for item in items if isinstance(item, ManualOrder)):
            known.update(take(rt, items))
        new = _that_fits(rt, items, known, now)
        return new if new != items else None

    reading = rt.board.update(keys.MANUAL_ORDERS, changed, now=now)
    if reading.problem:
        return
    shown = {item.order_id for item in reading.value or () if isinstance(item, ManualOrder)}
    ended = [order_id for order_id in shown if order_id in known and known[order_id].final and known[order_id].owed]
    with transaction(rt.engine) as connection:
        store.final_was_shown(connection, ended, now)


def _that_fits(rt: Runtime, items: Items, known: Mapping[str, Recorded], now: datetime) -> Items:
    """The array as it should be; where that is too large a value, without what is missing, or without old ends."""
    most = limits.MANUAL_ORDERS_SHOWN_FINAL
    for room, ends in ((limits.MANUAL_ORDERS_MAX, most), (0, most), (0, 0)):
        new = merged(items, known, now, room=room, ends=ends)
        if new == items:
            return items
        try:
            keys.MANUAL_ORDERS.encode(new)
        except ValueError as error:
            log.warning("manual_orders_do_not_fit", why=str(error)[:200])
        else:
            return new
    message = f"{keys.MANUAL_ORDERS.name} has no room for the status of its orders; remove some."
    control.raise_alert(rt, AlertType.TRADE_ALERT, Severity.WARNING, "Manual orders do not fit", message)
    return items


def merged(items: Items, known: Mapping[str, Recorded], now: datetime, *, room: int, ends: int) -> Items:
    """`items`, in their order, as they are recorded, and what is missing put back where it was.

    Dropped: a second element of one id; of the ended orders that were shown, and of the malformed elements that
    already say so, all but the newest `ends`. Missing orders are put back while there are under `room` elements.
    """
    old = _old(items, known, ends)
    kept: list[ManualOrder | MalformedOrder] = []
    there: set[str] = set()
    for position, item in enumerate(items):
        if position in old:
            continue
        if isinstance(item, MalformedOrder):
            kept.append(item if item.settled else item.rejected())
        elif item.order_id not in there:
            there.add(item.order_id)
            kept.append(_as_recorded(item, known.get(item.order_id), now))
    missing = [one for order_id, one in known.items() if one.owed and order_id not in there]
    for one in sorted(missing, key=lambda one: one.number)[: max(0, room - len(kept))]:
        kept.insert(_place(kept, known, one.number), one.order.model_copy(update=_stamp(one.order, now)))
    return tuple(kept)


def _old(items: Items, known: Mapping[str, Recorded], ends: int) -> set[int]:
    """Positions of what has been on the board long enough."""
    mute = [position for position, item in enumerate(items) if isinstance(item, MalformedOrder) and item.settled]
    over = [
        (known[item.order_id].number, position)
        for position, item in enumerate(items)
        if isinstance(item, ManualOrder) and item.order_id in known and _may_go(known[item.order_id])
    ]
    oldest = [position for _, position in sorted(over)]
    return {*mute[: max(0, len(mute) - ends)], *oldest[: max(0, len(oldest) - ends)]}


def _may_go(one: Recorded) -> bool:
    return one.final and not one.owed


def _as_recorded(item: ManualOrder, one: Recorded | None, now: datetime) -> ManualOrder:
    """The recorded order; unchanged, with its time of change, where that is all that differs."""
    if one is None or item.model_copy(update={"updated_at": one.order.updated_at}) == one.order:
        return item
    return one.order.model_copy(update=_stamp(one.order, now))


def _stamp(order: ManualOrder, now: datetime) -> dict[str, datetime]:
    return {} if order.status is ManualOrderStatus.PENDING else {"updated_at": now}


def _place(kept: Sequence[ManualOrder | MalformedOrder], known: Mapping[str, Recorded], number: int) -> int:
    """Before the first order that came later; at the end when there is none."""
    for position, item in enumerate(kept):
        if isinstance(item, ManualOrder) and item.order_id in known and known[item.order_id].number > number:
            return position
    return len(kept)
