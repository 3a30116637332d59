"""A snapshot from real stores: what is there is shown, what is down says so, nothing raises."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from sqlalchemy.engine import Engine

from qbot.contract import keys
from qbot.contract.board import Board
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.contract.payloads_trading import PortfolioPosition, PositionSide
from qbot.demo.collect import Collector, group_refusals
from qbot.demo.snapshot import Phase
from qbot.demo.view import render
from qbot.store import ledger, maturing, models, order_book, report, state
from qbot.store.engine import make_engine, transaction
from qbot.types import Account, BrokerOrder, Fill, Forecast, Side
from tests.demo.samples import EMPTY, MARKET, WALL, process
from tests.support.servers import RedisServer, free_port

RUNNING = (process("redis"), process("postgres"))


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    made = make_engine(postgres_url)
    yield made
    made.dispose()


@pytest.fixture
def board(redis_client: redis.Redis, redis_server: RedisServer) -> Board:
    return Board(redis.Redis.from_url(redis_server.url))


@pytest.fixture
def no_board() -> Board:
    return Board(redis.Redis(port=free_port(), socket_timeout=1, retry=None))


@pytest.fixture
def no_engine() -> Engine:
    return make_engine(f"postgresql+psycopg2://q:q@127.0.0.1:{free_port()}/q")


def refused(symbol: str, message: str, move: float, action: str = "HOLD", refusal: str = "NO_SIGNAL") -> dict[str, Any]:
    return {
        "decision_id": f"c1:{symbol}:hold", "cycle_id": "c1", "symbol": symbol, "action": action, "allowed": False,
        "refusal": refusal, "message": message, "numbers": {}, "forecast_id": None, "settings_revision": 1,
        "decided_at": MARKET, "signal": {"predicted_return_pct": move, "reasons": [message]},
    }  # fmt: skip


def order(number: int, **changed: Any) -> BrokerOrder:
    values: dict[str, Any] = {
        "broker_order_id": f"o{number}", "client_order_id": f"id{number}", "symbol": "AAPL", "side": Side.BUY,
        "qty": Decimal(10), "filled_qty": Decimal(10), "filled_avg_price_usd": Decimal("231.12"),
        "order_type": "market", "time_in_force": "day", "limit_price_usd": None, "stop_price_usd": None,
        "status": "filled", "created_at": MARKET, "updated_at": MARKET,
    }  # fmt: skip
    return BrokerOrder(**{**values, **changed})


def trade_once(engine: Engine) -> None:
    """One bought position with its decision, intent, order, bracket leg and fill, and two symbols that were not."""
    allowed = {
        **refused("AAPL", "all checks passed", 0.0003, "BUY", ""),
        "decision_id": "c1:AAPL:buy", "allowed": True, "refusal": None,
        "signal": {"predicted_return_pct": 0.0003, "reasons": ["ML: over", "Grok: off"], "why": "ML: over"},
    }  # fmt: skip
    intent = {
        "client_order_id": "id1", "decision_id": "c1:AAPL:buy", "symbol": "AAPL", "side": "buy", "kind": "entry",
        "source": "ml_prediction", "qty": Decimal(10), "reserved_usd": Decimal(2311), "spec": {}, "status": "committed",
        "market_day": "2025-01-13", "created_at": MARKET, "created_at_wall": WALL, "switch_epoch": 1,
    }  # fmt: skip
    why = "60 min: forecast {} lies between"
    holds = [refused("META", why.format("+0.001%"), 0.00001), refused("COST", why.format("-0.019%"), -0.00019)]
    leg = order(2, side=Side.SELL, parent_id="o1", status="held", filled_qty=Decimal(0), filled_avg_price_usd=None)
    with transaction(engine) as connection:
        ledger.add_decisions(connection, [allowed, *holds])
        ledger.add_intents(connection, [intent])
        order_book.record_orders(connection, [order(1), leg], WALL)
        ledger.record_fills(connection, [Fill("x1", "o1", "AAPL", Side.BUY, Decimal(10), Decimal("231.12"), MARKET)])
        ledger.record_equity(
            connection, Account(Decimal(100_000), Decimal(100_000), Decimal(97_688), Decimal(1)), MARKET
        )


def test_a_trade_is_shown_with_its_reason_and_the_rest_with_theirs(engine: Engine, board: Board) -> None:
    trade_once(engine)
    aapl = PortfolioPosition(
        ticker="AAPL", qty=Decimal(10), avg_entry_price=Decimal("231.12"), market_value=Decimal(2320),
        unrealized_pl=Decimal("8.80"), side=PositionSide.LONG,
    )  # fmt: skip
    board.write_many(
        [(keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.RUNNING), (keys.PORTFOLIO_POSITIONS, (aapl,))], now=WALL
    )
    seen = Collector(EMPTY, lambda: RUNNING, board, engine).collect(Phase.UP)
    assert seen.problems == {}
    assert seen.session.backend_status == "RUNNING"
    assert [(p.symbol, p.qty, p.unrealized_usd) for p in seen.positions] == [("AAPL", 10.0, 8.8)]
    assert [(d.symbol, d.qty, d.status, d.reason) for d in seen.decisions] == [("AAPL", 10.0, "closed", "ML: over")]
    assert [(g.symbols, g.example) for g in seen.refusals] == [
        (("COST", "META"), "60 min: forecast -0.019% lies between")
    ]
    assert {(o.order_id, o.protective, o.source) for o in seen.orders} == {
        ("o1", False, "ml_prediction"), ("o2", True, "ml_prediction")
    }  # fmt: skip
    assert [(t.symbol, t.price_usd, t.protective) for t in seen.trades] == [("AAPL", 231.12, False)]


def test_a_leg_that_is_told_without_its_parent_counts_as_protection(engine: Engine, board: Board) -> None:
    orphan = order(3, side=Side.SELL, order_type="stop", status="held", client_order_id="made-by-the-venue")
    with transaction(engine) as connection:
        order_book.record_orders(connection, [order(1, client_order_id="by-hand"), orphan], WALL)
    seen = Collector(EMPTY, lambda: RUNNING, board, engine).collect(Phase.UP)
    assert {each.order_id: each.protective for each in seen.orders} == {"o1": False, "o3": True}


def test_an_alert_and_a_latched_switch_are_shown(engine: Engine, board: Board) -> None:
    wall = Collector(EMPTY, lambda: RUNNING, board, engine).collect(Phase.UP).wall
    row = {
        "alert_id": "a", "type": "SYSTEM_ALERT", "severity": "CRITICAL", "symbol": None, "title": "Emergency stop",
        "message": "m", "triggered_at_wall": wall, "expires_at_wall": wall + timedelta(hours=1),
    }  # fmt: skip
    with transaction(engine) as connection:
        state.raise_alerts(connection, [row])
        switch = state.load_switch(connection)
        state.save_switch(connection, type(switch)(latched=True, reason="crash"), [], WALL)
    seen = Collector(EMPTY, lambda: RUNNING, board, engine).collect(Phase.UP)
    assert [alert.severity for alert in seen.alerts] == ["CRITICAL"]
    assert seen.waiting_for() == "`qbot resume`: the emergency stop is latched (crash)"


def test_without_redis_the_store_is_still_shown(engine: Engine, no_board: Board) -> None:
    trade_once(engine)
    seen = Collector(EMPTY, lambda: RUNNING, no_board, engine).collect(Phase.UP)
    assert "Redis" in seen.problems and seen.trades
    assert "Redis" in str(seen.waiting_for())


def test_what_was_last_seen_stays_in_view_while_its_source_is_down(
    engine: Engine, no_engine: Engine, board: Board, no_board: Board
) -> None:
    trade_once(engine)
    board.write(keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.RUNNING, now=WALL)
    board.write(keys.PREDICTIONS_CURRENT, {"AAPL": {"60": 231.0}}, now=WALL)
    collector = Collector(EMPTY, lambda: RUNNING, board, engine)
    before = collector.collect(Phase.UP)
    collector.board, collector.engine = no_board, no_engine
    for _ in range(2):
        seen = collector.collect(Phase.UP)
        assert set(seen.problems) == {"Redis", "Postgres"}
        assert (seen.trades, seen.decisions) == (before.trades, before.decisions) and seen.trades
        assert seen.forecasts_current == 1
        assert seen.session.backend_status is None


def test_without_postgres_the_board_is_still_shown(board: Board, no_engine: Engine) -> None:
    board.write(keys.AUTOTRADING_BACKEND_STATUS, BackendStatus.STOPPED, now=WALL)
    seen = Collector(EMPTY, lambda: RUNNING, board, no_engine).collect(Phase.UP)
    assert "Postgres" in seen.problems and seen.session.backend_status == "STOPPED"


def test_with_nothing_at_all_it_can_still_be_drawn(no_board: Board, no_engine: Engine) -> None:
    for phase in Phase:
        render(Collector(EMPTY, list, no_board, no_engine).collect(phase), 80, 24)


def test_a_database_before_its_migrations_is_no_trouble_while_starting(board: Board, postgres_server: Any) -> None:
    bare = make_engine(postgres_server.url)
    assert Collector(EMPTY, lambda: RUNNING, board, bare).collect(Phase.STARTING).problems == {}
    assert "Postgres" in Collector(EMPTY, lambda: RUNNING, board, bare).collect(Phase.UP).problems
    bare.dispose()


def test_what_the_gate_refused_comes_before_what_had_no_signal() -> None:
    rows = [
        refused("A", "forecast +0.1% lies between", 0.001),
        refused("B", "forecast +0.2% lies between", 0.002),
        refused("C", "C was bought lately", 0.01, "BUY", "COOLDOWN"),
    ]
    assert [(g.refusal, g.symbols) for g in group_refusals(rows)] == [("COOLDOWN", ("C",)), ("NO_SIGNAL", ("B", "A"))]


def test_the_sums_of_a_run_leave_out_what_was_before_it(engine: Engine) -> None:
    trade_once(engine)
    forecast = Forecast("f1", "AAPL", 60, MARKET, 100.0, 0.001, -0.01, 0.01, 0.5, "h60", False)
    wrong = Forecast("f2", "META", 60, MARKET, 100.0, -0.001, -0.01, 0.01, 0.5, "h60", False)
    row = {
        "artifact_id": "h60", "horizon_minutes": 60, "path": "p", "sha256": "s", "features": [],
        "metrics": {"metrics": {"mae": 0.9, "naive_mae": 1.0}}, "skilled": True,
    }  # fmt: skip
    with transaction(engine) as connection:
        models.start_training(connection, "t1", "scheduled", MARKET, WALL)
        models.finish_training(connection, "t1", models.SUCCESS, {}, [row], MARKET, WALL)
        models.add_forecasts(connection, [forecast, wrong])
        maturing.settle(connection, [("f1", 100.2, None), ("f2", 100.3, None)], MARKET)
        found = report.run_record(connection, MARKET, WALL)
        later = report.run_record(connection, MARKET + timedelta(seconds=1), WALL + timedelta(seconds=1))
    assert (found.decisions, found.refused, found.orders, found.fills) == (3, 2, 2, 1)
    assert (found.intents, found.trainings) == ({"closed": 1}, {"success": 1})
    assert found.traded_usd == pytest.approx(2_311.2)
    (quality,) = found.quality
    assert (quality.matured, quality.moved, quality.direction_right) == (2, 2, 1)
    assert quality.mae_usd == pytest.approx((0.1 + 0.4) / 2)
    assert quality.naive_mae_usd == pytest.approx((0.2 + 0.3) / 2)
    assert (later.decisions, later.orders, later.fills, later.forecasts, later.quality) == (0, 0, 0, 0, ())
    assert (later.intents, later.trainings) == ({}, {})


def test_an_artifact_is_shown_with_what_it_gains_over_no_change(engine: Engine, board: Board) -> None:
    row = {
        "artifact_id": "h60", "horizon_minutes": 60, "path": "p", "sha256": "s", "features": [],
        "metrics": {"metrics": {"mae": 0.9, "naive_mae": 1.0}}, "skilled": True,
    }  # fmt: skip
    with transaction(engine) as connection:
        models.start_training(connection, "t1", "scheduled", MARKET, WALL)
        models.finish_training(connection, "t1", models.SUCCESS, {}, [row], MARKET, WALL)
    (artifact,) = Collector(EMPTY, lambda: RUNNING, board, engine).collect(Phase.UP).artifacts
    assert (artifact.horizon_minutes, artifact.skilled) == (60, True)
    assert artifact.gain_pct == pytest.approx(0.1)
