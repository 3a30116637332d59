"""Walk-forward: train on the past, calibrate on the days after it, forecast the days after those, and move on.

Each fold lies in time like this; nothing of a later part is known to an earlier one:

    | fit …… | tune | embargo | calibrate | embargo | test |
                              the next fold's test follows this one's

The training days are a rolling window: what runs trains on the last weeks only, an old regime does not outvote the
present one, and each fold costs the same. Tickers may come and go: a fold forecasts those that it was trained on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot.baselines import Autoregression, fit_autoregression
from qbot.calibration import Calibration, fit_calibration, width_factor
from qbot.errors import EvaluationError
from qbot.expected_move import fit_expected_move
from qbot.features import build_features, label_returns
from qbot.splits import EMBARGO_SESSIONS, Split, parts
from qbot.training import LABEL, fit_predictor, predict_returns, sane_bars
from qbot.types import BAR_MINUTES, HORIZONS_MINUTES

Array = npt.NDArray[np.float64]

LEVELS = (0.80, 0.95)  # share of outcomes that an interval is meant to hold
SYMBOL_ROWS_MIN = 500  # labelled rows of a ticker in the training days, about a week: with fewer it is left out
TUNE_SHARE = 0.2  # of the training days
BASELINE = "base"  # columns of the plain volatility interval: half its width
KEYS = ["symbol", "known_at", "session"]
FORECAST_COLUMNS = [
    *KEYS, "horizon_minutes", "fold", "close", "predicted", "actual", "volatility", "time_of_day", "ar_predicted",
    "confidence", "low_80", "high_80", "low_95", "high_95", "base_80", "base_95", "up_rate",
]  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Sessions of each part of a fold. The defaults need 142 sessions for a first fold.

    `train` is at most so many (fit and tune together), at least `train_min` in the first fold. `folds`: only the last
    so many; None = all there are. `seconds` is the limit of one training, by the wall clock: on an idle machine a
    training takes a tenth of it, and one that is cut short fails.
    """

    train: int = 120
    train_min: int = 60
    calibrate: int = 40
    test: int = 40
    folds: int | None = None
    seconds: int = 120

    @property
    def sessions_min(self) -> int:
        """With fewer sessions there is no fold."""
        return self.train_min + self.calibrate + 2 * EMBARGO_SESSIONS + self.test


DEFAULT = Plan()
QUICK = Plan(folds=3, seconds=60)


@dataclass(frozen=True)
class Fold:
    """One step of the walk. `number` counts from 1."""

    number: int
    split: Split


class Fitter(Protocol):
    """Learns from labelled rows and answers for others. It never sees a label of what it is asked."""

    def __call__(
        self, fit: pd.DataFrame, tune: pd.DataFrame, ahead: Sequence[pd.DataFrame], symbols: tuple[str, ...]
    ) -> list[Array]:
        """Expected returns (fractions), one array for each frame of `ahead`, which has no labels."""
        ...


@dataclass(frozen=True)
class Walked:
    """What came of it: out-of-sample rows of the tests, and those the calibrations were fitted on.

    Both have FORECAST_COLUMNS (`calibration` without what the calibration adds). Returns, intervals and half widths
    are fractions; `known_at` is when the row's bar was complete; `volatility` is that of one bar.
    """

    forecasts: pd.DataFrame
    calibration: pd.DataFrame
    folds: tuple[Fold, ...]
    symbols: tuple[str, ...]


OnStep = Callable[[str], None]


def plan_folds(days: Sequence[date], plan: Plan = DEFAULT) -> tuple[Fold, ...]:
    """Folds whose tests follow each other without gap or overlap up to the last day.

    Raises EvaluationError when the days do not suffice for one.
    """
    ordered = sorted(set(days))
    before = plan.calibrate + 2 * EMBARGO_SESSIONS
    starts = list(range(len(ordered) - plan.test, plan.train_min + before - 1, -plan.test))[: plan.folds]
    if not starts:
        raise EvaluationError(
            f"{len(ordered)} sessions of bars, {plan.sessions_min} needed: give bars of a longer time, or smaller "
            f"parts with --train, --calibrate and --test (sessions)"
        )
    return tuple(Fold(number, _split(ordered, at, plan)) for number, at in enumerate(reversed(starts), 1))


