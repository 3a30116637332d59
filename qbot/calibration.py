"""From a predicted return to a confidence and an interval, by what happened on days the model never saw. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

INTERVAL_SHARE = 0.8  # of outcomes that the interval is meant to hold
_NEWTON_STEPS = 30
_SLOPE_MAX = 10.0


@dataclass(frozen=True)
class Calibration:
    """How far one artifact's forecasts can be trusted. Plain numbers, stored as JSON beside the predictor.

    Confidence is P(the direction is right) = 1 / (1 + exp(-slope × |predicted| / scale)), the form it has for a
    normal return around a known mean. `slope` is the fitted one less its standard error, at least 0: chance cannot
    pass for confidence. Larger predictions than `ratio_max` × scale were not seen and count as that.
    The interval is predicted + quantile × the row's own volatility over the horizon.
    """

    horizon_minutes: int
    slope: float
    slope_fitted: float
    slope_error: float
    scale: float
    ratio_max: float
    low_quantile: float
    high_quantile: float
    typical_volatility: float
    rows: int
    sessions: int

    def confidence(self, predicted: Array) -> Array:
        """Probability that the direction is right, 0.5 to 1."""
        ratio = np.minimum(np.abs(predicted) / self.scale, self.ratio_max)
        return np.asarray(1.0 / (1.0 + np.exp(-self.slope * ratio)), dtype=float)

    def interval(self, predicted: Array, volatility: Array) -> tuple[Array, Array]:
        """Low and high return of the 80 % interval. `volatility` is the one-bar `realised_vol_78`; NaN = the usual."""
        spread = np.where(np.isfinite(volatility), volatility, self.typical_volatility)
        return predicted + self.low_quantile * spread, predicted + self.high_quantile * spread


def fit_calibration(
    horizon_minutes: int, predicted: Array, actual: Array, volatility: Array, sessions: npt.NDArray[np.object_]
) -> Calibration:
    """Fit on rows of unseen sessions; `sessions` names each row's, since rows of one day are not independent."""
    scale = float(np.std(predicted))
    scale = scale if scale > 0 else 1.0
    moved = actual != 0.0
    ratio = np.abs(predicted) / scale
    ratio_max = float(np.quantile(ratio, 0.99))
    hit = (np.sign(predicted) == np.sign(actual)).astype(float)
    slope, error = _slope(np.minimum(ratio, ratio_max)[moved], hit[moved], sessions[moved])
    typical = float(np.nanmedian(volatility)) if np.isfinite(volatility).any() else float(np.std(actual))
    typical = typical if typical > 0 else 1e-6
    spread = np.where(np.isfinite(volatility) & (volatility > 0), volatility, typical)
    low, high = np.quantile((actual - predicted) / spread, [(1 - INTERVAL_SHARE) / 2, (1 + INTERVAL_SHARE) / 2])
    return Calibration(
        horizon_minutes=horizon_minutes,
        slope=float(np.clip(slope - error, 0.0, _SLOPE_MAX)),
        slope_fitted=slope,
        slope_error=error,
        scale=scale,
        ratio_max=ratio_max,
        low_quantile=float(low),
        high_quantile=float(high),
        typical_volatility=typical,
        rows=len(actual),
        sessions=len(set(sessions)),
    )


def _slope(ratio: Array, hit: Array, sessions: npt.NDArray[np.object_]) -> tuple[float, float]:
    """Logistic slope through the origin and its standard error, clustered by session (sandwich estimator)."""
    if not len(ratio) or not ratio.any():
        return 0.0, 0.0
    slope = 0.0
    for _ in range(_NEWTON_STEPS):
        right = 1.0 / (1.0 + np.exp(-slope * ratio))
        curvature = float(np.sum(ratio**2 * right * (1.0 - right))) + 1e-9
        step = float(np.sum(ratio * (hit - right))) / curvature
        slope = float(np.clip(slope + np.clip(step, -1.0, 1.0), -_SLOPE_MAX, _SLOPE_MAX))
    right = 1.0 / (1.0 + np.exp(-slope * ratio))
    scores = ratio * (hit - right)
    clusters = np.unique(sessions.astype(str), return_inverse=True)[1]
    per_session = np.bincount(clusters, weights=scores)
    curvature = float(np.sum(ratio**2 * right * (1.0 - right))) + 1e-9
    return slope, float(np.sqrt(np.sum(per_session**2)) / curvature)
