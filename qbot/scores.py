"""Measures of forecasts against what happened. Pure: arrays in, numbers out.

Rows of one day overlap and move together, so every uncertainty here counts days, not rows. `days` names the day of
each row; returns are fractions; a move of exactly zero is neither up nor down and counts in no measure of direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

Array = npt.NDArray[np.float64]
Days = npt.NDArray[np.object_]

Z_95 = 1.959963984540054
CALIBRATION_BINS = 10
EULER = 0.5772156649015329
IC_TICKERS_MIN = 4  # fewer have no order to speak of
TRADING_DAYS = 252


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; `low` and `high` are None where days are too few to tell."""

    value: float
    low: float | None
    high: float | None


def auc(score: Array, up: npt.NDArray[np.bool_], days: Days) -> Estimate | None:
    """Area under the ROC curve with an interval that takes each day for one cluster; None when one side is missing.

    DeLong's variance summed within clusters: Obuchowski (1997), "Nonparametric analysis of clustered ROC curve data",
    Biometrics 53, 567–578.
    """
    rises, falls = int(up.sum()), int((~up).sum())
    if not rises or not falls:
        return None
    ranks = stats.rankdata(score)
    placed = np.empty(len(score))  # share of the other side that the row is ordered rightly against
    placed[up] = (ranks[up] - stats.rankdata(score[up])) / falls
    placed[~up] = 1.0 - (ranks[~up] - stats.rankdata(score[~up])) / rises
    value = float(placed[up].mean())
    cluster = _codes(days)
    gain = (placed - value) * np.where(up, 1.0 / rises, 1.0 / falls)
    per_day = np.bincount(cluster, weights=gain)
    count = len(per_day)
    if count < 2:
        return Estimate(value, None, None)
    error = math.sqrt(count / (count - 1) * float(np.sum(per_day**2)))
    return Estimate(value, value - Z_95 * error, value + Z_95 * error)


def rank_ic(frame: pd.DataFrame) -> tuple[Estimate | None, float | None]:
    """Mean over days of the mean Spearman correlation across tickers at each time, and its t over days.

    `frame`: known_at, session, predicted, actual. Times with under IC_TICKERS_MIN tickers, or with one and the same
    forecast for all, do not count; None when none is left.
    """
    counted = frame[frame.groupby("known_at")["predicted"].transform("size") >= IC_TICKERS_MIN]
    if counted.empty:
        return None, None
    ranks = counted.groupby("known_at")[["predicted", "actual"]].rank()
    centred = ranks - ranks.groupby(counted["known_at"]).transform("mean")
    products = pd.DataFrame(
        {
            "cross": centred["predicted"] * centred["actual"],
            "left": centred["predicted"] ** 2,
            "right": centred["actual"] ** 2,
        }
    )
    sums = products.groupby(counted["known_at"]).sum()
    scale = (sums["left"] * sums["right"]) ** 0.5
    by_time = (sums["cross"] / scale.where(scale > 0)).dropna()
    day_of = counted.groupby("known_at")["session"].first().reindex(by_time.index)
    daily = by_time.groupby(day_of.to_numpy()).mean().to_numpy(dtype=float)
    return (daily_mean(daily), t_of(daily)) if len(daily) else (None, None)


def daily_mean(daily: Array) -> Estimate:
    """The mean of one value a day, with its interval by Student's t."""
    value = float(daily.mean())
    if len(daily) < 2:
        return Estimate(value, None, None)
    reach = float(stats.t.ppf(0.975, len(daily) - 1)) * float(daily.std(ddof=1)) / math.sqrt(len(daily))
    return Estimate(value, value - reach, value + reach)


def t_of(daily: Array) -> float | None:
    """The mean in units of its standard error; None without two different days."""
    if len(daily) < 2 or float(daily.std(ddof=1)) <= 1e-15:
        return None
    return float(daily.mean() / daily.std(ddof=1) * math.sqrt(len(daily)))


@dataclass(frozen=True)
class Bin:
    """One point of a calibration curve: what was promised, what came, and how many forecasts."""

    promised: float
    happened: float
    count: int