def _split(ordered: Sequence[date], test_at: int, plan: Plan) -> Split:
    calibrate_at = test_at - EMBARGO_SESSIONS - plan.calibrate
    train_end = calibrate_at - EMBARGO_SESSIONS
    train_at = max(0, train_end - plan.train)
    tune_at = train_end - max(1, round((train_end - train_at) * TUNE_SHARE))
    return Split(
        fit=tuple(ordered[train_at:tune_at]),
        tune=tuple(ordered[tune_at:train_end]),
        calibrate=tuple(ordered[calibrate_at : calibrate_at + plan.calibrate]),
        test=tuple(ordered[test_at : test_at + plan.test]),
    )


def walk(
    bars: pd.DataFrame,
    fitter: Fitter,
    plan: Plan = DEFAULT,
    horizons: Sequence[int] = HORIZONS_MINUTES,
    on_step: OnStep = lambda _told: None,
) -> Walked:
    """Every fold and horizon in time order. `bars` as for `build_features`; `on_step` hears what was done.

    Raises EvaluationError when there are too few sessions or labels, TrainingFailed when the fitter gives up.
    """
    sane = bars[sane_bars(bars)].drop_duplicates(["symbol", "ts"], keep="last")
    rows = build_features(sane)
    rows["session"] = rows["ts"].dt.tz_convert("America/New_York").dt.date
    folds = plan_folds(rows["session"].unique().tolist(), plan)
    tested: list[pd.DataFrame] = []
    calibrated_on: list[pd.DataFrame] = []
    for horizon in horizons:
        labels = label_returns(sane, horizon)
        labelled = rows.assign(matures_at=labels["matures_at"], label=labels["label_return"]).dropna(subset=[LABEL])
        for fold in folds:
            calibration, forecasts = run_fold(labelled, fold, horizon, fitter)
            calibrated_on.append(calibration)
            tested.append(forecasts)
            on_step(f"{horizon} min, fold {fold.number} of {len(folds)}")
    forecasts = pd.concat(tested, ignore_index=True)
    return Walked(
        forecasts=forecasts[FORECAST_COLUMNS],
        calibration=pd.concat(calibrated_on, ignore_index=True),
        folds=folds,
        symbols=tuple(sorted(forecasts["symbol"].unique())),
    )


