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

from qbot import clock
from qbot.artifacts import RECORD_FILE, folder_sha256, model_input
from qbot.calibration import fit_calibration
from qbot.errors import TrainingFailed
from qbot.features import build_features, label_returns
from qbot.skill import measure
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

ROWS_FOR_TWO_THREADS = 50_000  # below, a second thread costs more than it brings, above all on a busy machine
FIRST_MODEL_TIME_SHARE = 0.5  # so that a slow first model cannot leave the second without time
LABEL = "label"
EXPECTED_MODELS = ("LightGBMShallow", "LightGBMRandom", "WeightedEnsemble_L2")


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
    rows = build_features(used)
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
        calibrated,
        calibrate[LABEL].to_numpy(dtype=float),
        calibrate["realised_vol_78"].to_numpy(dtype=float),
        calibrate["session"].to_numpy(dtype=object),
    )
    metrics = measure(
        test["close"].to_numpy(dtype=float),
        tested,
        test[LABEL].to_numpy(dtype=float),
        test["session"].to_numpy(dtype=object),
    )
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
    )
    (folder / RECORD_FILE).write_bytes(RECORD.dump_json(record, indent=1))
    return record


def fit_predictor(fit: pd.DataFrame, tune: pd.DataFrame, folder: Path, symbols: tuple[str, ...], seconds: int) -> Any:
    """An AutoGluon predictor in `folder` with all EXPECTED_MODELS. Raises TrainingFailed otherwise.

    `fit` and `tune`: rows of `build_features` with `label`, the return as a fraction; `tune` stops the training.

    The mean return of the fitted days is taken off the labels: over some weeks it is drift, not skill.
    """
    from autogluon.tabular import TabularPredictor  # takes seconds to import; only the training process pays

    logging.getLogger("autogluon.common.utils.resource_utils").setLevel(logging.ERROR)  # "no torch", many times
    drift = float(fit[LABEL].mean())
    train_data, tuning_data = (
        model_input(each, symbols).assign(**{LABEL: each[LABEL] - drift}) for each in (fit, tune)
    )
    predictor = TabularPredictor(
        label=LABEL,
        problem_type="regression",
        eval_metric="root_mean_squared_error",
        path=str(folder),
        verbosity=0,
        learner_kwargs={"cache_data": False},
    )
    try:
        predictor.fit(
            train_data,
            tuning_data=tuning_data,
            hyperparameters={"GBM": _lightgbm_variants(len(fit))},
            time_limit=seconds,
            num_bag_folds=0,
            num_stack_levels=0,
            dynamic_stacking=False,
            num_cpus=2 if len(fit) >= ROWS_FOR_TWO_THREADS else 1,
            num_gpus=0,
        )
    except Exception as error:
        raise TrainingFailed(f"AutoGluon: {error}") from error
    require_models(predictor.model_names())
    return predictor


def require_models(trained: Sequence[str]) -> None:
    """AutoGluon only logs a model it skipped. Raises TrainingFailed when one of EXPECTED_MODELS is not there."""
    missing = sorted(set(EXPECTED_MODELS) - set(trained))
    if missing:
        raise TrainingFailed(f"AutoGluon did not train {missing}, only {list(trained)}")


def _lightgbm_variants(rows: int) -> list[dict[str, Any]]:
    """Two strongly regularised LightGBM models: a signal this weak is soon drowned in fitted noise."""
    common = {
        "learning_rate": 0.03,
        "num_boost_round": 300,
        "min_data_in_leaf": max(20, rows // 50),
        "feature_fraction": 0.5,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 10.0,
    }
    half_the_time = {"max_time_limit_ratio": FIRST_MODEL_TIME_SHARE}
    shallow = {**common, "num_leaves": 8, "ag_args": {"name_suffix": "Shallow"}, "ag_args_fit": half_the_time}
    random = {**common, "num_leaves": 16, "extra_trees": True, "ag_args": {"name_suffix": "Random"}}
    return [shallow, random]


def predict_returns(
    predictor: Any, rows: pd.DataFrame, symbols: tuple[str, ...]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Returns (fractions) that a predictor of `fit_predictor`, trained on `symbols`, expects for rows of features."""
    return np.asarray(predictor.predict(model_input(rows, symbols), as_pandas=False), dtype=float)


def _summary(done: HorizonResult) -> str:
    metrics = done.record.metrics
    return f"MAE {metrics.mae:.4f} (no change {metrics.naive_mae:.4f}), {'skilled' if metrics.skilled else 'no skill'}"
