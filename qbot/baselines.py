"""What a model has to beat beside "the price stays as it is": an autoregression, by statsmodels. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot.types import BAR_MINUTES

Array = npt.NDArray[np.float64]

LAGS = 3  # bars: what trades and quotes leave behind is over in a quarter of an hour
_ROWS_MIN = 30  # of complete rows; fewer say nothing about three numbers


@dataclass(frozen=True)
class Autoregression:
    """The next bar's log return as a sum of `coefficients` × those of the bars before, newest first. No constant.

    A constant would be the fitted weeks' drift; the models do without theirs, too.
    """

    coefficients: tuple[float, ...]

    def returns(self, rows: pd.DataFrame, horizon_minutes: int) -> Array:
        """Expected returns (fractions) over the horizon for rows of `build_features`: the recursion, summed up.

        A bar before the session's first counts as no move: returns across the night are no part of it.
        """
        return np.asarray(np.expm1(np.nan_to_num(_lagged(rows)) @ self._summed(horizon_minutes // BAR_MINUTES)))

    def _summed(self, steps: int) -> Array:
        """What each past return counts in the sum of the next `steps`: powers of the companion matrix."""
        order = len(self.coefficients)
        companion = np.zeros((order, order))
        companion[0] = self.coefficients
        companion[np.arange(1, order), np.arange(order - 1)] = 1.0
        power, total = np.eye(order), np.zeros(order)
        for _ in range(steps):
            power = companion @ power
            total += power[0]
        return total


def fit_autoregression(rows: pd.DataFrame) -> Autoregression:
    """Fitted on rows of `build_features` (with `session`), all tickers pooled, each by its own scale.

    Only whole runs within a session count, so that none reaches across a night, a gap or what is not in `rows`. On one
    unbroken series it is what statsmodels' AutoReg gives. Zeros where there are too few rows: no change.
    """
    lagged = _lagged(rows)
    following = rows.groupby(["symbol", "session"], observed=True, sort=False)
    next_in = following["ts"].shift(-1) - rows["ts"]
    target = np.log1p(following["return_1"].shift(-1).to_numpy(dtype=float))
    whole = np.isfinite(lagged).all(axis=1) & np.isfinite(target)
    whole &= (next_in == pd.Timedelta(minutes=BAR_MINUTES)).to_numpy()
    if whole.sum() < _ROWS_MIN:
        return Autoregression((0.0,) * LAGS)
    scale = pd.Series(target[whole]).groupby(rows["symbol"].to_numpy(dtype=object)[whole]).transform("std").to_numpy()
    moving = scale > 0
    from statsmodels.regression.linear_model import OLS  # late: seconds to import, and only training fits

    fitted = OLS(target[whole][moving] / scale[moving], lagged[whole][moving] / scale[moving, None]).fit()
    return Autoregression(tuple(float(value) for value in fitted.params))


def _lagged(rows: pd.DataFrame) -> Array:
    """The last LAGS one-bar log returns, newest first, out of the returns over 1, 2 and 3 bars."""
    over = np.column_stack([np.log1p(rows[f"return_{lag}"].to_numpy(dtype=float)) for lag in range(1, LAGS + 1)])
    return np.diff(over, axis=1, prepend=0.0)
