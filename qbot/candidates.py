"""What is fitted for a horizon, what a row counts, and how many rows are too many. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot import limits
from qbot.types import SLOTS

Array = npt.NDArray[np.float64]

REQUIRED = ("LightGBMShallow",)
OPTIONAL = ("LightGBMRandom", "ExtraTrees", "LinearModel")  # left out where time or memory do not suffice
TIME_SHARE = 0.5  # of what is left: so that a slow model cannot leave the next ones without time

VOLATILITY_RATIO_MAX = 3.0  # between a row's volatility and the typical one: beyond it one calm ticker weighs too much
HALF_LIFE_DAYS = 180.0  # markets change: a row from half a year ago counts half
SHARED_NEWS = 0.5  # correlation of two tickers' returns of the same minutes; 0.6 among the largest shares and funds
ROWS_TELLING_ONE = 10.0  # rows that tell as much as one alone would: labels overlap, and tickers share their news


def hyperparameters(rows: int) -> dict[str, list[dict[str, Any]]]:
    """AutoGluon's, for that many fitted rows; strongly regularised: a signal this weak is soon drowned in fitted noise.

    Only LightGBM stops by itself when the tuning days no longer gain; the others are held back from the start. Extra
    trees are few, for each forecast asks them all, and each sees at most TREE_ROWS_MAX rows, which bounds their time.
    Ridge's penalty is the ratio of the noise's variance to that of a coefficient: for an R² of 0.002 spread over 45
    columns 22,500, times ROWS_TELLING_ONE.
    """
    leaf = max(20, rows // 50)
    common = {
        "learning_rate": 0.03,
        "num_boost_round": 300,
        "min_data_in_leaf": leaf,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 10.0,
    }
    trees = {
        "n_estimators": 100,
        "max_depth": 6,
        "min_samples_leaf": max(20, min(rows, limits.TREE_ROWS_MAX) // 20),
        "max_features": 0.5,
        "max_samples": min(1.0, limits.TREE_ROWS_MAX / rows),
    }
    part_of_the_time = {"ag_args_fit": {"max_time_limit_ratio": TIME_SHARE}}
    shallow = {**common, "num_leaves": 8, "ag_args": {"name_suffix": "Shallow"}}
    random = {**common, "num_leaves": 16, "extra_trees": True, "ag_args": {"name_suffix": "Random"}}
    linear = {"C": 1.0 / (22_500.0 * ROWS_TELLING_ONE)}  # C is the inverse of the penalty
    return {
        "GBM": [shallow | part_of_the_time, random | part_of_the_time],
        "XT": [trees | part_of_the_time],
        "LR": [linear],
    }


def weights(rows: pd.DataFrame, typical_volatility: float, recency: bool = True) -> Array:
    """What each row counts, with a mean of 1. Rows have known_at and `realised_vol_78`.

    The inverse square of its volatility, or the wild tickers and days would be all that is fitted; halved every
    HALF_LIFE_DAYS back from the newest row, unless `recency` is off; and less the more tickers have a row at its time,
    since they share one piece of news: n rows that correlate by SHARED_NEWS tell as much as n / (1 + (n-1) × it).
    """
    volatility = rows["realised_vol_78"].to_numpy(dtype=float)
    ratio = np.nan_to_num(volatility / typical_volatility, nan=1.0)
    found = np.clip(ratio, 1.0 / VOLATILITY_RATIO_MAX, VOLATILITY_RATIO_MAX) ** -2.0
    time = rows["known_at"]
    if recency:
        found *= 0.5 ** ((time.max() - time).dt.total_seconds().to_numpy() / 86_400.0 / HALF_LIFE_DAYS)
    together = time.map(time.value_counts()).to_numpy(dtype=float)
    found /= 1.0 + (together - 1.0) * SHARED_NEWS
    return np.asarray(found / found.mean(), dtype=float)


def typical_volatility(rows: pd.DataFrame) -> float:
    """Median of the rows' `realised_vol_78`, a log return a bar; 1 where no row has one, and all count the same."""
    median = float(rows["realised_vol_78"].median())
    return median if np.isfinite(median) and median > 0 else 1.0


def thinned(rows: pd.DataFrame, rows_max: int = limits.FIT_ROWS_MAX) -> pd.DataFrame:
    """At most about `rows_max` rows: every n-th bar of all tickers, another n-th each session.

    Labels of neighbouring bars overlap, so that their rows tell nearly the same; whole times stay, whose tickers are
    ranked among each other, and over n sessions every time of day is there.
    """
    every = -(-len(rows) // rows_max)
    if every <= 1:
        return rows
    bar = rows["time_of_day"].mul(SLOTS).round().to_numpy(dtype=int)
    session = pd.factorize(rows["session"], sort=True)[0]
    kept: pd.DataFrame = rows[(bar + session) % every == 0]
    return kept


def left_out(trained: list[str]) -> tuple[str, ...]:
    """The optional candidates that AutoGluon could not fit."""
    return tuple(name for name in OPTIONAL if name not in trained)
