"""Whether a new artifact may stand: paired tests on days that neither it nor the standing one was made from. Pure.

Of a *trial*, all that counts are its daily gains: how much smaller the mean absolute error of the returns was on a day
(a fraction of the price), each day weighing the same. Rows of one day move together, so days are the sample.
See docs/adr/0013-promotion.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

ALPHA = 0.05  # over all trials of a horizon, ever: the chance that one without skill is ever called skilled
ALPHA_REPLACE = 0.05  # each time: the chance that a proven artifact is replaced by another that is not better
DAYS_MIN = 8  # unseen days without which nothing is proven
RECHECK_DAYS_MIN = 5  # unseen days, a week, after which a skilled artifact may lose its label
_NO_SPREAD = 1e-15  # of daily gains: below it they are all the same, and there is nothing to test


@dataclass(frozen=True)
class Trial:
    """What one candidate did on its test days, and what the standing artifact did on those it had not seen.

    `over_naive`: gain of the candidate over "no change" on each of `days`. `over_standing` and `standing_over_naive`:
    of the candidate over the standing artifact, and of that over "no change", on each of `later_days`, over rows that
    both can predict. `problem`: why the standing one could not be asked.
    """

    days: tuple[date, ...] = ()
    over_naive: tuple[float, ...] = ()
    standing_id: str | None = None
    later_days: tuple[date, ...] = ()
    over_standing: tuple[float, ...] = ()
    standing_over_naive: tuple[float, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class Comparison:
    """A mean daily gain with its test: `t`, and the one-sided `p` of a gain as large where there is none.

    Both are None where there are under three days, or no day differs from another.
    """

    gain: float
    t: float | None
    p: float | None
    days: int


@dataclass(frozen=True)
class Standing:
    """The artifact that serves now. `usable`: it can be loaded."""

    artifact_id: str
    skilled: bool
    degraded: bool = False
    usable: bool = True


@dataclass(frozen=True)
class Verdict:
    """What becomes of a candidate. `promoted`: proven, and stands. One that is not may stand where nothing better does.

    `demoted`: the standing artifact was called skilled, and on later days it was not better than no change.
    `number`: how many candidates of this horizon there have been; `alpha`: what that leaves of ALPHA for this one.
    """

    outcome: Literal["promoted", "refused"]
    stands: bool
    skilled: bool
    demoted: bool
    why: str
    number: int
    alpha: float
    naive: Comparison
    standing_id: str | None = None
    standing: Comparison | None = None
    recheck: Comparison | None = None


def judge(trial: Trial, number: int, *, degraded: bool, standing: Standing | None) -> Verdict:
    """The verdict on the `number`-th candidate of a horizon.

    `degraded`: it was trained on tickers with too few rows, which proves nothing. `standing` is what serves at this
    moment; where that is another than the trial was held against, the two were not compared.
    """
    alpha, naive = level(number), compare(trial.over_naive)
    compared = standing is not None and standing.usable and trial.standing_id == standing.artifact_id
    against = compare(trial.over_standing) if compared else None
    recheck = compare(trial.standing_over_naive) if compared else None
    skilled_before = standing is not None and standing.usable and standing.skilled
    demoted = skilled_before and recheck is not None and recheck.days >= RECHECK_DAYS_MIN and recheck.gain <= 0
    doubt = _doubt(naive, alpha, number, degraded)
    if standing is None or not standing.usable:
        against_it = None
    elif skilled_before and not demoted:
        against_it = doubt or _not_better(against, trial.problem)
    else:
        against_it = _worse(trial.over_standing) if compared else None
        if doubt and degraded and not standing.degraded:
            against_it = doubt
    stands = against_it is None
    proven = stands and doubt is None
    rest = "; stands unproven, since nothing proven does" if stands else ""
    both = f" and than the standing one ({_told(against)})" if skilled_before and not demoted and against else ""
    why = f"better than no change ({_told(naive)}){both}" if proven else f"{against_it or doubt}{rest}"
    return Verdict(
        outcome="promoted" if proven else "refused",
        stands=stands,
        skilled=proven,
        demoted=demoted,
        why=why,
        number=number,
        alpha=alpha,
        naive=naive,
        standing_id=standing.artifact_id if standing is not None else None,
        standing=against,
        recheck=recheck,
    )


def level(number: int) -> float:
    """What the `number`-th trial may spend of ALPHA: over all trials it adds up to ALPHA, and never more.

    Bonferroni with unequal shares, 1/log2(n+1) - 1/log2(n+2), which telescope to one: so the more often it was tried,
    the more a gain must be beyond chance. 0.018 for the first trial, 0.0005 for the tenth, 0.00004 for the fiftieth.
    """
    return ALPHA * (1.0 / math.log2(number + 1) - 1.0 / math.log2(number + 2))


def compare(gains: Sequence[float]) -> Comparison:
    """Test whether daily gains, oldest first, are above zero in the mean."""
    days = len(gains)
    if days == 0:
        return Comparison(0.0, None, None, 0)
    values = np.asarray(gains, dtype=float)
    mean = float(values.mean())
    if days < 3 or float(values.std()) <= _NO_SPREAD:
        return Comparison(mean, None, None, days)
    from scipy import stats  # late: it takes a second to import, and only a verdict needs it

    t, freedom = statistic(values)
    return Comparison(mean, float(t), float(stats.t.sf(float(t), freedom)), days)


def statistic(gains: Array) -> tuple[Array, float]:
    """Diebold and Mariano's t along the last axis, oldest day first, and the degrees of freedom it is to be read with.

    The variance of the mean allows for gains that follow each other: Newey and West (1987, Econometrica 55) with
    Bartlett weights up to the lag floor(sqrt(n)), as Coroneo and Iacone (2020, J. Appl. Econometrics 35) advise for few
    observations. Corrected for few days by Harvey, Leybourne and Newbold (1997, Int. J. Forecasting 13) and read with
    3n / (2 (lag + 1)) degrees of freedom, those of a Bartlett estimate (Lazarus et al. 2018, J. Business & Economic
    Statistics 36): with n - 1 of them, rare values come too often.
    """
    n = gains.shape[-1]
    lags = math.isqrt(n)
    off = gains - gains.mean(axis=-1, keepdims=True)
    variance = np.mean(off * off, axis=-1)
    for lag in range(1, lags + 1):
        weight = 2.0 * (1.0 - lag / (lags + 1.0))
        variance = variance + weight * np.sum(off[..., lag:] * off[..., :-lag], axis=-1) / n
    ahead = lags + 1  # forecasts that reach so far ahead have errors that follow each other for `lags`
    correction = (n + 1 - 2 * ahead + ahead * (ahead - 1) / n) / n
    error = np.sqrt(np.maximum(variance, np.finfo(float).tiny) / n)
    return np.asarray(gains.mean(axis=-1) / error * math.sqrt(correction)), 1.5 * n / ahead


def _doubt(naive: Comparison, alpha: float, number: int, degraded: bool) -> str | None:
    """Why the candidate is not proven to be better than "no change"; None when it is."""
    if degraded:
        return "trained on too few rows a ticker"
    if naive.days < DAYS_MIN:
        return f"only {naive.days} unseen days, {DAYS_MIN} needed"
    if naive.p is None or naive.p >= alpha or naive.gain <= 0:
        asked = f", trial {number} asks for p < {alpha:.2g}" if naive.p is not None and naive.p < 0.1 else ""
        return f"not better than no change ({_told(naive)}{asked})"
    return None


def _not_better(against: Comparison | None, problem: str | None) -> str | None:
    """Why the candidate is not proven to be better than a standing artifact that is skilled."""
    if against is None or problem is not None:
        return f"not compared with the standing one: {problem or 'another stands meanwhile'}"
    if against.days < DAYS_MIN:
        return f"only {against.days} days that the standing one has not seen, {DAYS_MIN} needed"
    if against.p is None or against.p >= ALPHA_REPLACE or against.gain <= 0:
        return f"not better than the standing one ({_told(against)})"
    return None


def _worse(over_standing: Sequence[float]) -> str | None:
    """Whether a standing artifact that is not proven is better than the candidate all the same."""
    other = compare([-gain for gain in over_standing])
    if other.days < DAYS_MIN or other.p is None or other.p >= ALPHA_REPLACE:
        return None
    return f"worse than the standing one ({_told(other)})"


def _told(found: Comparison) -> str:
    p = "no difference" if found.p is None else f"p = {found.p:.2g}"
    return f"{p}, {found.days} days"


def daily(gains: Array, sessions: npt.NDArray[np.object_]) -> tuple[tuple[date, ...], tuple[float, ...]]:
    """Each day's mean gain, oldest first. `sessions` names the day of each row; rows without a gain do not count."""
    known = np.isfinite(gains)
    days, at = np.unique(sessions[known], return_inverse=True)
    means = np.bincount(at, weights=gains[known]) / np.bincount(at) if len(days) else np.empty(0)
    return tuple(days), tuple(float(mean) for mean in means)
