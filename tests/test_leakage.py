"""Each test plants a leak and sees it caught, and sees that QBot's own pipeline has none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qbot import candidates
from qbot.artifacts import model_input
from qbot.baselines import fit_autoregression
from qbot.features import FEATURES, build_features, label_returns
from qbot.skill import AUC_BELIEVABLE, measure, too_good
from qbot.splits import EMBARGO_SESSIONS, Split, part, parts, split_sessions
from qbot.training import LABEL, WEIGHT, fit_predictor, predict_returns, training_data
from tests.support.leakage import (
    better_than_chance,
    columns_that_know_the_future,
    parts_that_overlap,
    rows_labelled_wrongly,
    unseen_rows_that_matter,
)
from tests.support.made_up_market import made_up_bars

SYMBOLS = ("AAPL", "MSFT", "SPY")
BARS = made_up_bars(SYMBOLS, sessions=14, seed=11)
NOW = datetime(2025, 4, 1, 20, 0, tzinfo=UTC)
EMBARGO = (0, EMBARGO_SESSIONS, EMBARGO_SESSIONS)
HORIZON = 15


def labelled(bars: pd.DataFrame, horizon: int = HORIZON) -> pd.DataFrame:
    """Rows as the training has them."""
    rows, labels = build_features(bars), label_returns(bars, horizon)
    rows["session"] = rows["ts"].dt.tz_convert("America/New_York").dt.date
    return rows.assign(matures_at=labels["matures_at"], label=labels["label_return"]).dropna(subset=[LABEL])


ROWS = labelled(BARS)
SPLIT = split_sessions(ROWS["session"].unique().tolist())
assert SPLIT is not None
PARTS = parts(ROWS, SPLIT)


# --- a feature that knows what comes -----------------------------------------------------------------------------


def leaking_next_close(bars: pd.DataFrame) -> pd.DataFrame:
    rows = build_features(bars)
    return rows.assign(rsi_14=rows["rsi_14"] + rows.groupby("symbol")["close"].shift(-1).fillna(0.0) * 1e-9)


def leaking_one_bar(bars: pd.DataFrame) -> pd.DataFrame:
    rows = build_features(bars)
    return rows.assign(return_1=rows.groupby("symbol")["return_1"].shift(-1))


def leaking_a_scaler(bars: pd.DataFrame) -> pd.DataFrame:
    rows = build_features(bars)
    return rows.assign(macd=(rows["macd"] - rows["macd"].mean()) / rows["macd"].std())


def leaking_the_days_volume(bars: pd.DataFrame) -> pd.DataFrame:
    rows = build_features(bars)
    day = rows["ts"].dt.date
    return rows.assign(volume=rows["volume"] - rows.groupby(["symbol", day])["volume"].transform("median"))


@pytest.mark.parametrize(
    ("leaking", "column"),
    [
        (leaking_next_close, "rsi_14"),
        (leaking_one_bar, "return_1"),
        (leaking_a_scaler, "macd"),
        (leaking_the_days_volume, "volume"),
    ],
)
def test_a_feature_that_knows_the_future_is_caught_and_ours_do_not(leaking: object, column: str) -> None:
    known_at = BARS["ts"].iloc[500]
    assert columns_that_know_the_future(leaking, BARS, known_at, FEATURES) == {column}
    assert columns_that_know_the_future(build_features, BARS, known_at, FEATURES) == set()


# --- off by one bar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bars_off", [-1, 1])
def test_a_label_that_is_off_by_one_bar_is_caught_and_ours_is_not(bars_off: int) -> None:
    few = BARS.drop(index=[40, 200])[lambda bars: bars["ts"] < BARS["ts"].iloc[3 * 78]]

    def off(bars: pd.DataFrame, horizon: int) -> pd.DataFrame:
        return label_returns(bars, horizon).assign(
            label_return=label_returns(bars, horizon + bars_off * 5)["label_return"]
        )

    def from_the_wrong_close(bars: pd.DataFrame, horizon: int) -> pd.DataFrame:
        rows = label_returns(bars, horizon)
        return rows.assign(label_return=rows.groupby("symbol")["label_return"].shift(bars_off))

    for horizon in (15, 60):
        assert rows_labelled_wrongly(off, few, horizon) > 100
        assert rows_labelled_wrongly(from_the_wrong_close, few, horizon) > 100
        assert rows_labelled_wrongly(label_returns, few, horizon) == 0


# --- overlap across the split ------------------------------------------------------------------------------------


def test_an_overlap_across_the_split_is_caught_and_ours_has_none() -> None:
    assert parts_that_overlap(PARTS, EMBARGO) == []
    assert SPLIT is not None
    days = sorted(set(ROWS["session"]))
    at = days.index(SPLIT.test[0])
    near = replace(SPLIT, calibrate=tuple(days[at - 3 : at]))  # no day left out
    assert parts_that_overlap(parts(ROWS, near), EMBARGO) == ["part 2 and the next are 1 days apart"]
    shared = Split(SPLIT.fit, (*SPLIT.fit[-1:], *SPLIT.tune), SPLIT.calibrate, SPLIT.test)
    unpurged = [part(ROWS, each) for each in (shared.fit, shared.tune, shared.calibrate, shared.test)]
    assert parts_that_overlap(unpurged, EMBARGO) == [
        "labels of part 0 reach into the next",
        "part 0 and the next are 0 days apart",
    ]


def test_a_label_that_reaches_past_the_split_is_caught_and_ours_are_purged() -> None:
    assert SPLIT is not None
    of_fit = ROWS["session"].isin(SPLIT.fit)
    overnight = ROWS.assign(matures_at=ROWS["matures_at"].mask(of_fit, ROWS["known_at"] + pd.Timedelta(days=4)))
    days = (SPLIT.fit, SPLIT.tune, SPLIT.calibrate, SPLIT.test)
    unpurged = [part(overnight, each) for each in days]
    assert parts_that_overlap(unpurged, EMBARGO) == ["labels of part 0 reach into the next"]
    assert parts_that_overlap(parts(overnight, SPLIT), EMBARGO) == []


# --- something fitted on all data --------------------------------------------------------------------------------


def test_a_scaler_fitted_on_all_data_is_caught_and_ours_know_the_fitted_days_alone() -> None:
    fit, _, _, test = PARTS

    def median_of_all(known: pd.DataFrame, unseen: pd.DataFrame) -> float:
        return candidates.typical_volatility(pd.concat([known, unseen]))

    def drift_of_all(known: pd.DataFrame, unseen: pd.DataFrame) -> float:
        return float(pd.concat([known, unseen])[LABEL].mean())

    def ours(known: pd.DataFrame, unseen: pd.DataFrame) -> list[float]:
        fitted, _ = training_data(known, unseen, SYMBOLS)
        return [*fitted[LABEL], *fitted[WEIGHT], *fit_autoregression(known).coefficients]

    assert unseen_rows_that_matter(median_of_all, fit, test)
    assert unseen_rows_that_matter(drift_of_all, fit, test)
    assert not unseen_rows_that_matter(ours, fit, test)


def test_what_is_learnt_for_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    test = PARTS[3]
    alone = pd.concat([model_input(test.iloc[[at]], SYMBOLS) for at in range(5)])
    pd.testing.assert_frame_equal(alone, model_input(test.head(5), SYMBOLS))


# --- shuffled labels, and what is too good -----------------------------------------------------------------------


def test_shuffled_labels_score_as_chance_and_a_planted_future_is_called_too_good(tmp_path: Path) -> None:
    fit, tune, _, test = PARTS
    random = np.random.default_rng(5)
    shuffled = [rows.assign(label=random.permutation(rows[LABEL].to_numpy())) for rows in (fit, tune, test)]
    predictor = fit_predictor(shuffled[0], shuffled[1], tmp_path / "shuffled", SYMBOLS, 15)
    of_nothing, actual = predict_returns(predictor, shuffled[2], SYMBOLS), shuffled[2][LABEL].to_numpy()
    assert not better_than_chance(of_nothing, actual)
    metrics = measure(test["close"].to_numpy(), of_nothing, actual, test["session"].to_numpy(dtype=object))
    assert not metrics.skilled and too_good(metrics) is None

    planted = [rows.assign(rsi_14=rows[LABEL] + random.normal(0.0, 0.004, len(rows))) for rows in (fit, tune, test)]
    predictor = fit_predictor(planted[0], planted[1], tmp_path / "planted", SYMBOLS, 15)
    knowing, actual = predict_returns(predictor, planted[2], SYMBOLS), test[LABEL].to_numpy()
    assert better_than_chance(knowing, actual)
    metrics = measure(test["close"].to_numpy(), knowing, actual, test["session"].to_numpy(dtype=object))
    warning = too_good(metrics)
    assert metrics.auc is not None and metrics.auc > AUC_BELIEVABLE
    assert warning is not None and "looks like leakage" in warning
