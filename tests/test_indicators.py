"""Our indicators, vectorised over tickers and free of price levels, are those of a library on the same series.

The series is the log price without the nights. Real bars: the sample that QBot ships.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pandas_ta_classic as ta
import pytest

import qbot.exchange
from qbot.features import build_features

SAMPLE = Path(qbot.exchange.__file__).parent / "sample" / "us_equity_5m.parquet"


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    found = pd.read_parquet(SAMPLE)
    found = found[found["symbol"].isin(["AAPL", "SPY"])]
    return found[found["ts"] < found["ts"].min() + pd.Timedelta(days=14)].sort_values(["symbol", "ts"])


@pytest.fixture(scope="module")
def ours(bars: pd.DataFrame) -> pd.DataFrame:
    rows = build_features(bars)
    return rows[rows["symbol"] == "AAPL"].reset_index(drop=True)


@pytest.fixture(scope="module")
def path(bars: pd.DataFrame) -> pd.Series:
    """The log price of AAPL, each session laid to the end of the one before."""
    aapl = bars[bars["symbol"] == "AAPL"].reset_index(drop=True)
    before = aapl.groupby(aapl["ts"].dt.date)["close"].shift(1).fillna(aapl["open"])
    return np.log(aapl["close"] / before).cumsum()


def assert_same(ours: pd.Series, theirs: pd.Series, warm_up: int) -> None:
    assert len(ours) == len(theirs) > 5 * 78 and theirs[warm_up:].notna().all()
    np.testing.assert_allclose(ours[warm_up:], theirs[warm_up:], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("width", [12, 78])
def test_the_distance_to_the_moving_average(ours: pd.DataFrame, path: pd.Series, width: int) -> None:
    assert_same(ours[f"sma_distance_{width}"], path - ta.sma(path, width), width)


def test_bollinger(ours: pd.DataFrame, path: pd.Series) -> None:
    bands = ta.bbands(path, 20, 2.0, ddof=1, talib=False)
    share = bands[next(name for name in bands if name.startswith("BBP"))]  # 0 at the lower band, 1 at the upper one
    assert_same(ours["bollinger_20"], 2.0 * share - 1.0, 20)


def test_macd_on_simple_averages(ours: pd.DataFrame, path: pd.Series) -> None:
    theirs = ta.apo(path, 12, 26, mamode="sma", talib=False)
    assert_same(ours["macd"], theirs, 26)
    assert_same(ours["macd_signal_gap"], theirs - ta.sma(theirs, 9), 26 + 9)
    usual = ta.macd(path, 12, 26, 9, talib=False)["MACD_12_26_9"]
    assert ours["macd"].corr(usual) > 0.9, "and it goes with the exponential one"


def test_rsi_by_cutler_is_the_chande_momentum_oscillator_on_another_scale(ours: pd.DataFrame, path: pd.Series) -> None:
    assert_same(ours["rsi_14"], (ta.cmo(path, 14, talib=False) / 100.0 + 1.0) / 2.0, 15)
    assert ours["rsi_14"].corr(ta.rsi(path, 14, talib=False)) > 0.7, "and it goes with Wilder's"


def test_vwap_of_the_session(ours: pd.DataFrame, bars: pd.DataFrame) -> None:
    aapl = bars[bars["symbol"] == "AAPL"].set_index("ts").tz_convert("America/New_York").tz_localize(None)
    vwap = ta.vwap(aapl["high"], aapl["low"], aapl["close"], aapl["volume"].astype(float), anchor="D")
    assert_same(ours["vwap_distance"], (aapl["close"] / vwap - 1.0).reset_index(drop=True), 0)


@pytest.mark.parametrize("width", [12, 78])
def test_realised_volatility(ours: pd.DataFrame, path: pd.Series, width: int) -> None:
    step = path.diff()
    spread, mean = ta.variance(step, width, ddof=0, talib=False), ta.sma(step, width)
    assert_same(ours[f"realised_vol_{width}"], np.sqrt(spread + mean**2), width + 1)
