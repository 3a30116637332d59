"""What a model is worth on days it never saw, in the documented units, beside the forecast "no change". Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

SKILL_P = 0.025  # one-sided: a skill-less model passes one test in forty
SKILL_SESSIONS_MIN = 5  # fewer unseen days prove nothing
AUC_BELIEVABLE = 0.56  # honest models of the next hour have 0.50 to 0.52 on real bars; what is much better has leaked


@dataclass(frozen=True)
class Metrics:
    """Errors of price forecasts. `mape` is in percent; `r2` is of the price change against no change, so 0 = naive."""

    mae: float
    mape: float
    rmse: float
    r2: float
    rows: int
    naive_mae: float
    auc: float | None
    t_statistic: float | None
    p_value: float | None
    sessions: int
    skilled: bool


def measure(close: Array, predicted: Array, actual: Array, sessions: npt.NDArray[np.object_]) -> Metrics:
    """`close` in USD, returns as fractions, one row per forecast; `sessions` names the day of each row."""
    target, happened = close * (1.0 + predicted), close * (1.0 + actual)
    error, naive = target - happened, close - happened
    t_statistic, p_value = better_than_naive(predicted, actual, sessions)
    days = len(set(sessions))
    mae, naive_mae = float(np.abs(error).mean()), float(np.abs(naive).mean())
    naive_square = float(np.sum(naive**2))
    proven = p_value is not None and p_value < SKILL_P and days >= SKILL_SESSIONS_MIN
    return Metrics(
        mae=mae,
        mape=float(np.mean(np.abs(error) / happened) * 100.0),
        rmse=float(np.sqrt(np.mean(error**2))),
        r2=1.0 - float(np.sum(error**2)) / naive_square if naive_square > 0 else 0.0,
        rows=len(actual),
        naive_mae=naive_mae,
        auc=direction_auc(predicted, actual),
        t_statistic=t_statistic,
        p_value=p_value,
        sessions=days,
        skilled=proven and mae < naive_mae,
    )


def too_good(metrics: Metrics) -> str | None:
    """A warning in words when the direction was guessed better than markets allow; None otherwise.

    It takes no skill away: a made market can be that easy, and then it is not wrong.
    """
    if metrics.auc is None or metrics.auc <= AUC_BELIEVABLE:
        return None
    return f"suspicious: AUC {metrics.auc:.3f} on unseen days is above {AUC_BELIEVABLE}; it looks like leakage"


def better_than_naive(
    predicted: Array, actual: Array, sessions: npt.NDArray[np.object_]
) -> tuple[float | None, float | None]:
    """Paired t-test over days of the mean absolute return error against no change: t and one-sided p.

    Days, not rows, are the sample: rows of one day overlap and move together. None when there is nothing to compare.
    """
    gain = np.abs(actual) - np.abs(actual - predicted)
    clusters = np.unique(sessions.astype(str), return_inverse=True)[1]
    daily = np.bincount(clusters, weights=gain) / np.bincount(clusters)
    if len(daily) < 2 or float(np.std(daily)) <= 1e-15:
        return None, None
    from scipy import stats  # late: it takes a second to import, and only training measures

    result = stats.ttest_1samp(daily, 0.0, alternative="greater")
    return float(result.statistic), float(result.pvalue)


def direction_auc(predicted: Array, actual: Array) -> float | None:
    """Area under the ROC curve for the sign of the return (Mann-Whitney), None when one sign is missing."""
    up, down = predicted[actual > 0], predicted[actual < 0]
    if not len(up) or not len(down):
        return None
    from scipy import stats

    ranks = stats.rankdata(np.concatenate([up, down]))
    return float((ranks[: len(up)].sum() - len(up) * (len(up) + 1) / 2.0) / (len(up) * len(down)))
