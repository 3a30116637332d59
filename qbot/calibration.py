"""From a predicted return to a confidence and intervals, by what happened on days the model never saw. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot.expected_move import ExpectedMove
from qbot.types import SLOTS

Array = npt.NDArray[np.float64]

SHARE, WIDE_SHARE = 0.80, 0.95  # of outcomes that the interval, and the wide one, are meant to hold
TRACKING_RATE = 0.1  # a day with 30 instead of 20 of 100 outcomes outside widens the next day's interval by 1 %
TRACKED_MAX = 2.0  # an interval is at most doubled or halved; beyond that the artifact is no longer to be believed
LOGIT_MAX = 10.0
DAY_PARTS = (12, 30, 54, 66, SLOTS)  # slots at which they end: 10:30, 12:00, 14:00, 15:00, 16:00 New York
SLOPE_ERRORS = 2.0  # standard errors taken off the slope: what a model claims to know has to be shown first
PART_ROWS_MIN = 200  # of a part of the day: with fewer its quantile is that of all


@dataclass(frozen=True)
class Calibration:
    """How far one artifact's forecasts can be trusted. Plain numbers, stored as JSON beside the predictor.

    P(up) = 1 / (1 + exp(-(lean + slope × predicted / scale))). Both numbers are the fitted ones less what may be
    chance: the slope is the low end of its 95 % interval, and at least 0; the lean is shrunk by its own uncertainty
    (James-Stein).
    Predictions larger than `ratio_max` × scale were not seen and count as that. The intervals are predicted ±
    quantile × the expected move of the row: split conformal prediction with normalised scores (Lei et al. 2018), one
    quantile a part of the day (Mondrian: Vovk et al. 2003), since the shape of a day changes with the season.
    """

    horizon_minutes: int
    lean: float
    slope: float
    slope_fitted: float
    slope_error: float
    scale: float
    ratio_max: float
    move: ExpectedMove
    quantiles: tuple[float, ...]
    wide_quantiles: tuple[float, ...]
    rows: int
    sessions: int

    def up(self, predicted: Array) -> Array:
        """Probability that the price rises."""
        ratio = np.clip(predicted / self.scale, -self.ratio_max, self.ratio_max)
        return np.asarray(1.0 / (1.0 + np.exp(-(self.lean + self.slope * ratio))), dtype=float)

    def confidence(self, predicted: Array) -> Array:
        """Probability that the direction is right; under a half where the market leans against it more."""
        up = self.up(predicted)
        return np.where(predicted > 0, up, np.where(predicted < 0, 1.0 - up, 0.5))

    def interval(
        self, predicted: Array, rows: pd.DataFrame, factor: float | Array = 1.0, *, wide: bool = False
    ) -> tuple[Array, Array]:
        """Low and high return of the 80 % interval, or of the 95 % one. `factor`: see `width_factor`."""
        quantiles = np.array(self.wide_quantiles if wide else self.quantiles)[_parts(rows)]
        half = quantiles * factor * self.move.of(rows)
        return predicted - half, predicted + half


def fit_calibration(
    horizon_minutes: int,
    move: ExpectedMove,
    predicted: Array,
    actual: Array,
    rows: pd.DataFrame,
    sessions: npt.NDArray[np.object_],
) -> Calibration:
    """Fit on rows of unseen sessions; `sessions` names each row's, since rows of one day are not independent."""
    scale = float(np.std(predicted))
    scale = scale if scale > 0 else 1.0
    ratio_max = float(np.quantile(np.abs(predicted) / scale, 0.99))
    moved = actual != 0.0
    ratio = np.clip(predicted / scale, -ratio_max, ratio_max)
    lean, lean_error, slope, slope_error = _logit(ratio[moved], actual[moved] > 0, sessions[moved])
    scores = np.abs(actual - predicted) / move.of(rows)
    part = _parts(rows)
    return Calibration(
        horizon_minutes=horizon_minutes,
        lean=lean * max(0.0, 1.0 - (lean_error / lean) ** 2) if lean else 0.0,
        slope=max(slope - SLOPE_ERRORS * slope_error, 0.0),
        slope_fitted=slope,
        slope_error=slope_error,
        scale=scale,
        ratio_max=ratio_max,
        move=move,
        quantiles=_quantiles(scores, part, SHARE),
        wide_quantiles=_quantiles(scores, part, WIDE_SHARE),
        rows=len(actual),
        sessions=len(set(sessions)),
    )


def _parts(rows: pd.DataFrame) -> npt.NDArray[np.intp]:
    """Which part of the day each row is known in."""
    slot = np.rint(rows["time_of_day"].to_numpy(dtype=float) * SLOTS)
    return np.asarray(np.searchsorted(DAY_PARTS, slot), dtype=np.intp)


def _quantiles(scores: Array, part: npt.NDArray[np.intp], share: float) -> tuple[float, ...]:
    counts = np.bincount(part, minlength=len(DAY_PARTS))
    chosen = (scores[part == at] if counts[at] >= PART_ROWS_MIN else scores for at in range(len(DAY_PARTS)))
    return tuple(float(np.quantile(each, share, method="higher")) for each in chosen)


def width_factor(outside: Sequence[float]) -> float:
    """What to multiply the intervals with after days on which these shares of outcomes lay outside the 80 % one."""
    return width_factors(outside)[-1]


def width_factors(outside: Sequence[float]) -> list[float]:
    """The factor that was in force on each of the days, oldest first, and the one that follows from all of them.

    Quantile tracking (Angelopoulos, Candès and Tibshirani 2023, "Conformal
    PID control for time series prediction"): whatever the market does, in the long run the share outside is 20 %.
    """
    bound = math.log(TRACKED_MAX)
    tracked = [0.0]
    for share in outside:
        step = TRACKING_RATE * (share - (1.0 - SHARE)) if 0.0 <= share <= 1.0 else 0.0  # NaN tells nothing
        tracked.append(min(bound, max(-bound, tracked[-1] + step)))
    return [math.exp(each) for each in tracked]


def _logit(
    ratio: Array, up: npt.NDArray[np.bool_], sessions: npt.NDArray[np.object_]
) -> tuple[float, float, float, float]:
    """Logistic regression of `up` on the ratio: lean, its error, slope, its error, clustered by session."""
    days = np.unique(sessions.astype(str), return_inverse=True)[1]
    if len(ratio) < 2 or up.all() or not up.any() or len(np.unique(days)) < 2:
        return 0.0, 0.0, 0.0, 0.0
    import statsmodels.api as sm  # late: it takes seconds to import, and only training fits

    design = np.column_stack([np.ones(len(ratio)), ratio][: 2 if np.ptp(ratio) > 0 else 1])
    binomial = sm.GLM(up.astype(float), design, family=sm.families.Binomial())
    fitted = binomial.fit(cov_type="cluster", cov_kwds={"groups": days})
    lean, slope = (*np.clip(np.nan_to_num(fitted.params), -LOGIT_MAX, LOGIT_MAX), 0.0)[:2]
    lean_error, slope_error = (*np.nan_to_num(fitted.bse, nan=LOGIT_MAX), 0.0)[:2]
    return float(lean), float(lean_error), float(slope), float(slope_error)
