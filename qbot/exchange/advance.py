"""The passing of time: from the book's time to a later one, everything that falls in between, in order.

Fills, stops, expiries and samples of the equity are found ahead on the price path and worked off from a heap, so the
result is the same for one long step (after a restart) as for many short ones.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from qbot.exchange.book import Book
from qbot.exchange.matching import PARTIAL_PAUSE_S, Firing, firing, first_part, market_price, price_range, quiet_range
from qbot.exchange.orders import Fill, Order
from qbot.exchange.sessions import moment

SAMPLE_S = 300.0  # equity is recorded every five market minutes
AT_ONCE = frozenset({"ioc", "fok"})

# At one moment: first the opening of orders, then fills, then expiry, then the sample that sees them all.
ACTIVATE, FIRE, EXPIRE, SAMPLE = range(4)
Entry = tuple[float, int, int, Order | None, Firing | None]


def advance(book: Book, until: datetime) -> None:
    """Let market time pass up to `until`. A time before the book's own changes nothing: markets do not go back."""
    end = until.timestamp()
    if end < book.time_s or (end == book.time_s and not book.fresh):
        return
    heap: list[Entry] = []
    reach: dict[str, tuple[float, float]] = {}
    for order in list(book.open.values()):
        if not _stays_quiet(book, reach, order, end):
            _schedule(book, heap, order, book.time_s, end)
    for t in _sample_times(book, end):
        heapq.heappush(heap, (t, SAMPLE, 0, None, None))
    while heap:
        at, kind, _, due, found = heapq.heappop(heap)
        if due is None:
            _sample(book, at)
        elif due.open:
            _happen(book, heap, kind, due, found, at, end)
    book.time_s, book.fresh = end, False


def _stays_quiet(book: Book, reach: dict[str, tuple[float, float]], order: Order, end: float) -> bool:
    """True if nothing can happen to `order` up to `end`: so it is with most orders at most times, and found fast."""
    if order.id not in book.quiet:
        between = quiet_range(order)
        if between is None or order.expires_at is None:
            return False
        book.quiet[order.id] = (*between, order.expires_at.timestamp())
    if order.symbol not in reach:
        reach[order.symbol] = price_range(book.market.path(order.symbol, book.time_s, end))
    low, high = reach[order.symbol]
    below, above, expires_s = book.quiet[order.id]
    return low > below and high < above and expires_s > end


def _happen(
    book: Book, heap: list[Entry], kind: int, order: Order, found: Firing | None, at: float, end: float
) -> None:
    if kind == EXPIRE:
        _cancel_family(book, order, "expired", moment(at))
    elif kind == ACTIVATE:
        _activate(book, heap, order, at, end)
    elif found is not None:
        _fire(book, heap, order, found, end)


def _schedule(book: Book, heap: list[Entry], order: Order, a: float, b: float) -> None:
    """Push what happens first to `order` in [a, b]."""
    if not order.live:
        return
    if order.expires_at is not None and (expires := order.expires_at.timestamp()) <= b:
        heapq.heappush(heap, (expires, EXPIRE, order.seq, order, None))
    begin = max(a, order.active_from.timestamp())
    if begin > b:
        return
    if order.status in {"pending_new", "accepted"}:
        opening = begin if order.time_in_force in AT_ONCE else _first_moment(book, order, begin, b)
        if opening is not None:
            heapq.heappush(heap, (opening, ACTIVATE, order.seq, order, None))
        return
    found = _find(book, order, begin, b)
    if found:
        heapq.heappush(heap, (found.at_s, FIRE, order.seq, order, found))


def _first_moment(book: Book, order: Order, a: float, b: float) -> float | None:
    window = next(book.sessions.windows(a, b, order.extended_hours), None)
    return window[0] if window else None


def _find(book: Book, order: Order, a: float, b: float) -> Firing | None:
    mark = order.hwm
    for begin, end in book.sessions.windows(a, b, order.extended_hours):
        found = firing(order, book.market.path(order.symbol, begin, end))
        if found:
            return found
    if order.hwm != mark:
        book.changes.orders[order.id] = order
    return None


