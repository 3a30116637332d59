"""Intent → order → fill against a venue that fails in every way it can: one order an intent, nothing lost."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from alpaca.trading.client import TradingClient

from qbot import committing, execution, limits, reconciliation
from qbot.broker import alpaca_wire as wire
from qbot.broker.alpaca import AlpacaBroker
from qbot.errors import AlreadyCommitted, BrokerError, StoreUnavailable
from qbot.store import ledger, order_book, state, tables
from qbot.store.engine import transaction
from qbot.types import OrderSpec, OrderType, Side, Source, TradingState
from tests.support.exchange import KEY, SECRET, ManualUptime
from tests.support.runtime import CONFIG, World, limit_entry, signal

FIRST_ID = "qbot-c1-AAPL-buy"


def posted(world: World, client_order_id: str = FIRST_ID) -> None:
    """The order of a committed intent arrives at the venue by itself, as one that was long on its way does."""
    with transaction(world.engine) as connection:
        intent = ledger.intent(connection, client_order_id)
    assert intent is not None
    numbers = {name: Decimal(value) for name, value in intent["spec"].items() if name.endswith("_usd") and value}
    spec = {**intent["spec"], **numbers}
    body = wire.order_payload(OrderSpec(**{**spec, "qty": Decimal(spec["qty"])}))
    assert world.exchange.call("POST", "/v2/orders", json=body).status_code == 200


def stop_trading(world: World, *, latched: bool = False) -> None:
    with transaction(world.engine) as connection:
        before = state.load_switch(connection)
        after = replace(before, on=False, latched=latched, reason="a test stopped it", epoch=before.epoch + 1)
        state.save_switch(connection, after, (), world.wall())


# --- the intent comes first ------------------------------------------------------------------------------------------


def test_an_entry_is_sent_once_with_its_protection_and_closed_when_it_has_filled(world: World) -> None:
    judged = world.commit(world.entry("AAPL", 2))
    assert world.intents() == {"AAPL buy": "committed"}
    assert world.posts() == 0
    world.send(judged)
    books = world.reconcile()
    assert world.posts() == 1
    assert world.intents() == {"AAPL buy": "closed"}
    assert [(o["symbol"], o["side"], o["status"]) for o in world.sent()] == [("AAPL", "buy", "filled")]
    assert {(o["type"], o["time_in_force"]) for o in world.resting("sell")} == {("limit", "gtc"), ("stop", "gtc")}
    assert world.positions() == {"AAPL": Decimal(2)} == {s: p.qty for s, p in books.positions.items()}
    assert (books.drift, books.reconciled, books.new_fills) == ({}, True, 1)


def test_a_crash_between_commit_and_post_leaves_an_intent_that_is_looked_up_and_never_sent(world: World) -> None:
    world.commit(world.entry())
    restarted = world.another()
    world.wall.advance(seconds=limits.SEND_GRACE_S - 1)
    world.reconcile(restarted)
    assert world.intents() == {"AAPL buy": "committed"}
    asked = len(world.place.faults.seen)
    assert reconciliation.settle(restarted.desk) == 0
    assert len(world.place.faults.seen) == asked  # its sender may still be at it: nobody asks the venue
    world.wall.advance(seconds=2)
    assert reconciliation.settle(restarted.desk) == 1
    assert world.intents() == {"AAPL buy": "committed"}  # "not found" is not "never arrives"
    world.wall.advance(seconds=limits.ABANDON_INTENT_S)
    world.reconcile(restarted)
    assert world.intents() == {"AAPL buy": "abandoned"}
    assert world.rows(tables.intents)[0]["error"] == "never reached the venue"
    assert (world.posts(), world.orders(), world.positions()) == (0, [], {})


def test_while_its_fate_is_unknown_an_intent_keeps_its_caps_and_gives_them_back_when_it_is_given_up(
    world: World,
) -> None:
    world.commit(world.entry("AAPL"))
    config = replace(CONFIG, max_daily_trades=1)
    assert world.commit(world.entry("MSFT"), cycle_id="c2", config=config)[0].verdict.refusal == "MAX_DAILY_TRADES"
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    world.reconcile()
    assert world.commit(world.entry("MSFT"), cycle_id="c3", config=config)[0].verdict.allowed


@pytest.mark.parametrize("minutes_later", [0, 30])
def test_an_order_that_turns_up_after_it_was_given_up_is_taken_over_even_when_others_came_since(
    world: World, minutes_later: int
) -> None:
    world.commit(world.entry("AAPL", 2))
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    world.reconcile()
    posted(world)  # accepted late, filled at once
    world.market.advance(minutes=minutes_later)
    world.send(world.commit(world.entry("MSFT", 1), cycle_id="c2", books=_books_before(world)))
    books = world.reconcile()
    assert world.intents() == {"AAPL buy": "closed", "MSFT buy": "closed"}
    row = world.rows(tables.intents)[0]
    assert (row["client_order_id"], row["error"]) == (FIRST_ID, None)
    assert row["filled_usd"] > 0
    assert books.drift == {}
    assert world.positions() == {"AAPL": Decimal(2), "MSFT": Decimal(1)}
    assert {order["source"] for order in world.rows(tables.orders)} == {"ml_prediction"}


def _books_before(world: World) -> reconciliation.Books:
    """What a cycle saw that looked just before the late order came."""
    return reconciliation.snapshot(world.rt.desk)


def test_a_given_up_intent_is_not_sent_by_a_sender_that_comes_back_late(world: World) -> None:
    judged = world.commit(world.entry())
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    world.reconcile()
    world.send(judged)
    assert (world.posts(), world.orders()) == (0, [])


def test_sending_the_same_orders_twice_posts_them_once(world: World) -> None:
    judged = world.commit(world.entry())
    world.send(judged)
    world.send(judged, world.another())
    assert world.posts() == 1


def test_a_repeated_cycle_commits_nothing_and_says_so(world: World) -> None:
    world.commit(world.entry(), cycle_id="c1")
    with pytest.raises(AlreadyCommitted):
        world.commit(world.entry(), world.entry("MSFT"), cycle_id="c1", config=replace(CONFIG, cooldown_minutes=0))
    assert list(world.intents()) == ["AAPL buy"]


def test_without_postgres_nothing_is_committed_and_nothing_is_sent(world: World) -> None:
    dead, proposal, books = world.without_postgres(), world.entry(), world.reconcile()
    with pytest.raises(StoreUnavailable):
        world.commit(proposal, rt=dead, books=books)
    assert world.posts() == 0


def test_an_intent_that_can_no_longer_be_checked_is_not_sent(world: World) -> None:
    judged = world.commit(world.entry())
    with pytest.raises(StoreUnavailable):
        world.send(judged, world.without_postgres())
    assert world.posts() == 0


# --- doubt ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["timeout_after_accept", "drop_after_accept"])
def test_an_order_whose_answer_was_lost_is_in_doubt_then_found_and_stays_the_only_one(world: World, fault: str) -> None:
    judged = world.commit(world.entry("AAPL", 2))
    world.exchange.fault(fault, method="POST", path="/v2/orders", times=1)
    world.send(judged)
    assert world.intents() == {"AAPL buy": "in_doubt"}
    restarted = world.another()
    books = world.reconcile(restarted)
    assert world.intents() == {"AAPL buy": "closed"}
    assert (world.posts(), len(world.sent())) == (1, 1)
    assert (world.positions(), books.drift) == ({"AAPL": Decimal(2)}, {})


def test_an_order_in_doubt_is_found_by_its_id_where_no_list_told_of_it(world: World) -> None:
    judged = world.commit(world.entry("AAPL", 2))
    world.exchange.fault("timeout_after_accept", method="POST", path="/v2/orders", times=1)
    world.send(judged)
    assert world.intents() == {"AAPL buy": "in_doubt"}
    assert reconciliation.settle(world.rt.desk) == 0
    assert world.intents() == {"AAPL buy": "closed"}
    assert [order["client_order_id"] for order in world.rows(tables.orders)].count(FIRST_ID) == 1
    assert world.posts() == 1


def test_an_answer_that_takes_too_long_leaves_doubt(world: World) -> None:
    hasty = AlpacaBroker(TradingClient(KEY, SECRET, raw_data=True, url_override=world.exchange.url), (1.0, 0.2))
    judged = world.commit(world.entry())
    world.exchange.fault("latency", method="POST", path="/v2/orders", times=1, seconds=0.4)
    execution.send(replace(world.rt.desk, broker=hasty), committing.orders_of(judged))
    assert world.intents() == {"AAPL buy": "in_doubt"}
    threading.Event().wait(0.3)  # the venue gets to it meanwhile
    world.reconcile()
    assert world.intents() == {"AAPL buy": "in_doubt"}
    assert (world.posts(), world.orders()) == (1, [])


def test_a_5xx_that_placed_nothing_is_in_doubt_and_given_up_after_its_grace(world: World) -> None:
    judged = world.commit(world.entry())
    world.exchange.fault("server_error", method="POST", path="/v2/orders", times=1)
    world.send(judged)
    assert world.intents() == {"AAPL buy": "in_doubt"}
    assert "HTTP 500" in world.rows(tables.intents)[0]["error"]
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    world.reconcile()
    assert world.intents() == {"AAPL buy": "abandoned"}
    assert (world.posts(), world.orders()) == (1, [])


def test_a_429_is_a_refusal_and_is_not_tried_again(world: World) -> None:
    judged = world.commit(world.entry())
    world.exchange.fault("rate_limited", method="POST", path="/v2/orders", times=1)
    world.send(judged)
    assert world.intents() == {"AAPL buy": "rejected"}
    assert (world.posts(), world.orders()) == (1, [])


def test_an_id_that_is_taken_means_that_the_order_had_arrived(world: World) -> None:
    judged = world.commit(world.entry("AAPL", 2))
    posted(world)
    world.send(judged)
    assert world.intents()["AAPL buy"] in ("sent", "closed")
    assert len(world.sent()) == 1
    assert world.positions() == {"AAPL": Decimal(2)}


@pytest.mark.parametrize("fault", ["server_error", "rate_limited", "drop_after_accept"])
def test_an_id_that_is_taken_but_cannot_be_looked_up_stays_in_doubt(world: World, fault: str) -> None:
    judged = world.commit(world.entry())
    posted(world)
    world.exchange.fault(fault, method="GET", path="/v2/orders:by_client_order_id", times=1)
    world.send(judged)
    assert world.intents() == {"AAPL buy": "in_doubt"}
    world.reconcile()
    assert world.intents() == {"AAPL buy": "closed"}
    assert len(world.sent()) == 1


def test_what_the_venue_refuses_ends_as_rejected_with_its_reason(world: World) -> None:
    huge = replace(world.entry("AAPL", 2_000), price_usd=Decimal(1))  # the gate was told a wrong price
    loose = replace(CONFIG, max_position_per_trade=9_999, max_position_size=9_999)
    world.send(world.commit(huge, config=loose))
    assert world.intents() == {"AAPL buy": "rejected"}
    assert "insufficient buying power" in world.rows(tables.intents)[0]["error"]
    assert world.orders() == []


# --- stopped in between ---------------------------------------------------------------------------------------------


def test_a_stop_between_reading_and_commit_refuses_what_the_cycle_wanted(world: World) -> None:
    books, proposal = world.reconcile(), world.entry()
    stop_trading(world)
    world.send(world.commit(proposal, books=books, epoch=0))
    assert world.refusals() == {"AAPL": "TRADING_OFF"}
    assert (world.intents(), world.posts()) == ({}, 0)


def test_an_emergency_between_reading_and_commit_refuses_even_a_humans_entry(world: World) -> None:
    books, proposal = world.reconcile(), limit_entry(world, "AAPL", source=Source.MANUAL)
    stop_trading(world, latched=True)
    world.send(world.commit(proposal, books=books, epoch=0))
    assert world.refusals() == {"AAPL": "EMERGENCY_LATCHED"}
    assert world.posts() == 0


@pytest.mark.parametrize(("source", "latched", "sent"), [
    (Source.ML, False, 0), (Source.ML, True, 0), (Source.MANUAL, False, 1), (Source.MANUAL, True, 0),
])  # fmt: skip
def test_a_stop_between_commit_and_post_holds_back_what_it_concerns(
    world: World, source: Source, latched: bool, sent: int
) -> None:
    judged = world.commit(limit_entry(world, "AAPL", source=source))
    stop_trading(world, latched=latched)
    world.send(judged)
    assert world.posts() == len(world.orders()) == sent
    assert world.intents() == {"AAPL buy": "sent" if sent else "denied"}


def test_a_humans_exit_goes_out_while_latched(world: World) -> None:
    world.buy()
    judged = world.commit(world.exit(source=Source.MANUAL), cycle_id="m1", latched=True, state=TradingState.HALTED)
    stop_trading(world, latched=True)
    world.send(judged)
    world.reconcile()
    assert (world.positions(), world.resting()) == ({}, [])


def test_a_stop_while_orders_are_going_out_holds_back_the_rest(world: World) -> None:
    """The first one's answer is slow; the switch is turned meanwhile."""
    judged = world.commit(world.entry("AAPL"), world.entry("MSFT"))
    world.exchange.fault("latency", method="POST", path="/v2/orders", times=1, seconds=0.4)
    sending = threading.Thread(target=world.send, args=(judged,))
    sending.start()
    threading.Event().wait(0.15)
    stop_trading(world)
    sending.join()
    assert world.posts() == 1
    assert world.intents() == {"AAPL buy": "sent", "MSFT buy": "denied"}


