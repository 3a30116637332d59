"""Training and forecasting with bars, artifacts and forecasts in Postgres: what surrounds the pure stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import pandas as pd
import structlog

from qbot import deviation, limits, projections_ml, promoting, serving, showing_ml
from qbot import forecast as stage
from qbot.calibration import width_factor
from qbot.errors import TrainingFailed
from qbot.features import HISTORY_SESSIONS, SENTIMENT_MAX_AGE, build_features, latest_rows
from qbot.runtime import Runtime
from qbot.store import bars, deviations, grok, inputs, models
from qbot.store.engine import transaction
from qbot.training_process import run_training
from qbot.training_types import (
    PROGRESS,
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
    tickers = rt.tickers
    with transaction(rt.engine) as connection:
        standing = models.standing_artifacts(connection)
        history = bars.load(connection, tickers, now - SERVING_SPAN, now - timedelta(minutes=BAR_MINUTES))
        outside = deviations.outside(connection, [row["artifact_id"] for row in standing.values()])
        sentiment = grok.sentiment(connection, tickers, now - SERVING_SPAN, now)
    loaded = serving.load(rt, standing)
    if not loaded or history.empty:
        return []
    symbols = next(iter(loaded.values())).record.symbols
    rows = latest_rows(build_features(history, symbols, sentiment))
    rows = rows[rows["known_at"] >= now - timedelta(seconds=limits.BAR_MAX_AGE_S)].reset_index(drop=True)
    if rows.empty:
        return []
    predicted = serving.predict(rt, loaded, standing, rows)
    widths = {h: width_factor(list(outside[standing[h]["artifact_id"]].values())) for h in predicted}
    made: list[Forecast] = []
    for known_at in sorted(set(rows["known_at"])):
        at = (rows["known_at"] == known_at).to_numpy()
        batch = stage.forecasts(
            rows[at].reset_index(drop=True),
            {horizon: returns[at] for horizon, returns in predicted.items()},
            {horizon: loaded[horizon].calibration for horizon in predicted},
            {horizon: standing[horizon]["artifact_id"] for horizon in predicted},
            {horizon: standing[horizon]["skilled"] for horizon in predicted},
            known_at.to_pydatetime(),
            widths,
        )
        made += batch.forecasts
        if batch.dropped:
            log.warning("forecasts_dropped", count=batch.dropped)
    with transaction(rt.engine) as connection:
        models.add_forecasts(connection, made)
    return made


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
        trained = models.recent_trainings(connection, 1, models.SUCCESS)
    if killed:
        showing_ml.training(rt)
    if not have_bars:
        log.info("no training yet", why="there are no bars")
        return False
    deviated = not asked_for and deviation.waiting(rt, now)
    if not asked_for and not deviated:
        if _fresh(standing, trained, now) and not _to_repair(standing, last, now):
            return False
        if last and last[-1]["status"] == models.FAILED and last[-1]["started_at"] > now - RETRY_AFTER:
            return False
    train(rt, now, "manual" if asked_for else "deviation" if deviated else "scheduled", run)
    return True


def _fresh(standing: Mapping[int, models.Row], trained: Sequence[models.Row], now: datetime) -> bool:
    """Something stands, and it was made lately, or the last candidates were made lately and refused."""
    if not standing:
        return False
    newest: datetime = max([min(row["created_at"] for row in standing.values()), *(r["started_at"] for r in trained)])
    return newest > now - RETRAIN_AFTER


def _to_repair(standing: Mapping[int, models.Row], last: Sequence[models.Row], now: datetime) -> bool:
    """An artifact cannot be loaded, and neither is it new nor was a training just run: one replaces it, not many."""
    broken = [row["created_at"] for row in standing.values() if row["unusable"] is not None]
    if not broken:
        return False
    latest: datetime = max([*broken, *(row["started_at"] for row in last)])
    return latest <= now - timedelta(seconds=limits.REPAIR_AFTER_S)


def train(rt: Runtime, now: datetime, trigger: Trigger, run: Run = run_training) -> TrainingResult:
    """Train every horizon in a child process, with its progress on the board. Raises TrainingFailed."""
    started = rt.wall()
    tickers = rt.tickers
    training_id = f"t{started:%Y%m%dT%H%M%S}"
    with transaction(rt.engine) as connection:
        history = bars.load(connection, tickers, now - TRAINING_SPAN, now - timedelta(minutes=BAR_MINUTES))
        sentiment = grok.sentiment(connection, tickers, now - TRAINING_SPAN - SENTIMENT_MAX_AGE, now)
        models.fail_abandoned_trainings(connection, started)
        begun = f"{len(history)} bars of {len(tickers)} tickers"
        models.start_training(connection, training_id, trigger, now, started, begun)
        standing = promoting.to_hold_against(connection)
        if trigger == "manual":
            inputs.serve_training_requests(connection, training_id)
    request = TrainingRequest(
        symbols=tickers,
        folder=rt.settings.home / "artifacts",
        now=started,
        trigger=trigger,
        seconds_per_horizon=rt.settings.train_seconds_per_horizon,
        min_rows=limits.TRAINING_MIN_ROWS,
        span_days=TRAINING_SPAN / timedelta(days=1),
        standing=standing,
        sentiment=tuple(sentiment.itertuples(index=False, name=None)),
    )
    showing_ml.training(rt)
    try:
        result = run(history, request, partial(_progress, rt, training_id), limits.TRAINING_LIMIT_S)
    except TrainingFailed as error:
        _failed(rt, training_id, request, len(history), error)
        raise
    promoting.finish(rt, training_id, result, now)
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
