"""Trains one AutoGluon predictor a horizon and says honestly what it is worth. Heavy: run it by `training_process`."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qbot import candidates, clock, drift, limits
from qbot.artifacts import RECORD_FILE, folder_sha256, model_input
from qbot.baselines import fit_autoregression
from qbot.calibration import Calibration, fit_calibration
from qbot.errors import TrainingFailed
from qbot.expected_move import fit_expected_move
from qbot.features import FEATURES, build_features, label_returns
from qbot.inference import average
from qbot.lineage import lineage
from qbot.skill import Metrics, measure, too_good
from qbot.splits import SESSIONS_MIN, Split, parts, split_sessions
from qbot.training_types import (
    RECORD,
    ArtifactRecord,
    Event,
    HorizonResult,
    TrainingProgress,
    TrainingRequest,
    TrainingResult,
)
from qbot.trials import hold

ROWS_FOR_TWO_THREADS = 50_000  # below, a second thread costs more than it brings, above all on a busy machine
LABEL, WEIGHT = "label", "weight"
FORECAST_EVERY_MINUTES = 15  # of the documented task
EXPECTED_MODELS = candidates.REQUIRED


@dataclass(frozen=True)
class Prepared:
    """Bars and feature rows of the tickers that are trained on, and the days of each part."""

    bars: pd.DataFrame
    rows: pd.DataFrame
    included: tuple[str, ...]
    excluded: tuple[str, ...]
    filtered_rows: int
    degraded: bool
    split: Split


class _Reporter:
    """Sends progress events of one run."""

    def __init__(self, request: TrainingRequest, send: Callable[[TrainingProgress], None]) -> None:
        self._request, self._send, self._progress = request, send, 0.0

    def tell(self, event: Event, stage: str, progress: float, detail: str) -> None:
        self._progress = progress
        active = event in ("start", "horizon_trained")
        trigger, started = self._request.trigger, self._request.now
        self._send(TrainingProgress(active, stage, progress, trigger, event, detail, started, clock.wall_now()))

    def failed(self, detail: str) -> None:
        self.tell("failed", "failed", self._progress, detail)


def train(
    bars: pd.DataFrame, request: TrainingRequest, on_progress: Callable[[TrainingProgress], None]
) -> TrainingResult:
    """Trains every horizon of the request on `bars` (as for `build_features`) and leaves the artifacts in its folder.

    The folder appears only when all horizons are done. Raises TrainingFailed when the bars do not suffice or a model
    is missing; whatever the error, the last event is `failed` and nothing is left behind.
    """
    reporter = _Reporter(request, on_progress)
    partial = request.partial_folder
    try:
        reporter.tell("start", "query_data", 0.0, f"{len(bars)} bars")
        result = _train_all(bars, request, partial, reporter)
        detail = ", ".join(f"{h} min: {_summary(done)}" for h, done in result.horizons.items())
        reporter.tell("finished", "complete", 1.0, f"Training completed - {detail}")
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        reporter.failed(f"{type(error).__name__}: {error}"[:500])
        raise
    return result


def _train_all(bars: pd.DataFrame, request: TrainingRequest, partial: Path, reporter: _Reporter) -> TrainingResult:
    if request.run_folder.exists():
        raise TrainingFailed(f"{request.run_folder} exists already")
    prepared = prepare(bars, request)
    records: dict[int, ArtifactRecord] = {}
    for done, horizon in enumerate(request.horizons):
        stage, share = f"training_horizon_{horizon}", len(request.horizons) + 2  # and preparing, and finishing
        reporter.tell("start", stage, (done + 1) / share, f"Training {horizon}min horizon")
        records[horizon] = train_horizon(prepared, horizon, partial / f"horizon_{horizon}", request)
        mae = records[horizon].metrics.mae
        reporter.tell("horizon_trained", stage, (done + 2) / share, f"Training {horizon}min horizon - MAE: {mae:.4f}")
    partial.rename(request.run_folder)
    paths = {horizon: request.run_folder / f"horizon_{horizon}" for horizon in records}
    horizons = {h: HorizonResult(paths[h], folder_sha256(paths[h]), record) for h, record in records.items()}
    first = label_returns(prepared.bars, request.horizons[0])["label_return"]
    return TrainingResult(
        trigger=request.trigger,
        started=request.now,
        finished=clock.wall_now(),
        raw_rows=len(bars),
        filtered_rows=prepared.filtered_rows,
        clean_rows=int(first.notna().sum()),
        tickers_included=prepared.included,
        tickers_excluded=prepared.excluded,
        min_rows=request.min_rows,
        degraded_mode=prepared.degraded,
        data_from=prepared.rows["ts"].min().to_pydatetime(),
        data_to=prepared.rows["known_at"].max().to_pydatetime(),
        horizons=horizons,
    )


def prepare(bars: pd.DataFrame, request: TrainingRequest) -> Prepared:
    """Sane bars of the tickers with enough rows, their features and the split. Raises TrainingFailed otherwise."""
    wanted = bars[bars["symbol"].astype(str).isin(request.symbols)]
    sane = wanted[sane_bars(wanted)].drop_duplicates(["symbol", "ts"], keep="last")
    counts = sane["symbol"].astype(str).value_counts()
    enough = tuple(s for s in request.symbols if int(counts.get(s, 0)) >= request.min_rows)
    degraded = not enough
    included = enough or tuple(symbol for symbol in request.symbols if symbol in counts.index)
    used = sane[sane["symbol"].astype(str).isin(included)]
    if used.empty:
        raise TrainingFailed("no usable bars")
    rows = build_features(used, (), pd.DataFrame(list(request.sentiment), columns=["symbol", "time", "sentiment"]))
    for name in FEATURES:  # one by one, so that there is never a second copy of all of them
        rows[name] = rows[name].astype("float32")
    rows["session"] = rows["ts"].dt.tz_convert("America/New_York").dt.date
    split = split_sessions(rows["session"].unique().tolist())
    if split is None:
        raise TrainingFailed(f"{rows['session'].nunique()} sessions of bars, {SESSIONS_MIN} needed")
    excluded = tuple(symbol for symbol in request.symbols if symbol not in included)
    return Prepared(used, rows, included, excluded, len(sane), degraded, split)


def sane_bars(bars: pd.DataFrame) -> pd.Series[bool]:
    """True where prices are finite and positive, high and low enclose open and close, and volume is not negative."""
    prices = bars[["open", "high", "low", "close"]].to_numpy(dtype=float)
    finite = np.isfinite(prices).all(axis=1) & (prices > 0).all(axis=1)
    ordered = (prices.max(axis=1) <= prices[:, 1]) & (prices.min(axis=1) >= prices[:, 2])
    return pd.Series(finite & ordered & (bars["volume"].to_numpy(dtype=float) >= 0), index=bars.index)


def train_horizon(prepared: Prepared, horizon: int, folder: Path, request: TrainingRequest) -> ArtifactRecord:
    """Fits one predictor into `folder`, calibrates and measures it on days it never saw, and writes its record."""
    labels = label_returns(prepared.bars, horizon)
    rows = prepared.rows.assign(matures_at=labels["matures_at"], label=labels["label_return"]).dropna(subset=[LABEL])
    fit, tune, calibrate, test = parts(rows, prepared.split)
    if min(len(fit), len(tune), len(calibrate), len(test)) == 0:
        raise TrainingFailed(f"no labels for {horizon} minutes in one of the parts")
    predictor = fit_predictor(fit, tune, folder, prepared.included, request.seconds_per_horizon)
    calibrated, tested = (predict_returns(predictor, each, prepared.included) for each in (calibrate, test))
    calibration = fit_calibration(
        horizon,
        fit_expected_move(fit, fit[LABEL].to_numpy(dtype=float)),
        calibrated,
        calibrate[LABEL].to_numpy(dtype=float),
        calibrate,
        calibrate["session"].to_numpy(dtype=object),
    )
    metrics = _measured(test, tested)
    autoregression = fit_autoregression(fit)
    warning = too_good(metrics)
    record = ArtifactRecord(
        horizon_minutes=horizon,
        trained_at=request.now,
        symbols=prepared.included,
        features=tuple(model_input(test.head(1), prepared.included).columns),
        models=tuple(predictor.model_names()),
        metrics=metrics,
        calibration=calibration,
        skilled=metrics.skilled and not prepared.degraded,
        degraded=prepared.degraded,
        data_from=rows["ts"].min().to_pydatetime(),
        data_to=rows["known_at"].max().to_pydatetime(),
        test_days=prepared.split.test,
        fit_rows=len(fit),
        autogluon_version=version("autogluon.tabular"),
        left_out=candidates.left_out(predictor.model_names()),
        autoregression=_measured(test, autoregression.returns(test, horizon)),
        autoregression_coefficients=autoregression.coefficients,
        warnings=(warning,) if warning else (),
        reference_days=(
            *_daily_errors(calibrate, calibrated, calibration),
            *_daily_errors(test, tested, calibration),
        ),
        lineage=lineage(request, predictor),
        trial=hold(test, test[LABEL].to_numpy(dtype=float), tested, request.standing.get(horizon)),
    )
    (folder / RECORD_FILE).write_bytes(RECORD.dump_json(record, indent=1))
    return record


def _measured(test: pd.DataFrame, predicted: np.ndarray[Any, np.dtype[np.float64]]) -> Metrics:
    actual, close = test[LABEL].to_numpy(dtype=float), test["close"].to_numpy(dtype=float)
    return measure(close, predicted, actual, test["session"].to_numpy(dtype=object))


def _daily_errors(rows: pd.DataFrame, predicted: drift.Array, calibration: Calibration) -> tuple[drift.DayError, ...]:
    """How those days went at the pace of forecasts: what `qbot.deviation` compares later days with."""
    low, high = calibration.interval(predicted, rows)
    paced = (rows["known_at"].dt.minute % FORECAST_EVERY_MINUTES == 0).to_numpy()
    part, actual = rows[paced], rows[LABEL].to_numpy(dtype=float)[paced]
    times, sessions = (part[name].to_numpy(dtype=object) for name in ("known_at", "session"))
    return drift.daily(predicted[paced], actual, low[paced], high[paced], times, sessions)


def fit_predictor(fit: pd.DataFrame, tune: pd.DataFrame, folder: Path, symbols: tuple[str, ...], seconds: int) -> Any:
    """An AutoGluon predictor in `folder` with all EXPECTED_MODELS. Raises TrainingFailed otherwise.

    `fit` and `tune`: rows of `build_features` with `label`, the return as a fraction, and `session`; `tune` stops the
    training, scored by the weights that are fitted with: another measure would choose by the noise of wild tickers.
    There is no ensemble that is fitted, see `inference.average`.
    """
    from autogluon.tabular import TabularPredictor  # takes seconds to import; only the training process pays

    logging.getLogger("autogluon.common.utils.resource_utils").setLevel(logging.CRITICAL)  # "no torch", many times
    train_data, tuning_data = training_data(candidates.thinned(fit), candidates.thinned(tune), symbols)
    predictor = TabularPredictor(
        label=LABEL,
        problem_type="regression",
        eval_metric="root_mean_squared_error",
        path=str(folder),
        verbosity=0,
        sample_weight=WEIGHT,
        weight_evaluation=True,
        learner_kwargs={"cache_data": False},
    )
    try:
        predictor.fit(
            train_data,
            tuning_data=tuning_data,
            hyperparameters=candidates.hyperparameters(len(train_data)),
            time_limit=seconds,
            memory_limit=limits.TRAINING_MEMORY_GB,
            num_bag_folds=0,
            num_stack_levels=0,
            dynamic_stacking=False,
            fit_weighted_ensemble=False,
            num_cpus=2 if len(train_data) >= ROWS_FOR_TWO_THREADS else 1,
            num_gpus=0,
        )
    except Exception as error:
        raise TrainingFailed(f"AutoGluon: {error}") from error
    require_models(predictor.model_names())
    return predictor


def training_data(fit: pd.DataFrame, tune: pd.DataFrame, symbols: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Inputs, labels and weights. The fitted days' mean return is taken off: over some weeks it is drift, not skill."""
    typical = candidates.typical_volatility(fit)
    weights = candidates.weights(fit, typical)
    drift = float(np.average(fit[LABEL], weights=weights))

    def data(rows: pd.DataFrame, weight: candidates.Array) -> pd.DataFrame:
        return model_input(rows, symbols).assign(**{LABEL: rows[LABEL].to_numpy() - drift, WEIGHT: weight})

    return data(fit, weights), data(tune, candidates.weights(tune, typical, recency=False))


def require_models(trained: Sequence[str]) -> None:
    """AutoGluon only logs a model it skipped. Raises TrainingFailed when one of EXPECTED_MODELS is not there."""
    missing = sorted(set(EXPECTED_MODELS) - set(trained))
    if missing:
        raise TrainingFailed(f"AutoGluon did not train {missing}, only {list(trained)}")


def predict_returns(
    predictor: Any, rows: pd.DataFrame, symbols: tuple[str, ...]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns (fractions) that a predictor of `fit_predictor`, trained on `symbols`, expects for rows of features."""
    return average(predictor, model_input(rows, symbols))


def _summary(done: HorizonResult) -> str:
    record, metrics = done.record, done.record.metrics
    beside = f"no change {metrics.naive_mae:.4f}"
    beside += f", autoregression {record.autoregression.mae:.4f}" if record.autoregression else ""
    notes = ["skilled" if record.skilled else "no skill", *record.warnings]
    notes += [f"without {', '.join(record.left_out)}"] if record.left_out else []
    return f"MAE {metrics.mae:.4f} ({beside}), {', '.join(notes)}"
