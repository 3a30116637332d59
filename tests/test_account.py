"""The account that the ledger is of: another one is noticed, cash is compared, and a human may take it all over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from qbot import accounting, adoption, control, pipeline, showing, stream
from qbot.adoption import Plan
from qbot.contract import keys
from qbot.errors import AdoptionRefused, BrokerError
from qbot.exchange import wire
from qbot.session import Switch
from qbot.store import account as accounts
from qbot.store import ledger, order_book, state, tables, trades
from qbot.store.engine import transaction
from qbot.types import Account, Opening, Source
from tests.support.exchange import MID_SESSION
from tests.support.runtime import CASH_USD, SESSION, WALL, World, limit_entry

OTHER_ID, OTHER_NUMBER = "another-id", "PA0ANOTHER"


def switch_account(monkeypatch: pytest.MonkeyPatch, account_id: str = OTHER_ID, number: str = OTHER_NUMBER) -> None:
    """The venue answers as another account does: as after a change of the keys."""
    monkeypatch.setattr(wire, "ACCOUNT_ID", account_id)
    monkeypatch.setattr(wire, "ACCOUNT_NUMBER", number)


def book(world: World, kind: str, **more: Any) -> None:
    """Something besides a trade changes the account."""
    answer = world.exchange.call("POST", "/activities", json={"activity_type": kind, **more})
    assert answer.status_code == 200, answer.text


def opening(world: World) -> Opening:
    with transaction(world.engine) as connection:
        found = accounts.opening(connection)
    assert found is not None
    return found


def plan(world: World) -> Plan:
    return adoption.plan(world.rt.desk, world.engine)


def adopt(world: World, reason: str = "a test") -> Plan:
    found = plan(world)
    adoption.adopt(world.engine, found, "a human", reason, world.market(), world.wall())
    world.market.advance(seconds=1)  # what fills from now on is later than what was taken over
    return found


def warned(world: World) -> list[tuple[str, str]]:
    return [alert for alert in world.alerts() if alert[1] in ("Another account answers", "Cash does not agree")]


# --- the first account ----------------------------------------------------------------------------------------------


def test_the_first_account_that_answers_is_the_ledgers_and_its_cash_is_known_at_once(world: World) -> None:
    world.reconcile()
    world.reconcile()
    found = opening(world)
    assert len(world.rows(tables.broker_accounts)) == 1
    assert (found.account_id, found.number, found.kind) == (wire.ACCOUNT_ID, wire.ACCOUNT_NUMBER, "paper")
    assert (found.cash_usd, found.positions_from, found.opened_at_wall) == (CASH_USD, None, WALL)


def test_every_trade_leaves_the_cash_as_the_ledger_makes_it(world: World) -> None:
    world.buy("AAPL", 3)
    world.send(world.commit(world.exit("AAPL"), cycle_id="c2"))
    world.by_hand(symbol="MSFT", side="buy", qty="1")
    world.market.advance(minutes=1)
    books = world.reconcile()
    assert books.cash_drift_usd == 0
    assert world.rows(tables.equity)[-1]["expected_cash_usd"] == books.account.cash_usd != CASH_USD


def test_an_account_with_a_past_is_taken_over_with_its_trades_and_deposits(world: World) -> None:
    world.by_hand(symbol="AAPL", side="buy", qty="2")
    book(world, "CSD", net_amount="500")
    world.reconcile()
    assert opening(world).cash_usd == CASH_USD  # before the deposit and the trade
    assert world.reconcile().cash_drift_usd == 0
    assert [row["kind"] for row in world.rows(tables.activities)] == ["CSD"]


def test_cash_is_not_reckoned_from_books_that_do_not_agree(world: World) -> None:
    book(world, "JNLS", symbol="AAPL", qty="5")
    books = world.reconcile()
    assert (books.drift, books.cash_drift_usd) == ({"AAPL": "ledger 0, broker 5"}, None)
    assert opening(world).cash_usd is None
    assert world.rows(tables.equity)[-1]["expected_cash_usd"] is None


def test_cash_is_not_reckoned_while_money_moves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter([Decimal(1), Decimal(2)])
    told = world.rt.broker.account()
    monkeypatch.setattr(world.rt.broker, "account", lambda: replace(told, cash_usd=next(seen)))
    world.reconcile()
    assert opening(world).cash_usd is None


def test_a_venue_that_does_not_tell_activities_is_reconciled_without_its_cash(world: World) -> None:
    def broken(_after: object) -> Any:
        raise BrokerError("no usable answer")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.rt.broker, "activities_since", broken)
        books = world.reconcile()
    assert books.reconciled
    assert (books.cash_drift_usd, opening(world).cash_usd) == (None, None)
    world.reconcile()
    assert opening(world).cash_usd == CASH_USD


# --- another account ------------------------------------------------------------------------------------------------


def test_of_another_account_nothing_is_taken_over_and_nothing_is_entered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.buy("AAPL", 2)
    before = {table.name: world.rows(table) for table in (tables.orders, tables.fills, tables.intents, tables.equity)}
    switch_account(monkeypatch)
    world.by_hand(symbol="MSFT", side="buy", qty="1")
    books = world.reconcile()
    assert not books.reconciled
    assert books.other_account is not None
    assert books.other_account.startswith("ACCOUNT_CHANGED")
    assert wire.ACCOUNT_NUMBER in books.other_account
    assert books.drift == dict.fromkeys(["AAPL", "MSFT"], "of another account")
    assert {
        table.name: world.rows(table) for table in (tables.orders, tables.fills, tables.intents, tables.equity)
    } == (before)
    posts = world.posts()
    (judged,) = world.commit(world.entry("SPY", 1), cycle_id="c2", books=books, reconciled=books.reconciled)
    assert judged.verdict.refusal == "NOT_RECONCILED"
    assert world.posts() == posts


def test_another_account_is_told_critically_with_the_way_on_and_only_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.reconcile()
    switch_account(monkeypatch)
    for _ in range(2):
        showing.drift(world.rt, world.reconcile())
    (row,) = [row for row in world.rows(tables.alerts) if row["title"] == "Another account answers"]
    assert (row["severity"], "`qbot account`" in row["message"]) == ("CRITICAL", True)
    assert "Ledger and broker do not agree" not in [title for _, title in world.alerts()]


def test_a_cycle_sells_nothing_of_another_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    control.sync_switch(world.rt)
    world.say(keys.TRADING_CONFIG, {"ml_confidence_threshold": 0.5})
    world.say(keys.AUTOTRADING_ENABLED, SESSION)
    assert control.sync_switch(world.rt).on
    world.by_hand(symbol="AAPL", side="buy", qty="2")
    pipeline.reconcile_orders(world.rt)
    own = (wire.ACCOUNT_ID, wire.ACCOUNT_NUMBER)
    world.believe("AAPL", -0.02)
    world.believe("MSFT", 0.02)
    switch_account(monkeypatch)
    posts = world.posts()
    pipeline.trade_bot(world.rt)
    pipeline.reconcile_orders(world.rt)
    assert (world.posts(), world.positions()) == (posts, {"AAPL": Decimal(2)})
    switch_account(monkeypatch, *own)
    world.market.advance(seconds=1)
    pipeline.trade_bot(world.rt)  # the same forecasts, in the ledger's own account
    assert world.posts() > posts


def test_what_the_stream_tells_of_another_account_is_left_alone_until_the_ledgers_own_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.reconcile()
    own = (wire.ACCOUNT_ID, wire.ACCOUNT_NUMBER)
    switch_account(monkeypatch)
    world.reconcile()
    placed = world.by_hand(symbol="MSFT", side="buy", qty="1")
    event = {"event": "new", "order": placed, "timestamp": placed["updated_at"]}
    stream.record(world.rt, event)
    assert world.rows(tables.orders) == []
    switch_account(monkeypatch, *own)
    world.reconcile()
    assert not accounting.another(opening(world))
    stream.record(world.rt, event)
    assert len(world.rows(tables.orders)) == 1


@pytest.mark.parametrize(("ours", "theirs", "told"), [
    (("a", "PA1"), ("a", "PA1"), None),
    (("a", "PA1"), ("b", "PA1"), "ACCOUNT_CHANGED"),
    (("a", "PA1"), ("a", "PA2"), "ACCOUNT_CHANGED"),
    (("a", "PA1"), (None, None), "without a number"),
    ((None, None), ("a", "PA1"), "PA1"),
    ((None, None), (None, None), None),
    ((None, "PA1"), (None, "PA1"), None),
    (("a", None), ("a", None), None),
    (("a", "PA1"), ("b", "9123"), "live, not paper: were the keys swapped?"),
])  # fmt: skip
def test_an_account_is_the_same_when_id_and_number_are(
    ours: tuple[str | None, str | None], theirs: tuple[str | None, str | None], told: str | None
) -> None:
    money = Decimal(1)
    bound = accounting.first_opening(Account(money, money, money, money, *ours), MID_SESSION, WALL)
    found = accounting.changed(bound, Account(money, money, money, money, *theirs))
    assert found is None if told is None else told in (found or "")


# --- cash -----------------------------------------------------------------------------------------------------------


def test_a_fee_explains_the_cash_it_took_and_is_kept_with_its_day(world: World) -> None:
    world.buy("AAPL", 2)
    world.reconcile()
    book(world, "FEE", activity_sub_type="TAF", net_amount="-0.03")
    book(world, "CFEE", net_amount="-1")
    assert world.reconcile().cash_drift_usd == 0
    with transaction(world.engine) as connection:
        assert accounts.fees_usd(connection) == Decimal("1.03")
        assert accounts.fees_by_day(connection, 5) == [(MID_SESSION.date(), Decimal("1.03"))]
    assert {(row["kind"], row["sub_kind"], row["amount_usd"]) for row in world.rows(tables.activities)} == {
        ("FEE", "TAF", Decimal("-0.03")), ("CFEE", None, Decimal(-1)),
    }  # fmt: skip


def test_activities_are_asked_for_only_when_something_does_not_agree(world: World) -> None:
    world.reconcile()
    world.place.faults.seen.clear()
    world.reconcile()
    assert ("GET", "/v2/account/activities") not in world.place.faults.seen
    book(world, "INT", net_amount="5")
    world.reconcile()
    assert world.place.faults.seen.count(("GET", "/v2/account/activities")) == 1


def test_an_activity_that_the_venue_takes_back_counts_no_longer(world: World) -> None:
    world.reconcile()
    book(world, "DIV", net_amount="7", symbol="AAPL")
    world.reconcile()
    (told,) = world.rt.broker.activities_since(MID_SESSION - timedelta(days=1))
    with transaction(world.engine) as connection:
        before = accounts.expected_cash(connection)
        accounts.record_activities(
            connection, [replace(told, status="canceled"), told, replace(told, status="canceled")]
        )
        assert accounts.expected_cash(connection) == (before or 0) - 7
        assert accounts.last_activity_at(connection) == told.at


def test_cash_that_nobody_explains_is_told_once_it_stands_and_refuses_nothing(world: World) -> None:
    world.reconcile()
    venue = world.exchange.venue
    assert venue is not None
    venue.book.ledger.cash_usd -= Decimal("12.50")
    for told in (0, 1, 1):
        world.market.advance(minutes=1)
        books = world.reconcile()
        showing.drift(world.rt, books)
        assert (books.cash_drift_usd, books.reconciled) == (Decimal("-12.5"), True)
        assert warned(world) == [("WARNING", "Cash does not agree")] * told
    (judged,) = world.commit(world.entry("AAPL", 1))
    assert judged.verdict.allowed


def test_less_than_a_cent_is_rounding(world: World) -> None:
    account = Account(*[Decimal("100.01")] * 4)
    known = replace(accounting.first_opening(account, MID_SESSION, WALL), cash_usd=Decimal(90))
    assert accounting.cash_drift(account, known, Decimal(10)) == 0
    assert accounting.cash_drift(account, known, Decimal("9.99")) == Decimal("0.02")
    assert accounting.cash_drift(account, None, Decimal(0)) is None
    with transaction(world.engine) as connection:
        assert (accounts.cash_flow(connection), accounts.expected_cash(connection)) == (0, None)
        accounts.record_activities(connection, [])
        assert (accounts.standing_cash_drift(connection), accounts.since(connection)) == (0, None)
        assert not accounts.is_another(connection)


# --- a human takes over ---------------------------------------------------------------------------------------------


def test_a_split_is_a_drift_until_a_human_takes_the_position_over(world: World) -> None:
    world.by_hand(symbol="AAPL", side="buy", qty="2")
    world.reconcile()
    paid = world.rows(tables.fills)[0]["price_usd"]
    book(world, "SPLIT", activity_sub_type="FSPLIT", symbol="AAPL", qty="6")
    assert world.reconcile().drift == {"AAPL": "ledger 2, broker 8"}
    found = adopt(world, "AAPL split 4 for 1")
    assert [(one.symbol, one.before, one.after) for one in found.changes] == [("AAPL", 2, 8)]
    books = world.reconcile()
    assert (books.drift, books.cash_drift_usd) == ({}, 0)
    (row,) = world.rows(tables.adjustments)
    assert (row["qty_before"], row["qty"], row["who"], row["reason"]) == (2, 8, "a human", "AAPL split 4 for 1")
    world.by_hand(symbol="AAPL", side="sell", qty="8")
    assert world.reconcile().drift == {}
    (trip,) = world_trips(world)
    assert (trip.qty, trip.entry_execution_id, trip.entry_price_usd) == (8, row["adjustment_id"], paid / 4)
    assert len(world.rows(tables.fills)) == 2  # what was before is still there


def test_after_a_split_shares_are_not_protected_by_levels_from_before(world: World) -> None:
    """The venue cancels what rests when a split comes; the old stop-loss lies over the new price."""
    world.buy("AAPL", 2)
    world.buy("MSFT", 2, cycle_id="c2")
    world.exchange.call("DELETE", "/v2/orders")
    with world.engine.begin() as connection:  # as if AAPL had been bought at four times the price
        for row in world.rows(tables.intents):
            if row["symbol"] == "AAPL":
                spec = {**row["spec"], "stop_loss_usd": "800", "take_profit_usd": "900"}
                mine = tables.intents.c.client_order_id == row["client_order_id"]
                connection.execute(tables.intents.update().where(mine).values(spec=spec))
    book(world, "SPLIT", activity_sub_type="FSPLIT", symbol="AAPL", qty="6")
    adopt(world, "AAPL split 4 for 1")
    world.wall.advance(seconds=5)
    pipeline.reconcile_orders(world.rt)
    assert world.positions() == {"AAPL": Decimal(8), "MSFT": Decimal(2)}
    assert {order["symbol"] for order in world.resting("sell")} == {"MSFT"}  # whose shares are the same as before


def test_shares_of_another_account_are_not_protected_by_levels_of_the_one_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.buy("AAPL", 2)
    world.place.renew()
    switch_account(monkeypatch)
    world.by_hand(symbol="AAPL", side="buy", qty="2")
    world.reconcile()
    adopt(world, "moved to another account")
    world.wall.advance(seconds=5)
    pipeline.reconcile_orders(world.rt)
    assert world.reconcile().drift == {}
    assert world.resting() == []


def world_trips(world: World) -> list[Any]:
    with transaction(world.engine) as connection:
        return list(trades.closed(connection))


def test_after_a_change_of_account_a_human_takes_the_new_one_over_and_trading_may_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.buy("AAPL", 2)
    world.send(world.commit(limit_entry(world, "SPY"), cycle_id="c2"))
    world.reconcile()
    (resting,) = world.resting("buy")
    lost = world.commit(world.entry("MSFT", 1), cycle_id="c3")
    world.place.renew()
    switch_account(monkeypatch)
    world.by_hand(symbol="MSFT", side="buy", qty="3")
    assert world.reconcile().other_account is not None
    found = adopt(world, "moved to another account")
    assert found.other_account is not None
    assert resting["id"] in found.left_behind
    books = world.reconcile()
    assert (books.reconciled, books.drift, books.cash_drift_usd) == (True, {}, 0)
    assert (opening(world).number, len(world.rows(tables.broker_accounts))) == (OTHER_NUMBER, 2)
    with transaction(world.engine) as connection:
        assert ledger.net_quantities(connection) == {"MSFT": Decimal(3)}
        assert order_book.open_orders(connection) == ledger.unsettled_intents(connection) == []
        assert accounts.since(connection) == opening(world).opened_at
        assert [(lot.symbol, lot.qty) for lot in trades.open_lots(connection)] == [("MSFT", 3)]
    assert world.intents()["MSFT buy"] == "abandoned"
    posts = world.posts()
    world.send(lost)
    assert world.posts() == posts
    (judged,) = world.commit(world.entry("SPY", 1), cycle_id="c4", books=books)
    assert judged.verdict.allowed


def test_what_is_taken_over_of_an_unknown_past_counts_in_the_next_trade(world: World) -> None:
    book(world, "ACATS", symbol="SPY", qty="3")
    adopt(world)
    world.by_hand(symbol="SPY", side="buy", qty="1")
    world.by_hand(symbol="SPY", side="sell", qty="2")
    assert world.reconcile().drift == {}
    assert [(t.qty, t.entry_price_usd) for t in world_trips(world)] == [(2, 0)]
    with transaction(world.engine) as connection:
        assert [lot.qty for lot in trades.open_lots(connection)] == [1, 1]


def test_a_fill_from_before_that_comes_late_changes_nothing_that_was_taken_over(world: World) -> None:
    world.by_hand(symbol="AAPL", side="buy", qty="2")
    found = adopt(world)
    (late,) = world.rt.broker.fills_since(MID_SESSION - timedelta(days=1))
    assert late.at <= found.at
    with transaction(world.engine) as connection:
        assert ledger.record_fills(connection, [late]) == 1
        assert ledger.net_quantities(connection) == {"AAPL": Decimal(2)}
        assert [lot.qty for lot in trades.open_lots(connection)] == [2]
    assert world.reconcile().cash_drift_usd == 0


def test_while_trading_is_on_nothing_is_taken_over(world: World) -> None:
    book(world, "JNLS", symbol="AAPL", qty="5")
    world.reconcile()
    found = plan(world)
    with transaction(world.engine) as connection:
        state.save_switch(connection, Switch(on=True, reason="a test"), (), WALL)
    with pytest.raises(AdoptionRefused, match="trading is on"):
        adoption.adopt(world.engine, found, "a human", "", MID_SESSION, WALL)
    assert world.rows(tables.adjustments) == []
    assert len(world.rows(tables.broker_accounts)) == 1


@pytest.mark.parametrize("what", ["fills", "opening"])
def test_what_was_looked_at_must_still_be_so(world: World, what: str) -> None:
    world.reconcile()
    found = plan(world)
    if what == "fills":
        world.by_hand(symbol="AAPL", side="buy", qty="1")
        world.reconcile()
    else:
        adopt(world)
    written = len(world.rows(tables.broker_accounts))
    with pytest.raises(AdoptionRefused, match="has changed meanwhile"):
        adoption.adopt(world.engine, found, "a human", "", MID_SESSION, WALL)
    assert len(world.rows(tables.broker_accounts)) == written


def test_nothing_is_planned_while_orders_fill(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = world.rt.broker
    positions = broker.positions

    def filling() -> Any:
        found = positions()
        world.market.advance(seconds=1)
        world.by_hand(symbol="AAPL", side="buy", qty="1")
        return found

    monkeypatch.setattr(broker, "positions", filling)
    with pytest.raises(AdoptionRefused, match="try again"):
        plan(world)


def test_a_plan_tells_whether_anything_would_change(world: World) -> None:
    assert not plan(world).needed  # of a ledger that has seen nothing yet
    world.buy("AAPL", 1)
    assert not plan(world).needed
    book(world, "CSW", net_amount="-100")
    assert not plan(world).needed  # the next reconcile explains it
    assert world.exchange.venue is not None
    world.exchange.venue.book.ledger.cash_usd -= 1
    assert plan(world).needed
    assert not replace(plan(world), cash_expected_usd=None).needed
    world.exchange.venue.book.ledger.cash_usd += 1
    book(world, "JNLS", symbol="MSFT", qty="1")
    assert plan(world).needed


def test_orders_that_still_rest_stay_open_when_positions_are_taken_over(world: World) -> None:
    world.buy("AAPL", 2)
    book(world, "JNLS", symbol="AAPL", qty="1")
    world.reconcile()
    adopt(world)
    world.reconcile()
    assert len(world.resting("sell")) == 2
    with transaction(world.engine) as connection:
        assert len(order_book.open_orders(connection)) == 2
    assert {row["source"] for row in world.rows(tables.orders)} == {Source.ML}
