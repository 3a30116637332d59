"""How wild the market is now, against what is usual at this time of day. Pure.

Prices move two or three times as much in the first half hour as at noon, so an hour is compared with the same hour of
earlier days (Andersen and Bollerslev 1997, "Intraday periodicity and volatility persistence").
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pandas as pd

from qbot.types import BAR_MINUTES

RECENT_RETURNS = 12  # an hour of bars
RECENT_MIN, DAYS_MIN = 6, 5  # fewer tell nothing
PREFERRED = ("SPY", "QQQ")  # what stands for the market, where it is known


def market_symbols(tickers: Sequence[str], most: int) -> list[str]:
    """The tickers that stand for the market: funds first."""
    return sorted(tickers, key=lambda symbol: PREFERRED.index(symbol) if symbol in PREFERRED else len(PREFERRED))[:most]


def ratio(bars: pd.DataFrame) -> float | None:
    """The median over the symbols of √(recent squared returns / what these come to on earlier days).

    `bars`: symbol, ts (start), close, ordered by symbol and time, some weeks long. The recent returns are the last
    RECENT_RETURNS of each symbol; each is compared with the mean at the same New York time of earlier days. None where
    fewer than RECENT_MIN returns can be compared with DAYS_MIN days.
    """
    found = [each for _, group in bars.groupby("symbol", sort=False) if (each := _ratio(group)) is not None]
    return statistics.median(found) if found else None


def _ratio(bars: pd.DataFrame) -> float | None:
    closes = bars["close"].to_numpy(dtype=float)
    usable = np.isfinite(closes) & (closes > 0)
    bars, closes = bars[usable], closes[usable]
    if len(bars) < 2:
        return None
    local = bars["ts"].dt.tz_convert("America/New_York")
    # Bars that do not follow one another have a night or a hole in between: that move is of another length.
    follows = bars["ts"].diff().dt.total_seconds().to_numpy()[1:] == BAR_MINUTES * 60
    slot = (local.dt.hour * 60 + local.dt.minute).to_numpy()[1:][follows]
    squared = (np.diff(np.log(closes)) ** 2)[follows]
    usual = squared[:-RECENT_RETURNS], slot[:-RECENT_RETURNS]
    now_sum, usual_sum, compared = 0.0, 0.0, 0
    for value, at in zip(squared[-RECENT_RETURNS:], slot[-RECENT_RETURNS:], strict=True):
        same = usual[0][usual[1] == at]
        if len(same) >= DAYS_MIN:
            now_sum, usual_sum, compared = now_sum + value, usual_sum + float(same.mean()), compared + 1
    if compared < RECENT_MIN or usual_sum == 0.0:  # prices that never moved are frozen ones
        return None
    return math.sqrt(now_sum / usual_sum)
