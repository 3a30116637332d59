"""Writes forecasts, signals and training onto the board, all of it from Postgres: what is lost can be shown again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from qbot import forecast as stage
from qbot import limits, projections_ml
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.errors import BoardUnavailable
from qbot.runtime import Runtime
from qbot.store import deviations, models, shown
from qbot.store.engine import transaction
from qbot.training_types import TrainingProgress
from qbot.types import HORIZONS_MINUTES, Forecast, Signal

log = structlog.get_logger(__name__)
Writes = list[tuple[Key[Any], Any]]
LONGEST_HORIZON = timedelta(minutes=max(HORIZONS_MINUTES))


def forecasts(rt: Runtime, wishes: Sequence[Signal], now: datetime) -> None:
    """The newest forecast of each ticker and horizon whose time has not come, and the signals of this moment."""
    with transaction(rt.engine) as connection:
        standing = current(models.latest_forecasts(connection, now - LONGEST_HORIZON), now)
        pending = models.pending_forecasts(connection, now)
        used = _used(connection, wishes, now)
    writes: Writes = [
        (keys.PREDICTIONS_CURRENT, projections_ml.predictions_current(standing)),
        (keys.PREDICTIONS_PENDING, projections_ml.predictions_pending(pending)),
        (keys.ML_PREDICTIONS_ENHANCED, projections_ml.enhanced(standing, wishes, now)),
        (keys.ML_TRADING_SIGNALS, projections_ml.trading_signals(wishes, used)),
    ]
    rt.board.write_many(writes, now=rt.wall())


def current(made: Sequence[Forecast], now: datetime) -> list[Forecast]:
    """Those whose time has not come."""
    return [forecast for forecast in made if stage.matures_at(forecast) > now]


def signals(rt: Runtime, wishes: Sequence[Signal], now: datetime) -> None:
    """The signals a cycle looked at, and which of them it acted upon."""
    with transaction(rt.engine) as connection:
        used = _used(connection, wishes, now)
    rt.board.write(keys.ML_TRADING_SIGNALS, projections_ml.trading_signals(wishes, used), now=rt.wall())


def _used(connection: Any, wishes: Sequence[Signal], now: datetime) -> frozenset[str]:
    return shown.used_signals(connection, [signal.signal_id for signal in wishes], now)


def outcomes(rt: Runtime) -> None:
    """How forecasts did: each beside what happened, and the figures over time."""
    with transaction(rt.engine) as connection:
        known = models.recent_outcomes(connection, limits.DEVIATIONS_MAX)
        measured = models.recent_quality(connection, limits.QUALITY_HISTORY_MAX)
    writes: Writes = []
    if known:
        matured = [stage.matured(models.forecast_of(row), row["actual_price_usd"]) for row in known]
        writes.append((keys.DEVIATION_TRACKER, projections_ml.deviations(matured)))
    if measured:
        writes.append((keys.PREDICTION_QUALITY, projections_ml.quality(measured)))
    rt.board.write_many(writes, now=rt.wall())


def training(rt: Runtime) -> None:
    """What was trained, what came of it, and what serves now."""
    with transaction(rt.engine) as connection:
        recent = models.recent_trainings(connection, limits.TRAINING_LOG_MAX)
        trained = models.recent_trainings(connection, limits.METRICS_HISTORY_MAX, models.SUCCESS)
        recorded = models.standing_artifacts(connection)
        pending = models.training_asked_for(connection) or bool(deviations.waiting(connection))
    standing = models.usable(recorded)
    writes: Writes = [
        (keys.MODEL_TRAINED, bool(standing)),
        (keys.LAST_TRAINING_STATS, projections_ml.last_stats(recent)),
        (keys.RETRAIN_STATUS, projections_ml.retrain_status(trained, pending=pending)),
    ]
    if recorded:
        writes += [
            (keys.MODEL_PATHS, projections_ml.model_paths(standing)),
            (keys.MODEL_FEATURES, projections_ml.model_features(standing)),
        ]
    if recent:
        entries = projections_ml.training_log(recent)[-limits.TRAINING_LOG_MAX :]
        status = projections_ml.training_status(projections_ml.progress_of(recent[-1]))
        writes += [(keys.ML_TRAINING_LOG, entries), (keys.ML_TRAINING_STATUS, status)]
    if trained:
        writes.append((keys.MODEL_METRICS_HISTORY, projections_ml.model_metrics(trained)))
    rt.board.write_many([(key, value) for key, value in writes if value is not None], now=rt.wall())


def progress(rt: Runtime, event: TrainingProgress) -> None:
    """One event of a training. A board that is away is no reason to end it: Postgres has the event."""
    try:
        rt.board.write(keys.ML_TRAINING_STATUS, projections_ml.training_status(event), now=rt.wall())
    except BoardUnavailable as error:
        log.warning("progress_not_shown", why=str(error))
