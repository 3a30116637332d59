"""Splits, as bars that are fetched again show them: sources adjust all of a symbol's history at once. Pure.

Stored bars are on the scale of the day they were fetched. After a split the source has the same bars on another one.
A price that falls is no split: then the bars before are what they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot import limits
from qbot.market.aggregation import SPLITS

LEAST = float(min(SPLITS)) * (1.0 - limits.SPLIT_BARS_TOLERANCE_PCT)
RATIOS = (*SPLITS, *(1 / ratio for ratio in SPLITS))  # new shares for an old one, reverse splits too


@dataclass(frozen=True, slots=True)
class Seen:
    """A split of a symbol. `until`: the last bar on the old scale; `after`: the first one that came on the new scale
    alone. `sure`: enough bars say so.
    """

    ratio: Decimal
    until: datetime
    after: datetime | None
    sure: bool


def changed(stored: pd.DataFrame, fresh: pd.DataFrame) -> list[str]:
    """Symbols with a bar that comes at so different a price that a split may be why. Both with symbol, ts and close."""
    if stored.empty or fresh.empty:
        return []
    fresh = fresh[["symbol", "ts", "close"]].astype({"symbol": str})
    both = stored[["symbol", "ts", "close"]].merge(fresh, on=["symbol", "ts"], suffixes=("", "_now"))
    ratio = both["close"] / both["close_now"]
    far = (ratio >= LEAST) | (ratio <= 1.0 / LEAST)
    return sorted(set(both["symbol"][far]))


def seen(stored: pd.DataFrame, fresh: pd.DataFrame) -> Seen | None:
    """What happened between the bars that were stored and those of the same symbol that come now; None: no split.

    Both with ts and close; ts once each.
    """
    both = stored[["ts", "close"]].merge(fresh[["ts", "close"]], on="ts", suffixes=("", "_now")).sort_values("ts")
    if both.empty:
        return None
    change = both["close"].to_numpy(dtype=float) / both["close_now"].to_numpy(dtype=float)
    ratio = max(RATIOS, key=lambda one: int(_fits(change, one).sum()))
    fits = np.flatnonzero(_fits(change, ratio))
    if not len(fits):
        return None
    last = int(fits[-1])
    if len(fits) < limits.SPLIT_BARS_SHARE_MIN * (last + 1):
        return None  # a few bars of many were wrong, then or now
    until = both["ts"].iloc[last]
    later = fresh["ts"][fresh["ts"] > until]
    after = later.min().to_pydatetime() if len(later) else None
    return Seen(ratio, until.to_pydatetime(), after, len(fits) >= limits.SPLIT_BARS_MIN)


def _fits(change: npt.NDArray[np.float64], ratio: Decimal) -> npt.NDArray[np.bool_]:
    near: npt.NDArray[np.bool_] = np.abs(change / float(ratio) - 1.0) <= limits.SPLIT_BARS_TOLERANCE_PCT
    return near
