"""How far a price usually moves over a horizon, row by row: what an interval is measured in. Pure.

A linear model of the log of |return| on the logs of the realised volatilities of the last hour, the last session and
the last week (Corsi 2009, "A simple approximate long-memory model of realized volatility"), the market's, and the time
of day. On five-minute bars of US shares it leaves errors that are spread alike in calm and wild times and at every
time of day, which plain volatility does not: prices move twice as much after the open as at noon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot.types import SLOTS

Array = npt.NDArray[np.float64]

VOLATILITIES = ("realised_vol_12", "realised_vol_78", "realised_vol_week", "market_vol_12")
VOLATILITY_MIN = 1e-5  # a tenth of a basis point: a price that stood still
RETURN_MIN = 1e-5  # likewise; the logarithm of nothing is no number
HALF_HOUR = 6  # slots
OPENING_SLOTS = 6  # each of the first six bars for itself: the market calms down quickly
RIDGE = 1.0  # only keeps the coefficients apart; there are thousands of rows


@dataclass(frozen=True)
class ExpectedMove:
    """The fitted model. `usual` are the logs of the volatilities that stand in for unknown ones."""

    intercept: float
    coefficients: tuple[float, ...]
    usual: tuple[float, ...]

    def of(self, rows: pd.DataFrame) -> Array:
        """The expected size of the return of each row of `build_features`, a fraction; always positive."""
        return np.asarray(np.exp(self.intercept + _design(rows, self.usual) @ np.array(self.coefficients)), dtype=float)


def fit_expected_move(rows: pd.DataFrame, actual: Array) -> ExpectedMove:
    """From rows of `build_features` and the returns (fractions) that followed them."""
    from sklearn.linear_model import Ridge  # late: it takes a second to import, and only training fits

    logs = np.log(np.maximum(rows[list(VOLATILITIES)].to_numpy(dtype=float), VOLATILITY_MIN))
    usual = tuple(float(np.median(each[np.isfinite(each)])) if np.isfinite(each).any() else 0.0 for each in logs.T)
    model = Ridge(alpha=RIDGE).fit(_design(rows, usual), np.log(np.abs(actual) + RETURN_MIN))
    return ExpectedMove(float(model.intercept_), tuple(float(each) for each in model.coef_), usual)


def _design(rows: pd.DataFrame, usual: tuple[float, ...]) -> Array:
    """Shape (rows, volatilities + times of day)."""
    logs = np.log(np.maximum(rows[list(VOLATILITIES)].to_numpy(dtype=float), VOLATILITY_MIN))
    slot = np.rint(rows["time_of_day"].to_numpy(dtype=float) * SLOTS).astype(int) - 1
    half_hours = slot[:, None] // HALF_HOUR == np.arange(1, SLOTS // HALF_HOUR)
    opening = slot[:, None] == np.arange(OPENING_SLOTS)
    return np.column_stack([np.where(np.isfinite(logs), logs, usual), half_hours, opening]).astype(float)