def _activate(book: Book, heap: list[Entry], order: Order, at: float, end: float) -> None:
    """The order reaches the market. One that must trade at once does, or ends."""
    order.status = "new"
    book.emit("new", order, moment(at))
    if order.time_in_force not in AT_ONCE:
        _schedule(book, heap, order, at, end)
        return
    found = _find(book, order, at, at)
    if found:
        _fire(book, heap, order, found, end)
    if order.open:
        _cancel_family(book, order, "canceled", moment(at))


def _fire(book: Book, heap: list[Entry], order: Order, found: Firing, end: float) -> None:
    if not found.trigger:
        _fill(book, heap, order, found, end)
        return
    order.triggered = True
    order.status = "new" if order.status == "held" else order.status
    book.touch(order, moment(found.at_s))
    if order.type == "stop_limit":
        _schedule(book, heap, order, found.at_s, end)
    else:
        price = market_price(order.side, found.price_usd)
        _fill(book, heap, order, replace(found, price_usd=price, trigger=False), end)


def _fill(book: Book, heap: list[Entry], order: Order, found: Firing, end: float) -> None:
    at, qty = moment(found.at_s), first_part(order, book.partial_one_in)
    if order.buying and qty * found.price_usd > book.ledger.cash_usd:
        # Accepted against a lower price: the market opened above what the account can pay.
        _cancel_family(book, order, "canceled" if order.filled_qty else "rejected", at)
        return
    trade = book.ledger.buy if order.buying else book.ledger.sell
    trade(order.symbol, qty, found.price_usd)
    order.filled_qty += qty
    order.filled_cost_usd += qty * found.price_usd
    order.split_done = True
    order.status = "partially_filled" if order.remaining else "filled"
    fill = _record(book, order, qty, found.price_usd, at)
    for sibling in list(book.siblings(order)):
        book.close(sibling, "canceled", at)
    if order.remaining:
        book.emit("partial_fill", order, at, fill)
        order.active_from = moment(found.at_s + PARTIAL_PAUSE_S)
        if order.time_in_force not in AT_ONCE:
            _schedule(book, heap, order, found.at_s, end)
        return
    order.filled_at = at
    book.open.pop(order.id, None)
    book.emit("fill", order, at, fill)
    _release_legs(book, heap, order, at, end)


def _record(book: Book, order: Order, qty: Decimal, price: Decimal, at: datetime) -> Fill:
    fill = Fill(book.new_id(), len(book.fills), order.id, order.symbol, order.side, qty, price, at,
                order.filled_qty, order.remaining, order.status)  # fmt: skip
    book.fills.append(fill)
    book.changes.fills.append(fill)
    return fill


def _release_legs(book: Book, heap: list[Entry], order: Order, at: datetime, end: float) -> None:
    """The entry has filled: its legs come alive. The limit leg is new; the stop leg, watched too, stays `held`."""
    for leg in book.legs_of(order):
        if leg.open and not leg.live:
            leg.live = True
            leg.active_from = at
            if leg.type == "limit" or not leg.group_id:
                leg.status = "new"
                book.emit("new", leg, at)
            else:
                book.touch(leg, at)
            _schedule(book, heap, leg, at.timestamp(), end)


def _cancel_family(book: Book, order: Order, status: str, at: datetime) -> None:
    """End an order, the others of its group, and legs that wait for it."""
    siblings, legs = list(book.siblings(order)), [leg for leg in book.legs_of(order) if leg.open]
    book.close(order, status, at)
    for other in {o.id: o for o in (*siblings, *legs)}.values():
        book.close(other, "expired" if status == "expired" else "canceled", at)


def cancel_family(book: Book, order: Order, at: datetime) -> None:
    """Cancel an order, the others of its group, and legs that wait for it."""
    _cancel_family(book, order, "canceled", at)


def _sample_times(book: Book, end: float) -> list[float]:
    """The moments in (book's time, end] at which the equity is recorded: a session's opening to its close."""
    times: list[float] = []
    for begin, stop in book.sessions.windows(book.time_s, end, extended=False):
        t = begin - begin % SAMPLE_S
        while t <= stop:
            if t > book.time_s:
                times.append(t)
            t += SAMPLE_S
    return times


def _sample(book: Book, at: float) -> None:
    point = (int(at), book.equity_usd(at))
    book.equity.append(point)
    book.changes.equity.append(point)
    if book.sessions.last_close(at) == at:
        book.ledger.last_equity_usd = point[1]
        for holding in book.ledger.holdings.values():
            holding.overnight_qty = holding.qty
