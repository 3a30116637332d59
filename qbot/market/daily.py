"""Indicators of daily bars, as charts show them. Pure. For humans and frontends: no decision rests on them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

RSI_DAYS, MACD_DAYS, BAND_DAYS, VOLUME_DAYS = 14, (12, 26, 9), 20, 20
BAND_WIDTH = 2.0  # standard deviations
COLUMNS = (
    "sma_20", "sma_50", "sma_200", "rsi", "macd", "macd_signal", "bb_upper", "bb_lower", "volume_ratio",
)  # fmt: skip


def with_indicators(days: pd.DataFrame) -> pd.DataFrame:
    """Daily bars of one ticker (open, high, low, close, volume; oldest first) with COLUMNS beside them.

    SMA: simple means of closes. RSI after Wilder (1978), over 14 days. MACD after Appel: 12 less 26 days of the
    exponential mean, and its mean of 9. Bollinger's bands: 20 days, two standard deviations of the whole. Volume over
    its mean of the 20 days up to it. Where too few days lie before, NaN.
    """
    close, volume = days["close"].astype(float), days["volume"].astype(float)
    macd = _exponential(close, MACD_DAYS[0]) - _exponential(close, MACD_DAYS[1])
    middle, spread = close.rolling(BAND_DAYS).mean(), close.rolling(BAND_DAYS).std(ddof=0)
    usual = volume.rolling(VOLUME_DAYS).mean()
    return days.assign(
        sma_20=close.rolling(20).mean(),
        sma_50=close.rolling(50).mean(),
        sma_200=close.rolling(200).mean(),
        rsi=_rsi(close),
        macd=macd,
        macd_signal=_exponential(macd.dropna(), MACD_DAYS[2]).reindex(close.index),
        bb_upper=middle + BAND_WIDTH * spread,
        bb_lower=middle - BAND_WIDTH * spread,
        volume_ratio=volume / usual.where(usual > 0),
    )


def rows_of(days: pd.DataFrame) -> list[dict[str, Any]]:
    """As JSON: dates as text, what is not known as null."""
    found = with_indicators(days).to_dict("records")
    return [{str(name): _plain(value) for name, value in row.items() if name != "symbol"} for row in found]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value if isinstance(value, int | str) or value is None else str(value)


def _exponential(values: pd.Series, length: int) -> pd.Series:
    """The exponential mean, from its first `length` values on, that begins with their simple mean."""
    if len(values) < length:
        return pd.Series(math.nan, index=values.index)
    seeded = values.copy()
    seeded.iloc[: length - 1] = math.nan
    seeded.iloc[length - 1] = values.iloc[:length].mean()
    return seeded.ewm(span=length, adjust=False).mean()


def _rsi(close: pd.Series) -> pd.Series:
    """0 to 100; 50 where nothing moved."""
    moves = close.diff()
    gain, loss = (_wilder(part.clip(lower=0.0).iloc[1:]) for part in (moves, -moves))
    total = gain + loss
    return (100.0 * gain / total.where(total > 0)).fillna(50.0).where(total.notna()).reindex(close.index)


def _wilder(values: pd.Series) -> pd.Series:
    if len(values) < RSI_DAYS:
        return pd.Series(math.nan, index=values.index)
    seeded = values.copy()
    seeded.iloc[: RSI_DAYS - 1] = math.nan
    seeded.iloc[RSI_DAYS - 1] = values.iloc[:RSI_DAYS].mean()
    return seeded.ewm(alpha=1.0 / RSI_DAYS, adjust=False).mean()
