"""Detectors of leakage. Each looks at what a pipeline does, not at how; the tests plant a defect to see it caught."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from qbot.skill import direction_auc

BAR = pd.Timedelta(minutes=5)
Build = Callable[[pd.DataFrame], pd.DataFrame]  # bars to rows with symbol, ts, known_at and columns
Label = Callable[[pd.DataFrame, int], pd.DataFrame]  # bars and a horizon to rows with matures_at and label_return


def columns_that_know_the_future(
    build: Build, bars: pd.DataFrame, known_at: pd.Timestamp, columns: Sequence[str]
) -> set[str]:
    """Columns whose rows up to `known_at` differ once the bars that end later are cut off."""
    whole, seen = build(bars), build(bars[bars["ts"] + BAR <= known_at])
    whole = whole[whole["known_at"] <= known_at].reset_index(drop=True)
    assert len(whole) == len(seen) > 0
    return {name for name in columns if not whole[name].equals(seen[name])}


def rows_labelled_wrongly(label: Label, bars: pd.DataFrame, horizon_minutes: int) -> int:
    """Rows whose label is not the return from the close of their own bar to that of the bar ending at the horizon.

    Bars are looked up one by one by their times, the slow way that leaves nothing to get wrong.
    """
    close = {
        (symbol, ts + BAR): price for symbol, ts, price in zip(bars["symbol"], bars["ts"], bars["close"], strict=True)
    }
    wrong, horizon = 0, pd.Timedelta(minutes=horizon_minutes)
    for row in label(bars, horizon_minutes).itertuples():
        now, then = close[row.symbol, row.ts + BAR], close.get((row.symbol, row.ts + BAR + horizon), np.nan)
        expected = then / now - 1.0
        same = np.isnan(expected) and np.isnan(row.label_return)
        wrong += not (same or np.isclose(row.label_return, expected, rtol=0.0, atol=1e-12))
        wrong += row.matures_at != row.ts + BAR + horizon
    return wrong


def parts_that_overlap(found: Iterable[pd.DataFrame], embargo_sessions: Sequence[int]) -> list[str]:
    """What is wrong between neighbouring parts: a label that is known only after the next part begins, or days that
    are in both or too near. `embargo_sessions` are the days to be left out before the second, third … part."""
    faults, parts = [], list(found)
    days = sorted(set().union(*(part["session"] for part in parts)))
    calendar = pd.bdate_range(days[0], days[-1]).date.tolist()
    for number, ((earlier, later), embargo) in enumerate(zip(pairwise(parts), embargo_sessions, strict=True)):
        if earlier["matures_at"].max() > later["known_at"].min():
            faults.append(f"labels of part {number} reach into the next")
        apart = calendar.index(later["session"].min()) - calendar.index(earlier["session"].max())
        if apart <= embargo:
            faults.append(f"part {number} and the next are {apart} days apart")
    return faults


def unseen_rows_that_matter(
    learn: Callable[[pd.DataFrame, pd.DataFrame], object], fit: pd.DataFrame, unseen: pd.DataFrame
) -> bool:
    """True when what was learnt changes with the unseen rows: a scaler, a median or a drift fitted on all data.

    `learn(fit, unseen)` gives anything that can be compared by `==`; the unseen rows' numbers are made a thousand times
    as large.
    """
    numbers = unseen.select_dtypes("number").columns
    spoilt = unseen.assign(**{name: unseen[name] * 1_000.0 + 1.0 for name in numbers})
    return bool(learn(fit, unseen) != learn(fit, spoilt))


def better_than_chance(predicted: np.ndarray, actual: np.ndarray, errors: float = 4.0) -> bool:
    """True when the directional AUC is further above 0.5 than so many standard errors of a skill-less model's."""
    auc = direction_auc(predicted, actual)
    up, down = int((actual > 0).sum()), int((actual < 0).sum())
    assert auc is not None
    return auc > 0.5 + errors * float(np.sqrt((up + down + 1) / (12.0 * up * down)))
