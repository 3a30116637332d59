"""Forecasts say no more than the calibration allows, and matured ones are compared with what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qbot.expected_move import VOLATILITIES
from qbot.forecast import RETURN_MAX_PCT, forecast_id, forecasts, matured, matures_at, outcome
from qbot.types import Forecast
from tests.support.calibrations import calibration

NOW = datetime(2025, 7, 1, 15, 0, tzinfo=UTC)
CALIBRATION = calibration()


def rows_of(*symbols: str, close: float = 100.0) -> pd.DataFrame:
    return pd.DataFrame({"symbol": symbols, "close": close, **dict.fromkeys(VOLATILITIES, 0.001), "time_of_day": 0.5})


def issue(rows: pd.DataFrame, returns: list[float], **more: Any) -> tuple[list[Forecast], int]:
    batch = forecasts(rows, {15: np.array(returns)}, {15: CALIBRATION}, {15: "h15-x"}, {15: False}, NOW, **more)
    return batch.forecasts, batch.dropped


def a_forecast(return_pct: float = 0.01, issued_at: datetime = NOW, horizon: int = 15) -> Forecast:
    return Forecast("id", "AAA", horizon, issued_at, 100.0, return_pct, -0.02, 0.02, 0.6, "h15-x", True)


def test_a_forecast_carries_its_price_its_interval_and_who_made_it() -> None:
    made, dropped = issue(rows_of("AAA"), [0.002])
    confidence = 1 / (1 + np.exp(-0.2 * 2))
    low, high = made[0].low_return_pct, made[0].high_return_pct
    assert made == [
        Forecast("AAA:15:20250701T150000", "AAA", 15, NOW, 100.0, 0.002, low, high, made[0].confidence, "h15-x", False)
    ]
    assert (low, high) == pytest.approx((-0.001, 0.005))
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


def test_an_interval_is_widened_by_what_was_learnt_since_the_training() -> None:
    (made,), _ = issue(rows_of("AAA"), [0.002], width_factors={15: 1.5})
    assert (made.low_return_pct, made.high_return_pct) == pytest.approx((0.002 - 0.0045, 0.002 + 0.0045))


def test_the_same_tick_makes_the_same_ids_and_another_makes_others() -> None:
    first, _ = issue(rows_of("AAA", "BBB"), [0.001, 0.002])
    again, _ = issue(rows_of("AAA", "BBB"), [0.001, 0.002])
    assert first == again and len({each.forecast_id for each in first}) == 2
    assert forecast_id("AAA", 15, NOW) != forecast_id("AAA", 15, NOW + timedelta(seconds=1))


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
