"""Whatever clients and prices do: the books add up, and no fill breaks its order's terms."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.exchange.advance import advance
from qbot.exchange.book import Book, new_uuid
from qbot.exchange.engine import as_request, cancel, close_position, replace, submit
from qbot.exchange.orders import Order
from qbot.exchange.refusals import Refused
from tests.exchange.world import OPEN, Ohlc, book, market, request, with_shares

LOW, HIGH = 9_700, 10_300  # cents: prices and orders lie close together, so that much happens
CENTS = st.integers(LOW, HIGH).map(lambda c: str(Decimal(c) / 100))
TRAILS = st.integers(1, 300).map(lambda c: str(Decimal(c) / 100))
QTY = st.one_of(st.integers(1, 40).map(str), st.sampled_from(["0.5", "1.25"]))
ORDER_IDS = st.integers(0, 30)


@st.composite
def bars(draw: st.DrawFn) -> Ohlc:
    corners = sorted(draw(st.integers(LOW, HIGH)) / 100 for _ in range(4))
    low, one, two, high = corners
    return (one, high, low, two) if draw(st.booleans()) else (two, high, low, one)


@st.composite
def exits(draw: st.DrawFn) -> dict[str, Any]:
    stop, profit = sorted(draw(st.lists(st.integers(LOW, HIGH), min_size=2, max_size=2, unique=True)))
    order_class = draw(st.sampled_from(["bracket", "oto", "oco"]))
    made: dict[str, Any] = {"order_class": order_class, "stop_loss_usd": str(Decimal(stop) / 100)}
    return made if order_class == "oto" else made | {"take_profit_usd": str(Decimal(profit) / 100)}


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["market", "limit", "stop", "stop_limit", "trailing_stop"]))
    symbol, side = draw(st.sampled_from(["AAA", "BBB"])), draw(st.sampled_from(["buy", "sell"]))
    made: dict[str, Any] = {"symbol": symbol, "side": side, "qty": draw(QTY), "type": kind, "tif": "day"}
    if kind in {"limit", "stop_limit"}:
        made["limit_price"] = draw(CENTS)
    if kind in {"stop", "stop_limit"}:
        made["stop_price"] = draw(CENTS)
    if kind == "trailing_stop":
        made["trail_price"] = draw(TRAILS)
    if kind in {"market", "limit"}:
        made["tif"] = draw(st.sampled_from(["day", "gtc", "ioc", "fok"]))
    if kind in {"market", "limit"} and made["tif"] in {"day", "gtc"} and draw(st.booleans()):
        made |= draw(exits())
        if made["order_class"] == "oco":
            made |= {"side": "sell", "type": "limit", "limit_price": made["take_profit_usd"]}
        else:
            made["side"] = "buy"
    return made


STEPS = st.one_of(
    st.tuples(st.just("order"), orders()),
    st.tuples(st.just("order"), orders()),
    st.tuples(st.just("wait"), st.integers(0, 600)),
    st.tuples(st.just("cancel"), ORDER_IDS),
    st.tuples(st.just("replace"), st.tuples(ORDER_IDS, QTY)),
    st.tuples(st.just("close"), st.sampled_from(["AAA", "BBB"])),
)


def act(on: Book, step: tuple[str, Any], clock: list[float]) -> None:
    """One step; what is refused must leave the book as it was."""
    kind, what = step
    now = OPEN + timedelta(seconds=clock[0])
    known = list(on.orders.values())
    if kind == "wait":
        clock[0] += what
        advance(on, OPEN + timedelta(seconds=clock[0]))
        return
    advance(on, now)
    before = fingerprint(on)
    try:
        if kind == "order":
            submit(on, request(**what), now)
        elif kind == "close":
            close_position(on, what, None, now)
        elif known and kind == "cancel":
            cancel(on, known[what % len(known)].id, now)
        elif known:
            order = known[what[0] % len(known)]
            changed = dataclasses.replace(as_request(order), qty=Decimal(what[1]), client_order_id=new_uuid())
            replace(on, order.id, changed, now)
    except Refused:
        assert fingerprint(on) == before


def fingerprint(on: Book) -> tuple[object, ...]:
    return (on.ledger.cash_usd, {s: (h.qty, h.cost_usd) for s, h in on.ledger.holdings.items()}, len(on.fills),
            [(o.id, o.status, o.qty, o.filled_qty) for o in on.orders.values()])  # fmt: skip


def check(on: Book) -> None:
    ledger = on.ledger
    assert ledger.cash_usd >= 0
    cost = sum((h.cost_usd for h in ledger.holdings.values()), Decimal(0))
    assert ledger.cash_usd + cost == Decimal(100_000) + ledger.realized_usd
    flows = sum((f.qty * f.price_usd * (-1 if f.side == "buy" else 1) for f in on.fills), Decimal(100_000))
    assert flows == ledger.cash_usd
    for symbol in ("AAA", "BBB"):
        bought = sum((f.qty * (1 if f.side == "buy" else -1) for f in on.fills if f.symbol == symbol), Decimal(0))
        assert bought == ledger.qty(symbol) >= on.held_for_orders(symbol) >= 0
    for order in on.orders.values():
        check_order(on, order)
    for group in on.groups.values():
        assert sum(1 for order_id in group if on.orders[order_id].filled_qty) <= 1, "one of a group may fill"


def check_order(on: Book, order: Order) -> None:
    fills = [f for f in on.fills if f.order_id == order.id]
    assert sum((f.qty for f in fills), Decimal(0)) == order.filled_qty <= order.qty
    assert (order.status == "filled") == (order.filled_qty == order.qty)
    assert (order.id in on.open) == order.open
    assert order.open or not (order.status == "filled" and order.filled_at is None)
    for fill in fills:
        assert order.submitted_at <= fill.at <= on.now
        if order.limit_price is not None:
            worse = fill.price_usd - order.limit_price
            assert worse <= 0 if order.buying else worse >= 0
        if order.type == "stop" and order.stop_price is not None and fill is fills[0]:  # the rest is a market order
            assert fill.price_usd > order.stop_price if order.buying else fill.price_usd < order.stop_price
    if order.time_in_force == "fok":
        assert order.filled_qty in {0, order.qty}
    if not order.live:
        assert not fills, "a leg does not trade before its entry has filled"


@settings(max_examples=100)
@given(
    st.lists(bars(), min_size=3, max_size=6),
    st.lists(bars(), min_size=3, max_size=6),
    st.lists(STEPS, min_size=8, max_size=25),
)
def test_cash_and_positions_always_add_up_and_no_fill_breaks_its_terms(
    one: list[Any], two: list[Any], steps: list[Any]
) -> None:
    on = with_shares(with_shares(book(market(AAA=one, BBB=two)), OPEN, "AAA", "200"), OPEN, "BBB", "200")
    on.partial_one_in = 3  # the ids count up, so that the same orders are split each time
    clock = [0.0]
    for step in steps:
        act(on, step, clock)
        check(on)


@settings(max_examples=40)
@given(st.lists(bars(), min_size=2, max_size=4), st.lists(orders(), min_size=1, max_size=6), st.integers(1, 40))
def test_one_long_step_of_time_ends_as_many_short_ones(rows: list[Any], wanted: list[Any], parts: int) -> None:
    """After a downtime the exchange catches up with what would have happened."""
    wanted = [w | {"client_order_id": f"c{i}", "symbol": "AAA"} for i, w in enumerate(wanted)]
    ends = []
    for steps in (1, parts):
        on = book(market(AAA=rows))
        for what in [request("AAA", "buy", "50", client_order_id="shares"), *(request(**w) for w in wanted)]:
            try:
                submit(on, what, OPEN)
                advance(on, OPEN)
            except Refused:
                continue
        for part in range(1, steps + 1):
            advance(on, OPEN + timedelta(seconds=1500 * part / steps))
        ends.append([(o.client_order_id[:2], o.type, o.status, o.filled_qty, o.filled_cost_usd, o.side)
                     for o in on.orders.values() if not o.parent_id])  # fmt: skip
    assert ends[0] == ends[1]
