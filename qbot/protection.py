"""What rests at the broker against what should: shares that lost their stop-loss, sales of more than is held. Pure.

An entry with a stop-loss and a take-profit is sent with both. When they are lost, they are put back at the levels it
had (`docs/adr/0012-protection-is-put-back.md`). What a human bought without such levels is left alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from qbot import limits
from qbot.types import (
    BrokerOrder,
    IntentKind,
    OrderType,
    Position,
    Proposal,
    Side,
    Source,
    TimeInForce,
)

PREFIX = "p"  # how the name of an attempt begins, and with it the ids of its order and its decision
WITHHELD = "all orders were cancelled on request: nothing is put back until a human starts trading again"
UNDER_THE_STOP = "the price is under the stop-loss while the exchange is closed: it is sold at the open"


@dataclass(frozen=True, slots=True)
class Levels:
    """What an entry was sent with, and what is needed to ask for it again. `revision`: of the settings it came from."""

    stop_loss_usd: Decimal
    take_profit_usd: Decimal
    source: Source
    revision: int


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill. `entry_id`: client order id of the entry that it belongs to, as its purchase or as its protection.

    `levels` are those of a purchase; one without them is a human's.
    """

    symbol: str
    side: Side
    qty: Decimal
    entry_id: str | None = None
    levels: Levels | None = None


@dataclass(frozen=True, slots=True)
class Lot:
    """Shares of one entry that are still held."""

    symbol: str
    qty: Decimal
    entry_id: str | None
    levels: Levels | None


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often an entry's protection was to be put back; `failed` since it last was, the last time at `failed_at`."""

    count: int = 0
    failed: int = 0
    failed_at: datetime | None = None

    def may_be_repeated(self, now: datetime) -> bool:
        """Each failure makes it wait a minute longer, up to a limit: what the venue refuses it mostly refuses again."""
        if self.failed_at is None:
            return True
        wait = min(self.failed * limits.PROTECT_AGAIN_S, limits.PROTECT_AGAIN_MAX_S)
        return now >= self.failed_at + timedelta(seconds=wait)


@dataclass(frozen=True, slots=True)
class Records:
    """What the ledger knows of the symbols that are looked at.

    `attempts` by the name of the entry, see `name_of`. `busy`: symbols with an order on its way. `ours`: broker's
    ids of open orders that no human made.
    """

    executions: Sequence[Execution]
    attempts: Mapping[str, Attempts]
    busy: Collection[str]
    ours: Collection[str]
    withheld: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """An order to put back. `name` numbers the attempt, the same for every worker: the venue never frees an id."""

    proposal: Proposal
    revision: int
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`cancels`: broker's ids of sales of more than is held. `rests`: of entries that have long not come, or not all,
    and stand in the way of protecting what is held.

    `bare`: symbols whose shares stay without protection for now, and why.
    """

    wanted: Sequence[Wanted] = ()
    cancels: Sequence[str] = ()
    rests: Sequence[str] = ()
    bare: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Resting sales of which one may fill: a single order, an OCO, the two legs of a filled bracket."""

    symbol: str
    order_ids: tuple[str, ...]
    qty: Decimal


def name_of(entry_id: str) -> str:
    """What the names of all attempts at the protection of one entry begin with."""
    return PREFIX + hashlib.sha256(entry_id.encode()).hexdigest()[:24]


def groups(open_orders: Sequence[BrokerOrder]) -> list[Group]:
    """The resting sales, oldest first. The legs of an entry that has not filled hold no shares and are left out."""
    waiting = {order.broker_order_id for order in open_orders if order.side is Side.BUY}
    found: dict[str, Group] = {}
    for order in sorted(open_orders, key=lambda order: order.created_at):
        if order.side is not Side.SELL or order.parent_id in waiting:
            continue
        name, left = order.parent_id or order.broker_order_id, order.qty - order.filled_qty
        one = found.get(name) or Group(order.symbol, (), left)
        # The venue lowers the rest of both legs when one fills in part, the one that is watched maybe later.
        found[name] = Group(one.symbol, (*one.order_ids, order.broker_order_id), min(one.qty, left))
    return list(found.values())


def resting(open_orders: Sequence[BrokerOrder]) -> dict[str, Decimal]:
    """Shares that resting sales hold, by symbol."""
    return _by_symbol(groups(open_orders))


def lots(executions: Sequence[Execution]) -> dict[str, list[Lot]]:
    """What is left of each purchase, by symbol, oldest first. `executions` are in the order they took place.

    A sale of the protection sells the shares of its entry. Any other takes a human's first, then the oldest.
    """
    held: dict[str, list[Lot]] = {}
    for one in executions:
        queue = held.setdefault(one.symbol, [])
        if one.side is Side.BUY:
            _bought(queue, one)
        else:
            _sold(queue, one)
    return held


def _bought(queue: list[Lot], one: Execution) -> None:
    last = queue[-1] if queue else None
    if last is not None and last.entry_id == one.entry_id:
        queue[-1] = replace(last, qty=last.qty + one.qty)
    else:
        queue.append(Lot(one.symbol, one.qty, one.entry_id, one.levels))


