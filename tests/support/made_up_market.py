"""Made-up five-minute bars: a random walk, or one whose returns follow the return before by a known share."""

from __future__ import annotations

import numpy as np
import pandas as pd

SLOTS = 78


def made_up_bars(
    symbols: tuple[str, ...], sessions: int, seed: int, momentum: float = 0.0, first_day: str = "2025-03-03"
) -> pd.DataFrame:
    """Bars of regular sessions on weekdays. `momentum`: share of a bar's return that is added to the next one."""
    random = np.random.default_rng(seed)
    days = pd.bdate_range(first_day, periods=sessions, tz="America/New_York")
    times = np.concatenate(
        [(day + pd.Timedelta(minutes=570) + np.arange(SLOTS) * pd.Timedelta(minutes=5)) for day in days]
    )
    frames = []
    for number, symbol in enumerate(symbols):
        noise = random.normal(0.0, 0.001, (sessions, SLOTS))
        returns = noise.copy()
        for slot in range(1, SLOTS):
            returns[:, slot] += momentum * returns[:, slot - 1]
        gaps = random.normal(0.0, 0.005, sessions)
        returns[:, 0] += gaps
        close = (50.0 + 40.0 * number) * np.exp(np.cumsum(returns.ravel()))
        opened = close / np.exp(noise.ravel() * random.uniform(0.2, 1.0, close.size))
        wick = np.abs(random.normal(0.0, 0.0003, (2, close.size)))
        frames.append(
            pd.DataFrame(
                {
                    "symbol": symbol,
                    "ts": pd.DatetimeIndex(times).tz_convert("UTC"),
                    "open": opened,
                    "high": np.maximum(opened, close) * (1.0 + wick[0]),
                    "low": np.minimum(opened, close) * (1.0 - wick[1]),
                    "close": close,
                    "volume": random.integers(1_000, 100_000, close.size),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