# --- several workers ------------------------------------------------------------------------------------------------


def test_workers_that_commit_at_once_never_exceed_a_cap(world: World) -> None:
    config = replace(CONFIG, daily_notional_cap_usd=Decimal(1_000), cooldown_minutes=0, max_position_per_ticker=99)
    books = world.reconcile()
    proposals = [limit_entry(world, symbol, source=Source.MANUAL) for symbol in ("AAPL", "MSFT", "SPY")]
    together = threading.Barrier(6)
    errors: list[BaseException] = []

    def worker(number: int) -> None:
        try:
            together.wait(10)
            for turn in range(3):
                world.commit(*proposals, cycle_id=f"m{number}-{turn}", config=config, books=books, rt=world.rt)
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    reserved = [row["reserved_usd"] for row in world.rows(tables.intents)]
    cheapest = min(proposal.price_usd for proposal in proposals)
    assert 1_000 - cheapest < sum(reserved) <= 1_000
    decisions = world.rows(tables.decisions)
    assert len(decisions) == 6 * 3 * 3
    assert sum(row["allowed"] for row in decisions) == len(reserved)
    assert {row["refusal"] for row in decisions if not row["allowed"]} == {"DAILY_NOTIONAL_CAP"}


def test_workers_that_record_the_same_orders_at_once_do_not_block_each_other(world: World) -> None:
    world.buy("AAPL")
    world.send(world.commit(*(limit_entry(world, s, source=Source.MANUAL) for s in ("MSFT", "SPY")), cycle_id="m1"))
    seen = world.rt.broker.orders_since(reconciliation.BEGINNING)
    errors: list[BaseException] = []

    def worker(number: int) -> None:
        try:
            for turn in range(15):
                with transaction(world.engine) as connection:
                    order_book.record_orders(connection, seen[::-1] if (number + turn) % 2 else seen, world.wall())
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert len(world.rows(tables.orders)) == 5