def _sold(queue: list[Lot], one: Execution) -> None:
    left = one.qty
    named = one.entry_id
    for lot in sorted(queue, key=lambda lot: (named is None or lot.entry_id != named, lot.levels is not None)):
        part, at = min(left, lot.qty), queue.index(lot)
        queue[at] = replace(lot, qty=lot.qty - part)
        left -= part
    queue[:] = [lot for lot in queue if lot.qty > 0]


def suspects(positions: Mapping[str, Position], open_orders: Sequence[BrokerOrder]) -> list[str]:
    """Symbols whose resting sales are not of just what is held, and those of entries that filled in part."""
    rests = resting(open_orders)
    uneven = {s for s in rests.keys() | positions.keys() if rests.get(s, Decimal(0)) != _held(positions, s)}
    return sorted(uneven | {order.symbol for order in open_orders if _entry(order) and order.filled_qty > 0})


def plan(
    now: datetime,
    symbols: Sequence[str],
    positions: Mapping[str, Position],
    open_orders: Sequence[BrokerOrder],
    known: Records,
    *,
    market_open: bool,
) -> Plan:
    """What is to be done about `symbols`. Where an order is on its way nothing is: the next look goes on."""
    mine = [group for group in groups(open_orders) if any(one in known.ours for one in group.order_ids)]
    held_lots = lots(known.executions)
    wanted: list[Wanted] = []
    bare: dict[str, str] = {}
    lacking: set[str] = set()
    for symbol in symbols:
        free = _held(positions, symbol) - resting(open_orders).get(symbol, Decimal(0))
        owed = [lot for lot in held_lots.get(symbol, ()) if lot.levels is not None]
        gap = min(free, sum((lot.qty for lot in owed), Decimal(0)) - _by_symbol(mine).get(symbol, Decimal(0)))
        for lot, qty in _uncovered(owed, gap):
            lacking.add(symbol)
            if symbol in known.busy:
                continue
            found = _put_back(lot, qty, positions[symbol], known, now, market_open=market_open)
            if isinstance(found, Wanted):
                wanted.append(found)
            else:
                bare[symbol] = found
    cancels = _too_many([symbol for symbol in symbols if symbol not in known.busy], positions, mine)
    late = timedelta(seconds=limits.PARTIAL_ENTRY_WAIT_S)
    rests = [
        order.broker_order_id
        for order in open_orders
        if _entry(order) and (order.filled_qty > 0 or order.symbol in lacking)
        if order.broker_order_id in known.ours and now - order.created_at > late
    ]
    return Plan(wanted, cancels, rests, bare)


def _uncovered(owed: Sequence[Lot], gap: Decimal) -> list[tuple[Lot, Decimal]]:
    """Which lots the missing shares are of: the newest, for those before have had theirs for longer. Whole shares."""
    found = []
    for lot in reversed(owed):
        qty = Decimal(int(min(lot.qty, gap)))
        if qty > 0:
            found.append((lot, qty))
        gap -= qty
    return found


def _put_back(
    lot: Lot, qty: Decimal, position: Position, known: Records, now: datetime, *, market_open: bool
) -> Wanted | str:
    """An OCO of `qty` shares at the entry's levels; or why not.

    Under its stop-loss it is a sale at the market, as the stop would have become.
    """
    assert lot.levels is not None and lot.entry_id is not None
    name = name_of(lot.entry_id)
    before = known.attempts.get(name, Attempts())
    price, levels = position.current_price_usd, lot.levels
    fallen = price.is_finite() and 0 < price <= levels.stop_loss_usd
    if known.withheld:
        return WITHHELD
    if not before.may_be_repeated(now):
        return f"its protection was refused {before.failed} times; it is asked for again"
    if fallen and not market_open:
        return UNDER_THE_STOP
    proposal = Proposal(
        symbol=lot.symbol, side=Side.SELL, qty=qty, kind=IntentKind.PROTECTION, source=levels.source, price_usd=price,
        order_type=OrderType.MARKET if fallen else OrderType.LIMIT,
        time_in_force=TimeInForce.DAY if fallen else TimeInForce.GTC,
        take_profit_usd=None if fallen else levels.take_profit_usd,
        stop_loss_usd=None if fallen else levels.stop_loss_usd,
        protects=lot.entry_id,
    )  # fmt: skip
    return Wanted(proposal, levels.revision, f"{name}-{before.count + 1}")


def _too_many(symbols: Sequence[str], positions: Mapping[str, Position], mine: Sequence[Group]) -> list[str]:
    """Broker's ids of the newest of our sales, until the others sell no more than is held. A human's stay."""
    found = []
    for symbol in symbols:
        over = sum((one.qty for one in mine if one.symbol == symbol), Decimal(0)) - _held(positions, symbol)
        for group in reversed([one for one in mine if one.symbol == symbol]):
            if over > 0:
                found.append(group.order_ids[0])
                over -= group.qty
    return found


def _entry(order: BrokerOrder) -> bool:
    """True for an open entry that brings its own protection: the venue sets that up once all of it has filled."""
    return order.side is Side.BUY and order.order_class == "bracket"


def _held(positions: Mapping[str, Position], symbol: str) -> Decimal:
    return positions[symbol].qty if symbol in positions else Decimal(0)


def _by_symbol(found: Sequence[Group]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for one in found:
        total[one.symbol] = total.get(one.symbol, Decimal(0)) + one.qty
    return total
