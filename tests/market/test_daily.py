"""Indicators of daily bars: compared with a library's, and unknown where too few days lie before."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pandas_ta_classic as library
import pytest

from qbot.market import daily


def made_up(days: int) -> pd.DataFrame:
    steps = np.random.default_rng(7).normal(0.0005, 0.02, days)
    close = 100.0 * np.exp(np.cumsum(steps))
    at = pd.date_range("2025-01-02", periods=days, freq="B").date
    volume = np.random.default_rng(8).integers(1_000, 9_000, days)
    return pd.DataFrame({
        "symbol": "AAPL", "day": at, "open": close, "high": close * 1.01, "low": close * 0.99, "close": close,
        "volume": volume.astype(float),
    })  # fmt: skip


@pytest.mark.parametrize(("name", "theirs"), [
    ("sma_20", lambda d: library.sma(d["close"], 20, talib=False)),
    ("sma_200", lambda d: library.sma(d["close"], 200, talib=False)),
    ("rsi", lambda d: library.rsi(d["close"], 14, talib=False)),
    ("macd", lambda d: library.macd(d["close"], talib=False).iloc[:, 0]),
    ("macd_signal", lambda d: library.macd(d["close"], talib=False).iloc[:, 2]),
    ("bb_upper", lambda d: library.bbands(d["close"], 20, 2, ddof=0, talib=False).iloc[:, 2]),
    ("bb_lower", lambda d: library.bbands(d["close"], 20, 2, ddof=0, talib=False).iloc[:, 0]),
])  # fmt: skip
def test_an_indicator_is_the_library_s(name: str, theirs: object) -> None:
    days = made_up(300)
    ours = daily.with_indicators(days)[name].to_numpy()
    expected = theirs(days).to_numpy()  # type: ignore[operator]
    # They begin exponential means in ways of their own; after some weeks nothing is left of that.
    np.testing.assert_allclose(ours[200:], expected[200:], rtol=1e-4)


def test_an_indicator_that_too_few_days_lie_before_is_unknown() -> None:
    found = daily.with_indicators(made_up(30)).iloc[-1]
    assert all(math.isnan(found[name]) for name in ("sma_50", "sma_200", "macd_signal"))
    assert all(math.isfinite(found[name]) for name in ("sma_20", "rsi", "macd", "bb_upper", "volume_ratio"))
    first = daily.rows_of(made_up(30))[0]
    assert [first[name] for name in daily.COLUMNS] == [None] * len(daily.COLUMNS)
    assert first["day"] == "2025-01-02"


@pytest.mark.parametrize("days", [0, 1, 13])
def test_hardly_any_days_are_no_trouble(days: int) -> None:
    assert len(daily.rows_of(made_up(days))) == days


def test_prices_that_do_not_move_and_days_without_volume_are_no_trouble() -> None:
    days = made_up(60).assign(close=100.0, volume=0.0)
    last = daily.rows_of(days)[-1]
    assert (last["rsi"], last["macd"], last["volume_ratio"]) == (50.0, 0.0, None)
    assert last["bb_upper"] == last["bb_lower"] == 100.0


def test_each_indicator_moves_as_its_prices_do() -> None:
    up = made_up(60).assign(close=np.linspace(100, 160, 60))
    last = daily.rows_of(up)[-1]
    assert last["rsi"] == 100.0
    assert last["macd"] > 0
    assert last["bb_lower"] < last["sma_20"] < last["bb_upper"]
