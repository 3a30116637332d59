"""Confidence is how often the direction is right, an interval holds what it says, and chance is no skill."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot.calibration import SHARE, TRACKED_MAX, WIDE_SHARE, Calibration, fit_calibration, width_factor
from qbot.expected_move import ExpectedMove, fit_expected_move
from qbot.features import build_features, label_returns
from qbot.types import SLOTS
from tests.support.calibrations import calibration
from tests.support.made_up_market import made_up_bars

CALIBRATION = calibration()
ROWS = 400  # of a day
Sample = tuple[np.ndarray, np.ndarray, pd.DataFrame, np.ndarray]


def sample(seed: int, strength: float, rise: float = 0.0, wilder: float = 1.0) -> Sample:
    """Forecasts and outcomes of twenty days. Outcomes are as wild as each ticker is, and more so after the open."""
    random = np.random.default_rng(seed)
    count = 20 * ROWS
    volatility = random.uniform(0.0005, 0.003, count)
    slot = np.tile(np.arange(ROWS) % SLOTS + 1, 20)
    predicted = random.normal(0.0, 0.0005, count)
    size = wilder * volatility * np.where(slot <= 6, 2.0, 1.0)
    actual = rise + strength * predicted + random.normal(0.0, 1.0, count) * size
    rows = pd.DataFrame(
        {
            "realised_vol_12": volatility * np.exp(random.normal(0.0, 0.2, count)),
            "realised_vol_78": volatility,
            "realised_vol_week": volatility,
            "market_vol_12": 0.001,
            "time_of_day": slot / SLOTS,
        }
    )
    return predicted, actual, rows, np.repeat(np.arange(20).astype(str).astype(object), ROWS)


def moves(seed: int = 9) -> ExpectedMove:
    _, actual, rows, _ = sample(seed, strength=0.0)
    return fit_expected_move(rows, actual)


def fitted(seed: int, strength: float, rise: float = 0.0) -> Calibration:
    return fit_calibration(15, moves(), *sample(seed, strength, rise))


@given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=20))
def test_confidence_lies_between_a_half_and_one_and_grows_with_the_prediction(returns: list[float]) -> None:
    ordered = np.array(sorted(returns, key=abs))
    confidence = CALIBRATION.confidence(ordered)
    assert (confidence >= 0.5).all() and (confidence <= 1.0).all() and (np.diff(confidence) >= 0).all()


@given(st.floats(-0.2, 0.2), st.floats(-1.0, 1.0))
def test_the_confidence_in_a_direction_is_the_probability_of_that_direction(predicted: float, lean: float) -> None:
    leaning = calibration(lean=lean)
    up, confidence = leaning.up(np.array([predicted]))[0], leaning.confidence(np.array([predicted]))[0]
    assert confidence == (up if predicted > 0 else 1.0 - up if predicted < 0 else 0.5)


def test_a_prediction_larger_than_any_seen_is_not_trusted_more_than_the_largest_seen() -> None:
    assert CALIBRATION.confidence(np.array([0.003]))[0] == CALIBRATION.confidence(np.array([0.2]))[0]


def test_confidence_is_how_often_the_direction_was_right_on_other_days() -> None:
    predicted, actual, _, _ = sample(2, strength=1.0)
    confidence, right = fitted(1, strength=1.0).confidence(predicted), np.sign(predicted) == np.sign(actual)
    for low, high in ((0.0, 0.5), (0.5, 0.9), (0.9, 1.0)):
        among = (confidence >= np.quantile(confidence, low)) & (confidence <= np.quantile(confidence, high))
        assert confidence[among].mean() == pytest.approx(right[among].mean(), abs=0.04)
    assert confidence.max() > 0.6


def test_predictions_without_skill_get_hardly_more_than_a_half() -> None:
    move = moves()
    tops = [
        float(fit_calibration(15, move, *sample(seed, strength=0.0)).confidence(np.array([0.1]))[0])
        for seed in range(15)
    ]
    assert max(tops) < 0.56 and np.median(tops) < 0.51


def test_wrong_way_predictions_tell_nothing_of_the_direction() -> None:
    wrong = fitted(1, strength=-1.0)
    assert wrong.slope_fitted < 0 and wrong.slope == 0.0 and len(set(wrong.up(np.array([-0.1, 0.0, 0.1])))) == 1


def test_a_market_that_clearly_rises_is_leant_on_and_one_that_may_rise_by_chance_is_not() -> None:
    assert fitted(1, strength=0.0, rise=0.0005).up(np.array([0.0]))[0] > 0.55
    by_chance = [abs(fitted(seed, strength=0.0).lean) for seed in range(15)]
    assert np.median(by_chance) < 0.01 and max(by_chance) < 0.06


def test_a_predictor_that_always_says_no_change_can_be_calibrated() -> None:
    _, actual, rows, sessions = sample(1, strength=0.0)
    found = fit_calibration(15, moves(), np.zeros(len(actual)), actual, rows, sessions)
    assert found.slope == 0.0 and found.confidence(np.array([0.0]))[0] == 0.5


@pytest.mark.parametrize(("wide", "share"), [(False, SHARE), (True, WIDE_SHARE)])
def test_an_interval_holds_its_share_of_calm_and_wild_tickers_at_every_time_of_day(wide: bool, share: float) -> None:
    predicted, actual, rows, _ = sample(2, strength=1.0)
    low, high = fitted(1, strength=1.0).interval(predicted, rows, wide=wide)
    inside = (actual >= low) & (actual <= high)
    opening = rows["time_of_day"] <= 6 / SLOTS
    for group in (rows["realised_vol_78"] < 0.001, rows["realised_vol_78"] > 0.002, opening, ~opening):
        assert inside[group].mean() == pytest.approx(share, abs=0.025)


def test_a_part_of_the_day_that_became_wilder_since_the_training_gets_wider_intervals_alone() -> None:
    predicted, actual, rows, sessions = sample(1, strength=0.0)
    late = (rows["time_of_day"] > 66 / SLOTS).to_numpy()
    found = fit_calibration(15, moves(), predicted, np.where(late, 2.0, 1.0) * actual, rows, sessions)
    usual = fitted(1, strength=0.0).quantiles
    assert found.quantiles[-1] == pytest.approx(2.0 * usual[-1], rel=0.1)
    assert found.quantiles[:-1] == pytest.approx(usual[:-1], rel=1e-9)


def test_a_part_of_the_day_with_few_rows_has_the_quantile_of_all() -> None:
    predicted, actual, rows, sessions = sample(1, strength=0.0)
    few = np.arange(len(rows)) < 2 * ROWS
    found = fit_calibration(15, moves(), predicted[few], actual[few], rows[few], sessions[few])
    assert found.quantiles[0] == found.quantiles[-1] != fitted(1, strength=0.0).quantiles[0]


def test_a_row_whose_volatility_is_unknown_gets_the_usual_interval() -> None:
    rows = sample(1, strength=0.0)[2].iloc[[30]]  # about noon
    unknown = rows.assign(**{name: np.nan for name in rows if name != "time_of_day"})
    move = moves()
    assert move.of(unknown)[0] == pytest.approx(np.median(move.of(sample(2, 0.0)[2])), rel=0.5)


def test_on_bars_the_expected_move_is_positive_and_finite_for_every_row() -> None:
    bars = made_up_bars(("AAA", "BBB"), sessions=8, seed=1)
    rows, labels = build_features(bars), label_returns(bars, 30)["label_return"].to_numpy()
    known = np.isfinite(labels)
    found = fit_expected_move(rows[known], labels[known]).of(rows)
    assert (found > 0).all() and np.isfinite(found).all()


def test_a_market_twice_as_wild_as_ever_is_caught_up_with_within_weeks() -> None:
    """The shares outside are what the intervals of each day came to, so the factor steers itself."""
    found, outside = fitted(1, strength=0.0), list[float]()
    for day in range(60):
        predicted, actual, rows, _ = sample(100 + day, strength=0.0, wilder=1.5)
        low, high = found.interval(predicted, rows, width_factor(outside))
        outside.append(float(((actual < low) | (actual > high)).mean()))
    assert outside[0] > 0.35 and np.mean(outside[-10:]) == pytest.approx(1 - SHARE, abs=0.03)


def test_days_that_turned_out_as_forecast_change_nothing() -> None:
    assert width_factor([]) == 1.0 and width_factor([0.2] * 50) == pytest.approx(1.0)


@given(st.lists(st.floats(0.0, 1.0), max_size=200))
def test_whatever_happens_an_interval_is_at_most_doubled_or_halved(outside: list[float]) -> None:
    assert 1 / TRACKED_MAX - 1e-9 <= width_factor(outside) <= TRACKED_MAX + 1e-9


@pytest.mark.parametrize("nonsense", [float("nan"), float("inf"), -1.0, 2.0])
def test_a_share_that_is_none_changes_no_interval(nonsense: float) -> None:
    assert width_factor([0.5, nonsense]) == width_factor([0.5]) > 1.0
