"""Forecasts say no more than the calibration allows, and matured ones are compared with what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot.calibration import Calibration, fit_calibration
from qbot.forecast import RETURN_MAX_PCT, forecast_id, forecasts, matured, matures_at, outcome
from qbot.types import Forecast

NOW = datetime(2025, 7, 1, 15, 0, tzinfo=UTC)
CALIBRATION = Calibration(
    horizon_minutes=15,
    slope=0.2,
    slope_fitted=0.3,
    slope_error=0.1,
    scale=0.001,
    ratio_max=3.0,
    low_quantile=-2.0,
    high_quantile=1.5,
    typical_volatility=0.002,
    rows=100,
    sessions=5,
)


def rows_of(*symbols: str, close: float = 100.0, volatility: float = 0.001) -> pd.DataFrame:
    return pd.DataFrame({"symbol": symbols, "close": close, "realised_vol_78": volatility})


def issue(rows: pd.DataFrame, returns: list[float], **more: dict[str, float]) -> tuple[list[Forecast], int]:
    batch = forecasts(rows, {15: np.array(returns)}, {15: CALIBRATION}, {15: "h15-x"}, {15: False}, NOW, **more)
    return batch.forecasts, batch.dropped


def a_forecast(return_pct: float = 0.01, issued_at: datetime = NOW, horizon: int = 15) -> Forecast:
    return Forecast("id", "AAA", horizon, issued_at, 100.0, return_pct, -0.02, 0.02, 0.6, "h15-x", True)


def test_a_forecast_carries_its_price_its_interval_and_who_made_it() -> None:
    made, dropped = issue(rows_of("AAA"), [0.002])
    confidence = 1 / (1 + np.exp(-0.2 * 2))
    assert made == [
        Forecast(
            "AAA:15:20250701T150000", "AAA", 15, NOW, 100.0, 0.002, 0.0, 0.0035, made[0].confidence, "h15-x", False
        )
    ]
    assert made[0].confidence == pytest.approx(confidence) and made[0].target_price_usd == pytest.approx(100.2)
    assert dropped == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, RETURN_MAX_PCT * 1.01])
def test_an_unusable_prediction_gives_no_forecast_and_is_counted(bad: float) -> None:
    made, dropped = issue(rows_of("AAA", "BBB"), [bad, 0.001])
    assert [each.symbol for each in made] == ["BBB"] and dropped == 1


@pytest.mark.parametrize("price", [{}, {"AAA": 0.0}, {"AAA": float("nan")}, {"AAA": -1.0}])
def test_without_a_usable_price_there_is_no_forecast(price: dict[str, float]) -> None:
    made, dropped = issue(rows_of("AAA"), [0.001], prices=price)
    assert made == [] and dropped == 1


def test_a_given_price_takes_the_place_of_the_last_close() -> None:
    made, _ = issue(rows_of("AAA"), [0.001], prices={"AAA": 120.0})
    assert made[0].current_price_usd == 120.0 and made[0].target_price_usd == pytest.approx(120.12)


def test_the_same_tick_makes_the_same_ids_and_another_makes_others() -> None:
    first, _ = issue(rows_of("AAA", "BBB"), [0.001, 0.002])
    again, _ = issue(rows_of("AAA", "BBB"), [0.001, 0.002])
    assert first == again and len({each.forecast_id for each in first}) == 2
    assert forecast_id("AAA", 15, NOW) != forecast_id("AAA", 15, NOW + timedelta(seconds=1))


@given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=20))
def test_confidence_lies_between_a_half_and_one_and_grows_with_the_prediction(returns: list[float]) -> None:
    ordered = np.array(sorted(returns, key=abs))
    confidence = CALIBRATION.confidence(ordered)
    assert (confidence >= 0.5).all() and (confidence <= 1.0).all() and (np.diff(confidence) >= 0).all()


def test_a_prediction_larger_than_any_seen_is_not_trusted_more_than_the_largest_seen() -> None:
    assert CALIBRATION.confidence(np.array([0.003]))[0] == CALIBRATION.confidence(np.array([0.2]))[0]


def test_a_row_without_volatility_gets_the_usual_interval() -> None:
    low, high = CALIBRATION.interval(np.array([0.0]), np.array([np.nan]))
    assert (low[0], high[0]) == pytest.approx((-0.004, 0.003))


def sample(seed: int, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    volatility = random.uniform(0.0005, 0.003, 8_000)
    predicted = random.normal(0.0, 0.0005, 8_000)
    actual = strength * predicted + random.normal(0.0, 1.0, 8_000) * volatility
    return predicted, actual, volatility, np.repeat(np.arange(20).astype(str).astype(object), 400)


def test_confidence_is_how_often_the_direction_was_right_on_other_days() -> None:
    calibration = fit_calibration(15, *sample(1, strength=1.0))
    predicted, actual, _, _ = sample(2, strength=1.0)
    confidence, right = calibration.confidence(predicted), np.sign(predicted) == np.sign(actual)
    for low, high in ((0.0, 0.5), (0.5, 0.9), (0.9, 1.0)):
        among = (confidence >= np.quantile(confidence, low)) & (confidence <= np.quantile(confidence, high))
        assert confidence[among].mean() == pytest.approx(right[among].mean(), abs=0.04)
    assert confidence.max() > 0.6


def test_predictions_without_skill_get_hardly_more_than_a_half() -> None:
    tops = [
        float(fit_calibration(15, *sample(seed, strength=0.0)).confidence(np.array([0.1]))[0]) for seed in range(30)
    ]
    assert max(tops) < 0.56 and np.median(tops) == 0.5


def test_wrong_way_predictions_get_exactly_a_half() -> None:
    calibration = fit_calibration(15, *sample(1, strength=-1.0))
    assert calibration.slope_fitted < 0 and calibration.confidence(np.array([0.1]))[0] == 0.5


def test_a_predictor_that_always_says_no_change_can_be_calibrated() -> None:
    _, actual, volatility, sessions = sample(1, strength=0.0)
    calibration = fit_calibration(15, np.zeros(len(actual)), actual, volatility, sessions)
    assert calibration.confidence(np.array([0.0, 0.1])).tolist() == [0.5, 0.5]


def test_the_interval_holds_eight_of_ten_outcomes_of_calm_and_wild_tickers_alike() -> None:
    calibration = fit_calibration(15, *sample(1, strength=1.0))
    predicted, actual, volatility, _ = sample(2, strength=1.0)
    low, high = calibration.interval(predicted, volatility)
    inside = (actual >= low) & (actual <= high)
    for group in (volatility < 0.001, volatility > 0.002):
        assert inside[group].mean() == pytest.approx(0.8, abs=0.05)


def test_a_matured_forecast_is_compared_with_the_price_that_came() -> None:
    result = matured(a_forecast(0.01), 101.5)
    assert result.deviation_pct == pytest.approx((101.5 - 101.0) / 101.5)
    assert result.direction_right and result.inside_interval
    assert not matured(a_forecast(0.01), 97.0).direction_right and not matured(a_forecast(0.01), 97.0).inside_interval
    assert matures_at(a_forecast()) == NOW + timedelta(minutes=15)


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_forecast_is_not_compared_with_what_is_no_price(price: float) -> None:
    with pytest.raises(ValueError, match="no price"):
        matured(a_forecast(), price)


@pytest.mark.parametrize(
    ("made", "ended", "same_day", "expected"),
    [
        (100.0, 101.0, True, (101.0, None)),
        (None, 101.0, True, (101.0, None)),
        (100.0, None, True, (None, "no bar")),
        (100.4, 101.0, False, (101.0, None)),  # a vendor's correction
        (50.0, 50.5, False, (101.0, None)),  # both bars told anew after a split of 2 for 1
        (1_000.0, 1_010.0, False, (101.0, None)),  # after one of 1 for 10
        (100.0, 50.5, False, (None, "split")),  # the bar at issue was not told anew
        (100.0, 1_005.0, False, (None, "split")),
        (None, 50.5, False, (None, "split")),
        (100.0, 50.5, True, (50.5, None)),  # of this day: a crash, which counts
        (100.0, 80.0, False, (80.0, None)),
    ],
)
def test_what_a_corporate_action_does_to_prices_is_no_deviation(
    made: float | None, ended: float | None, same_day: bool, expected: tuple[float | None, str | None]
) -> None:
    price, why = outcome(100.0, made, ended, same_day=same_day)
    assert (price, why) == (None if expected[0] is None else pytest.approx(expected[0]), expected[1])
