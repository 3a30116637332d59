"""What the forecast and training keys of the board say, built from values. No I/O."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from qbot.contract.payloads_backend import Level
from qbot.contract.payloads_channels import ForecastUpdate
from qbot.contract.payloads_ml import (
    Deviation,
    EnhancedPredictions,
    HorizonMetrics,
    HorizonPrediction,
    HorizonQuality,
    ModelMetrics,
    PendingPrediction,
    PredictionQuality,
    RetrainStatus,
    TickerPrediction,
    TradingSignal,
    TrainingEvent,
    TrainingLogEntry,
    TrainingLogEvent,
    TrainingOutcome,
    TrainingStage,
    TrainingStats,
    TrainingStatus,
    TrainingTrigger,
    Trend,
)
from qbot.forecast import Matured, matures_at
from qbot.promotion import Verdict
from qbot.store import models
from qbot.training_types import PROGRESS, ArtifactRecord, TrainingProgress, TrainingRequest, TrainingResult
from qbot.types import Action, Forecast, Signal

Row = Mapping[str, Any]
# Half the width of the 80 % interval, by which a forecast is called calm or wild: a typical hour moves 0.25 %.
CALM_PCT, WILD_PCT = 0.002, 0.006


def predictions_current(made: Sequence[Forecast]) -> dict[str, dict[str, float]]:
    """`predictions_current`: target price by ticker and horizon."""
    by_symbol: dict[str, dict[str, float]] = defaultdict(dict)
    for forecast in made:
        by_symbol[forecast.symbol][str(forecast.horizon_minutes)] = round(forecast.target_price_usd, 4)
    return dict(by_symbol)


def predictions_pending(rows: Sequence[Row]) -> tuple[PendingPrediction, ...]:
    """`predictions_pending` from the store's rows."""
    return tuple(
        PendingPrediction(
            ticker=row["symbol"],
            horizon=str(row["horizon_minutes"]),
            predicted=round(row["current_price_usd"] * (1.0 + row["return_pct"]), 4),
            timestamp=row["issued_at"],
            eta=row["eta"],
        )
        for row in rows
    )


def enhanced(made: Sequence[Forecast], wishes: Sequence[Signal], now: datetime) -> EnhancedPredictions:
    """`backend:ml_predictions_enhanced`: every forecast with its trend, and what the signal recommends as of `now`."""
    by_symbol: dict[str, list[Forecast]] = defaultdict(list)
    for forecast in made:
        by_symbol[forecast.symbol].append(forecast)
    signals = {signal.symbol: signal for signal in wishes}
    predictions = {
        symbol: TickerPrediction(
            current_price=group[0].current_price_usd,
            predictions={f"{f.horizon_minutes}min": _horizon(f) for f in group},
            recommendation=signals[symbol].action if symbol in signals else Action.HOLD,
            strength=signals[symbol].strength if symbol in signals else 0.0,
            risk_level=max((volatility(f) for f in group), key=list(Level).index),
        )
        for symbol, group in sorted(by_symbol.items())
    }
    return EnhancedPredictions(timestamp=now, predictions=predictions)


def _horizon(forecast: Forecast) -> HorizonPrediction:
    return HorizonPrediction(
        price=round(forecast.target_price_usd, 4),
        confidence=forecast.confidence,
        change_pct=forecast.return_pct * 100.0,
        trend=trend(forecast),
        volatility=volatility(forecast),
    )


def trend(forecast: Forecast) -> Trend:
    """Neutral while the calibrated probability of the direction is no better than a coin."""
    if forecast.confidence <= 0.5 or forecast.return_pct == 0.0:
        return Trend.NEUTRAL
    return Trend.BULLISH if forecast.return_pct > 0 else Trend.BEARISH


def volatility(forecast: Forecast) -> Level:
    """By half the width of the 80 % interval."""
    half = (forecast.high_return_pct - forecast.low_return_pct) / 2.0
    if half < CALM_PCT:
        return Level.LOW
    return Level.MEDIUM if half < WILD_PCT else Level.HIGH