# --- exits and protection --------------------------------------------------------------------------------------------


def test_an_exit_frees_the_shares_from_their_protection_first_and_sells_them(world: World) -> None:
    world.buy("AAPL", 3)
    world.buy("MSFT", 1, cycle_id="c2")
    world.send(world.commit(world.exit("AAPL"), cycle_id="c3"))
    books = world.reconcile()
    assert world.positions() == {"MSFT": Decimal(1)}
    assert {order["symbol"] for order in world.resting()} == {"MSFT"}
    assert world.intents()["AAPL sell"] == "closed"
    assert books.drift == {}


def test_an_exit_whose_shares_are_not_freed_is_not_sent_and_the_next_one_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RELEASE_WAIT_S", 0.3)
    world.buy("AAPL", 2)
    world.exchange.fault("hold_cancels")
    posts = world.posts()
    world.send(world.commit(world.exit("AAPL"), cycle_id="c2"))
    assert world.intents()["AAPL sell"] == "rejected"
    assert (world.posts(), world.positions()) == (posts, {"AAPL": Decimal(2)})
    world.exchange.clear_faults()
    world.send(world.commit(world.exit("AAPL"), cycle_id="c3"))
    world.reconcile()
    assert world.positions() == {}


def test_the_resting_legs_are_open_orders_with_their_parent_in_every_later_reconcile(world: World) -> None:
    world.buy("AAPL", 2)
    parent = world.sent()[0]["id"]
    for _ in range(2):
        world.market.advance(minutes=20)
        world.buy("MSFT", 1, cycle_id=f"c{world.posts() + 1}")
        legs = [order for order in world.reconcile().open_orders if order.symbol == "AAPL"]
        assert {leg.order_type for leg in legs} == {"limit", "stop"}
        assert {leg.parent_id for leg in legs} == {parent}
        assert all(leg.protective for leg in legs)