def run_fold(rows: pd.DataFrame, fold: Fold, horizon: int, fitter: Fitter) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the calibrating days and of the test with their forecasts. `rows` are labelled for the horizon.

    Raises EvaluationError when a part has no labels, or holds one that was not known when the next part began.
    """
    whole = parts(rows, fold.split)
    require_known(whole)
    counts = whole[0]["symbol"].value_counts()
    symbols = tuple(sorted(counts.index[counts >= SYMBOL_ROWS_MIN].astype(str)))
    fit, tune, calibrate, test = (part[part["symbol"].isin(symbols)] for part in whole)
    if min(len(fit), len(tune), len(calibrate), len(test)) == 0:
        raise EvaluationError(
            f"fold {fold.number} ({fold.split.test[0]} to {fold.split.test[-1]}) has too few labels for {horizon} "
            f"minutes: a ticker needs {SYMBOL_ROWS_MIN} in the training days"
        )
    hidden = [part.drop(columns=[LABEL, "matures_at"]) for part in (calibrate, test)]
    predicted = fitter(fit, tune, hidden, symbols)
    auto = fit_autoregression(fit)
    seen, unseen = (
        _outcomes(part, returns, auto, horizon, fold.number)
        for part, returns in zip((calibrate, test), predicted, strict=True)
    )
    actual, sessions = seen["actual"].to_numpy(dtype=float), seen["session"].to_numpy(dtype=object)
    move = fit_expected_move(fit, fit[LABEL].to_numpy(dtype=float))
    calibration = fit_calibration(horizon, move, predicted[0], actual, calibrate, sessions)
    unseen = served(calibration, test, unseen).assign(up_rate=_up_rate(actual))
    return seen, with_baseline(seen, unseen)


def require_known(whole: Sequence[pd.DataFrame]) -> None:
    """Every label of a part is known when the next part begins. Raises EvaluationError: the folds look ahead."""
    for earlier, later in pairwise(whole):
        if len(earlier) and len(later) and earlier["matures_at"].max() > later["known_at"].min():
            late = int((earlier["matures_at"] > later["known_at"].min()).sum())
            raise EvaluationError(f"{late} labels of a part were not known at {later['known_at'].min()}")


def served(calibration: Calibration, rows: pd.DataFrame, out: pd.DataFrame) -> pd.DataFrame:
    """The forecasts `out` of the test `rows` with confidence and intervals as they are served, day by day.

    The days of the test that are over have made the intervals wider or narrower by then, as they do in operation.
    """
    predicted, actual = (out[name].to_numpy(dtype=float) for name in ("predicted", "actual"))
    low, high = calibration.interval(predicted, rows)
    misses = np.abs(actual - predicted) / ((high - low) / 2.0)
    factors, outside = np.ones(len(out)), list[float]()
    for day in sorted(out["session"].unique()):
        at = (out["session"] == day).to_numpy()
        factors[at] = width_factor(outside)
        outside.append(float((misses[at] > factors[at]).mean()))
    columns = {"confidence": calibration.confidence(predicted)}
    for name, wide in (("80", False), ("95", True)):
        columns[f"low_{name}"], columns[f"high_{name}"] = calibration.interval(predicted, rows, factors, wide=wide)
    return out.assign(**columns)


def with_baseline(calibrate: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Beside it the plain volatility interval around no change: ± quantile × one-bar volatility × √bars.

    The quantile is that of the calibrating days; `base_80` and `base_95` are half the width.
    """
    typical = _typical(calibrate)
    bars = int(test["horizon_minutes"].iloc[0]) / BAR_MINUTES
    scaled = calibrate["actual"].abs().to_numpy() / (_spread(calibrate, typical) * np.sqrt(bars))
    widths = {
        f"{BASELINE}_{level * 100:.0f}": float(np.quantile(scaled, level)) * _spread(test, typical) * np.sqrt(bars)
        for level in LEVELS
    }
    return test.assign(**widths)


class AutoGluonFitter:
    """What QBot itself trains with, in a folder that is gone afterwards. `seconds`: limit of one fit."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def __call__(
        self, fit: pd.DataFrame, tune: pd.DataFrame, ahead: Sequence[pd.DataFrame], symbols: tuple[str, ...]
    ) -> list[Array]:
        """Raises TrainingFailed when AutoGluon does not train every model."""
        with tempfile.TemporaryDirectory(prefix="qbot-evaluate-") as name:
            predictor = fit_predictor(fit, tune, Path(name) / "predictor", symbols, self._seconds)
            return [predict_returns(predictor, rows, symbols) for rows in ahead]


def _outcomes(rows: pd.DataFrame, predicted: Array, auto: Autoregression, horizon: int, fold: int) -> pd.DataFrame:
    """One row a forecast, with what happened."""
    return rows[[*KEYS, "close", "time_of_day"]].assign(
        horizon_minutes=horizon,
        fold=fold,
        predicted=predicted,
        actual=rows[LABEL].to_numpy(dtype=float),
        volatility=rows["realised_vol_78"].to_numpy(dtype=float),
        ar_predicted=auto.returns(rows, horizon),
    )


def _up_rate(actual: Array) -> float:
    """Share of rises among the moves, 0.5 when there were none."""
    moved = actual[actual != 0.0]
    return float((moved > 0).mean()) if len(moved) else 0.5


def _typical(rows: pd.DataFrame) -> float:
    volatility = rows["volatility"].to_numpy(dtype=float)
    return float(np.nanmedian(volatility)) if np.isfinite(volatility).any() else float(rows["actual"].std())


def _spread(rows: pd.DataFrame, typical: float) -> Array:
    """One-bar volatility, the usual where it is not known."""
    volatility = rows["volatility"].to_numpy(dtype=float)
    return np.where(np.isfinite(volatility) & (volatility > 0), volatility, max(typical, 1e-6))
