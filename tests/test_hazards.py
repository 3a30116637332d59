"""What an attempt to break the safety of the order path found: each hazard once, against the paper exchange."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from qbot import clock, control, emergency, limits, pipeline, risk
from qbot.broker.alpaca import AlpacaBroker
from qbot.contract import keys
from qbot.errors import BrokerError, StoreUnavailable
from qbot.risk_case import exposure_usd, position_value_usd
from qbot.runtime import Runtime
from qbot.store import ledger, state, tables
from qbot.store.engine import transaction
from qbot.types import IntentKind, Position, Proposal, Side, Source, TradingState, Usage
from tests.support.runtime import CONFIG, World, limit_entry
from tests.test_emergency import CANCEL, CLOSE, STOP, press, start, trading
from tests.test_execution import posted

AFTER_THE_CLOSE = datetime(2025, 7, 7, 20, 5, tzinfo=UTC)  # the last price is still young enough
NEXT_MORNING = datetime(2025, 7, 8, 14, 0, tzinfo=UTC)


def traded_today(world: World) -> Decimal:
    now = world.market()
    with transaction(world.engine) as connection:
        used = ledger.usage(connection, clock.market_day(now), now - timedelta(minutes=30), world.wall())
    return used.notional_today_usd


def short(symbol: str = "AAPL", usd: int = -1_000) -> Position:
    return Position(symbol, Decimal(-5), Decimal(200), Decimal(usd), Decimal(0), Decimal(200))


# --- selling what is not there ---------------------------------------------------------------------------------------


def test_an_exit_is_not_sent_when_its_stop_sold_the_shares_first(world: World) -> None:
    """At a venue where the account may sell short, the sale would open a short position."""
    world.buy("AAPL", 2)
    judged = world.commit(world.exit("AAPL"), cycle_id="c2")
    world.exchange.call("DELETE", "/v2/orders")
    world.by_hand(symbol="AAPL", qty="2", side="sell")  # as the stop leg would have
    posts = world.posts()
    world.send(judged)
    assert (world.posts(), world.positions()) == (posts, {})
    assert world.intents()["AAPL sell"] == "rejected"
    assert world.rows(tables.intents)[1]["error"] == "not sent: 0 shares of AAPL are held, 2 were to be sold"


def test_a_short_position_is_no_room_for_more_long_ones() -> None:
    market = risk.Market(
        now=NEXT_MORNING, state=TradingState.ACTIVE, latched=False, market_open=True, reconciled=True,
        settings_problem=None, paper_problem=None, account=None, quotes={}, positions={"AAPL": short()}, open_orders=(),
    )  # fmt: skip
    proposal = Proposal("AAPL", Side.BUY, Decimal(1), IntentKind.ENTRY, Source.ML, Decimal(200))
    case = risk.Case(proposal, CONFIG, market, Usage(), 0)
    assert (exposure_usd(case), position_value_usd(case)) == (Decimal(1_000), Decimal(1_000))


def test_close_all_closes_short_positions_at_the_venue(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    held, closed = {"AAPL": short()}, []

    class Short(AlpacaBroker):
        def positions(self) -> list[Position]:
            return list(held.values())

        def close_all(self, symbols: object) -> None:
            closed.extend(list(symbols))  # type: ignore[call-overload]
            held.clear()

    rt = world.another()
    rt.__dict__["broker"] = Short(world.rt.broker._client)  # type: ignore[attr-defined]
    press(world, CLOSE)
    assert emergency.handle(rt) == "1 positions closed and verified"
    assert closed == ["AAPL"]
    assert world.posts() == 0


# --- an emergency that only seems to be over -------------------------------------------------------------------------


def test_close_all_is_not_done_while_an_order_in_doubt_may_still_arrive(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FLATTEN_WAIT_S", 0.2)
    control.sync_switch(world.rt)
    start(world, 0)
    judged = world.commit(world.entry("AAPL", 2))
    world.exchange.fault("server_error", method="POST", path="/v2/orders", times=1)
    world.send(judged)
    press(world, CLOSE)
    with pytest.raises(BrokerError, match="AAPL"):
        pipeline.emergency_handler(world.rt)
    posted(world)  # the venue accepts it after all
    assert world.positions() == {"AAPL": Decimal(2)}
    world.reconcile()
    assert emergency.handle(world.rt) == "1 positions closed and verified"
    assert (world.positions(), world.resting()) == ({}, [])


def test_close_all_is_done_once_an_order_in_doubt_was_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FLATTEN_WAIT_S", 0.2)
    world.commit(world.entry("AAPL", 2))  # and its sender died
    press(world, CLOSE)
    with pytest.raises(BrokerError):
        emergency.handle(world.rt)
    world.wall.advance(seconds=limits.ABANDON_INTENT_S + 1)
    world.reconcile()
    assert emergency.handle(world.rt) == "0 positions closed and verified"


@pytest.mark.parametrize("action", [CLOSE, CANCEL])
def test_an_emergency_that_does_not_succeed_tells_a_human_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(limits, "FLATTEN_WAIT_S", 0.2)
    monkeypatch.setattr(limits, "RELEASE_WAIT_S", 0.2)
    press(trading(world), action)
    world.exchange.fault("hold_cancels")
    with pytest.raises(BrokerError):
        emergency.handle(world.rt)
    assert ("CRITICAL", "The emergency action is not complete") in world.alerts()
    world.exchange.clear_faults()
    assert emergency.handle(world.rt) is not None
    assert world.resting() == []


def test_waiting_for_a_stuck_cancel_leaves_the_venue_room_for_other_requests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The venue takes 200 requests a minute: ten a second would lock out the emergency itself."""
    monkeypatch.setattr(limits, "FLATTEN_WAIT_S", 3.0)
    press(trading(world), CLOSE)
    world.exchange.fault("hold_cancels")
    world.place.faults.seen.clear()
    with pytest.raises(BrokerError):
        emergency.handle(world.rt)
    assert len(world.place.faults.seen) < 16


