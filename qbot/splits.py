"""Time-ordered parts to fit, tune, calibrate and test, with nothing of a later part in an earlier one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

EMBARGO_SESSIONS = 1  # left out before the calibration and the test: neighbouring days share their news
SESSIONS_MIN = 8


@dataclass(frozen=True)
class Split:
    """New York days of each part, oldest first. `tune` stops the training; `calibrate` and `test` it never sees."""

    fit: tuple[date, ...]
    tune: tuple[date, ...]
    calibrate: tuple[date, ...]
    test: tuple[date, ...]


def split_sessions(days: Sequence[date]) -> Split | None:
    """A quarter of the days to test, a sixth to calibrate, the rest to train; None under SESSIONS_MIN days."""
    ordered = sorted(set(days))
    count = len(ordered)
    if count < SESSIONS_MIN:
        return None
    test = max(2, round(count / 4))
    calibrate = max(2, round(count / 6))
    train = count - test - calibrate - 2 * EMBARGO_SESSIONS
    tune = max(1, round(train / 5))
    first_calibrate = train + EMBARGO_SESSIONS
    return Split(
        fit=tuple(ordered[: train - tune]),
        tune=tuple(ordered[train - tune : train]),
        calibrate=tuple(ordered[first_calibrate : first_calibrate + calibrate]),
        test=tuple(ordered[count - test :]),
    )


def part(rows: pd.DataFrame, days: Sequence[date], until: pd.Timestamp | None = None) -> pd.DataFrame:
    """Rows (with `session` and `matures_at`) of those days whose label is known by `until`: the purge."""
    inside = rows["session"].isin(set(days))
    if until is not None:
        inside &= rows["matures_at"] <= until
    return rows[inside]


def parts(rows: pd.DataFrame, split: Split) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Fit, tune, calibrate and test rows; no label of a part reaches into the next part's first row."""
    later = (split.tune, split.calibrate, split.test)
    bounds = [rows.loc[rows["session"] >= days[0], "known_at"].min() for days in later]
    return (
        part(rows, split.fit, bounds[0]),
        part(rows, split.tune, bounds[1]),
        part(rows, split.calibrate, bounds[2]),
        part(rows, split.test),
    )
