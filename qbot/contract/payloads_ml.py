"""Payloads of forecasts, signals, training and forecast quality."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from qbot.contract.fields import (
    Count,
    Fraction,
    Name,
    Number,
    Payload,
    Percent,
    Price,
    Sentence,
    SignedFraction,
    Ticker,
    Timestamp,
)
from qbot.contract.payloads_backend import Level
from qbot.types import Action

Horizon = Annotated[
    str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}$"), Field(description="minutes ahead, as a string: 15, 30, 60")
]
HorizonLabel = Annotated[
    str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}min$"), Field(description="minutes ahead: 15min, 30min, 60min")
]


class Trend(StrEnum):
    BULLISH = "BULLISH"
    BEARISH = "BEARISH"
    NEUTRAL = "NEUTRAL"


class TrainingTrigger(StrEnum):
    MANUAL = "manual"
    DEVIATION = "deviation"
    SCHEDULED = "scheduled"


class TrainingStage(StrEnum):
    QUERY_DATA = "query_data"
    HORIZON_15 = "training_horizon_15"
    HORIZON_30 = "training_horizon_30"
    HORIZON_60 = "training_horizon_60"
    COMPLETE = "complete"
    FAILED = "failed"


class TrainingEvent(StrEnum):
    """`event` of `ml_training_status`."""

    START = "start"
    HORIZON_TRAINED = "horizon_trained"
    FINISHED = "finished"
    FAILED = "failed"


class TrainingLogEvent(StrEnum):
    """`event` of `ml_training_log`."""

    TRAINING_STARTED = "training_started"
    MODEL_TRAINED = "model_trained"
    TRAINING_FAILED = "training_failed"


class TrainingOutcome(StrEnum):
    SUCCESS = "success"
    FAILED = "failed"


class PendingPrediction(Payload):
    """One element of `predictions_pending`: a forecast whose time has not come."""

    ticker: Ticker
    horizon: Horizon
    predicted: Price = Field(description="Forecast price; USD a share.")
    timestamp: Timestamp = Field(description="When it was made.")
    eta: Timestamp = Field(description="The time it is for.")


class HorizonPrediction(Payload):
    price: Price = Field(description="Forecast price; USD a share.")
    confidence: Fraction = Field(description="Calibrated probability of the direction; 0 to 1.")
    change_pct: Percent = Field(description="Of the current price; percent: 1.19 = 1.19 %.")
    trend: Trend = Field(description="NEUTRAL while the direction is no better than a coin's.")
    volatility: Level = Field(description="By the width of the forecast's interval.")


class TickerPrediction(Payload):
    current_price: Price = Field(description="Price it was made at; USD a share.")
    predictions: dict[HorizonLabel, HorizonPrediction] = Field(description="By minutes ahead: 15min, 30min, 60min.")
    recommendation: Action
    strength: Fraction = Field(description="Of the signal; 0 to 1.")
    risk_level: Level = Field(description="The highest volatility of its forecasts.")


class EnhancedPredictions(Payload):
    """`backend:ml_predictions_enhanced`."""

    timestamp: Timestamp
    predictions: dict[Ticker, TickerPrediction] = Field(description="By ticker.")


class TradingSignal(Payload):
    """One element of `backend:ml_trading_signals`."""

    signal_id: Name
    ticker: Ticker
    action: Action
    strength: Fraction = Field(description="Of the signal; 0 to 1.")
    confidence: Fraction = Field(description="Of the forecast, or Grok's score; 0 to 1.")
    predicted_return: SignedFraction = Field(description="Fraction, signed: 0.05 = 5 %.")
    time_horizon: HorizonLabel
    target_price: Price = Field(description="Forecast price; USD a share.")
    current_price: Price = Field(description="Price it was made at; USD a share.")
    stop_loss: Price | None = Field(description="Suggested; USD a share; null: none.")
    generated_at: Timestamp
    expires_at: Timestamp
    used: bool = Field(description="A trading cycle made an order of it.")
    reasons: tuple[Sentence, ...] | None = Field(
        None, description="What each source said: ML, Grok, technical (extension)."
    )


class HorizonQuality(Payload):
    count: Count = Field(description="Matured forecasts.")
    mae: Number = Field(description="Mean absolute error; USD a share.")
    mape: Percent = Field(description="Mean absolute error; percent of the price.")
    rmse: Number = Field(description="Root of the mean squared error; USD a share.")
    avg_deviation: Percent = Field(description="Mean of the signed `deviation_pct`, the bias; percent.")


class PredictionQuality(Payload):
    """One element of `prediction_quality_metrics_history`."""

    time: Timestamp
    window_hours: Number = Field(description="How far back it looks; hours.")
    per_horizon: dict[Horizon, HorizonQuality] = Field(description="By minutes ahead, as a string: 15, 30, 60.")


class HorizonMetrics(Payload):
    """How one artifact did on days it had not seen."""

    mae: Number = Field(description="Mean absolute error; USD a share.")
    mape: Percent = Field(description="Mean absolute error; percent of the price.")
    r2: Number = Field(description="1 − squared error / that of no change; 0: no better.")
    rows: Count = Field(description="Rows trained on.")
    skilled: bool | None = Field(None, description="Proven better than no change on unseen days. An extension.")
    verdict: Sentence | None = Field(None, description="Promoted or refused, and why. An extension; for a human.")


class TrainingStatus(Payload):
    """`ml_training_status`."""

    active: bool = Field(description="A training runs.")
    stage: TrainingStage
    progress: Fraction = Field(description="Done so far; 0 to 1.")
    trigger: TrainingTrigger
    event: TrainingEvent
    detail: Sentence = Field(description="For a human.")
    started: Timestamp
    updated: Timestamp


class TrainingLogEntry(Payload):
    """One element of `ml_training_log`."""

    time: Timestamp
    event: TrainingLogEvent
    trigger: TrainingTrigger
    detail: Sentence = Field(description="For a human.")
    metrics: dict[Horizon, HorizonMetrics] = Field(description="By minutes ahead, as a string; empty unless trained.")


class ModelMetrics(Payload):
    """One element of `model_metrics_history`."""

    time: Timestamp
    trigger: TrainingTrigger
    metrics: dict[Horizon, HorizonMetrics] = Field(description="By minutes ahead, as a string: 15, 30, 60.")


class TrainingStats(Payload):
    """`last_training_stats`."""

    time: Timestamp
    trigger: TrainingTrigger
    raw_rows: Count = Field(description="Rows read.")
    filtered_rows: Count = Field(description="Rows with sane prices.")
    clean_rows: Count = Field(description="Rows of included tickers that can be trained on.")
    tickers_included: tuple[Ticker, ...]
    tickers_excluded: tuple[Ticker, ...]
    min_rows: Count = Field(description="Rows a ticker needs to be included.")
    degraded_mode: bool = Field(description="No ticker had enough rows; trained on what there was.")
    status: TrainingOutcome
    started: Timestamp
    metrics: dict[Horizon, HorizonMetrics] = Field(description="By minutes ahead, as a string: 15, 30, 60.")


class RetrainStatus(Payload):
    """`retrain_status`."""

    last_retrain: Timestamp | None = Field(description="Null: never.")
    trigger: TrainingTrigger | None = Field(description="What asked for it; null: nothing yet.")
    pending: bool = Field(description="A training is asked for and has not run.")


class Deviation(Payload):
    """One element of `deviation_tracker`: a matured forecast beside what happened."""

    ticker: Ticker
    horizon: Horizon
    predicted: Price = Field(description="Forecast price; USD a share.")
    actual: Price = Field(description="Price at eta; USD a share.")
    deviation_pct: SignedFraction = Field(description="(`actual` − `predicted`) / `actual`; fraction, signed.")
    timestamp: Timestamp = Field(description="When the forecast was made.")
    eta: Timestamp = Field(description="The time it was for.")
