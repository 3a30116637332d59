"""A walk-forward knows at no time what came later, and gives every test day one forecast a ticker and bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.errors import EvaluationError
from qbot.evaluation import evaluate
from qbot.evaluation_words import grade, overall, verdict
from qbot.features import build_features, label_returns
from qbot.splits import Split
from qbot.walk_forward import FORECAST_COLUMNS, Fold, Plan, plan_folds, require_known, run_fold, walk
from tests.support.made_up_market import made_up_bars

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
SMALL = Plan(train=20, train_min=10, calibrate=6, test=6)


class LeastSquares:
    """A quick fitter: the return on the return before it, through the origin. Remembers what it was shown."""

    def __init__(self, shuffled: bool = False) -> None:
        self.seen: list[tuple[pd.DataFrame, pd.DataFrame, list[pd.DataFrame]]] = []
        self._shuffled = shuffled

    def __call__(
        self, fit: pd.DataFrame, tune: pd.DataFrame, ahead: Sequence[pd.DataFrame], symbols: tuple[str, ...]
    ) -> list[npt.NDArray[np.float64]]:
        self.seen.append((fit, tune, list(ahead)))
        before, label = fit["return_1"].fillna(0.0).to_numpy(), fit["label"].to_numpy()
        if self._shuffled:
            label = np.random.default_rng(4).permutation(label)
        slope = float(before @ label / (before @ before))
        return [slope * rows["return_1"].fillna(0.0).to_numpy() for rows in ahead]


def days_from(count: int) -> list[date]:
    return [date(2024, 1, 1) + timedelta(days=day) for day in range(count)]


@settings(max_examples=60)
@given(st.integers(12, 300), st.integers(5, 60), st.integers(2, 20), st.integers(2, 20), st.booleans())
def test_folds_lie_in_time_order_with_an_embargo_and_their_tests_follow_each_other(
    count: int, train_min: int, calibrate: int, test: int, rolling: bool
) -> None:
    plan = Plan(train=train_min if rolling else 1_000, train_min=train_min, calibrate=calibrate, test=test)
    days = days_from(count)
    if count < plan.sessions_min:
        with pytest.raises(EvaluationError, match=f"{count} sessions of bars, {plan.sessions_min} needed"):
            plan_folds(days, plan)
        return
    folds = plan_folds(days[::-1], plan)
    for fold in folds:
        split = fold.split
        assert split.fit[-1] < split.tune[0]
        assert split.calibrate[0] - split.tune[-1] == split.test[0] - split.calibrate[-1] == timedelta(days=2)
        assert len(split.calibrate) == calibrate and len(split.test) == test
        assert train_min <= len(split.fit) + len(split.tune) <= plan.train
    assert folds[-1].split.test[-1] == days[-1]
    assert all(later.split.test[0] - earlier.split.test[-1] == timedelta(days=1) for earlier, later in pairwise(folds))


def test_only_the_last_folds_when_so_many_are_asked_for() -> None:
    every = plan_folds(days_from(100), SMALL)
    last = plan_folds(days_from(100), replace(SMALL, folds=2))
    assert [fold.split for fold in last] == [fold.split for fold in every[-2:]] and len(every) > 2


def test_no_label_that_was_not_known_when_a_part_began_is_used_and_the_fitter_sees_none_of_what_it_is_asked() -> None:
    fitter, told = LeastSquares(), list[str]()
    bars = made_up_bars(SYMBOLS, sessions=32, seed=2)
    walked = walk(bars, fitter, SMALL, (15, 60), told.append)
    assert len(fitter.seen) == len(told) == len(walked.folds) * 2 == 4
    for fit, tune, (calibrate, test) in fitter.seen:
        assert fit["matures_at"].max() <= tune["known_at"].min()
        assert tune["matures_at"].max() <= calibrate["known_at"].min()
        assert {"label", "matures_at"}.isdisjoint(calibrate.columns) and {"label", "matures_at"}.isdisjoint(test)
        assert calibrate["known_at"].max() + pd.Timedelta(minutes=60) <= test["known_at"].min()
    assert list(walked.forecasts.columns) == FORECAST_COLUMNS
    assert not walked.forecasts.duplicated(["symbol", "known_at", "horizon_minutes"]).any()
    fifteen = walked.forecasts[walked.forecasts["horizon_minutes"] == 15]
    assert len(fifteen) == 2 * 6 * 75 * len(SYMBOLS), "every bar of the tests whose outcome lies within its session"
    assert walked.symbols == SYMBOLS


def test_a_planted_overlap_is_caught() -> None:
    bars = made_up_bars(SYMBOLS, sessions=12, seed=2)
    labels = label_returns(bars, 15)
    rows = labels.assign(session=labels["ts"].dt.tz_convert("America/New_York").dt.date)
    first, second = rows[rows["session"] == rows["session"].min()], rows[rows["session"] > rows["session"].min()]
    require_known((first, second))
    with pytest.raises(EvaluationError, match="labels of a part were not known"):
        require_known((first.assign(matures_at=first["matures_at"] + pd.Timedelta(days=3)), second))


def test_labels_that_reach_over_the_embargo_are_purged() -> None:
    bars = made_up_bars(SYMBOLS, sessions=30, seed=2)
    labels = label_returns(bars, 15)
    rows = build_features(bars).assign(
        session=labels["ts"].dt.tz_convert("America/New_York").dt.date,
        matures_at=labels["matures_at"] + pd.Timedelta(days=5),
        label=labels["label_return"],
    )
    days = sorted(rows["session"].unique())
    fitter = LeastSquares()
    split = Split(fit=tuple(days[:12]), tune=tuple(days[12:18]), calibrate=tuple(days[19:24]), test=tuple(days[25:]))
    run_fold(rows.dropna(subset=["label"]), Fold(1, split), 15, fitter)
    fit, tune, (calibrate, _) = fitter.seen[0]
    assert fit["session"].max() < days[11] and fit["matures_at"].max() <= tune["known_at"].min()
    assert tune["matures_at"].max() <= calibrate["known_at"].min()


def test_what_comes_after_a_fold_changes_nothing_in_it() -> None:
    bars = made_up_bars(SYMBOLS, sessions=34, seed=6)
    days = bars["ts"].dt.tz_convert("America/New_York").dt.date
    whole = walk(bars, LeastSquares(), SMALL, (15,)).forecasts
    cut = walk(bars[days <= sorted(days.unique())[-7]], LeastSquares(), SMALL, (15,)).forecasts
    both = whole[whole["session"].isin(cut["session"].unique())]
    shown = ["symbol", "known_at", "predicted", "actual", "confidence", "low_80", "high_95", "base_80", "up_rate"]
    pd.testing.assert_frame_equal(both[shown].reset_index(drop=True), cut[shown].reset_index(drop=True))


def test_shuffled_labels_score_as_chance_and_are_told_as_no_skill() -> None:
    bars = made_up_bars(SYMBOLS, sessions=32, seed=3, momentum=0.0)
    horizon = evaluate(walk(bars, LeastSquares(shuffled=True), SMALL, (15,)).forecasts).horizons[0]
    auc = horizon.direction.auc
    assert auc is not None and auc.low is not None and auc.high is not None
    assert auc.low < 0.5 < auc.high
    assert grade(horizon) == "none"
    assert verdict(horizon).headline.startswith("No skill at 15 minutes: the forecast is not better than")


def test_a_market_with_planted_skill_gets_a_verdict_of_skill() -> None:
    bars = made_up_bars(SYMBOLS, sessions=32, seed=3, momentum=0.6)
    found = evaluate(walk(bars, LeastSquares(), SMALL, (15,)).forecasts)
    horizon = found.horizons[0]
    assert horizon.skilled and horizon.model.mae_usd < horizon.naive.mae_usd
    assert horizon.direction.auc is not None and (horizon.direction.auc.low or 0.0) > 0.55
    assert verdict(horizon).headline.startswith("Skill at 15 minutes: the forecast price is")
    assert overall(found).startswith("Skill at 15 minutes")


def test_a_ticker_that_came_too_late_to_be_trained_on_is_not_forecast() -> None:
    bars = made_up_bars(SYMBOLS, sessions=32, seed=3)
    days = sorted(bars["ts"].dt.date.unique())
    late = (bars["symbol"] == "DDD") & (bars["ts"].dt.date < days[-10])
    walked = walk(bars[~late], LeastSquares(), SMALL, (15,))
    assert walked.symbols == ("AAA", "BBB", "CCC")


def test_a_fold_without_labels_says_which_and_what_is_needed() -> None:
    bars = made_up_bars(SYMBOLS, sessions=32, seed=3)
    with pytest.raises(EvaluationError, match=r"fold 1 .* too few labels for 15 minutes"):
        walk(bars[bars.groupby(["symbol", bars["ts"].dt.date]).cumcount() < 20], LeastSquares(), SMALL, (15,))


def test_naive_times_are_refused() -> None:
    bars = made_up_bars(SYMBOLS, sessions=30, seed=3)
    with pytest.raises(ValueError, match="aware UTC"):
        walk(bars.assign(ts=bars["ts"].dt.tz_localize(None)), LeastSquares(), SMALL, (15,))