def test_legs_belong_to_their_parent_and_its_source_whatever_tells_of_them_later(world: World) -> None:
    world.send(world.commit(world.entry("AAPL", 2)))
    parent = world.sent()[0]["id"]

    def legs() -> set[tuple[str, str]]:
        return {(row["parent_id"], row["source"]) for row in world.rows(tables.orders) if row["side"] == "sell"}

    assert legs() == {(parent, "ml_prediction")}  # known with the answer to the POST
    for leg in world.resting("sell"):
        alone = world.rt.broker.order_by_client_id(leg["client_order_id"])
        assert alone is not None and alone.parent_id is None
        with transaction(world.engine) as connection:
            order_book.record_orders(connection, [alone], world.wall())
    assert legs() == {(parent, "ml_prediction")}


def test_a_leg_that_was_told_of_before_its_parent_finds_it_later(world: World) -> None:
    judged = world.commit(world.entry("AAPL", 2))
    posted(world)
    orphan = world.rt.broker.order_by_client_id(world.resting("sell")[0]["client_order_id"])
    assert orphan is not None
    with transaction(world.engine) as connection:
        order_book.record_orders(connection, [orphan], world.wall())
    assert [row["source"] for row in world.rows(tables.orders)] == ["foreign"]
    world.send(judged)
    world.reconcile()
    assert {row["source"] for row in world.rows(tables.orders)} == {"ml_prediction"}
    assert {row["parent_id"] for row in world.rows(tables.orders) if row["side"] == "sell"} == {world.sent()[0]["id"]}


