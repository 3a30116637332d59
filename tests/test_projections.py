"""What the board says, from values: every word of it valid by the contract, and the right one."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from beat_schedule import ENTRIES
from qbot import health, portfolio, projections, projections_market, projections_ml, projections_system
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_autotrading import BackendStatus
from qbot.forecast import matured
from qbot.market.calendar import market_hours
from qbot.performance import RoundTrip, performance
from qbot.projections_system import Health
from qbot.session import Switch
from qbot.skill import Metrics
from qbot.store.quotes import Accepted
from qbot.store.shown import Context
from qbot.store.sources import PassMade
from qbot.training_types import (
    PROGRESS,
    ArtifactRecord,
    HorizonResult,
    TrainingProgress,
    TrainingRequest,
    TrainingResult,
)
from qbot.types import Action, Day, Side, Usage
from tests.support.calibrations import calibration
from tests.support.values import NOW, account, forecast, position, quote, signal

D = Decimal
WALL = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def wire(key: Key[Any], value: Any) -> Any:
    """The value as a frontend reads it. Raises ValueError when the contract does not allow it."""
    return json.loads(key.encode(value))


# --- the one word for the state -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "problem", "on", "latched", "market_open"),
    list(product([None, "broker is gone"], [None, "not JSON"], [True, False], [True, False], [True, False])),
)
def test_the_state_follows_one_fixed_precedence(
    error: str | None, problem: str | None, on: bool, latched: bool, market_open: bool
) -> None:
    switch = Switch(on=on and not latched, latched=latched)
    found = projections.backend_status(switch, error=error, problem=problem, market_open=market_open)
    in_order = [
        (error is not None, BackendStatus.ERROR),
        (problem is not None, BackendStatus.CONFIG_ERROR),
        (latched or not on, BackendStatus.STOPPED),
        (not market_open, BackendStatus.MARKET_CLOSED),
        (True, BackendStatus.RUNNING),
    ]
    assert found is next(status for holds, status in in_order if holds)


# --- positions, orders, trades --------------------------------------------------------------------------------------


def fill_row(**more: Any) -> dict[str, Any]:
    """A row of `ledger.recent_fills`: a buy that a forecast led to."""
    row = {
        "execution_id": "x1",
        "broker_order_id": "b1",
        "symbol": "AAPL",
        "side": "buy",
        "qty": D(3),
        "price_usd": D("100.10"),
        "at": NOW,
        "source": "ml_prediction",
        "status": "filled",
        "client_order_id": "qbot-c-AAPL-buy",
        "order_type": "market",
        "parent_id": None,
        "signal": {
            "current_price_usd": 100.0,
            "target_price_usd": 101.0,
            "predicted_return_pct": 0.01,
            "reasons": ["60 min: it rises", "no skill"],
        },
        "message": "all checks passed",
        "settings_revision": 3,
    }
    return {**row, **more}


def test_positions_are_told_in_order_as_the_broker_gives_them() -> None:
    shown = wire(keys.PORTFOLIO_POSITIONS, projections.positions([position("MSFT", "2", "50.5"), position("AAPL")]))
    assert [one["ticker"] for one in shown] == ["AAPL", "MSFT"]
    assert shown[1] == {
        "ticker": "MSFT", "qty": "2", "avg_entry_price": "50.5", "market_value": "101.0", "unrealized_pl": "0",
        "side": "long",
    }  # fmt: skip
    assert wire(keys.PORTFOLIO_POSITIONS, projections.positions([])) == []
    assert projections.positions([position(qty="-1")])[0].side == "short"


def test_a_trade_tells_the_forecast_behind_it() -> None:
    (shown,) = wire(keys.TRADES_LOG, projections.trades_log([fill_row()]))
    assert (shown["side"], shown["qty"], shown["price"], shown["total_value"]) == ("buy", 3, 100.1, 300.3)
    assert (shown["current_price"], shown["predicted_price"], shown["change_pct"]) == (100.0, 101.0, 0.01)
    assert shown["reason"] == "60 min: it rises; no skill"
    assert shown["order_response"] == {"client_order_id": "qbot-c-AAPL-buy", "execution_id": "x1"}


def test_a_trade_without_a_forecast_has_no_forecast_fields() -> None:
    foreign = fill_row(signal=None, source=None, status=None, client_order_id=None)
    (shown,) = wire(keys.TRADES_LOG, projections.trades_log([foreign]))
    assert not {"current_price", "predicted_price", "change_pct"} & shown.keys()
    assert (shown["status"], shown["reason"]) == ("filled", "an order made outside QBot")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, "60 min: it rises; no skill"),
        ({"signal": None, "parent_id": "b0", "order_type": "limit"}, "take-profit reached"),
        ({"signal": None, "parent_id": "b0", "order_type": "stop"}, "stop-loss reached"),
        ({"signal": None, "source": "manual"}, "manual order"),
        ({"signal": None, "source": "emergency"}, "emergency order"),
        ({"signal": None, "source": "foreign"}, "an order made outside QBot"),
        ({"signal": {"reasons": []}, "source": "manual"}, "manual order"),
    ],
)
def test_every_execution_has_a_reason(row: dict[str, Any], expected: str) -> None:
    assert projections.reason(fill_row(**row)) == expected


def test_a_sale_tells_what_it_realised_over_all_the_lots_it_closed() -> None:
    def trip(qty: str, entry: str) -> RoundTrip:
        return RoundTrip("AAPL", Side.BUY, D(qty), D(entry), D(110), NOW, NOW, "b1", "b2", "x2")

    fills = [fill_row(), fill_row(execution_id="x2", side="sell", qty=D(4), price_usd=D(110))]
    trips = [trip("3", "100"), trip("1", "90")]
    sold, bought = wire(keys.RECENT_TRADES, projections.recent_trades(fills, trips, {"b1": Context("MODERATE", "s1")}))
    assert (sold["trade_id"], bought["trade_id"]) == ("x2", "x1")  # newest first
    assert (sold["pnl"], sold["pnl_pct"]) == (50.0, pytest.approx(50 / 390))
    assert (bought["pnl"], bought["pnl_pct"], bought["value"]) == (None, None, 300.3)
    assert (sold["side"], sold["source"], sold["strategy"], sold["session_id"]) == (
        "SELL", "ml_prediction", "MODERATE", "s1",
    )  # fmt: skip
    (foreign,) = projections.recent_trades([fill_row(source=None)], [], {})
    assert (foreign.source, foreign.strategy, foreign.session_id) == ("foreign", None, None)


def order_row(**more: Any) -> dict[str, Any]:
    """A row of `ledger.open_orders`."""
    row = {
        "broker_order_id": "b1", "symbol": "AAPL", "side": "buy", "qty": D(10), "filled_qty": D(4),
        "order_type": "limit", "limit_price_usd": D("99.5"), "stop_price_usd": None, "status": "partially_filled",
        "created_at": NOW, "updated_at": NOW, "source": "manual",
    }  # fmt: skip
    return {**row, **more}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, ("LIMIT", 99.5, None, "PARTIALLY_FILLED", 995.0)),
        ({"order_type": "stop", "limit_price_usd": None, "stop_price_usd": D(90)},
         ("STOP_LOSS", None, 90.0, "PARTIALLY_FILLED", 900.0)),
        ({"order_type": "market", "limit_price_usd": None, "status": "new"}, ("MARKET", None, None, "NEW", 1_010.0)),
        ({"order_type": "stop_limit", "stop_price_usd": D(98)}, ("STOP_LIMIT", 99.5, 98.0, "PARTIALLY_FILLED", 995.0)),
        ({"order_type": "trailing_stop", "status": "pending_cancel"}, ("LIMIT", 99.5, None, "ACCEPTED", 995.0)),
    ],
)  # fmt: skip
def test_an_open_order_is_told_in_the_documents_words(row: dict[str, Any], expected: tuple[Any, ...]) -> None:
    (shown,) = wire(keys.ACTIVE_ORDERS, projections.active_orders([order_row(**row)], {"AAPL": 101.0}))
    told = tuple(shown[name] for name in ("order_type", "limit_price", "stop_price", "status", "estimated_value"))
    assert told == expected
    assert (shown["side"], shown["quantity"], shown["filled_qty"], shown["source"]) == ("BUY", 10, 4, "manual")


def test_an_order_of_a_symbol_without_a_price_is_worth_nothing_known() -> None:
    (shown,) = projections.active_orders([order_row(order_type="market", limit_price_usd=None)], {})
    assert shown.estimated_value == 0.0


# --- status, risk and market ----------------------------------------------------------------------------------------


def test_the_trading_status_tells_the_last_and_the_next_cycle() -> None:
    used, last = Usage(orders_today=3, notional_today_usd=D(99)), {"ran_at": NOW, "error": None, "worker_pid": 42}
    status = projections.trading_status(last, used, D("15000.504"), every_s=600.0, active=True, stop_reason=None)
    shown = wire(keys.TRADING_STATUS, status)
    assert (shown["trades_today"], shown["total_volume"], shown["active"]) == (3, 15_000.5, True)
    assert (shown["last_run"], shown["next_run"]) == ("2026-09-25T14:00:00Z", "2026-09-25T14:10:00Z")
    assert (shown["last_error"], shown["stop_reason"], shown["worker_pid"]) == (None, None, 42)
    stats = wire(keys.AUTOTRADING_STATS, projections.stats(status, 2))
    assert (stats["trades_today"], stats["positions_count"], stats["last_run"]) == (3, 2, "2026-09-25T14:00:00Z")


def test_before_the_first_cycle_nothing_is_said_about_one() -> None:
    status = projections.trading_status(None, Usage(), D(0), every_s=600.0, active=False, stop_reason="never started")
    shown = wire(keys.TRADING_STATUS, status)
    assert [shown[name] for name in ("last_run", "next_run", "last_error", "worker_pid")] == [None] * 4
    assert projections.stats(status, 0).last_run is None


def test_risk_status_tells_only_the_cooldowns_that_still_run() -> None:
    minutes = {"SPY": 29, "AAPL": 0, "MSFT": 30, "QQQ": 31}
    used = Usage(last_entry_at={symbol: NOW - timedelta(minutes=m) for symbol, m in minutes.items()})
    shown = wire(keys.RISK_STATUS, projections.risk_status(used, 30.0, NOW))
    assert shown["cooldowns"] == {"AAPL": "2026-09-25T14:30:00Z", "SPY": "2026-09-25T14:01:00Z"}
    late = datetime(2026, 9, 26, 3, 0, tzinfo=UTC)  # still Friday in New York
    assert projections.risk_status(Usage(), 30.0, late).last_reset == date(2026, 9, 25)


def test_market_status_is_told_in_new_yorks_time() -> None:
    shown = wire(keys.MARKET_STATUS, projections.market_status(market_hours(NOW), NOW))
    assert shown == {
        "market_open": True, "current_time_et": "2026-09-25T10:00:00-04:00", "next_open": "2026-09-28T13:30:00Z",
        "trading_day": True, "market_session": "OPEN",
    }  # fmt: skip
    sunday = NOW + timedelta(days=2)
    shown = wire(keys.MARKET_STATUS, projections.market_status(market_hours(sunday), sunday))
    assert (shown["market_open"], shown["trading_day"], shown["market_session"]) == (False, False, "CLOSED")


def test_without_a_calendar_the_market_is_not_open_and_the_session_an_error() -> None:
    shown = wire(keys.MARKET_STATUS, projections.market_status(None, NOW))
    assert shown == {
        "market_open": False, "current_time_et": "2026-09-25T10:00:00-04:00", "next_open": None,
        "trading_day": False, "market_session": "ERROR",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("severity", "acknowledged", "waits"),
    [("INFO", False, False), ("WARNING", False, False), ("CRITICAL", False, True), ("CRITICAL", True, False)],
)
def test_a_critical_alert_stays_until_a_human_has_seen_it_and_others_go_by_themselves(
    severity: str, acknowledged: bool, waits: bool
) -> None:
    row = {
        "alert_id": "a1", "type": "SYSTEM_ALERT", "severity": severity, "symbol": None, "title": "T", "message": "M",
        "triggered_at_wall": WALL, "acknowledged": acknowledged, "expires_at_wall": WALL + timedelta(hours=1),
    }  # fmt: skip
    (shown,) = wire(keys.ALERTS_ACTIVE, projections.alerts([row]))
    assert (shown["action_required"], shown["auto_dismiss"]) == (waits, not waits)
    assert shown["expires_at"] == (None if waits else "2026-11-21T13:00:00Z")


# --- forecasts ------------------------------------------------------------------------------------------------------

MADE = [forecast(horizon=15, return_pct=0.001), forecast(horizon=60, return_pct=-0.02), forecast("MSFT", 30, 0.01)]


def test_predictions_are_told_by_ticker_and_horizon() -> None:
    assert wire(keys.PREDICTIONS_CURRENT, projections_ml.predictions_current(MADE)) == {
        "AAPL": {"15": 100.1, "60": 98.0},
        "MSFT": {"30": 101.0},
    }
    assert wire(keys.PREDICTIONS_CURRENT, projections_ml.predictions_current([])) == {}


def test_a_pending_prediction_tells_when_its_time_comes() -> None:
    row = {
        "symbol": "AAPL", "horizon_minutes": 15, "current_price_usd": 100.0, "return_pct": 0.001, "issued_at": NOW,
        "eta": NOW + timedelta(minutes=15),
    }  # fmt: skip
    assert wire(keys.PREDICTIONS_PENDING, projections_ml.predictions_pending([row])) == [
        {"ticker": "AAPL", "horizon": "15", "predicted": 100.1, "timestamp": "2026-09-25T14:00:00Z",
         "eta": "2026-09-25T14:15:00Z"}
    ]  # fmt: skip


def test_enhanced_predictions_are_in_percent_with_what_the_signal_recommends() -> None:
    wishes = [signal("AAPL", Action.SELL, strength=0.7)]
    shown = wire(keys.ML_PREDICTIONS_ENHANCED, projections_ml.enhanced(MADE, wishes, NOW))["predictions"]
    assert shown["AAPL"]["predictions"]["60min"]["change_pct"] == pytest.approx(-2.0)
    assert (shown["AAPL"]["recommendation"], shown["AAPL"]["strength"]) == ("SELL", 0.7)
    assert (shown["MSFT"]["recommendation"], shown["MSFT"]["strength"]) == ("HOLD", 0.0)


@pytest.mark.parametrize(
    ("confidence", "return_pct", "expected"),
    [(0.51, 0.01, "BULLISH"), (0.51, -0.01, "BEARISH"), (0.5, 0.01, "NEUTRAL"), (0.9, 0.0, "NEUTRAL")],
)
def test_the_trend_is_neutral_while_the_forecast_knows_nothing(
    confidence: float, return_pct: float, expected: str
) -> None:
    assert projections_ml.trend(forecast(return_pct=return_pct, confidence=confidence)) == expected


@pytest.mark.parametrize(
    ("half", "expected"), [(0.00199, "LOW"), (0.00201, "MEDIUM"), (0.00599, "MEDIUM"), (0.00601, "HIGH")]
)
def test_volatility_is_half_the_interval(half: float, expected: str) -> None:
    wide = forecast(low_return_pct=0.01 - half, high_return_pct=0.01 + half)
    assert projections_ml.volatility(wide) == expected
    calm = replace(wide, horizon_minutes=15, low_return_pct=0.0, high_return_pct=0.0)
    assert projections_ml.enhanced([calm, wide], [], NOW).predictions["AAPL"].risk_level == expected


def test_signals_tell_whether_they_were_acted_upon() -> None:
    wishes = [signal(), signal("MSFT", Action.HOLD, stop_loss_usd=None)]
    shown = wire(keys.ML_TRADING_SIGNALS, projections_ml.trading_signals(wishes, frozenset({"ml_AAPL"})))
    assert [(one["ticker"], one["used"], one["stop_loss"]) for one in shown] == [
        ("AAPL", True, 95.0),
        ("MSFT", False, None),
    ]
    assert (shown[0]["predicted_return"], shown[0]["time_horizon"]) == (0.1, "60min")
    assert shown[0]["reasons"] == ["60 min: it rises"]


def test_each_forecast_is_a_message_in_fractions() -> None:
    messages = [json.loads(keys.FORECAST_UPDATES.encode(one)) for one in projections_ml.forecast_updates(MADE)]
    assert [(one["asset"], one["horizon"], one["prediction"]) for one in messages] == [
        ("AAPL", "15min", 0.001),
        ("AAPL", "60min", -0.02),
        ("MSFT", "30min", 0.01),
    ]


def test_a_deviation_is_the_error_as_a_signed_fraction_of_the_actual_price() -> None:
    items = [matured(forecast(return_pct=0.1), 99.0), matured(forecast(return_pct=0.0), 102.0)]
    first, second = wire(keys.DEVIATION_TRACKER, projections_ml.deviations(items))
    assert (first["predicted"], first["actual"], first["deviation_pct"]) == (110.0, 99.0, pytest.approx(-11 / 99))
    assert (second["deviation_pct"], first["eta"]) == (pytest.approx(2 / 102), "2026-09-25T15:00:00Z")


def test_quality_is_told_per_horizon() -> None:
    found = {"15": {"count": 3, "mae": 0.5, "mape": 0.4, "rmse": 0.6, "avg_deviation": 0.1, "naive_mae": 9.0}}
    row = {"at": NOW, "window_hours": 24.0, "per_horizon": found}
    (shown,) = wire(keys.PREDICTION_QUALITY, projections_ml.quality([row]))
    assert shown["per_horizon"] == {"15": {"count": 3, "mae": 0.5, "mape": 0.4, "rmse": 0.6, "avg_deviation": 0.1}}


# --- training -------------------------------------------------------------------------------------------------------


def training() -> TrainingResult:
    metrics = Metrics(
        mae=0.5, mape=0.4, rmse=0.6, r2=0.01, rows=90, naive_mae=0.5, auc=None, t_statistic=None, p_value=None,
        sessions=5, skilled=False,
    )  # fmt: skip
    record = ArtifactRecord(
        horizon_minutes=60, trained_at=NOW, symbols=("AAPL",), features=("return_1",), models=("LightGBM",),
        metrics=metrics, calibration=calibration(horizon_minutes=60), skilled=False, degraded=False, data_from=NOW,
        data_to=NOW, test_days=(), fit_rows=1_500, autogluon_version="1",
    )  # fmt: skip
    return TrainingResult(
        trigger="scheduled", started=NOW, finished=NOW + timedelta(minutes=1), raw_rows=2_000, filtered_rows=1_900,
        clean_rows=1_800, tickers_included=("AAPL",), tickers_excluded=("XYZ",), min_rows=150, degraded_mode=False,
        data_from=NOW, data_to=NOW, horizons={60: HorizonResult(Path("a"), "0" * 64, record)},
    )  # fmt: skip


def training_row(status: str = "success", **more: Any) -> dict[str, Any]:
    """A row of `models.recent_trainings`."""
    stats = projections_ml.training_stats(training(), ENDED).model_dump(mode="json", exclude_unset=True)
    row = {
        "training_id": "t1", "trigger": "scheduled", "status": status, "started_at": NOW, "started_at_wall": WALL,
        "finished_at_wall": None if status == "running" else ENDED, "stats": stats if status == "success" else {},
        "progress": None, "begun": "2000 bars", "outcome": None if status == "running" else "it ended",
    }  # fmt: skip
    return {**row, **more}


ENDED = WALL + timedelta(minutes=3)
METRICS = {"60": {"mae": 0.5, "mape": 0.4, "r2": 0.01, "rows": 1_500}}


def test_metrics_tell_the_errors_on_unseen_days_and_the_rows_trained_on() -> None:
    stats = wire(keys.LAST_TRAINING_STATS, projections_ml.last_stats([training_row()]))
    assert (stats["metrics"], stats["status"], stats["tickers_excluded"]) == (METRICS, "success", ["XYZ"])
    (history,) = wire(keys.MODEL_METRICS_HISTORY, projections_ml.model_metrics([training_row()]))
    assert history == {"time": "2026-11-21T12:03:00Z", "trigger": "scheduled", "metrics": METRICS}


def test_a_failed_training_is_the_last_one_too_and_says_how_far_it_came() -> None:
    request = TrainingRequest(("AAPL",), Path("x"), WALL, "manual", 10, 150)
    failed = projections_ml.failed_training(request, 2_000, ENDED).model_dump(mode="json")
    rows = [training_row(), training_row("failed", stats=failed), training_row("failed")]  # the last one was killed
    shown = wire(keys.LAST_TRAINING_STATS, projections_ml.last_stats(rows))
    assert (shown["status"], shown["raw_rows"], shown["clean_rows"], shown["metrics"]) == ("failed", 2_000, 0, {})
    assert projections_ml.last_stats([]) is None


def test_the_training_log_tells_each_begin_and_each_end() -> None:
    later = {"started_at_wall": WALL + timedelta(hours=1), "finished_at_wall": WALL + timedelta(hours=2)}
    still = {"started_at_wall": WALL + timedelta(hours=3)}
    rows = [training_row(), training_row("failed", **later), training_row("running", **still)]
    shown = wire(keys.ML_TRAINING_LOG, projections_ml.training_log(rows))
    started, failed = "training_started", "training_failed"
    assert [entry["event"] for entry in shown] == [started, "model_trained", started, failed, started]
    assert [(entry["detail"], entry["metrics"]) for entry in shown[:2]] == [("2000 bars", {}), ("it ended", METRICS)]


def test_retraining_is_told_by_the_last_that_succeeded_and_by_what_is_asked_for() -> None:
    shown = wire(keys.RETRAIN_STATUS, projections_ml.retrain_status([training_row()], pending=False))
    assert shown == {"last_retrain": "2026-11-21T12:03:00Z", "trigger": "scheduled", "pending": False}
    asked = wire(keys.RETRAIN_STATUS, projections_ml.retrain_status([], pending=True))
    assert asked == {"last_retrain": None, "trigger": None, "pending": True}
    assert projections_ml.retrain_status([], pending=False) is None


@pytest.mark.parametrize(
    ("stage", "event"),
    [("query_data", "start"), ("training_horizon_15", "horizon_trained"), ("complete", "finished"),
     ("failed", "failed")],
)  # fmt: skip
def test_the_progress_of_a_training_is_told_in_the_documents_words(stage: str, event: Any) -> None:
    progress = TrainingProgress(True, stage, 0.5, "manual", event, "x" * 2_000, NOW, NOW)
    shown = wire(keys.ML_TRAINING_STATUS, projections_ml.training_status(progress))
    assert (shown["stage"], shown["event"], shown["progress"], len(shown["detail"])) == (stage, event, 0.5, 1_000)


def event(active: bool, stage: str, name: Any, done: float) -> dict[str, Any]:
    """One event of a training as the store has it."""
    found: dict[str, Any] = PROGRESS.dump_python(
        TrainingProgress(active, stage, done, "scheduled", name, "told", WALL, ENDED), mode="json"
    )
    return found


HALF, WHOLE = event(True, "training_horizon_30", "start", 0.4), event(False, "complete", "finished", 1.0)


@pytest.mark.parametrize(
    ("status", "progress", "expected"),
    [
        ("running", None, (True, "query_data", "start", 0.0, "2000 bars")),
        ("running", HALF, (True, "training_horizon_30", "start", 0.4, "told")),
        ("running", WHOLE, (False, "complete", "finished", 1.0, "told")),
        ("success", WHOLE, (False, "complete", "finished", 1.0, "told")),
        ("success", None, (False, "complete", "finished", 1.0, "it ended")),
        ("failed", HALF, (False, "failed", "failed", 0.4, "it ended")),  # its process was killed
        ("failed", None, (False, "failed", "failed", 0.0, "it ended")),
    ],
)
def test_a_recorded_training_tells_how_it_stands(status: str, progress: Any, expected: tuple[Any, ...]) -> None:
    found = projections_ml.progress_of(training_row(status, progress=progress))
    shown = wire(keys.ML_TRAINING_STATUS, projections_ml.training_status(found))
    assert tuple(shown[name] for name in ("active", "stage", "event", "progress", "detail")) == expected


# --- the system -----------------------------------------------------------------------------------------------------

WELL = Health(
    redis_latency_ms=0.4, postgres_answers=True, broker_answers=True, models_standing=3, silent_queues=(),
    last_fill_at=NOW,
    open_orders=2, sessions=("s1",), memory_mb=512.0, cpu_pct=12.5, uptime_s=7_200,
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "HEALTHY"),
        ({"redis_latency_ms": 50.1}, "WARNING"),
        ({"models_standing": 0}, "WARNING"),
        ({"models_standing": 2}, "WARNING"),
        ({"silent_queues": ("data",)}, "WARNING"),
        ({"broker_answers": False}, "ERROR"),
        ({"postgres_answers": False}, "ERROR"),
        ({"broker_answers": False, "models_standing": 0}, "ERROR"),
    ],
)
def test_the_worst_part_decides_the_health(change: dict[str, Any], expected: str) -> None:
    found = replace(WELL, **change)
    shown = wire(keys.SYSTEM_HEALTH, projections_system.health(found, WALL))
    assert (shown["status"], shown["uptime_hours"], shown["active_sessions"]) == (expected, 2, ["s1"])
    assert (shown["alpaca_api_status"] == "OFFLINE") is (not found.broker_answers)
    assert (shown["database_status"] == "OFFLINE") is (not found.postgres_answers)
    assert shown["ml_models_status"] == {0: "OFFLINE", 2: "DEGRADED", 3: "ACTIVE"}[found.models_standing]


def test_the_heartbeat_is_wall_time_and_the_market_is_market_time() -> None:
    shown = wire(keys.SYSTEM_STATUS, projections_system.status(WELL, WALL, market_hours(NOW)))
    assert (shown["last_heartbeat"], shown["market_open"]) == ("2026-11-21T12:00:00Z", True)
    assert (shown["alpaca_api_active"], shown["grok_api_active"], shown["uptime_seconds"]) == (True, False, 7_200)
    assert not any(shown[f"{name}_api_active"] for name in ("finnhub", "fmp", "marketstack", "twelvedata", "yfinance"))
    asked = replace(WELL, sources={"alpaca": False, "finnhub": True, "fmp": False})
    shown = wire(keys.SYSTEM_STATUS, projections_system.status(asked, WALL, market_hours(NOW)))
    told = tuple(shown[f"{name}_api_active"] for name in ("alpaca", "finnhub", "fmp", "yfinance"))
    assert told == (False, True, False, False)
    assert wire(keys.SYSTEM_HEALTH, projections_system.health(asked, WALL))["alpaca_api_status"] == "DEGRADED"
    assert (shown["postgres_connected"], shown["worker_running"]) == (True, True)
    ill = replace(WELL, postgres_answers=False, silent_queues=("training",))
    shown = wire(keys.SYSTEM_STATUS, projections_system.status(ill, WALL, None))
    assert (shown["postgres_connected"], shown["worker_running"], shown["market_open"]) == (False, False, None)


def test_a_queue_is_silent_once_none_of_its_tasks_has_begun_for_three_intervals_and_a_run() -> None:
    everything = {entry.name: WALL for entry in ENTRIES}
    assert health.silent(everything, WALL, 1.0) == ()
    assert health.silent({}, WALL, 1.0) == ("data", "emergency", "misc", "trading", "training")
    # The emergency worker: three times ten seconds and a run of at most 47.5.
    assert health.silent(everything, WALL + timedelta(seconds=77), 1.0) == ()
    assert health.silent(everything, WALL + timedelta(seconds=78), 1.0) == ("emergency",)
    alone = {**everything, "trade_bot": WALL - timedelta(days=1)}  # others of its queue are at work
    assert health.silent(alone, WALL, 1.0) == ()


DAY = Day(open=99.0, high=101.0, low=98.5, volume=1_000.0, previous_close=100.0)
PRICES = {
    "AAPL": Accepted(quote(price="100.25"), ("test", "other"), "majority"),
    "SPY": Accepted(quote("SPY", "50"), ("test",), "alone"),
}


def test_a_fetch_tells_what_came_and_what_did_not() -> None:
    told = {"alpaca": {"answered": 2, "failed": 1, "refused": {}}, "finnhub": {"answered": 1, "failed": 0}}
    made = PassMade(NOW - timedelta(seconds=9), 1.0, 3, 2, 1, told)
    found = projections_market.market_data(PRICES, {"AAPL": DAY}, {}, made, ["AAPL", "MSFT", "SPY"], NOW)
    writes = {key.name: wire(key, value) for key, value in found}
    assert writes["market_data"]["AAPL"]["price"] == 100.25
    stats = writes["market_source_stats"]
    assert [stats[name] for name in ("alpaca", "finnhub", "fmp", "failed", "stub")] == [2, 1, 0, 1, 0]
    calls = writes["multi_api_enhanced_stats"]
    assert (calls["coverage_pct"], calls["alpaca"], "fmp" in calls) == (66.7, {"success": 2, "errors": 1}, False)
    assert writes["dynamic_tickers"] == ["AAPL", "MSFT", "SPY"]
    assert "backend:grok_candidates" not in writes  # a fetch does not take away what Grok named
    nothing = projections_market.market_data({}, {}, {}, None, [], NOW)
    assert {key.name: value for key, value in nothing}["multi_api_enhanced_stats"].coverage_pct == 0.0


def test_the_session_of_a_ticker_is_that_of_its_bars_then_what_came_with_its_price_then_others() -> None:
    told = [("fmp", Day(open=1.0, high=9.0, previous_close=3.0)), ("finnhub", Day(open=2.0, low=0.5))]
    assert projections_market.day_of(Day(high=8.0), told, "finnhub") == Day(2.0, 8.0, 0.5, None, 3.0)


def test_a_quote_stands_beside_its_day_and_what_nobody_tells_is_null() -> None:
    figures = {"AAPL": {"market_cap_usd": 3e12, "pe_ratio": 30.5}}
    writes = dict(projections_market.market_data(PRICES, {"AAPL": DAY}, figures, None, ["AAPL", "SPY"], NOW))
    shown = wire(keys.MULTI_API_DATA, writes[keys.MULTI_API_DATA])
    told = tuple(shown["AAPL"][name] for name in ("open", "high", "low", "volume", "change", "change_pct"))
    assert told == (99.0, 101.0, 98.5, 1_000, 0.25, 0.25)  # the last in percent
    assert (shown["AAPL"]["sources_used"], shown["AAPL"]["sources_count"]) == (["test", "other"], 2)
    assert (shown["AAPL"]["market_cap"], shown["AAPL"]["pe_ratio"]) == (3_000_000_000_000, 30.5)
    unknown = ("open", "high", "low", "volume", "change", "change_pct", "market_cap", "pe_ratio")
    assert [shown["SPY"][name] for name in unknown] == [None] * 8


@pytest.mark.parametrize("held", [[], [position(), position("MSFT", "1")]], ids=["empty", "two positions"])
def test_portfolio_and_performance_are_valid_payloads(held: list[Any]) -> None:
    summary = portfolio.summary(account(), held, NOW)
    shown = wire(keys.PORTFOLIO_SUMMARY, projections_system.portfolio_summary(summary))
    assert shown["largest_position"] == ({"symbol": "AAPL", "value": 1_000, "weight": 0.01} if held else None)
    figures = performance([], [(NOW, D(100_000))], account(), held, NOW)
    shown = wire(keys.TRADING_PERFORMANCE, projections_system.trading_performance(figures))
    assert shown["current_positions"] == len(held)
