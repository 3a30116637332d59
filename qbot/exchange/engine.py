"""What a client can ask of the book: place, cancel and replace orders, close positions. Pure: time is an argument.

Every function first lets time pass up to `now`, then either changes the book or raises `Refused` and changes nothing.
"""

from __future__ import annotations

import dataclasses
import uuid
from datetime import datetime, timedelta
from decimal import Decimal

from qbot.exchange.advance import advance, cancel_family
from qbot.exchange.book import Book
from qbot.exchange.orders import NewOrder, Order
from qbot.exchange.quotes import ask
from qbot.exchange.refusals import (
    Refused,
    bad_form,
    duplicate_client_order_id,
    insufficient_buying_power,
    insufficient_qty,
    order_not_found,
    position_not_found,
    unprocessable,
    wash_trade,
)
from qbot.exchange.sessions import moment

# A market buy is reckoned 2.5 % above the market, as the venue does: https://docs.alpaca.markets/docs/orders-at-alpaca
MARKET_BUY_MARGIN = Decimal("1.025")
GTC_LIFE = timedelta(days=90)  # the venue cancels good-till-canceled orders after 90 days
CENT = Decimal("0.01")


def submit(book: Book, new: NewOrder, now: datetime) -> Order:
    """Accept an order with its legs, or raise Refused. It trades when time passes next, even if by nothing."""
    advance(book, now)
    _check_against_market(book, new)
    _check_against_account(book, new, without=None)
    order = _make(book, new)
    book.add(order)
    book.touch(order, book.now)
    _add_legs(book, order, new)
    return order


def cancel(book: Book, order_id: str, now: datetime) -> Order:
    """Cancel an order and what hangs on it; with `hold_cancels` it only gets `pending_cancel`. Raises Refused."""
    advance(book, now)
    order = find(book, order_id)
    if not order.open:
        raise unprocessable(f'order is already in "{order.status}" state')
    if book.hold_cancels:
        order.status = "pending_cancel"
        book.emit("pending_cancel", order, book.now)
    else:
        cancel_family(book, order, book.now)
    return order


def cancel_all(book: Book, now: datetime) -> list[Order]:
    """Cancel every open order. Returns them."""
    advance(book, now)
    asked = list(book.open.values())
    for order in asked:
        if order.open:
            cancel(book, order.id, now)
    return asked


def replace(book: Book, order_id: str, new: NewOrder, now: datetime) -> Order:
    """Put a changed order in the place of an open one. `new.qty` is the total: what has filled counts towards it.

    Raises Refused.
    """
    advance(book, now)
    old = find(book, order_id)
    if not old.open or old.status in {"pending_cancel", "pending_replace"}:
        raise bad_form("only open orders can be replaced")
    if new.qty <= old.filled_qty:
        raise unprocessable("qty must be greater than the filled qty")
    new = dataclasses.replace(new, qty=new.qty - old.filled_qty)
    _check_client_order_id(book, new)
    _check_against_account(book, new, without=old)
    order = _make(book, new)
    order.replaces, order.parent_id, order.group_id = old.id, old.parent_id, old.group_id
    order.live, order.triggered, order.hwm, order.split_done = old.live, old.triggered, old.hwm, old.split_done
    order.order_class = old.order_class
    order.status = "held" if old.status == "held" else order.status
    _hand_over(book, old, order)
    return order


def close_position(book: Book, symbol: str, qty: Decimal | None, now: datetime) -> Order:
    """Sell `qty` shares of a position (all of it if None) at the market. Raises Refused."""
    advance(book, now)
    held = book.ledger.qty(symbol)
    if not held:
        raise position_not_found()
    return submit(book, NewOrder(symbol, "sell", held if qty is None else qty, "market", "day", str(uuid.uuid4())), now)


def find(book: Book, order_id: str) -> Order:
    """An order by its id. Raises Refused."""
    if order_id not in book.orders:
        raise order_not_found(order_id)
    return book.orders[order_id]


def as_request(order: Order) -> NewOrder:
    """The request that would make this order anew: what a replacement starts from."""
    names = {f.name for f in dataclasses.fields(NewOrder)} & {f.name for f in dataclasses.fields(Order)}
    request = NewOrder(**{name: getattr(order, name) for name in names})
    stop = None if order.type == "trailing_stop" else order.stop_price
    return dataclasses.replace(request, order_class="" if order.parent_id else order.order_class, stop_price=stop)


def _hand_over(book: Book, old: Order, order: Order) -> None:
    for leg in book.legs_of(old):
        leg.parent_id = order.id
        book.legs.setdefault(order.id, []).append(leg.id)
        book.touch(leg, book.now)
    book.add(order)
    book.touch(order, book.now)
    old.replaced_by = order.id
    book.close(old, "replaced", book.now)


def _make(book: Book, new: NewOrder) -> Order:
    now, t = book.now, book.time_s
    trading = next(book.sessions.windows(t, t, new.extended_hours), None) is not None
    order = Order(
        id=book.new_id(), seq=len(book.orders), client_order_id=new.client_order_id, symbol=new.symbol, side=new.side,
        type=new.type, time_in_force=new.time_in_force, order_class=new.order_class, qty=new.qty, created_at=now,
        updated_at=now, submitted_at=now, active_from=now, status="pending_new" if trading else "accepted",
        limit_price=new.limit_price, stop_price=new.stop_price, trail_price=new.trail_price,
        trail_percent=new.trail_percent, extended_hours=new.extended_hours,
    )  # fmt: skip
    order.reserve_price_usd = _reserve_price(book, new)
    if new.time_in_force == "day":
        order.expires_at = moment(_day_ends(book, new.extended_hours))
    elif new.time_in_force == "gtc":
        order.expires_at = now + GTC_LIFE
    return order