def test_cancelling_entries_leaves_protection_and_what_a_human_asked_for(world: World) -> None:
    world.buy("SPY", 1)
    world.send(world.commit(limit_entry(world, "AAPL"), cycle_id="c2"))
    world.send(world.commit(limit_entry(world, "MSFT", source=Source.MANUAL), cycle_id="m1"))
    assert execution.cancel_entries(world.rt.broker, automatic_only=True) == 1
    assert [order["symbol"] for order in world.resting("buy")] == ["MSFT"]
    assert {order["symbol"] for order in world.resting("sell")} == {"SPY"}
    assert execution.cancel_entries(world.rt.broker, automatic_only=False) == 1
    assert world.resting("buy") == []
    assert len(world.resting("sell")) == 2


def test_a_cancel_that_fails_does_not_keep_the_others_from_being_asked_for(world: World) -> None:
    world.send(world.commit(limit_entry(world, "AAPL"), limit_entry(world, "MSFT"), cycle_id="c1"))
    world.exchange.fault("server_error", method="DELETE", path="/v2/orders/", times=1)
    with pytest.raises(BrokerError, match="1 of 2 entries"):
        execution.cancel_entries(world.rt.broker, automatic_only=True)
    assert len(world.resting("buy")) == 1


# --- the broker's truth ----------------------------------------------------------------------------------------------


def test_an_order_made_by_hand_at_the_broker_is_taken_over_as_foreign(world: World) -> None:
    world.by_hand(symbol="AAPL", qty="3", side="buy")
    books = world.reconcile()
    assert (books.drift, books.new_fills) == ({}, 1)
    assert [row["source"] for row in world.rows(tables.orders)] == ["foreign"]
    assert world.rows(tables.intents) == []


def test_a_fill_that_the_stream_lost_is_found_though_later_ones_are_recorded(world: World) -> None:
    """The stream brought the second fill and lost the first: whoever asks for newer ones only never gets it."""
    world.by_hand(symbol="AAPL", qty="1", side="buy")
    world.orders()
    world.market.advance(minutes=30)
    world.by_hand(symbol="MSFT", qty="1", side="buy")
    world.orders()
    fills = world.rt.broker.fills_since(reconciliation.BEGINNING)
    with transaction(world.engine) as connection:
        ledger.record_fills(connection, [fill for fill in fills if fill.symbol == "MSFT"])
    books = world.reconcile()
    assert books.drift == {}
    assert {row["symbol"] for row in world.rows(tables.fills)} == {"AAPL", "MSFT"}


