"""What the gate is told in production: the state of the switch, how old the settings are, how many orders went out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from qbot import limits, risk_market
from qbot.broker import alpaca_wire
from qbot.session import Switch
from qbot.store import tables
from qbot.types import TradingState
from tests.support.runtime import World
from tests.support.values import entry, intent_row

BEFORE = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("on", "latched", "reducing", "expected"),
    [
        (True, False, False, TradingState.ACTIVE),
        (False, False, False, TradingState.OFF),
        (False, True, False, TradingState.HALTED),
        (False, True, True, TradingState.REDUCING),
    ],
)
def test_the_switch_is_one_of_four_states(on: bool, latched: bool, reducing: bool, expected: TradingState) -> None:
    assert risk_market.state(Switch(on=on, latched=latched, reducing=reducing)) is expected


def test_a_run_that_hung_since_it_read_the_settings_enters_nothing_and_sells_still(world: World) -> None:
    world.buy("AAPL", 2)
    read, posts = world.rt.wall(), world.posts()
    world.wall.advance(seconds=limits.SETTINGS_MAX_AGE_S + 1)
    judged = world.commit(world.entry("MSFT"), world.exit("AAPL"), cycle_id="c2", settings_at_wall=read)
    assert [one.verdict.refusal for one in judged] == ["SETTINGS_STALE", None]
    assert judged[0].verdict.numbers["age_s"] == str(limits.SETTINGS_MAX_AGE_S + 1)
    assert [row["symbol"] for row in world.rows(tables.intents)] == ["AAPL", "AAPL"]
    assert world.posts() == posts


def test_the_throttle_counts_the_orders_of_all_workers_in_the_last_minute(world: World) -> None:
    """Refused ones too, and however old the books are."""
    world.buy("AAPL", 2)
    books = world.reconcile()
    world.wall.advance(seconds=30)
    wall = world.rt.wall()
    with world.rt.desk.store.transaction() as ledger:
        ledger.add_decisions([{**DECISION, "decided_at": world.market()}])
        ledger.add_intents([refused(number, wall) for number in range(limits.ORDERS_PER_MINUTE_MAX - 1)])
    judged = world.commit(world.entry("MSFT"), world.exit("AAPL"), cycle_id="c2", books=books)
    assert [one.verdict.refusal for one in judged] == ["TOO_MANY_ORDERS", None]
    assert judged[0].verdict.numbers["used"] == str(limits.ORDERS_PER_MINUTE_MAX + 1)
    world.wall.advance(seconds=31)
    judged = world.commit(world.entry("SPY"), cycle_id="c3", books=books)
    assert judged[0].verdict.refusal == "TOO_MANY_ORDERS"  # AAPL's is over a minute old, the exit is not
    world.wall.advance(seconds=60)
    assert world.commit(world.entry("SPY"), cycle_id="c4", books=books)[0].verdict.allowed


DECISION = {
    "decision_id": "d", "cycle_id": "c0", "symbol": "SPY", "action": "BUY", "allowed": True, "refusal": None,
    "message": "", "numbers": {}, "signal": None, "forecast_id": None, "settings_revision": 1,
}  # fmt: skip


def refused(number: int, wall: datetime) -> Mapping[str, Any]:
    """An intent of another worker that the venue refused."""
    return {
        **intent_row(entry("SPY"), status="rejected", market_day="2000-01-01", created_at=BEFORE, created_at_wall=wall),
        "client_order_id": f"qbot-other-{number}", "decision_id": "d", "source": "ml_prediction", "switch_epoch": 0,
    }  # fmt: skip


RAW = {"equity": "1", "last_equity": "1", "cash": "1", "buying_power": "1", "status": "ACTIVE"}


@pytest.mark.parametrize(
    ("told", "blocked"),
    [
        ({}, ()),
        ({"trading_blocked": False, "account_blocked": False, "trade_suspended_by_user": False}, ()),
        ({"trading_blocked": True}, ("trading_blocked",)),
        ({"account_blocked": True, "trade_suspended_by_user": True}, ("account_blocked", "trade_suspended_by_user")),
        ({"trading_blocked": None}, ("trading_blocked",)),
        ({"status": "ACCOUNT_CLOSED"}, ("status ACCOUNT_CLOSED",)),
        ({"transfers_blocked": True, "shorting_enabled": False}, ()),
    ],
    ids=str,
)
def test_what_forbids_orders_is_read_from_the_account(told: dict[str, object], blocked: tuple[str, ...]) -> None:
    assert alpaca_wire.account({**RAW, **told}).blocked == blocked


def test_a_blocked_account_enters_nothing_and_exits_still(world: World) -> None:
    world.buy("AAPL", 2)
    blocked = alpaca_wire.account({**RAW, "equity": "1E5", "last_equity": "1E5", "trading_blocked": True})
    judged = world.commit(world.exit("AAPL"), world.entry("MSFT"), cycle_id="c2", account=blocked)
    assert [one.verdict.refusal for one in judged] == [None, "ACCOUNT_BLOCKED"]
    assert [row["symbol"] for row in world.rows(tables.intents)] == ["AAPL", "AAPL"]
