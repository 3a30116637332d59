"""What is promised of a store about the account, asked of both: see `test_stores_agree`."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

from qbot import accounting
from qbot.store.protocol import Store
from qbot.types import Account, Activity, Opening, Side, Source
from tests.simulation.test_stores_agree import add, fill, intent, order, store
from tests.support.exchange import MID_SESSION
from tests.support.runtime import WALL

__all__ = ["store"]  # the fixture

ACCOUNT = Account(*[Decimal(1000)] * 4, account_id="a", number="PA1")
FEE = Activity("f1", "FEE", Decimal("-0.02"), date(2025, 7, 7), MID_SESSION)


def first() -> Opening:
    return accounting.first_opening(ACCOUNT, MID_SESSION, WALL)


def test_the_first_account_stays_the_ledgers(store: Store) -> None:
    with store.transaction() as ledger:
        assert ledger.opening() is None
        bound = ledger.bind(first())
    with store.transaction() as ledger:
        assert ledger.bind(replace(first(), account_id="b")) == bound == ledger.opening()
        assert bound.account_id == "a"


def test_another_account_is_remembered_until_the_ledgers_own_is_back(store: Store) -> None:
    with store.transaction() as ledger:
        ledger.bind(first())
        ledger.saw_other("b", "PA2")
    with store.transaction() as ledger:
        assert accounting.another(ledger.opening())
        ledger.saw_other(None, None)
    with store.transaction() as ledger:
        assert not accounting.another(ledger.opening())


def test_the_cash_flow_is_every_fill_and_every_activity_that_stands(store: Store) -> None:
    with store.transaction() as ledger:
        assert ledger.cash_flow() == 0
        ledger.record_activities([FEE])  # of no account yet: left alone
        ledger.bind(first())
        ledger.set_opening_cash(Decimal(1000))
        ledger.record_fills([fill("x", "1"), fill("y", "2", side=Side.SELL, qty=Decimal(1))])
        assert ledger.cash_flow() == -200
    with store.transaction() as ledger:
        assert ledger.last_activity_at() is None
        later = replace(FEE, activity_id="f2", amount_usd=Decimal(5), at=MID_SESSION + timedelta(hours=1))
        ledger.record_activities([FEE, later])
        ledger.record_activities([FEE, replace(later, status="canceled")])
        assert ledger.cash_flow() == Decimal("-200.02")
    with store.transaction() as ledger:
        opening = ledger.opening()
        assert opening is not None and opening.cash_usd == 1000
        assert ledger.last_activity_at() == MID_SESSION + timedelta(hours=1)
        assert accounting.cash_drift(ACCOUNT, opening, ledger.cash_flow()) == Decimal("200.02")
        ledger.record_equity(ACCOUNT, MID_SESSION, Decimal("799.98"))
        ledger.record_equity(ACCOUNT, MID_SESSION + timedelta(minutes=1))


def test_what_takes_the_place_of_an_order_has_its_source_in_whatever_order_it_is_told(store: Store) -> None:
    add(store, intent("a"))
    later = MID_SESSION + timedelta(seconds=1)
    second = order("2", "x2", replaces="1", updated_at=later)
    third = order("3", "x3", replaces="2", updated_at=later)
    with store.transaction() as ledger:
        ledger.record_orders([third], WALL)
        ledger.record_orders([order("1", "a"), second, replace(third, updated_at=later)], WALL)
    with store.transaction() as ledger:
        found = {row["broker_order_id"]: (row["source"], row["replaces"]) for row in ledger.open_orders()}
    assert found == {"1": (Source.ML, None), "2": (Source.ML, "1"), "3": (Source.ML, "2")}
