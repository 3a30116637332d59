"""Each kind of order does what Alpaca's does. The made-up spread at 100 dollars is one cent on each side."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal

import pytest

from qbot.exchange.advance import advance
from qbot.exchange.engine import as_request, cancel, cancel_all, close_position, replace, submit
from qbot.exchange.market import Market
from qbot.exchange.matching import first_part
from qbot.exchange.orders import NewOrder, Order
from qbot.exchange.refusals import Refused
from tests.exchange.world import (
    BAR,
    CLOSE,
    NEXT_OPEN,
    OPEN,
    Ohlc,
    book,
    events,
    flat,
    frame,
    market,
    place,
    request,
    with_shares,
)

UP: list[Ohlc] = [(100, 100, 100, 100), (100, 110, 100, 110)]  # stands five minutes, then rises
DOWN: list[Ohlc] = [(100, 100, 100, 100), (100, 100, 90, 90)]
GAP_DOWN: list[Ohlc] = [(100, 100, 100, 100), (80, 80, 80, 80)]
GAP_UP: list[Ohlc] = [(100, 100, 100, 100), (120, 120, 120, 120)]
END = OPEN + 2 * BAR
D = Decimal


def average(order: Order) -> Decimal:
    return order.filled_cost_usd / order.filled_qty


def test_a_market_buy_pays_the_ask_and_a_market_sell_gets_the_bid() -> None:
    on = book(market(AAA=flat(100)))
    bought, sold = place(on, OPEN, side="buy"), place(on, OPEN, side="sell")
    assert (average(bought), average(sold)) == (D("100.01"), D("99.99"))
    assert on.ledger.cash_usd == D("99999.80") and on.ledger.realized_usd == D("-0.20")
    assert events(on) == ["new market", "fill market"] * 2


def test_an_order_is_pending_until_time_passes_even_by_nothing() -> None:
    on = book(market(AAA=flat(100)))
    order = submit(on, request(), OPEN)
    assert (order.status, order.filled_qty) == ("pending_new", 0)
    advance(on, OPEN)
    assert order.status == "filled"


def test_a_limit_buy_waits_for_its_price_and_gets_exactly_it() -> None:
    on = book(market(AAA=DOWN))
    order = place(on, OPEN, type="limit", limit_price="95")
    assert order.status == "new"
    advance(on, END)
    assert order.status == "filled" and average(order) == D("95")
    # From 100 to 90 in the second third of the bar: the ask is 95 when the price is 94.99.
    assert order.filled_at == OPEN + BAR + timedelta(seconds=150.1)


def test_a_limit_order_gets_the_better_price_after_a_gap() -> None:
    on = book(market(AAA=GAP_DOWN))
    order = place(on, OPEN, type="limit", limit_price="95")
    advance(on, END)
    assert average(order) == D("80.01")


def test_a_marketable_limit_buy_pays_the_ask_and_not_its_limit() -> None:
    assert average(place(book(market(AAA=flat(100))), OPEN, type="limit", limit_price="105")) == D("100.01")


def test_a_stop_order_never_fills_above_its_stop_and_gaps_with_the_market() -> None:
    crossed = with_shares(book(market(AAA=DOWN)), OPEN)
    stop = place(crossed, OPEN, side="sell", type="stop", stop_price="95")
    advance(crossed, END)
    assert stop.status == "filled" and average(stop) == D("94.99")
    gapped = with_shares(book(market(AAA=GAP_DOWN)), OPEN)
    stop = place(gapped, OPEN, side="sell", type="stop", stop_price="95")
    advance(gapped, END)
    assert average(stop) == D("79.99")


def test_a_stop_buy_waits_for_a_rise() -> None:
    on = book(market(AAA=UP))
    stop = place(on, OPEN, type="stop", stop_price="105")
    advance(on, END)
    assert average(stop) == D("105.01")


def test_a_stop_limit_that_is_jumped_over_rests_at_its_limit() -> None:
    on = with_shares(book(market(AAA=GAP_DOWN)), OPEN)
    order = place(on, OPEN, side="sell", type="stop_limit", stop_price="95", limit_price="94")
    advance(on, END)
    assert (order.status, order.triggered, order.filled_qty) == ("new", True, 0)


def test_a_trailing_stop_follows_the_best_price() -> None:
    rows: list[Ohlc] = [(100, 100, 100, 100), (100, 110, 100, 110), (110, 110, 100, 100)]
    on = with_shares(book(market(AAA=rows)), OPEN)
    order = place(on, OPEN, side="sell", type="trailing_stop", trail_price="3")
    advance(on, END)
    assert (order.hwm, order.stop_price) == (D("110.00"), D("107.00"))
    advance(on, END + BAR)
    assert order.status == "filled" and average(order) == D("106.99")


def test_a_day_order_expires_at_the_close_and_a_gtc_order_does_not() -> None:
    on = book(market(AAA=flat(100)))
    day = place(on, OPEN, type="limit", limit_price="90")
    gtc = place(on, OPEN, type="limit", limit_price="91", tif="gtc")
    advance(on, CLOSE)
    assert (day.status, day.expired_at, gtc.status) == ("expired", CLOSE, "new")
    advance(on, OPEN + timedelta(days=95))
    assert gtc.status == "expired"


def test_a_day_order_placed_after_the_close_waits_for_the_open_and_lasts_that_day() -> None:
    bars = market(AAA=flat(100))
    on = book(bars, at=CLOSE + timedelta(minutes=5))
    order = place(on, CLOSE + timedelta(minutes=5))
    assert order.status == "accepted" and order.expires_at == CLOSE + timedelta(days=1)
    advance(on, NEXT_OPEN - timedelta(seconds=1))
    assert order.status == "accepted"
    advance(on, NEXT_OPEN)
    assert order.status == "filled" and order.filled_at == NEXT_OPEN


def test_an_extended_hours_limit_trades_after_the_close_and_lasts_until_eight() -> None:
    on = book(market(AAA=flat(100)), at=CLOSE + timedelta(minutes=5))
    at = CLOSE + timedelta(minutes=5)
    fills = place(on, at, type="limit", limit_price="101", extended_hours=True)
    rests = place(on, at, type="limit", limit_price="90", extended_hours=True)
    regular = place(on, at, type="limit", limit_price="101")
    assert [o.status for o in (fills, rests, regular)] == ["filled", "new", "accepted"]
    advance(on, CLOSE + timedelta(hours=4))
    assert (rests.status, rests.expired_at) == ("expired", CLOSE + timedelta(hours=4))


@pytest.mark.parametrize("tif", ["ioc", "fok"])
def test_an_order_that_must_trade_at_once_is_canceled_where_it_cannot(tif: str) -> None:
    on = book(market(AAA=DOWN))
    order = place(on, OPEN, type="limit", limit_price="95", tif=tif)
    assert (order.status, order.filled_qty) == ("canceled", 0)
    assert place(on, OPEN, tif=tif).status == "filled"
    advance(on, CLOSE)
    assert place(on, CLOSE, tif=tif).status == "canceled", "nothing trades while the market is closed"


def test_about_one_order_in_ten_fills_in_two_steps() -> None:
    parts = 0
    for number in range(1000):
        order = Order(f"id-{number}", 0, "", "AAA", "buy", "market", "day", "", D(100), OPEN, OPEN, OPEN, OPEN, "new")
        part = first_part(order)
        assert 1 <= part <= 100 and part == first_part(order)
        parts += part < 100
    assert 70 <= parts <= 130


def split_id() -> str:
    """The first id whose order of 100 fills in two steps."""
    for number in range(1000):
        order = Order(f"s{number}", 0, "", "AAA", "buy", "market", "day", "", D(100), OPEN, OPEN, OPEN, OPEN, "new")
        if first_part(order) < 100:
            return order.id
    raise AssertionError


SPLITS = [("day", "partially_filled", "filled"), ("ioc", "canceled", "canceled"), ("fok", "filled", "filled")]


@pytest.mark.parametrize(("tif", "then", "later"), SPLITS)
def test_the_rest_of_a_split_order_fills_later_or_never(tif: str, then: str, later: str) -> None:
    on = book(market(AAA=flat(100)))
    ids = iter([split_id()])
    count_up = on.new_id
    on.new_id = lambda: next(ids, None) or count_up()
    order = place(on, OPEN, qty="100", tif=tif)
    first = order.filled_qty
    assert order.status == then and 0 < first <= 100
    advance(on, OPEN + timedelta(seconds=30))
    assert order.status == later and order.filled_qty == (100 if later == "filled" else first)
    assert [f.cum_qty for f in on.fills] == ([first] if first == 100 or tif == "ioc" else [first, D(100)])


def bracket(**more: str) -> NewOrder:
    return request(order_class="bracket", take_profit_usd="108", stop_loss_usd="92", **more)


def test_a_brackets_legs_are_held_until_the_entry_has_filled() -> None:
    on = book(market(AAA=DOWN))
    entry = submit(on, bracket(type="limit", limit_price="95"), OPEN)
    advance(on, OPEN + BAR)
    profit, stop = on.legs_of(entry)
    assert [(leg.type, leg.side, leg.status, leg.live) for leg in (profit, stop)] == [
        ("limit", "sell", "held", False), ("stop", "sell", "held", False)]  # fmt: skip
    assert on.held_for_orders("AAA") == 0
    advance(on, OPEN + BAR + timedelta(minutes=2, seconds=40))
    assert (entry.status, profit.status, stop.status, stop.live) == ("filled", "new", "held", True)
    assert on.held_for_orders("AAA") == 10, "the pair holds the shares once"
    advance(on, END)
    assert (profit.status, stop.status) == ("canceled", "filled")
    assert average(stop) == D("91.99") and on.ledger.qty("AAA") == 0


def test_a_brackets_profit_cancels_its_stop() -> None:
    on = book(market(AAA=UP))
    entry = submit(on, bracket(), OPEN)
    advance(on, END)
    profit, stop = on.legs_of(entry)
    assert (profit.status, stop.status) == ("filled", "canceled") and average(profit) == D("108")


def test_canceling_an_entry_or_one_leg_ends_the_whole_family() -> None:
    on = book(market(AAA=UP))
    entry = submit(on, bracket(type="limit", limit_price="95"), OPEN)
    advance(on, OPEN)
    cancel(on, entry.id, OPEN)
    assert {o.status for o in on.orders.values()} == {"canceled"}
    filled = submit(on, bracket(), OPEN)
    advance(on, OPEN)
    profit, stop = on.legs_of(filled)
    cancel(on, stop.id, OPEN)
    assert (profit.status, stop.status, filled.status) == ("canceled", "canceled", "filled")


def test_an_oco_is_one_order_with_a_stop_and_fills_at_most_one_of_them() -> None:
    for rows, winner in ((UP, "limit"), (DOWN, "stop")):
        on = with_shares(book(market(AAA=rows)), OPEN)
        profit = submit(on, request(side="sell", type="limit", limit_price="105", tif="gtc", order_class="oco",
                                    take_profit_usd="105", stop_loss_usd="95"), OPEN)  # fmt: skip
        (stop,) = on.legs_of(profit)
        assert (stop.status, stop.live, on.held_for_orders("AAA")) == ("held", True, 10)
        advance(on, END)
        assert {o.type: o.status for o in (profit, stop)} == {
            winner: "filled", ({"limit", "stop"} - {winner}).pop(): "canceled"}  # fmt: skip


def test_an_oto_entry_brings_its_one_exit() -> None:
    on = book(market(AAA=DOWN))
    entry = submit(on, request(order_class="oto", stop_loss_usd="95"), OPEN)
    advance(on, OPEN)
    (stop,) = on.legs_of(entry)
    assert (stop.type, stop.status) == ("stop", "new")
    advance(on, END)
    assert stop.status == "filled"


def test_a_replacement_is_a_new_order_for_what_is_left() -> None:
    on = book(market(AAA=DOWN))
    old = place(on, OPEN, type="limit", limit_price="90", tif="gtc", client_order_id="one")
    changed = dataclasses.replace(as_request(old), limit_price=D(95), client_order_id="two")
    new = replace(on, old.id, changed, OPEN)
    assert (old.status, old.replaced_by, new.replaces, new.qty) == ("replaced", new.id, old.id, 10)
    advance(on, END)
    assert (old.filled_qty, new.status, average(new)) == (0, "filled", D(95))
    assert events(on) == ["new limit", "replaced limit", "new limit", "fill limit"]


def test_a_replacement_of_a_partly_filled_order_counts_what_has_filled() -> None:
    on = book(market(AAA=flat(100)))
    ids = iter([split_id()])
    count_up = on.new_id
    on.new_id = lambda: next(ids, None) or count_up()
    old = place(on, OPEN, qty="100", type="limit", limit_price="101")
    first = old.filled_qty
    with pytest.raises(Refused, match="greater than the filled qty"):
        replace(on, old.id, dataclasses.replace(as_request(old), qty=first, client_order_id="less"), OPEN)
    assert old.status == "partially_filled"
    new = replace(on, old.id, dataclasses.replace(as_request(old), client_order_id="more"), OPEN)
    advance(on, OPEN + timedelta(minutes=1))
    assert (old.status, new.status, new.qty) == ("replaced", "filled", 100 - first)
    assert on.ledger.qty("AAA") == 100


def test_a_replaced_leg_stays_in_its_group() -> None:
    on = book(market(AAA=UP))
    entry = submit(on, bracket(), OPEN)
    advance(on, OPEN)
    profit, stop = on.legs_of(entry)
    changed = dataclasses.replace(as_request(stop), stop_price=D(97), client_order_id="x")
    moved = replace(on, stop.id, changed, OPEN)
    assert (moved.status, moved.group_id, on.held_for_orders("AAA")) == ("held", stop.group_id, 10)
    advance(on, END)
    assert (profit.status, moved.status) == ("filled", "canceled")


def test_a_client_order_id_is_never_free_again() -> None:
    on = book(market(AAA=flat(100)))
    cancel(on, place(on, OPEN, type="limit", limit_price="90", client_order_id="once").id, OPEN)
    with pytest.raises(Refused, match="client_order_id must be unique"):
        submit(on, request(client_order_id="once"), OPEN)
    assert len(on.orders) == 1


def test_open_buys_reserve_money_and_open_sells_reserve_shares() -> None:
    on = with_shares(book(market(AAA=flat(100)), cash="3000"), OPEN)
    place(on, OPEN, qty="10", type="limit", limit_price="90")
    assert on.buying_power_usd() == D("3000") - D("1000.10") - D("900")
    with pytest.raises(Refused, match="insufficient buying power"):
        submit(on, request(qty="13", type="limit", limit_price="90"), OPEN)
    place(on, OPEN, side="sell", qty="6", type="limit", limit_price="110")
    with pytest.raises(Refused, match="requested: 5, available: 4"):
        submit(on, request(side="sell", qty="5", type="limit", limit_price="110"), OPEN)
    assert len(on.orders) == 3


def test_an_order_the_market_has_outrun_is_rejected_not_filled_on_credit() -> None:
    on = book(market(AAA=GAP_UP), at=OPEN + timedelta(minutes=1), cash="1000")
    order = place(on, OPEN + timedelta(minutes=1), qty="9", type="stop", stop_price="101")
    advance(on, END)
    assert (order.status, on.ledger.cash_usd, on.fills) == ("rejected", D(1000), [])


def test_a_simple_order_may_not_meet_an_order_of_the_other_side() -> None:
    on = with_shares(book(market(AAA=flat(100))), OPEN)
    place(on, OPEN, side="sell", qty="5", type="stop", stop_price="95")
    with pytest.raises(Refused, match="potential wash trade"):
        submit(on, request(side="buy"), OPEN)
    submit(on, bracket(), OPEN)


def test_closing_a_position_sells_what_is_free_and_no_more() -> None:
    on = with_shares(book(market(AAA=flat(100))), OPEN)
    place(on, OPEN, side="sell", qty="4", type="limit", limit_price="110")
    with pytest.raises(Refused, match="available: 6"):
        close_position(on, "AAA", None, OPEN)
    assert len(cancel_all(on, OPEN)) == 1
    close_position(on, "AAA", None, OPEN)
    advance(on, OPEN)
    assert on.ledger.holdings == {}
    with pytest.raises(Refused, match="position does not exist"):
        close_position(on, "AAA", None, OPEN)


def test_equity_is_recorded_every_five_minutes_and_the_close_becomes_last_equity() -> None:
    on = with_shares(book(market(AAA=[*flat(100, 77), (100, 100, 50, 50)])), OPEN)
    advance(on, NEXT_OPEN)
    assert len(on.equity) == 79 and on.equity[-1][0] == NEXT_OPEN.timestamp()
    assert on.ledger.last_equity_usd == D("99499.90")


def test_a_halted_symbol_trades_at_its_last_price() -> None:
    on = book(Market(frame("AAA", flat(100, 3))), at=OPEN + timedelta(hours=2))
    assert average(place(on, OPEN + timedelta(hours=2))) == D("100.01")


def test_time_never_goes_back() -> None:
    on = book(market(AAA=DOWN))
    order = place(on, OPEN + timedelta(minutes=6), type="limit", limit_price="95")
    advance(on, OPEN)
    assert on.now == OPEN + timedelta(minutes=6) and order.status == "new"
