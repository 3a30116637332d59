"""The autoregression is statsmodels' own, knows the fitted days alone, and forecasts as its recursion does."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.ar_model import AutoReg

from qbot.baselines import LAGS, Autoregression, fit_autoregression
from qbot.features import build_features
from tests.support.made_up_market import made_up_bars


def rows_of(bars: pd.DataFrame) -> pd.DataFrame:
    rows = build_features(bars)
    return rows.assign(session=rows["ts"].dt.tz_convert("America/New_York").dt.date)


def test_on_one_unbroken_series_it_is_autoreg() -> None:
    bars = made_up_bars(("AAA",), sessions=1, seed=3, momentum=0.4)
    series = np.diff(np.log(bars["close"].to_numpy()))
    expected = AutoReg(series, lags=LAGS, trend="n").fit().params
    np.testing.assert_allclose(fit_autoregression(rows_of(bars)).coefficients, expected, rtol=1e-9)


def test_planted_momentum_is_found_whatever_the_order_of_rows_and_the_scale_of_tickers() -> None:
    bars = made_up_bars(("AAA", "BBB"), sessions=20, seed=3, momentum=0.5)
    wild = bars["symbol"] == "BBB"
    prices = ["open", "high", "low", "close"]
    bars.loc[wild, prices] = (bars.loc[wild, prices] / 90.0) ** 3  # three times as volatile
    found = fit_autoregression(rows_of(bars)).coefficients
    np.testing.assert_allclose(found, [0.5, 0.0, 0.0], atol=0.06)


def test_no_run_of_bars_reaches_across_a_night_a_gap_or_missing_rows() -> None:
    rows = rows_of(made_up_bars(("AAA",), sessions=3, seed=3))
    late = rows[rows["time_of_day"] == 1.0]  # the last bar of each day: its next one is another day's
    assert fit_autoregression(pd.concat([late] * 20)).coefficients == (0.0,) * LAGS
    every_other = rows.iloc[::2]
    assert fit_autoregression(every_other).coefficients == (0.0,) * LAGS


@pytest.mark.parametrize("horizon", [15, 30, 60])
def test_a_forecast_is_the_recursion_summed_up(horizon: int) -> None:
    rows = rows_of(made_up_bars(("AAA", "BBB"), sessions=1, seed=3))
    model = Autoregression((0.4, -0.2, 0.1))
    close = made_up_bars(("AAA",), sessions=1, seed=3)["close"].to_numpy()
    past = list(np.diff(np.log(close[36:40]))[::-1])
    total = 0.0
    for _ in range(horizon // 5):
        following = float(np.dot(model.coefficients, past[:3]))
        past.insert(0, following)
        total += following
    at = (rows["symbol"] == "AAA").to_numpy().nonzero()[0][39]
    found = model.returns(rows, horizon)
    assert found[at] == pytest.approx(np.expm1(total), rel=1e-9)
    assert np.isfinite(found).all() and found[0] == 0.0, "before the first bar nothing moved"