def test_shares_nobody_bought_are_a_drift_that_names_both_numbers(world: World) -> None:
    world.buy("AAPL", 2)
    with world.engine.begin() as connection:
        connection.execute(tables.fills.update().values(qty=5))
    books = world.reconcile()
    assert books.drift == {"AAPL": "ledger 5, broker 2"}
    assert not books.reconciled


def test_partial_fills_add_up_and_the_rest_comes_later(world: World) -> None:
    venue = world.exchange.venue
    assert venue is not None
    venue.book.partial_one_in = 1
    world.send(world.commit(world.entry("AAPL", 4)))
    books = world.reconcile()
    part = books.positions["AAPL"].qty
    assert 0 < part < 4
    assert (world.intents(), books.drift) == ({"AAPL buy": "sent"}, {})
    world.market.advance(seconds=30)
    books = world.reconcile()
    assert (world.intents(), books.drift) == ({"AAPL buy": "closed"}, {})
    assert world.positions() == {"AAPL": Decimal(4)}
    assert sum(row["qty"] for row in world.rows(tables.fills)) == 4


def test_an_order_that_closed_while_nobody_looked_is_closed_here_too(world: World) -> None:
    world.send(world.commit(limit_entry(world, "AAPL", source=Source.MANUAL), cycle_id="m1"))
    assert world.intents() == {"AAPL buy": "sent"}
    for number in range(3):
        world.market.advance(minutes=10)
        world.by_hand(symbol="MSFT", qty="1", side="buy", client_order_id=f"hand-{number}")
        world.reconcile()
    world.exchange.call("DELETE", "/v2/orders")
    world.reconcile()
    assert world.intents() == {"AAPL buy": "closed"}
    assert world.rows(tables.intents)[0]["filled_usd"] == 0


def test_a_broker_that_does_not_answer_is_a_named_error_and_changes_nothing(world: World) -> None:
    world.exchange.fault("server_error", method="GET", path="/v2/positions", times=1)
    with pytest.raises(BrokerError):
        world.reconcile()
    assert world.rows(tables.equity) == []
    world.reconcile()
    assert len(world.rows(tables.equity)) == 1


def test_a_manual_limit_order_goes_out_as_it_was_asked_for(world: World) -> None:
    proposal = limit_entry(world, "AAPL", source=Source.MANUAL)
    world.send(world.commit(proposal, cycle_id="m1"))
    order = world.sent()[0]
    assert (order["type"], order["time_in_force"], order["order_class"]) == (OrderType.LIMIT, "gtc", "")
    assert Decimal(order["limit_price"]) == proposal.limit_price_usd
    assert order["client_order_id"] == "qbot-m1-AAPL-buy"


def test_equity_is_recorded_with_every_reconcile(world: World) -> None:
    for _ in range(3):
        world.reconcile()
        world.market.advance(minutes=1)
    with transaction(world.engine) as connection:
        curve = ledger.equity_curve(connection, world.market() - timedelta(minutes=2))
    assert [value for _, value in curve] == [Decimal(100_000)] * 2


