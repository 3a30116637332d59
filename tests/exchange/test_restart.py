"""Killed at any moment, the exchange goes on where its last answer left off."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from qbot.errors import ConfigError
from qbot.exchange.venue import open_venue
from tests.exchange.world import frame
from tests.support.exchange import HEADERS, MID_SESSION, ManualClock, RunningExchange, exchange_process, exchange_thread

BUY = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
LEGS = {"take_profit": {"limit_price": "500"}, "stop_loss": {"stop_price": "50"}}


def post(exchange: RunningExchange, **order: Any) -> requests.Response:
    return exchange.call("POST", "/v2/orders", json={**BUY, **order})


def everything(exchange: RunningExchange) -> list[Any]:
    """All that must survive, without what moves with the market's price."""
    orders = exchange.call("GET", "/v2/orders?status=all&limit=500&nested=true").json()
    fills = exchange.call("GET", "/v2/account/activities/FILL").json()
    held = exchange.call("GET", "/v2/positions").json()
    cash = exchange.call("GET", "/v2/account").json()
    return [orders, fills, {p["symbol"]: (p["qty"], p["cost_basis"]) for p in held}, cash["cash"], cash["last_equity"]]


def test_kill_9_loses_no_order_that_was_answered_and_frees_no_client_id(tmp_path: Path) -> None:
    answered: list[str] = []
    with exchange_process(tmp_path) as exchange:
        post(exchange, symbol="MSFT", order_class="bracket", time_in_force="gtc", qty="1", **LEGS)
        assert exchange.process is not None

        def order_until_killed() -> None:
            session = RunningExchange(exchange.url, exchange.clock)
            for number in range(10_000):
                try:
                    if post(session, client_order_id=f"n{number}").status_code == 200:
                        answered.append(f"n{number}")
                except requests.RequestException:
                    return

        client = threading.Thread(target=order_until_killed)
        client.start()
        while len(answered) < 20:
            client.join(0.01)
        exchange.process.kill()
        client.join(10)
    with exchange_process(tmp_path) as exchange:
        for client_order_id in answered:
            order = exchange.call("GET", f"/v2/orders:by_client_order_id?client_order_id={client_order_id}").json()
            assert order["status"] in {"pending_new", "new", "filled"}, order
        again = post(exchange, client_order_id=answered[0])
        assert (again.status_code, again.json()["message"]) == (422, "client_order_id must be unique")
        fills = exchange.call("GET", "/v2/account/activities/FILL?page_size=100").json()
        ids = [fill["order_id"] for fill in fills]
        assert len(set(ids)) == len(ids), "no order filled twice"
        cash = Decimal(exchange.call("GET", "/v2/account").json()["cash"])
        spent = sum((Decimal(f["qty"]) * Decimal(f["price"]) for f in fills), Decimal(0))
        assert len(ids) >= 100 or cash == 100_000 - spent


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    with exchange_thread(tmp_path, clock=clock) as exchange:
        post(exchange, symbol="MSFT", order_class="bracket", time_in_force="gtc", qty="7", **LEGS)
        post(exchange, type="trailing_stop", trail_percent="3")
        post(exchange, type="limit", limit_price="150", time_in_force="gtc", extended_hours=True)
        clock.advance(hours=30)
        before = everything(exchange)
    with exchange_thread(tmp_path, clock=clock) as exchange:
        assert everything(exchange) == before


def test_after_a_downtime_the_market_is_caught_up_with(tmp_path: Path) -> None:
    clock = ManualClock()
    with exchange_thread(tmp_path, clock=clock) as exchange:
        price = Decimal(str(exchange.call("GET", "/v2/stocks/AAPL/trades/latest").json()["trade"]["p"]))
        post(exchange, type="limit", limit_price=str(price - 1), time_in_force="gtc", client_order_id="dip")
    clock.advance(days=4)
    with exchange_thread(tmp_path, clock=clock) as exchange:
        order = exchange.call("GET", "/v2/orders:by_client_order_id?client_order_id=dip").json()
        assert order["status"] == "filled" and order["filled_avg_price"] == str(price - 1)
        assert order["filled_at"] < (MID_SESSION + timedelta(hours=6)).isoformat()


def test_an_exchange_whose_journal_fails_answers_nothing_more(tmp_path: Path) -> None:
    with exchange_thread(tmp_path) as exchange:
        assert exchange.venue is not None
        ended: list[bool] = []
        exchange.venue.on_failure = lambda: ended.append(True)
        exchange.venue.journal.close()
        assert post(exchange, client_order_id="lost").status_code == 500
        assert ended and exchange.venue.failed
        assert requests.get(exchange.url + "/v2/account", headers=HEADERS, timeout=10).status_code == 500
    again = open_venue(tmp_path, None, Decimal(100_000), ManualClock())
    assert again.book.orders == {} and again.book.ledger.cash_usd == 100_000


def test_a_journal_of_another_market_or_a_later_time_is_refused(tmp_path: Path) -> None:
    clock = ManualClock()
    with exchange_thread(tmp_path, clock=clock) as exchange:
        post(exchange, client_order_id="one")
        exchange.clock.advance(minutes=30)
        exchange.call("GET", "/v2/account")
    other = tmp_path / "other.parquet"
    frame("ZZZ", [(10, 10, 10, 10)] * 3).to_parquet(other)
    with pytest.raises(ConfigError, match="holds AAPL"):
        open_venue(tmp_path, other, Decimal(100_000), clock)
    assert open_venue(tmp_path, None, Decimal(1), ManualClock(MID_SESSION - timedelta(minutes=20))).book.orders
    with pytest.raises(ConfigError, match="resume that replay"):
        open_venue(tmp_path, None, Decimal(1), ManualClock(MID_SESSION - timedelta(hours=2)))


def test_a_file_that_cannot_be_used_keeps_the_exchange_from_starting(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with status 1"), exchange_process(
            tmp_path, QBOT_REPLAY_FILE=str(tmp_path / "none.parquet")):  # fmt: skip
        raise AssertionError("it started")
