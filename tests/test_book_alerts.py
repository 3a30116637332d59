"""What became of orders, of the portfolio and of QBot's parts is told once, and in words a human can use."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from qbot import book_alerts, pipeline, showing, stream
from qbot.contract import keys
from qbot.contract.payloads_backend import AlertType
from qbot.projections_system import Health
from qbot.reconciliation import Books
from qbot.store import tables
from qbot.types import Position, TradingConfig
from tests.support.runtime import CONFIG, World
from tests.support.values import account, position
from tests.test_pipeline import trading

D = Decimal
HEALTH = Health(1.0, True, True, 3, (), None, 0, (), 1.0, 1.0, 10_000)
ORDER = {
    "order_id": "manual_1", "symbol": "AAPL", "side": "BUY", "quantity": 1, "order_type": "MARKET", "status": "PENDING",
    "created_at": "2026-03-02T12:00:00Z",
}  # fmt: skip


def told(world: World, kind: AlertType) -> list[tuple[str, str, str]]:
    """Severity, title and message of the alerts of one type."""
    rows = [row for row in world.rows(tables.alerts) if row["type"] == kind]
    return sorted((row["severity"], row["title"], row["message"]) for row in rows)


# --- orders ----------------------------------------------------------------------------------------------------------


def test_an_order_that_was_filled_is_told_once(world: World) -> None:
    trading(world, ("AAPL", 0.01))
    pipeline.trade_bot(world.rt)
    for _ in range(2):
        pipeline.reconcile_orders(world.rt)
        stream.show(world.rt)
    ((severity, title, message),) = told(world, AlertType.TRADE_ALERT)
    assert (severity, title) == ("INFO", "AAPL: bought")
    assert message.startswith("5 of 5 shares at 2")
    assert message.endswith("USD; ml_prediction.")
    (shown,) = [alert for alert in _on_the_board(world) if alert.type is AlertType.TRADE_ALERT]
    assert (shown.symbol, shown.auto_dismiss) == ("AAPL", True)


def _on_the_board(world: World) -> tuple[object, ...]:
    pipeline.update_backend_responses(world.rt)
    return tuple(world.told(keys.ALERTS_ACTIVE))


def test_a_stop_loss_that_was_reached_is_a_warning(world: World) -> None:
    world.buy("AAPL", 2)
    with world.engine.begin() as connection:
        leg = tables.orders.c.order_type == "stop"
        sold = {"status": "filled", "filled_qty": 2, "filled_avg_price_usd": D("190.5")}
        connection.execute(tables.orders.update().where(leg).values(**sold))
    book_alerts.trades(world.rt)
    assert ("WARNING", "AAPL: sold, stop-loss reached", "2 of 2 shares at 190.5 USD; ml_prediction.") in told(
        world, AlertType.TRADE_ALERT
    )


def test_what_the_venue_refuses_is_told_once_an_hour_and_side(world: World) -> None:
    loose = replace(CONFIG, max_position_per_trade=9_999, max_position_size=9_999)
    for number in range(3):
        huge = replace(world.entry("AAPL", 2_000), price_usd=D(1))  # the gate was told a wrong price
        world.send(world.commit(huge, config=loose, cycle_id=f"c{number}"))
    assert world.intents() == {"AAPL buy": "rejected"}
    book_alerts.trades(world.rt)
    ((severity, title, message),) = told(world, AlertType.TRADE_ALERT)
    assert (severity, title) == ("WARNING", "AAPL: order rejected")
    assert message.startswith("A buy order was not placed: ")


def test_what_the_gate_refuses_a_human_is_told_and_what_it_refuses_a_cycle_is_not(world: World) -> None:
    world.commit(replace(world.entry("AAPL"), qty=D(10_000)))
    world.say(keys.MANUAL_ORDERS, [{**ORDER, "quantity": 9_999}])
    for _ in range(2):
        pipeline.process_manual_orders(world.rt)
    ((severity, title, message),) = told(world, AlertType.TRADE_ALERT)
    assert (severity, title) == ("WARNING", "AAPL: order refused")
    assert message.startswith("BUY by hand: MAX_SHARES_PER_ORDER: ")
    assert world.posts() == 0


def test_old_outcomes_are_no_news(world: World) -> None:
    world.buy("AAPL", 2)
    world.market.advance(hours=2)
    book_alerts.trades(world.rt)
    assert told(world, AlertType.TRADE_ALERT) == []


# --- the portfolio ---------------------------------------------------------------------------------------------------


def holding(world: World, **held: str) -> Books:
    positions: dict[str, Position] = {symbol: position(symbol, qty) for symbol, qty in held.items()}
    return Books(account(), positions, (), world.wall(), 0, {})


def test_a_position_far_over_its_share_is_told_once_a_day(world: World) -> None:
    for _ in range(2):
        book_alerts.portfolio(world.rt, TradingConfig(), holding(world, AAPL="251", MSFT="250", SPY="1"))
        world.wall.advance(hours=2)
    assert told(world, AlertType.PORTFOLIO_ALERT) == [
        ("WARNING", "AAPL is a large part of the portfolio", "25.1% of it; no more is bought over 20.0%.")
    ]
    world.market.advance(days=1)
    book_alerts.portfolio(world.rt, TradingConfig(), holding(world, AAPL="251"))
    assert len(told(world, AlertType.PORTFOLIO_ALERT)) == 2


@pytest.mark.parametrize("equity", ["NaN", "0"])
def test_of_an_unknown_equity_no_share_is_told(world: World, equity: str) -> None:
    books = replace(holding(world, AAPL="900"), account=account(equity))
    book_alerts.portfolio(world.rt, TradingConfig(), books)
    assert world.rows(tables.alerts) == []


def test_a_rebalancing_is_told(world: World) -> None:
    settings = {"rebalance_enabled": True, "max_position_pct": 0.01}
    world.say(keys.PORTFOLIO_SETTINGS, settings)
    trading(world)
    world.by_hand(symbol="AAPL", qty=str(int(D(12_000) / world.price("AAPL"))), side="buy")
    world.reconcile()
    pipeline.trade_bot(world.rt)
    titles = [title for _severity, title, _message in told(world, AlertType.PORTFOLIO_ALERT)]
    assert "AAPL is rebalanced" in titles


# --- parts -----------------------------------------------------------------------------------------------------------


def test_parts_that_fell_silent_are_told_and_a_start_has_time(world: World) -> None:
    silent = replace(HEALTH, broker_answers=False, fallen_silent=("trading", "misc"))
    book_alerts.parts(world.rt, replace(silent, uptime_s=10))
    book_alerts.parts(world.rt, HEALTH)
    assert world.alerts() == []
    for _ in range(2):
        book_alerts.parts(world.rt, silent)
    assert sorted((severity, title) for severity, title, _message in told(world, AlertType.SYSTEM_ALERT)) == [
        ("CRITICAL", "A worker is silent"), ("WARNING", "A worker is silent"), ("WARNING", "The broker does not answer")
    ]  # fmt: skip


def test_a_queue_where_nobody_ever_worked_has_not_fallen_silent(world: World) -> None:
    from qbot import health

    found = health.observe(world.rt)
    assert "trading" in found.silent_queues
    assert found.fallen_silent == ()


# --- every documented type -------------------------------------------------------------------------------------------


def test_every_documented_type_of_alert_is_raised_somewhere(world: World) -> None:
    trading(world, ("AAPL", 0.01))
    world.say(keys.PRICE_ALERTS, [{"price_alert_id": "p", "symbol": "AAPL", "above": 1}])
    world.say(keys.RISK_SETTINGS, "{")
    pipeline.sync_frontend_settings(world.rt)
    world.say(keys.RISK_SETTINGS, {})
    pipeline.trade_bot(world.rt)
    pipeline.reconcile_orders(world.rt)
    book_alerts.portfolio(world.rt, TradingConfig(), holding(world, AAPL="500"))
    assert {row["type"] for row in world.rows(tables.alerts)} == set(AlertType)


def test_a_short_position_is_critical_though_ledger_and_broker_agree(world: World) -> None:
    books = world.reconcile()
    less = replace(position("AAPL"), qty=D(-2))
    showing.short(world.rt, replace(books, positions={"AAPL": less, "MSFT": position("MSFT")}))
    assert told(world, AlertType.PORTFOLIO_ALERT) == [
        ("CRITICAL", "A position is short", "AAPL: -2 shares. Buy them back.")
    ]
