"""The replayed market: bars from a file, and a price that moves inside each of them, never ahead of time.

Inside a bar the price goes open → low → high → close where the bar rose, open → high → low → close where it fell, each
leg taking a third of the bar, linear in time. Where a bar is missing the last price stands.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from qbot.clock import NEW_YORK
from qbot.errors import ConfigError
from qbot.exchange.sessions import Sessions
from qbot.types import BAR_MINUTES

SAMPLE_FILE = Path(__file__).parent / "sample" / "us_equity_5m.parquet"
BAR_S = BAR_MINUTES * 60.0
LEG_S = BAR_S / 3
REQUIRED_COLUMNS = ["symbol", "ts", "open", "high", "low", "close", "volume"]


class Leg(NamedTuple):
    """The price going straight from `from_usd` at `begin_s` to `to_usd` at `end_s` (epoch seconds)."""

    begin_s: float
    end_s: float
    from_usd: float
    to_usd: float


@dataclass(frozen=True, slots=True)
class Series:
    """One symbol's bars as columns, ordered by `start_s` (epoch seconds of the bar's start)."""

    start_s: array[float]
    open: array[float]
    high: array[float]
    low: array[float]
    close: array[float]
    volume: array[float]
    vwap: array[float]
    trades: array[float]

    def known(self, t: float) -> int:
        """How many bars have ended at `t`."""
        return bisect_right(self.start_s, t - BAR_S)


class Market:
    """Prices of every symbol of a file at any moment of it."""

    def __init__(self, bars: pd.DataFrame) -> None:
        """`bars` in the shipped layout, see `read_bars`."""
        self.series = {str(symbol): _series(rows) for symbol, rows in bars.groupby("symbol", observed=True)}
        self.first_day, self.last_day = span(bars)

    @property
    def symbols(self) -> list[str]:
        """Every symbol of the file, sorted."""
        return sorted(self.series)

    def price_at(self, symbol: str, t: float) -> Decimal | None:
        """The last trade at `t`, or None before the symbol's first bar."""
        leg = next(self.path(symbol, t, t), None)
        return to_price(leg.from_usd) if leg else None

    def close_before(self, symbol: str, t: float) -> Decimal | None:
        """The close of the last bar that ended at or before `t`."""
        series = self.series[symbol]
        count = series.known(t)
        return to_price(series.close[count - 1]) if count else None

    def path(self, symbol: str, a: float, b: float) -> Iterator[Leg]:
        """The price from `a` to `b` (a ≤ b) as legs in order of time. Between bars it may jump, within one never."""
        series = self.series[symbol]
        starts, count = series.start_s, len(series.start_s)
        t, index = a, bisect_right(series.start_s, a) - 1
        if index < 0:
            if not count or starts[0] > b:
                return
            t, index = starts[0], 0
        while True:
            next_start = starts[index + 1] if index + 1 < count else float("inf")
            leg = _leg_in_bar(series, index, t, min(b, next_start))
            yield leg
            if leg.end_s >= b:
                return
            t = leg.end_s
            if t >= next_start:
                index += 1


def _leg_in_bar(series: Series, index: int, t: float, until: float) -> Leg:
    """The leg that begins at `t`, within bar `index` or in the pause after it, and ends by `until`."""
    inside_s = t - series.start_s[index]
    if inside_s >= BAR_S:
        return Leg(t, until, series.close[index], series.close[index])
    o, h, l, c = series.open[index], series.high[index], series.low[index], series.close[index]  # noqa: E741
    corners = (o, l, h, c) if c >= o else (o, h, l, c)
    third = min(int(inside_s / LEG_S), 2)
    leg_begin, p, q = series.start_s[index] + third * LEG_S, corners[third], corners[third + 1]
    end = min(leg_begin + LEG_S, until)
    return Leg(t, end, p + (q - p) * (t - leg_begin) / LEG_S, p + (q - p) * (end - leg_begin) / LEG_S)


def to_price(usd: float) -> Decimal:
    """A price on the venue's grid: cents from one dollar up, hundredths of a cent below."""
    return Decimal(f"{usd:.2f}") if usd >= 1 else Decimal(f"{usd:.4f}")


def read_bars(path: Path | None) -> pd.DataFrame:
    """The bars of a parquet file (the shipped sample if None), ordered by symbol and start, in regular hours only.

    Columns: symbol, ts (bar start, UTC), open, high, low, close, volume, and where the vendor has them vwap and trades;
    where not, vwap is the typical price and trades 0. Raises ConfigError if the file is none of this kind.
    """
    try:
        bars = pd.read_parquet(path or SAMPLE_FILE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the bars of {path or SAMPLE_FILE}: {error}") from error
    missing = [name for name in REQUIRED_COLUMNS if name not in bars.columns]
    if missing or bars.empty:
        raise ConfigError(f"{path} holds no bars: columns missing {missing}, rows {len(bars)}")
    bars = bars.assign(symbol=bars["symbol"].astype(str), ts=bars["ts"].dt.as_unit("us"))
    bars = bars.sort_values(["symbol", "ts"], ignore_index=True)
    steps = bars.loc[bars["symbol"].eq(bars["symbol"].shift()), "ts"].diff().dropna()
    if len(steps) and steps[steps > pd.Timedelta(0)].min() < pd.Timedelta(minutes=BAR_MINUTES):
        raise ConfigError(f"{path} holds bars shorter than {BAR_MINUTES} minutes")
    if "vwap" not in bars:
        bars["vwap"] = (bars["high"] + bars["low"] + bars["close"]) / 3
    if "trades" not in bars:
        bars["trades"] = 0
    return bars


def span(bars: pd.DataFrame) -> tuple[date, date]:
    """The first and the last New York day of the bars."""
    first, last = bars["ts"].min(), bars["ts"].max()
    return first.tz_convert(NEW_YORK).date(), last.tz_convert(NEW_YORK).date()


def in_regular_hours(bars: pd.DataFrame, sessions: Sessions) -> pd.DataFrame:
    """The bars that start within a session. Vendors also deliver one that starts at a half day's close."""
    starts = _epoch_s(bars)
    opens = np.array([s.open_s for s in sessions.all])
    closes = np.array([s.close_s for s in sessions.all])
    index = np.searchsorted(opens, starts, side="right") - 1
    return bars[(index >= 0) & (starts < closes[np.maximum(index, 0)])]


def _epoch_s(rows: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return rows["ts"].astype("int64").to_numpy() / 1e6  # read_bars made the unit microseconds


def _series(rows: pd.DataFrame) -> Series:
    names = ("open", "high", "low", "close", "volume", "vwap", "trades")
    columns = [_epoch_s(rows), *(rows[name].to_numpy(dtype=np.float64) for name in names)]
    return Series(*(array("d", np.ascontiguousarray(column).tobytes()) for column in columns))
