"""Sources of bars for tests: they have what they are given, and remember what they were asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pandas as pd

from qbot.market.bars import frame_of
from qbot.market.calendar import Session
from qbot.market.provider import Answer
from qbot.types import BAR_MINUTES


def session_bars(symbol: str, sessions: Sequence[Session], *, every: int = 1, volume: float = 100.0) -> pd.DataFrame:
    """A walk through whole sessions, the same for the same symbol and time; `every`: one bar of so many."""
    stamps = [at for begin, end in sessions for at in pd.date_range(begin, end, freq="5min", inclusive="left")][::every]
    seed = sum(map(ord, symbol))
    closes = 100.0 + 10.0 * np.sin(np.array([at.timestamp() for at in stamps]) / 86_400.0 + seed)
    prices = {name: closes + shift for name, shift in (("open", 0), ("high", 1), ("low", -1), ("close", 0))}
    return pd.DataFrame({"symbol": symbol, "ts": pd.DatetimeIndex(stamps, tz="UTC"), **prices, "volume": volume})


@dataclass
class BarSource:
    """`had`: all its bars. `fails`: what it raises at its next requests, None: nothing. `asked`: each request."""

    name: str
    had: pd.DataFrame
    fails: list[Exception | None] = field(default_factory=list)
    asked: list[tuple[tuple[str, ...], datetime, datetime]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        raise AssertionError("nobody asked it for quotes")

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        self.before()
        self.asked.append((tuple(symbols), start, end))
        error = self.fails.pop(0) if self.fails else None
        if error is not None:
            raise error
        complete = self.had["ts"] + pd.Timedelta(minutes=BAR_MINUTES) <= end
        rows = self.had[self.had["symbol"].isin(symbols) & (self.had["ts"] >= start) & complete]
        return frame_of(((r[0], r[1].to_pydatetime(), *r[2:]) for r in rows.itertuples(index=False)), start, end)