def trading_signals(wishes: Sequence[Signal], used: frozenset[str]) -> tuple[TradingSignal, ...]:
    """`backend:ml_trading_signals`. `used` are the ids QBot acted on."""
    return tuple(
        TradingSignal(
            signal_id=signal.signal_id,
            ticker=signal.symbol,
            action=signal.action,
            strength=signal.strength,
            confidence=signal.confidence,
            predicted_return=signal.predicted_return_pct,
            time_horizon=f"{signal.horizon_minutes}min",
            target_price=round(signal.target_price_usd, 4),
            current_price=signal.current_price_usd,
            stop_loss=None if signal.stop_loss_usd is None else round(signal.stop_loss_usd, 4),
            generated_at=signal.issued_at,
            expires_at=signal.expires_at,
            used=signal.signal_id in used,
            reasons=signal.reasons,
        )
        for signal in wishes
    )


def forecast_updates(made: Sequence[Forecast]) -> list[ForecastUpdate]:
    """Messages of the channel `forecast_updates`."""
    return [
        ForecastUpdate(
            asset=forecast.symbol,
            horizon=f"{forecast.horizon_minutes}min",
            prediction=forecast.return_pct,
            confidence=forecast.confidence,
            timestamp=forecast.issued_at,
        )
        for forecast in made
    ]


def deviations(items: Sequence[Matured]) -> tuple[Deviation, ...]:
    """`deviation_tracker`: matured forecasts beside what happened."""
    return tuple(
        Deviation(
            ticker=item.forecast.symbol,
            horizon=str(item.forecast.horizon_minutes),
            predicted=round(item.forecast.target_price_usd, 4),
            actual=item.actual_price_usd,
            deviation_pct=item.deviation_pct,
            timestamp=item.forecast.issued_at,
            eta=matures_at(item.forecast),
        )
        for item in items
    )


def quality(rows: Sequence[Row]) -> tuple[PredictionQuality, ...]:
    """`prediction_quality_metrics_history` from the store's records."""
    return tuple(
        PredictionQuality(
            time=row["at"],
            window_hours=row["window_hours"],
            per_horizon={horizon: _quality(found) for horizon, found in sorted(row["per_horizon"].items())},
        )
        for row in rows
    )


def _quality(found: Mapping[str, float]) -> HorizonQuality:
    return HorizonQuality(
        count=int(found["count"]),
        mae=found["mae"],
        mape=found["mape"],
        rmse=found["rmse"],
        avg_deviation=found["avg_deviation"],
    )


# --- training --------------------------------------------------------------------------------------------------------


def training_status(progress: TrainingProgress) -> TrainingStatus:
    """`ml_training_status` from one event of the training process."""
    return TrainingStatus(
        active=progress.active,
        stage=TrainingStage(progress.stage),
        progress=progress.progress,
        trigger=TrainingTrigger(progress.trigger),
        event=TrainingEvent(progress.event),
        detail=progress.detail,
        started=progress.started,
        updated=progress.updated,
    )


def progress_of(row: Row) -> TrainingProgress:
    """The last event of a recorded training. What its process could not tell, begin or end, the record does."""
    told = PROGRESS.validate_python(row["progress"]) if row["progress"] else None
    running, failed = row["status"] == models.RUNNING, row["status"] == models.FAILED
    if told is not None and (running or not told.active):
        return told
    done = told.progress if told is not None else 0.0
    stage, event = ("failed", "failed") if failed else ("query_data", "start") if running else ("complete", "finished")
    return TrainingProgress(
        active=running,
        stage=stage,
        progress=done if running or failed else 1.0,
        trigger=row["trigger"],
        event=event,  # type: ignore[arg-type]
        detail=(row["begun"] if running else row["outcome"]) or "",
        started=row["started_at_wall"],
        updated=row["finished_at_wall"] or row["started_at_wall"],
    )


def training_log(rows: Sequence[Row]) -> tuple[TrainingLogEntry, ...]:
    """`ml_training_log` from the store's trainings: the begin of each and its end, in the order of time."""
    entries: list[TrainingLogEntry] = []
    for row in rows:
        trigger = TrainingTrigger(row["trigger"])
        begun = TrainingLogEvent.TRAINING_STARTED
        entries.append(_entry(row["started_at_wall"], begun, trigger, row["begun"], {}))
        if row["status"] == models.SUCCESS:
            metrics = row["stats"].get("metrics", {})
            ended = TrainingLogEvent.MODEL_TRAINED
            entries.append(_entry(row["finished_at_wall"], ended, trigger, row["outcome"], metrics))
        elif row["status"] == models.FAILED:
            ended = TrainingLogEvent.TRAINING_FAILED
            entries.append(_entry(row["finished_at_wall"], ended, trigger, row["outcome"], {}))
    return tuple(sorted(entries, key=lambda entry: entry.time))


