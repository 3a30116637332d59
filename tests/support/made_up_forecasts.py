"""Made-up forecasts as a walk-forward leaves them, with as much skill as asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd

VOLATILITY = 0.001  # of one bar
BARS = 3


def made_up_forecasts(
    days: int = 30, symbols: tuple[str, ...] = ("AAA", "BBB", "CCC", "DDD", "EEE"), skill: float = 0.0, seed: int = 1
) -> pd.DataFrame:
    """Forecasts over 15 minutes, every 15 minutes of each day. `skill`: correlation of forecast and outcome."""
    random = np.random.default_rng(seed)
    times = [
        day + pd.Timedelta(minutes=575 + 15 * slot)
        for day in pd.bdate_range("2025-03-03", periods=days, tz="America/New_York")
        for slot in range(25)
    ]
    known = pd.DatetimeIndex(np.repeat(pd.DatetimeIndex(times).to_numpy(), len(symbols)), tz="UTC")
    count = len(known)
    usual = VOLATILITY * np.sqrt(BARS)
    predicted = random.normal(0.0, usual * max(skill, 0.05), count)
    noise = random.normal(0.0, usual * np.sqrt(1.0 - skill**2), count)
    local = known.tz_convert("America/New_York")
    slope = 1.6 / (usual * max(skill, 0.05)) * skill
    frame = pd.DataFrame(
        {
            "symbol": list(symbols) * len(times),
            "known_at": known,
            "session": local.date,
            "horizon_minutes": 15,
            "fold": 1 + (np.arange(count) * 2 // count),
            "close": 100.0,
            "predicted": predicted,
            "actual": noise + (predicted if skill else 0.0),
            "volatility": VOLATILITY * random.uniform(0.9, 1.1, count),
            "time_of_day": (local.hour * 60 + local.minute - 570) / 390,
            "ar_predicted": 0.0,
            "confidence": 1.0 / (1.0 + np.exp(-slope * np.abs(predicted))),
            "up_rate": 0.5,
        }
    )
    width = {80: 1.2816, 95: 1.96}
    for level, z in width.items():
        frame[f"low_{level}"] = frame["predicted"] - z * usual * np.sqrt(1.0 - skill**2)
        frame[f"high_{level}"] = frame["predicted"] + z * usual * np.sqrt(1.0 - skill**2)
        frame[f"base_{level}"] = z * usual
    return frame