@pytest.mark.parametrize("broken", ["read only", "no tables"])
def test_an_emergency_needs_no_postgres_that_works(world: World, broken: str) -> None:
    press(trading(world), CLOSE)
    options = "-c default_transaction_read_only=on" if broken == "read only" else "-c search_path=nowhere"
    crippled = sa.create_engine(world.engine.url, connect_args={"options": options})
    rt = Runtime(world.rt.settings, world.rt.board, crippled, world.wall, world.market, world.uptime)
    with pytest.raises(StoreUnavailable):
        pipeline.emergency_handler(rt)
    crippled.dispose()
    assert (world.positions(), world.resting()) == ({}, [])


def test_a_stop_without_tables_is_recorded_when_they_are_back(world: World) -> None:
    press(trading(world), STOP)
    crippled = sa.create_engine(world.engine.url, connect_args={"options": "-c search_path=nowhere"})
    with pytest.raises(StoreUnavailable):
        pipeline.emergency_handler(
            Runtime(world.rt.settings, world.rt.board, crippled, world.wall, world.market, world.uptime)
        )
    crippled.dispose()
    world.redis.delete(keys.EMERGENCY_ACTIONS.name)
    assert control.sync_switch(world.rt).latched


def test_close_all_sells_though_the_stored_settings_are_of_another_version(world: World) -> None:
    world.buy("SPY", 2)
    control.sync_settings(world.rt)
    with transaction(world.engine) as connection:
        newer = state.newest_settings(connection)
        newer["documents"]["strategy"] = {"strategy_type": "TURBO"}
        state.revise_settings(connection, newer, world.wall())
    press(world, CLOSE)
    assert emergency.handle(world.rt) == "1 positions closed and verified"
    assert world.positions() == {}


# --- what the daily volume overlooked --------------------------------------------------------------------------------


def test_what_a_human_trades_at_the_broker_uses_up_the_days_volume(world: World) -> None:
    world.by_hand(symbol="MSFT", qty="3", side="buy")
    world.reconcile()
    bought = sum(row["qty"] * row["price_usd"] for row in world.rows(tables.fills))
    assert traded_today(world) == bought > 1_000
    config = replace(CONFIG, daily_notional_cap_usd=bought + 1)
    assert world.commit(world.entry("AAPL", 1), config=config)[0].verdict.refusal == "DAILY_NOTIONAL_CAP"


def test_a_protective_leg_that_fills_counts_as_a_sale(world: World) -> None:
    world.buy("AAPL", 2)
    bought = traded_today(world)
    take_profit = next(order for order in world.resting("sell") if order["type"] == "limit")
    price = (world.price("AAPL") * Decimal("0.99")).quantize(Decimal("0.01"))
    world.exchange.call("PATCH", f"/v2/orders/{take_profit['id']}", json={"limit_price": str(price)})
    world.orders()
    world.reconcile()
    assert world.positions() == {}
    sold = sum(row["qty"] * row["price_usd"] for row in world.rows(tables.fills) if row["side"] == "sell")
    assert traded_today(world) == bought + sold


def test_an_entry_that_rested_overnight_counts_on_the_day_it_may_fill_and_on_the_day_it_does(world: World) -> None:
    world.market.set(AFTER_THE_CLOSE)
    proposal = limit_entry(world, "AAPL", "-0.01", source=Source.MANUAL)  # over the market: it fills at the open
    world.send(world.commit(proposal, cycle_id="m1"))
    world.market.set(datetime(2025, 7, 8, 13, 0, tzinfo=UTC))
    world.reconcile()
    assert traded_today(world) == proposal.notional_usd
    world.market.set(NEXT_MORNING)
    world.reconcile()
    (fill,) = world.rows(tables.fills)
    assert world.intents() == {"AAPL buy": "closed"}
    assert traded_today(world) == fill["qty"] * fill["price_usd"]