def reliability(probability: Array, happened: npt.NDArray[np.bool_], bins: int = CALIBRATION_BINS) -> tuple[Bin, ...]:
    """Bins of equally many forecasts, by rising probability. What is promised by many shares a bin, so there may be
    fewer; two such promises never do.
    """
    edges = np.unique(np.quantile(probability, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    at = np.searchsorted(edges, probability, side="right")
    count = np.bincount(at)
    promised, came = np.bincount(at, weights=probability), np.bincount(at, weights=happened.astype(float))
    return tuple(
        Bin(float(promised[i] / count[i]), float(came[i] / count[i]), int(count[i]))
        for i in range(len(count))
        if count[i]
    )


def ece(curve: tuple[Bin, ...]) -> float:
    """Expected calibration error: the mean distance between promised and happened, each forecast weighing the same."""
    total = sum(each.count for each in curve)
    return sum(each.count * abs(each.promised - each.happened) for each in curve) / total if total else 0.0


def brier(probability: Array, happened: npt.NDArray[np.bool_]) -> float:
    """Mean squared distance of the probability from what came; 0 is perfect, 0.25 a coin that says 0.5."""
    return float(np.mean((probability - happened) ** 2))


def brier_skill(
    probability: Array, constant: Array, happened: npt.NDArray[np.bool_], days: Days
) -> tuple[float | None, float | None]:
    """1 - Brier / Brier of the constant rate, and the t over days of the gain: above 0 is better than the constant."""
    gain = (constant - happened) ** 2 - (probability - happened) ** 2
    base = float(np.mean((constant - happened) ** 2))
    return (float(gain.mean()) / base if base > 0 else None), t_of(by_day(gain, days))


def interval_score(low: Array, high: Array, actual: Array, level: float) -> Array:
    """Winkler (1972): the width, and 2 / (1 - level) for each unit that the outcome lies outside. Smaller is better."""
    outside = np.maximum(low - actual, 0.0) + np.maximum(actual - high, 0.0)
    return np.asarray(high - low + 2.0 / (1.0 - level) * outside, dtype=float)


def coverage(inside: npt.NDArray[np.bool_], days: Days) -> Estimate:
    """Share of outcomes inside the interval, with an interval of its own that takes each day for one cluster."""
    value = float(inside.mean())
    per_day = np.bincount(_codes(days), weights=inside - value)
    count = len(per_day)
    if count < 2:
        return Estimate(value, None, None)
    error = math.sqrt(count / (count - 1) * float(np.sum(per_day**2))) / len(inside)
    return Estimate(value, value - Z_95 * error, value + Z_95 * error)


def by_day(values: Array, days: Days) -> Array:
    """The mean of each day, in the order of the days."""
    codes = _codes(days)
    return np.asarray(np.bincount(codes, weights=values) / np.bincount(codes), dtype=float)


def sharpe(daily: Array) -> float | None:
    """Mean over standard deviation of daily returns, not annualised; None without two different days."""
    if len(daily) < 2 or float(daily.std(ddof=1)) <= 1e-15:
        return None
    return float(daily.mean() / daily.std(ddof=1))


def expected_maximum_sharpe(trials: int, variance: float) -> float:
    """What the best of so many worthless strategies shows by luck; `variance` is that of the Sharpe ratios tried."""
    if trials < 2:
        return 0.0
    best = (1.0 - EULER) * stats.norm.ppf(1.0 - 1.0 / trials) + EULER * stats.norm.ppf(1.0 - 1.0 / (trials * math.e))
    return float(math.sqrt(variance) * best)


def deflated_sharpe(ratio: float, days: int, skew: float, kurtosis: float, trials: int, variance: float) -> float:
    """Probability that the true Sharpe ratio is above what the best of `trials` worthless ones shows by luck.

    `ratio` and the `variance` of the tried ratios are per day; `kurtosis` is 3 for a normal. Bailey and López de Prado
    (2014), "The deflated Sharpe ratio", Journal of Portfolio Management 40 (5), 94–107. 0.95 is their bar.
    """
    spread = max(1e-12, 1.0 - skew * ratio + (kurtosis - 1.0) / 4.0 * ratio**2)
    z = (ratio - expected_maximum_sharpe(trials, variance)) * math.sqrt(days - 1) / math.sqrt(spread)
    return float(stats.norm.cdf(z))


def moments(daily: Array) -> tuple[float, float]:
    """Skewness and kurtosis (3 for a normal) of daily returns; 0 and 3 where they do not vary."""
    if len(daily) < 3 or float(daily.std()) <= 1e-15:
        return 0.0, 3.0
    return float(stats.skew(daily)), float(stats.kurtosis(daily, fisher=False))


def _codes(days: Days) -> npt.NDArray[np.intp]:
    return np.asarray(pd.factorize(days, sort=True)[0], dtype=np.intp)