def _day_ends(book: Book, extended: bool) -> float:
    return (book.sessions.next_extended_close if extended else book.sessions.next_close)(book.time_s)


def _add_legs(book: Book, parent: Order, new: NewOrder) -> None:
    """The exits of a complex order. An OCO's own order is its profit leg, and its stop is watched from the start."""
    if not new.complex:
        return
    exits: list[NewOrder] = []
    blank = NewOrder(new.symbol, "sell", new.qty, "limit", new.time_in_force, "", new.order_class)
    if new.take_profit_usd is not None and new.order_class != "oco":
        exits.append(dataclasses.replace(blank, limit_price=new.take_profit_usd))
    if new.stop_loss_usd is not None:
        kind = "stop" if new.stop_loss_limit_usd is None else "stop_limit"
        exits.append(dataclasses.replace(
            blank, type=kind, stop_price=new.stop_loss_usd, limit_price=new.stop_loss_limit_usd))  # fmt: skip
    if new.order_class == "oco":
        parent.group_id = parent.id
        book.groups.setdefault(parent.id, []).append(parent.id)
    for request in exits:
        leg = _make(book, dataclasses.replace(request, client_order_id=str(uuid.uuid4())))
        leg.parent_id, leg.status, leg.live = parent.id, "held", new.order_class == "oco"
        leg.group_id = parent.id if new.order_class != "oto" else None
        book.add(leg)
        book.touch(leg, book.now)


def _reserve_price(book: Book, new: NewOrder) -> Decimal:
    """What a share of a buy may cost: its limit, or the market and a margin."""
    if new.limit_price is not None:
        return new.limit_price
    price = book.price(new.symbol)
    base = new.stop_price if new.stop_price is not None else ask(price) if price is not None else Decimal(0)
    return (base * MARKET_BUY_MARGIN).quantize(CENT)


def _check_client_order_id(book: Book, new: NewOrder) -> None:
    if new.client_order_id in book.client_ids:
        raise duplicate_client_order_id()


def _check_against_market(book: Book, new: NewOrder) -> None:
    """The id is free, the symbol is listed, the prices make sense where the market is. Raises Refused."""
    _check_client_order_id(book, new)
    price = book.price(new.symbol) if new.symbol in book.market.series else None
    if price is None:
        raise unprocessable(f'asset "{new.symbol}" not found')
    _check_stop(new, price)
    if new.order_class not in {"bracket", "oto"}:
        return
    base = new.limit_price or new.stop_price or price
    if new.take_profit_usd is not None and new.take_profit_usd < base + CENT:
        raise unprocessable("take_profit.limit_price must be >= base_price + 0.01", base_price=str(base))
    if new.stop_loss_usd is not None and new.stop_loss_usd > base - CENT:
        raise unprocessable("stop_loss.stop_price must be <= base_price - 0.01", base_price=str(base))


def _check_stop(new: NewOrder, price: Decimal) -> None:
    stop = new.stop_loss_usd if new.order_class == "oco" else new.stop_price
    if stop is None:
        return
    if new.side == "sell" and stop >= price:
        message = "stop price must be less than current price"
        raise unprocessable(message, market_price=str(price), stop_price=str(stop))
    if new.side == "buy" and stop <= price:
        message = "stop price must be greater than current price"
        raise unprocessable(message, market_price=str(price), stop_price=str(stop))


def _check_against_account(book: Book, new: NewOrder, without: Order | None) -> None:
    """No wash trade, shares enough, money enough. Raises Refused."""
    if without is None or without.parent_id is None:
        _check_wash_trade(book, new)
    if without is not None and not without.live:
        return
    if new.side == "sell":
        held = book.held_for_orders(new.symbol, without=without)
        if without is not None and without.group_id:
            held -= max((s.remaining for s in book.siblings(without)), default=Decimal(0))
        existing = book.ledger.qty(new.symbol)
        if new.qty > existing - held:
            raise insufficient_qty(new.symbol, new.qty, existing, held)
        return
    power, cost = book.buying_power_usd(without=without), new.qty * _reserve_price(book, new)
    if cost > power:
        raise insufficient_buying_power(power, cost)


def _check_wash_trade(book: Book, new: NewOrder) -> None:
    """A simple order may not meet an open order of the other side. Complex orders are exempt: the venue says so."""
    if new.complex:
        return
    for other in book.open.values():
        if other.symbol == new.symbol and other.side != new.side and other.live and _may_meet(new, other):
            kind = "limit" if other.type == "limit" else "market/stop"
            raise wash_trade(other.id, f"opposite side {kind} order exists")


def _may_meet(new: NewOrder, other: Order) -> bool:
    if new.type != "limit" or other.type != "limit":
        return True
    assert new.limit_price is not None and other.limit_price is not None
    crossed = new.limit_price - other.limit_price
    return crossed >= 0 if new.side == "buy" else crossed <= 0


__all__ = ["Refused", "as_request", "cancel", "cancel_all", "close_position", "find", "replace", "submit"]
