"""Bars that came, beside the ones there are and the prices of now: may they be written? Pure.

A source that is wrong is wrong in its bars too, and a forecast made of those is an order. After a split a source has
all bars of a ticker on another scale, which is what a lie looks like: so it is believed only where another source's
price of now is on the new scale, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from qbot import limits
from qbot.market.aggregation import SPLITS

Floats = npt.NDArray[np.float64]
FRACTIONS = tuple(map(Decimal, ("1.2", "1.25", "1.333333", "1.5", "2.5", "3.5")))  # 6:5 to 7:2, new shares for old ones


class Outcome(StrEnum):
    """What becomes of a ticker's bars."""

    FIT = "fit"
    SPLIT = "split"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class Judged:
    """`ratio`: how many times what came is what there is, where that is the same all over. `words`: why not, if so."""

    outcome: Outcome
    words: str = ""
    ratio: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Overlap:
    """Closes of the same bars, oldest first: as they are stored, and as they come. `to_newest`: up to the newest one
    that is stored of the ticker.
    """

    known: Floats
    came: Floats
    to_newest: bool = True


@dataclass(frozen=True, slots=True)
class Heard:
    """What a ticker costs now, USD: the price that was accepted, and what others say; none of it of the bars' source
    alone.
    """

    accepted: float | None = None
    others: Sequence[float] = ()


def judge(
    overlap: Overlap, newest_usd: float, heard: Heard, *, of_now: bool, before_usd: float | None = None
) -> Judged:
    """What is to become of a ticker's bars, of which the newest closes at `newest_usd`.

    `of_now`: that bar has just ended. `before_usd`: the close of the newest stored bar, where that lies before all that
    came.
    """
    if not len(overlap.known):
        ratio = listed(before_usd / newest_usd, limits.SPLIT_TOLERANCE_PCT) if before_usd else None
        if ratio is not None and not 1 / SPLITS[0] < ratio < SPLITS[0]:
            return Judged(Outcome.DOUBTFUL, "no known bar came, and the price is as after a split", ratio)
    elif _far(overlap.known[-limits.BARS_TAIL :], overlap.came[-limits.BARS_TAIL :]).any():
        return _on_another_scale(overlap, newest_usd, heard)
    if of_now and (price := _contradicting(newest_usd, heard)) is not None:
        return Judged(Outcome.DOUBTFUL, f"they end at {newest_usd:.6g}, and it costs {price:.6g}")
    return Judged(Outcome.FIT)


def listed(change: float, tolerance_pct: float | Decimal) -> Decimal | None:
    """The split that comes nearest to a change of price, new shares for an old one; None where none is that near."""
    up = max(change, 1.0 / change)
    ratios = (*FRACTIONS, Decimal(max(2, round(up))))
    near = ratios[int(np.argmin([_apart(up, float(one)) for one in ratios]))]
    if abs(up / float(near) - 1.0) > float(tolerance_pct):
        return None
    return near if change > 1.0 else 1 / near


def _on_another_scale(overlap: Overlap, newest_usd: float, heard: Heard) -> Judged:
    """The newest bars that are known come at another price."""
    ratio = _constant(overlap.known / overlap.came)
    if ratio is None:
        fits = _near_any(newest_usd, heard)
        return Judged(Outcome.FIT) if fits else Judged(Outcome.DOUBTFUL, "known bars come at other prices")
    split = listed(ratio, limits.SPLIT_BARS_TOLERANCE_PCT)
    told = split if split is not None else Decimal(f"{ratio:.4g}")
    on_new, on_old = _sides(newest_usd, newest_usd * ratio, heard)
    if split is None:
        words = "which is no split that is known"
    elif on_old:
        words = "and others tell prices on the old scale"
    elif not on_new:
        words = "and nobody else tells a price of now on the new scale"
    elif not overlap.to_newest:
        words = "and the newest of them did not come"
    else:
        return Judged(Outcome.SPLIT, ratio=split)
    return Judged(Outcome.DOUBTFUL, f"known bars are {float(told):.4g} times what came, {words}", told)


def _constant(change: Floats) -> float | None:
    """The one ratio of nearly all of them, the newest included; None where there is none, or it is one."""
    ratio = float(np.median(change))
    fits = np.abs(change / ratio - 1.0) <= limits.SPLIT_BARS_TOLERANCE_PCT
    if not fits[-1] or fits.mean() < limits.SPLIT_BARS_SHARE_MIN:
        return None
    return ratio if _apart(ratio, 1.0) > float(limits.BARS_DRIFT_PCT) else None


def _sides(new_usd: float, old_usd: float, heard: Heard) -> tuple[int, int]:
    """How many others tell a price of either scale."""
    new = sum(_apart(price, new_usd) <= float(limits.SPLIT_TOLERANCE_PCT) for price in heard.others)
    old = sum(_apart(price, old_usd) <= _apart(price, new_usd) for price in heard.others)
    return new, old


def _contradicting(newest_usd: float, heard: Heard) -> float | None:
    """A price of now that the newest bar is far from: the accepted one; else that of others, if none is near."""
    told = [heard.accepted] if heard.accepted is not None else list(heard.others)
    return told[0] if told and not _near_any(newest_usd, Heard(None, told)) else None


def _near_any(usd: float, heard: Heard) -> bool:
    told = [*heard.others, *([] if heard.accepted is None else [heard.accepted])]
    return any(_apart(price, usd) <= float(limits.BARS_DRIFT_PCT) for price in told)


def _far(known: Floats, came: Floats) -> npt.NDArray[np.bool_]:
    far: npt.NDArray[np.bool_] = np.abs(np.log(known / came)) > float(limits.BARS_DRIFT_PCT)
    return far


def _apart(one: float, other: float) -> float:
    return abs(math.log(one / other))
