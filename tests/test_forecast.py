"""Forecasts say no more than the calibration allows, and matured ones are compared with what happened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from qbot.expected_move import VOLATILITIES
from qbot.forecast import RETURN_MAX_PCT, forecast_id, forecasts, matured, matures_at, quality
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


def test_quality_is_told_per_horizon_in_the_documented_units() -> None:
    items = [
        matured(a_forecast(0.01), 100.0),
        matured(a_forecast(0.01), 103.0),
        matured(a_forecast(0.0, horizon=60), 99.0),
    ]
    told = quality(items, NOW + timedelta(hours=1))
    assert list(told) == ["15", "60"]
    first = told["15"]
    assert (first["count"], first["mae"], first["naive_mae"]) == (2, pytest.approx(1.5), pytest.approx(1.5))
    assert first["rmse"] == pytest.approx(np.sqrt((1 + 4) / 2))
    assert first["mape"] == pytest.approx((1 / 100 + 2 / 103) / 2 * 100)
    assert first["avg_deviation"] == pytest.approx((-1 / 100 + 2 / 103) / 2 * 100)
    assert (first["direction_right"], first["inside_interval"]) == (0.5, 0.5)


def test_quality_counts_only_what_matured_in_the_last_day() -> None:
    due = NOW + timedelta(minutes=15)
    items = [matured(a_forecast(), 100.0)]
    assert quality(items, due - timedelta(seconds=1)) == {}
    assert quality(items, due)["15"]["count"] == 1
    assert quality(items, due + timedelta(hours=24)) == {}
