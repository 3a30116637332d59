"""What changes the account of the exchange besides trades, and how the venue tells of it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from qbot.exchange.venue import open_venue
from tests.support.exchange import MID_SESSION, RunningExchange


def book(exchange: RunningExchange, **asked: Any) -> Any:
    return exchange.call("POST", "/activities", json=asked)


def account(exchange: RunningExchange) -> Any:
    return exchange.call("GET", "/v2/account").json()


def told(exchange: RunningExchange, query: str = "category=non_trade_activity") -> list[Any]:
    found: list[Any] = exchange.call("GET", f"/v2/account/activities?{query}").json()
    return found


def test_a_fee_takes_cash_and_is_told_among_the_activities(exchange: RunningExchange) -> None:
    before = Decimal(account(exchange)["cash"])
    book(exchange, activity_type="FEE", activity_sub_type="REG", net_amount="-0.02").raise_for_status()
    assert Decimal(account(exchange)["cash"]) == before - Decimal("0.02")
    (fee,) = told(exchange)
    assert (fee["activity_type"], fee["activity_sub_type"], fee["net_amount"]) == ("FEE", "REG", "-0.02")
    assert (fee["date"], fee["status"]) == ("2025-07-07", "executed")
    assert "symbol" not in fee
    assert told(exchange, "activity_types=FEE,DIV") == [fee]
    assert told(exchange, "activity_types=DIV") == told(exchange, "category=trade_activity") == []


def test_trades_and_other_activities_come_in_the_order_of_time_and_are_paged_together(
    exchange: RunningExchange,
) -> None:
    order = {"symbol": "AAPL", "side": "buy", "qty": "1", "type": "market", "time_in_force": "day"}
    for kind in ("CSD", "DIV"):
        exchange.call("POST", "/v2/orders", json=order).raise_for_status()
        exchange.clock.advance(minutes=1)
        book(exchange, activity_type=kind, net_amount="1").raise_for_status()
        exchange.clock.advance(minutes=1)
    found, token = [], ""
    while page := told(exchange, f"direction=asc&page_size=1&page_token={token}"):
        found += page
        token = page[-1]["id"]
    assert [one["activity_type"] for one in found] == ["FILL", "CSD", "FILL", "DIV"]
    mine = told(exchange, f"order_id={found[0]['order_id']}")
    assert [one["activity_type"] for one in mine] == ["FILL"]
    assert [one["activity_type"] for one in told(exchange, f"after={found[2]['transaction_time'][:26]}Z")] == ["DIV"]


def test_shares_of_a_split_cost_nothing_and_those_that_leave_take_their_cost_along(exchange: RunningExchange) -> None:
    order = {"symbol": "AAPL", "side": "buy", "qty": "2", "type": "market", "time_in_force": "day"}
    exchange.call("POST", "/v2/orders", json=order).raise_for_status()
    paid = Decimal(exchange.call("GET", "/v2/positions/AAPL").json()["cost_basis"])
    book(exchange, activity_type="SPLIT", activity_sub_type="FSPLIT", symbol="AAPL", qty="6").raise_for_status()
    held = exchange.call("GET", "/v2/positions/AAPL").json()
    assert (held["qty"], Decimal(held["cost_basis"])) == ("8", paid)
    book(exchange, activity_type="JNLS", symbol="AAPL", qty="-4").raise_for_status()
    assert Decimal(exchange.call("GET", "/v2/positions/AAPL").json()["cost_basis"]) == paid / 2
    book(exchange, activity_type="JNLS", symbol="AAPL", qty="-4").raise_for_status()
    assert exchange.call("GET", "/v2/positions").json() == []


@pytest.mark.parametrize("asked", [
    {"activity_type": "FILL"}, {"activity_type": "FEE", "net_amount": "much"}, {"activity_type": "SPLIT", "qty": "1"},
    {"activity_type": "SPLIT", "qty": "1", "symbol": "NONE"}, {"activity_type": "JNLS", "qty": "-1", "symbol": "AAPL"},
])  # fmt: skip
def test_what_makes_no_sense_changes_nothing(exchange: RunningExchange, asked: dict[str, str]) -> None:
    before = account(exchange)["cash"]
    assert book(exchange, **asked).status_code == 422
    assert exchange.call("POST", "/activities", json=["FEE"]).status_code == 422
    assert account(exchange)["cash"] == before
    assert told(exchange) == []


def test_shares_that_an_order_holds_do_not_leave(exchange: RunningExchange) -> None:
    order = {"symbol": "AAPL", "side": "buy", "qty": "2", "type": "market", "time_in_force": "day"}
    exchange.call("POST", "/v2/orders", json=order).raise_for_status()
    stop = {**order, "side": "sell", "type": "stop", "stop_price": "1", "time_in_force": "gtc"}
    exchange.call("POST", "/v2/orders", json=stop).raise_for_status()
    assert book(exchange, activity_type="JNLS", symbol="AAPL", qty="-1").status_code == 422


def test_they_outlive_a_restart(exchange: RunningExchange, tmp_path: Path) -> None:
    book(exchange, activity_type="SPLIT", symbol="AAPL", qty="6").raise_for_status()
    assert exchange.venue is not None
    again = open_venue(tmp_path, None, Decimal(1), lambda: MID_SESSION)
    assert again.book.bookings == exchange.venue.book.bookings
    assert again.book.ledger.qty("AAPL") == 6
    again.journal.close()
