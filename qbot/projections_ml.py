"""What the forecast and training keys of the board say, built from values. No I/O."""

from __future__ import annotations

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
from qbot.training_types import ArtifactRecord, TrainingProgress, TrainingResult
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
    """`backend:ml_predictions_enhanced`: every forecast with its trend, and what the signal recommends."""
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
            deviation_pct=item.actual_price_usd / item.forecast.target_price_usd - 1.0,
            timestamp=item.forecast.issued_at,
            eta=matures_at(item.forecast),
        )
        for item in items
    )


def quality(per_horizon: Mapping[str, Mapping[str, float]], window_hours: float, now: datetime) -> PredictionQuality:
    """One element of `prediction_quality_metrics_history`."""
    return PredictionQuality(
        time=now,
        window_hours=window_hours,
        per_horizon={
            horizon: HorizonQuality(
                count=int(found["count"]),
                mae=found["mae"],
                mape=found["mape"],
                rmse=found["rmse"],
                avg_deviation=found["avg_deviation"],
            )
            for horizon, found in per_horizon.items()
        },
    )


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


def training_log(
    event: TrainingLogEvent, trigger: str, detail: str, metrics: Mapping[str, HorizonMetrics], now: datetime
) -> TrainingLogEntry:
    """One element of `ml_training_log`."""
    return TrainingLogEntry(
        time=now, event=event, trigger=TrainingTrigger(trigger), detail=detail, metrics=dict(metrics)
    )


def metrics_of(result: TrainingResult) -> dict[str, HorizonMetrics]:
    """The documented metrics by horizon."""
    return {str(horizon): _metrics(done.record) for horizon, done in result.horizons.items()}


def _metrics(record: ArtifactRecord) -> HorizonMetrics:
    found = record.metrics
    return HorizonMetrics(mae=found.mae, mape=found.mape, r2=found.r2, rows=record.fit_rows)


def model_metrics(result: TrainingResult, now: datetime) -> ModelMetrics:
    """One element of `model_metrics_history`."""
    return ModelMetrics(time=now, trigger=TrainingTrigger(result.trigger), metrics=metrics_of(result))


def training_stats(result: TrainingResult, now: datetime) -> TrainingStats:
    """`last_training_stats` of a training that succeeded."""
    return TrainingStats(
        time=now,
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
        metrics=metrics_of(result),
    )
