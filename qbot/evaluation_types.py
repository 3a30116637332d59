"""The figures of an evaluation, as values. Everything named `_pct` is a fraction, `_percent` is in percent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from qbot.costs import Costs
from qbot.scores import Bin, Estimate
from qbot.thresholds import Outcome


@dataclass(frozen=True)
class Errors:
    """Errors of the forecast price: `mae_usd` and `rmse_usd` in USD, `mape_percent` in percent of the price."""

    mae_usd: float
    rmse_usd: float
    mape_percent: float


@dataclass(frozen=True)
class Ticker:
    """One ticker over all folds."""

    symbol: str
    rows: int
    model: Errors
    naive: Errors
    auc: Estimate | None
    p_value: float | None


@dataclass(frozen=True)
class FoldFigures:
    """One fold over all tickers."""

    fold: int
    first_day: date
    last_day: date
    rows: int
    mae_usd: float
    naive_mae_usd: float
    auc: Estimate | None


@dataclass(frozen=True)
class Direction:
    """How good the sense of direction is. Rows that did not move are left out.

    `up_curve` is of P(up), `confidence_curve` of P(the direction is right). `brier_skill` is against the constant
    up-rate of each fold's calibrating days, `brier_skill_t` its t over days. `constant_ece`: what that rate has.
    """

    rows: int
    auc: Estimate | None
    rank_ic: Estimate | None
    rank_ic_t: float | None
    right_share: float
    up_curve: tuple[Bin, ...]
    confidence_curve: tuple[Bin, ...]
    up_ece: float
    confidence_ece: float
    constant_ece: float
    brier: float
    constant_brier: float
    brier_skill: float | None
    brier_skill_t: float | None
    confidence_max: float


@dataclass(frozen=True)
class Interval:
    """One level of interval beside the plain volatility interval. Widths and scores are fractions of the price.

    `parts`: coverage by tercile of volatility and by time of day, each with its interval.
    """

    level: float
    covered: Estimate
    parts: dict[str, Estimate]
    width_pct: float
    score_pct: float
    plain_covered: Estimate
    plain_width_pct: float
    plain_score_pct: float

    @property
    def worst_gap(self) -> float:
        """Largest distance of a part's coverage from the level, a fraction."""
        return max(abs(each.value - self.level) for each in (self.covered, *self.parts.values()))


@dataclass(frozen=True)
class Trading:
    """One rule of the grid, with its Sharpe ratio (a year) and the probability that it is more than luck.

    `deflated_sharpe` allows for all the rules that were tried over all horizons; None where nothing traded.
    """

    outcome: Outcome
    sharpe_year: float | None
    deflated_sharpe: float | None


@dataclass(frozen=True)
class Horizon:
    """Everything about one horizon."""

    horizon_minutes: int
    rows: int
    days: int
    skilled: bool
    p_value: float | None
    model: Errors
    naive: Errors
    ar: Errors
    direction: Direction
    intervals: tuple[Interval, ...]
    tickers: tuple[Ticker, ...]
    folds: tuple[FoldFigures, ...]
    every_rise: Outcome
    trading: tuple[Trading, ...]


@dataclass(frozen=True)
class Evaluation:
    """A whole walk-forward. `trials`: rules tried that traded, over all horizons."""

    symbols: tuple[str, ...]
    days: tuple[date, ...]
    costs: Costs
    trials: int
    horizons: tuple[Horizon, ...]