def _entry(
    at: datetime, event: TrainingLogEvent, trigger: TrainingTrigger, detail: str | None, metrics: Row
) -> TrainingLogEntry:
    return TrainingLogEntry(time=at, event=event, trigger=trigger, detail=detail or "", metrics=_stored(metrics))


def _stored(metrics: Row) -> dict[str, HorizonMetrics]:
    return {horizon: HorizonMetrics(**found) for horizon, found in sorted(metrics.items())}


def model_metrics(rows: Sequence[Row]) -> tuple[ModelMetrics, ...]:
    """`model_metrics_history` from the trainings that succeeded."""
    return tuple(
        ModelMetrics(
            time=row["finished_at_wall"],
            trigger=TrainingTrigger(row["trigger"]),
            metrics=_stored(row["stats"].get("metrics", {})),
        )
        for row in rows
    )


def last_stats(rows: Sequence[Row]) -> TrainingStats | None:
    """`last_training_stats` from trainings, oldest first: of the last that came to an end by itself."""
    told = [row["stats"] for row in rows if "status" in row["stats"]]
    return TrainingStats.model_validate_json(json.dumps(told[-1])) if told else None


def retrain_status(trained: Sequence[Row], *, pending: bool) -> RetrainStatus | None:
    """`retrain_status` from the trainings that succeeded, oldest first; None before anything was trained or asked."""
    if not trained:
        return RetrainStatus(last_retrain=None, trigger=None, pending=True) if pending else None
    last = trained[-1]
    return RetrainStatus(
        last_retrain=last["finished_at_wall"], trigger=TrainingTrigger(last["trigger"]), pending=pending
    )


def model_paths(standing: Mapping[int, Row]) -> dict[str, str]:
    """`model_paths_multi` from the artifacts that serve."""
    return {str(horizon): row["path"] for horizon, row in sorted(standing.items())}


def model_features(standing: Mapping[int, Row]) -> dict[str, tuple[str, ...]]:
    """`model_features_multi` from the artifacts that serve."""
    return {str(horizon): tuple(row["features"]) for horizon, row in sorted(standing.items())}


def training_stats(result: TrainingResult, at: datetime, verdicts: Mapping[int, Verdict] = {}) -> TrainingStats:
    """`last_training_stats` of a training that succeeded, with what became of its artifacts."""
    metrics = {str(horizon): _metrics(done.record, verdicts.get(horizon)) for horizon, done in result.horizons.items()}
    return TrainingStats(
        time=at,
        trigger=TrainingTrigger(result.trigger),
        raw_rows=result.raw_rows,
        filtered_rows=result.filtered_rows,
        clean_rows=result.clean_rows,
        tickers_included=result.tickers_included,
        tickers_excluded=result.tickers_excluded,
        min_rows=result.min_rows,
        degraded_mode=result.degraded_mode,
        status=TrainingOutcome.SUCCESS,
        started=result.started,
        metrics=metrics,
    )


def _metrics(record: ArtifactRecord, verdict: Verdict | None) -> HorizonMetrics:
    found = record.metrics
    metrics = HorizonMetrics(mae=found.mae, mape=found.mape, r2=found.r2, rows=record.fit_rows)
    if verdict is None:
        return metrics
    return metrics.model_copy(update={"skilled": verdict.skilled, "verdict": f"{verdict.outcome}: {verdict.why}"})


def verdict_of(horizon: int, verdict: Verdict) -> str:
    """One line for a human: "15 min refused: not better than no change (p = 0.41, 12 days)"."""
    lost = "; the standing one no longer counts as skilled" if verdict.demoted and not verdict.stands else ""
    return f"{horizon} min {verdict.outcome}: {verdict.why}{lost}"


def failed_training(request: TrainingRequest, raw_rows: int, at: datetime) -> TrainingStats:
    """`last_training_stats` of a training that failed: no row came to be trained on."""
    return TrainingStats(
        time=at,
        trigger=TrainingTrigger(request.trigger),
        raw_rows=raw_rows,
        filtered_rows=0,
        clean_rows=0,
        tickers_included=(),
        tickers_excluded=(),
        min_rows=request.min_rows,
        degraded_mode=False,
        status=TrainingOutcome.FAILED,
        started=request.now,
        metrics={},
    )