def test_an_equity_that_cash_and_positions_contradict_is_no_point_of_the_curve(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = world.rt.broker.account()
    monkeypatch.setattr(world.rt.broker, "account", lambda: replace(told, equity_usd=10 * told.equity_usd))
    assert not world.reconcile().believed
    assert world.rows(tables.equity) == []
    monkeypatch.undo()
    assert world.reconcile().believed
    assert [row["equity_usd"] for row in world.rows(tables.equity)] == [told.equity_usd]


def test_an_order_that_the_venue_does_not_know_any_more_stays_what_it_was(world: World) -> None:
    """ "Not found" is not "cancelled": nothing is concluded from it."""
    world.send(world.commit(limit_entry(world, "AAPL", source=Source.MANUAL), cycle_id="m1"))
    broker = world.rt.broker

    class Forgetful:
        """A venue that lost an order."""

        def __getattr__(self, name: str) -> Any:
            return getattr(broker, name)

        def nothing(self, *_asked: object) -> list[Any]:
            return []

        open_orders = orders_since = nothing

        def order_by_client_id(self, _client_order_id: str) -> None:
            return None

    reconciliation.reconcile(replace(world.rt.desk, broker=Forgetful()), world.market())  # type: ignore[arg-type]
    assert world.intents() == {"AAPL buy": "sent"}
    assert [row["status"] for row in world.rows(tables.orders)] != ["canceled"]


def test_an_id_that_would_be_too_long_for_the_venue_is_made_short_and_stays_the_same() -> None:
    name = "c" * limits.CLIENT_ORDER_ID_MAX
    made = {committing.client_order_id(name, "AAPL", side) for side in (Side.BUY, Side.SELL)}
    assert made == {committing.client_order_id(name, "AAPL", side) for side in (Side.BUY, Side.SELL)}
    assert len(made) == 2
    assert all(len(one) <= limits.CLIENT_ORDER_ID_MAX and one.startswith("qbot-") for one in made)


def test_a_hold_is_recorded_with_its_reason(world: World) -> None:
    row = committing.hold_row(signal("AAPL", 100.0, world.market()), "c1", 3, world.market(), "NO_SIGNAL", "nothing")
    assert (row["decision_id"], row["allowed"], row["refusal"]) == ("c1:AAPL:hold", False, "NO_SIGNAL")
    assert (row["message"], row["settings_revision"]) == ("nothing", 3)


# --- clocks that jump -------------------------------------------------------------------------------------------------


def doubtful(world: World) -> None:
    """An entry whose POST timed out, and that is not at the venue."""
    judged = world.commit(world.entry("AAPL", 2))
    world.exchange.fault("server_error", method="POST", path="/v2/orders", times=1)
    world.send(judged)


@pytest.mark.parametrize("jump_s", [1_200.0, -1_200.0])
def test_a_clock_that_jumps_frees_no_caps_before_the_venue_has_had_its_time(world: World, jump_s: float) -> None:
    doubtful(world)
    world.uptime.jump(jump_s)
    world.reconcile()
    assert world.intents() == {"AAPL buy": "in_doubt"}
    config = replace(CONFIG, max_daily_trades=1)
    assert world.commit(world.entry("MSFT"), cycle_id="c2", config=config)[0].verdict.refusal == "MAX_DAILY_TRADES"
    posted(world)
    world.reconcile()
    assert world.intents() == {"AAPL buy": "closed"}


def test_a_clock_that_was_ahead_at_the_commit_and_is_right_again_frees_nothing_early(world: World) -> None:
    world.uptime.jump(300)
    doubtful(world)
    world.uptime.jump(-300)
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    world.reconcile()
    assert world.intents() == {"AAPL buy": "in_doubt"}  # by the wall it was not even committed
    world.wall.advance(seconds=300)
    world.reconcile()
    assert world.intents() == {"AAPL buy": "abandoned"}


@pytest.mark.parametrize("boot", ["another boot of this machine", "another machine"])
def test_who_did_not_commit_an_intent_counts_from_its_own_first_look(world: World, boot: str) -> None:
    doubtful(world)
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    other = replace(world.rt, uptime=ManualUptime(world.wall, boot, jumped_s=world.wall().timestamp() - 5))
    assert reconciliation.settle(other.desk) == 1
    world.wall.advance(seconds=limits.ABANDON_INTENT_S)
    assert reconciliation.settle(other.desk) == 1
    assert world.intents() == {"AAPL buy": "in_doubt"}
    world.wall.advance(seconds=1)
    assert reconciliation.settle(other.desk) == 0
    assert world.intents() == {"AAPL buy": "abandoned"}
    (row,) = world.rows(tables.intents)
    assert row["since_uptime_s"].keys() == {boot, "this boot"}


def test_two_machines_that_look_in_turn_both_come_to_an_end(world: World) -> None:
    doubtful(world)
    world.wall.advance(seconds=limits.SEND_GRACE_S)
    lookers = [replace(world.rt, uptime=ManualUptime(world.wall, f"machine {number}")) for number in (1, 2)]
    for _ in range(limits.ABANDON_INTENT_S // 60 + 1):
        for rt in lookers:
            reconciliation.settle(rt.desk)
        world.wall.advance(seconds=60)
    assert reconciliation.settle(lookers[1].desk) == 0
    assert world.intents() == {"AAPL buy": "abandoned"}


def test_a_clock_set_back_lets_no_old_entry_out(world: World) -> None:
    judged = world.commit(world.entry())
    world.wall.advance(seconds=limits.SEND_GRACE_S + 1)
    world.uptime.jump(-limits.SEND_GRACE_S)
    world.send(judged)
    assert (world.posts(), world.intents()) == (0, {"AAPL buy": "committed"})
