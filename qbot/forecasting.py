"""Training and forecasting with bars, artifacts and forecasts in Postgres: what surrounds the pure stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pandas as pd
import structlog

from qbot import artifacts, deviation, limits, projections_ml, showing_ml
from qbot import forecast as stage
from qbot.artifacts import Artifact
from qbot.errors import ArtifactError, TrainingFailed
from qbot.features import HISTORY_SESSIONS, build_features, latest_rows
from qbot.runtime import Runtime
from qbot.store import bars, deviations, inputs, models
from qbot.store.engine import transaction
from qbot.training_process import run_training
from qbot.training_types import (
    PROGRESS,
    RECORD,
    HorizonResult,
    TrainingProgress,
    TrainingRequest,
    TrainingResult,
    Trigger,
)
from qbot.types import BAR_MINUTES, Forecast

log = structlog.get_logger(__name__)

SERVING_SPAN = timedelta(days=HISTORY_SESSIONS * 2)  # calendar days that hold the sessions the features look back on
RETRAIN_AFTER = timedelta(days=7)  # market time; `deviation` may ask earlier
Run = Callable[[pd.DataFrame, TrainingRequest, Callable[[TrainingProgress], None], float], TrainingResult]
RETRY_AFTER = timedelta(minutes=5)  # market time; the task asks far more often than it makes sense to fail
TRAINING_SPAN = timedelta(days=70)


def forecast(rt: Runtime, now: datetime) -> list[Forecast]:
    """Forecasts of every ticker with a fresh bar, by the standing artifacts; none while there are no artifacts.

    A forecast is issued at the moment its newest bar was complete: that is what it knows, and a repeated run makes
    the same forecast, not a second one.
    """
    with transaction(rt.engine) as connection:
        standing = models.standing_artifacts(connection)
        history = bars.load(connection, rt.tickers, now - SERVING_SPAN, now - timedelta(minutes=BAR_MINUTES))
    loaded = _load(standing)
    if not loaded or history.empty:
        return []
    symbols = next(iter(loaded.values())).record.symbols
    rows = latest_rows(build_features(history, symbols))
    rows = rows[rows["known_at"] >= now - timedelta(seconds=limits.BAR_MAX_AGE_S)]
    made: list[Forecast] = []
    for known_at in sorted(set(rows["known_at"])):
        group = rows[rows["known_at"] == known_at]
        batch = stage.forecasts(
            group.reset_index(drop=True),
            artifacts.predict_all(loaded, group),
            {horizon: artifact.calibration for horizon, artifact in loaded.items()},
            {horizon: standing[horizon]["artifact_id"] for horizon in loaded},
            {horizon: artifact.skilled for horizon, artifact in loaded.items()},
            known_at.to_pydatetime(),
        )
        made += batch.forecasts
        if batch.dropped:
            log.warning("forecasts_dropped", count=batch.dropped)
    with transaction(rt.engine) as connection:
        models.add_forecasts(connection, made)
    return made


def _load(standing: Mapping[int, models.Row]) -> dict[int, Artifact]:
    """The artifacts in memory. A missing or corrupt one gives no forecasts of its horizon, and is reported."""
    loaded = {}
    for horizon, row in sorted(standing.items()):
        try:
            loaded[horizon] = artifacts.load(Path(row["path"]), row["sha256"])
        except ArtifactError as error:
            log.error("artifact_unusable", horizon_minutes=horizon, artifact_id=row["artifact_id"], why=str(error))
    return loaded


# --- training --------------------------------------------------------------------------------------------------------


def train_if_due(rt: Runtime, now: datetime, run: Run = run_training) -> bool:
    """Train when a human asked, at an alarm, when there is no artifact or those that stand are old; True when it ran.

    Only one runs at a time: whatever is recorded as running now was killed.
    """
    with transaction(rt.engine) as connection:
        standing = models.standing_artifacts(connection)
        have_bars = bars.last_starts(connection, rt.tickers)
        killed = models.fail_abandoned_trainings(connection, rt.wall())
        asked_for, last = models.training_asked_for(connection), models.recent_trainings(connection, 1)
    if killed:
        showing_ml.training(rt)
    if not have_bars:
        log.info("no training yet", why="there are no bars")
        return False
    deviated = not asked_for and deviation.waiting(rt, now)
    if not asked_for and not deviated:
        if standing and min(row["created_at"] for row in standing.values()) > now - RETRAIN_AFTER:
            return False
        if last and last[-1]["status"] == models.FAILED and last[-1]["started_at"] > now - RETRY_AFTER:
            return False
    train(rt, now, "manual" if asked_for else "deviation" if deviated else "scheduled", run)
    return True


def train(rt: Runtime, now: datetime, trigger: Trigger, run: Run = run_training) -> TrainingResult:
    """Train every horizon in a child process, with its progress on the board. Raises TrainingFailed."""
    started = rt.wall()
    training_id = f"t{started:%Y%m%dT%H%M%S}"
    with transaction(rt.engine) as connection:
        history = bars.load(connection, rt.tickers, now - TRAINING_SPAN, now - timedelta(minutes=BAR_MINUTES))
        models.fail_abandoned_trainings(connection, started)
        begun = f"{len(history)} bars of {len(rt.tickers)} tickers"
        models.start_training(connection, training_id, trigger, now, started, begun)
        if trigger == "manual":
            inputs.serve_training_requests(connection, training_id)
    request = TrainingRequest(
        symbols=rt.tickers,
        folder=rt.settings.home / "artifacts",
        now=started,
        trigger=trigger,
        seconds_per_horizon=rt.settings.train_seconds_per_horizon,
        min_rows=limits.TRAINING_MIN_ROWS,
    )
    showing_ml.training(rt)
    try:
        result = run(history, request, partial(_progress, rt, training_id), limits.TRAINING_LIMIT_S)
    except TrainingFailed as error:
        _failed(rt, training_id, request, len(history), error)
        raise
    stats = projections_ml.training_stats(result, rt.wall()).model_dump(mode="json")
    found = [_artifact_row(horizon, done) for horizon, done in result.horizons.items()]
    skilled = sum(done.record.skilled for done in result.horizons.values())
    outcome = f"{len(found)} horizons trained, {skilled} better than no change"
    with transaction(rt.engine) as connection:
        models.finish_training(connection, training_id, models.SUCCESS, stats, found, now, rt.wall(), outcome)
        deviations.serve(connection, training_id, started)
    showing_ml.training(rt)
    return result


def _progress(rt: Runtime, training_id: str, progress: TrainingProgress) -> None:
    body = PROGRESS.dump_python(progress, mode="json")
    with transaction(rt.engine) as connection:
        models.set_progress(connection, training_id, body)
    showing_ml.progress(rt, progress)


def _failed(rt: Runtime, training_id: str, request: TrainingRequest, rows: int, error: TrainingFailed) -> None:
    stats = projections_ml.failed_training(request, rows, rt.wall()).model_dump(mode="json")
    why = str(error)[-500:]
    with transaction(rt.engine) as connection:
        models.finish_training(connection, training_id, models.FAILED, stats, (), request.now, rt.wall(), why)
    showing_ml.training(rt)


def _artifact_row(horizon: int, done: HorizonResult) -> models.Row:
    record = RECORD.dump_python(done.record, mode="json")
    return {
        "artifact_id": done.artifact_id,
        "horizon_minutes": horizon,
        "path": str(done.path),
        "sha256": done.sha256,
        "features": record["features"],
        "metrics": record,
        "skilled": done.record.skilled,
    }
