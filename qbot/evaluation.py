"""What a walk-forward was worth, per horizon, ticker and fold: forecasts in, figures out. Pure.

`forecasts` are frames as `qbot.walk_forward` makes them: symbol, known_at, session, horizon_minutes, fold, close
(USD), predicted, actual, ar_predicted, low_80 …, base_80 … (fractions), volatility, time_of_day, confidence, up_rate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot import scores
from qbot.costs import USUAL, Costs
from qbot.evaluation_types import Direction, Errors, Evaluation, FoldFigures, Horizon, Interval, Ticker, Trading
from qbot.skill import Metrics, measure
from qbot.thresholds import Outcome, Rule, grid, outcomes

Array = npt.NDArray[np.float64]

LEVELS = (0.80, 0.95)
DAY_PARTS = (
    ("09:30–10:30", 60),
    ("10:30–12:00", 150),
    ("12:00–14:00", 270),
    ("14:00–15:00", 330),
    ("15:00–16:00", 390),
)
TERCILES = ("calm", "usual", "wild")
SESSION_MINUTES = 390
EVERY_RISE = Rule(0.0, 0.0)


def evaluate(forecasts: pd.DataFrame, costs: Costs = USUAL, rules: Sequence[Rule] = ()) -> Evaluation:
    """The figures of every horizon. `rules`: what is tried, by default `thresholds.grid()`."""
    rules = rules or grid()
    found = [_horizon(group, costs, rules) for _, group in forecasts.groupby("horizon_minutes")]
    horizons, trials = _deflate(found)
    return Evaluation(
        symbols=tuple(sorted(forecasts["symbol"].unique())),
        days=tuple(sorted(forecasts["session"].unique())),
        costs=costs,
        trials=trials,
        horizons=horizons,
    )


def _horizon(rows: pd.DataFrame, costs: Costs, rules: Sequence[Rule]) -> Horizon:
    rows = rows.reset_index(drop=True)
    metrics = _measure(rows)
    return Horizon(
        horizon_minutes=int(rows["horizon_minutes"].iloc[0]),
        rows=len(rows),
        days=metrics.sessions,
        skilled=metrics.skilled,
        p_value=metrics.p_value,
        model=errors(rows, "predicted"),
        naive=errors(rows, None),
        ar=errors(rows, "ar_predicted"),
        direction=direction(rows),
        intervals=tuple(interval(rows, level) for level in LEVELS),
        tickers=tuple(_ticker(str(symbol), group) for symbol, group in rows.groupby("symbol")),
        folds=tuple(_fold(int(str(number)), group) for number, group in rows.groupby("fold")),
        every_rise=outcomes(rows, [EVERY_RISE], costs)[0],
        trading=tuple(Trading(each, _yearly(each), None) for each in outcomes(rows, rules, costs)),
    )


def errors(rows: pd.DataFrame, column: str | None) -> Errors:
    """Errors of the price that the returns of the column mean; None = no change."""
    close, actual = _numbers(rows, "close"), _numbers(rows, "actual")
    predicted = np.zeros(len(rows)) if column is None else _numbers(rows, column)
    off, happened = close * (predicted - actual), close * (1.0 + actual)
    return Errors(
        mae_usd=float(np.abs(off).mean()),
        rmse_usd=float(np.sqrt(np.mean(off**2))),
        mape_percent=float(np.mean(np.abs(off) / happened) * 100.0),
    )


def direction(rows: pd.DataFrame) -> Direction:
    """Of the rows that moved."""
    moved = rows[rows["actual"] != 0.0]
    up = (moved["actual"] > 0).to_numpy()
    predicted, confidence = _numbers(moved, "predicted"), _numbers(moved, "confidence")
    p_up = np.where(predicted >= 0, confidence, 1.0 - confidence)
    constant, days = _numbers(moved, "up_rate"), _days(moved)
    right = (predicted >= 0) == up
    up_curve, confidence_curve = scores.reliability(p_up, up), scores.reliability(confidence, right)
    rank_ic, rank_ic_t = scores.rank_ic(rows)
    skill, skill_t = scores.brier_skill(p_up, constant, up, days)
    return Direction(
        rows=len(moved),
        auc=scores.auc(predicted, up, days),
        rank_ic=rank_ic,
        rank_ic_t=rank_ic_t,
        right_share=float(right.mean()),
        up_curve=up_curve,
        confidence_curve=confidence_curve,
        up_ece=scores.ece(up_curve),
        confidence_ece=scores.ece(confidence_curve),
        constant_ece=scores.ece(scores.reliability(constant, up)),
        brier=scores.brier(p_up, up),
        constant_brier=scores.brier(constant, up),
        brier_skill=skill,
        brier_skill_t=skill_t,
        confidence_max=float(confidence.max()),
    )


def interval(rows: pd.DataFrame, level: float) -> Interval:
    """Coverage, width and interval score of one level, and of the plain volatility interval beside it."""
    name = f"{level * 100:.0f}"
    low, high, actual = _numbers(rows, f"low_{name}"), _numbers(rows, f"high_{name}"), _numbers(rows, "actual")
    half, days = _numbers(rows, f"base_{name}"), _days(rows)
    inside = (low <= actual) & (actual <= high)
    return Interval(
        level=level,
        covered=scores.coverage(inside, days),
        parts={label: scores.coverage(inside[part], days[part]) for label, part in _parts_of(rows) if part.any()},
        width_pct=float(np.mean(high - low)),
        score_pct=float(scores.interval_score(low, high, actual, level).mean()),
        plain_covered=scores.coverage(np.abs(actual) <= half, days),
        plain_width_pct=float(np.mean(2.0 * half)),
        plain_score_pct=float(scores.interval_score(-half, half, actual, level).mean()),
    )


def _parts_of(rows: pd.DataFrame) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Terciles of the volatility known at the time, then parts of the day by when the forecast was known."""
    volatility = _numbers(rows, "volatility")
    edges = np.nanquantile(volatility, [1 / 3, 2 / 3])
    third = np.searchsorted(edges, volatility, side="right")
    for number, label in enumerate(TERCILES):
        yield label, (third == number) & np.isfinite(volatility)
    minutes = _numbers(rows, "time_of_day") * SESSION_MINUTES
    part = np.searchsorted([end for _, end in DAY_PARTS], minutes - 1e-6, side="left")
    for number, (label, _) in enumerate(DAY_PARTS):
        yield label, part == number


def _ticker(symbol: str, rows: pd.DataFrame) -> Ticker:
    moved = rows[rows["actual"] != 0.0]
    return Ticker(
        symbol=symbol,
        rows=len(rows),
        model=errors(rows, "predicted"),
        naive=errors(rows, None),
        auc=scores.auc(_numbers(moved, "predicted"), (moved["actual"] > 0).to_numpy(), _days(moved)),
        p_value=_measure(rows).p_value,
    )


def _fold(number: int, rows: pd.DataFrame) -> FoldFigures:
    moved = rows[rows["actual"] != 0.0]
    return FoldFigures(
        fold=number,
        first_day=rows["session"].min(),
        last_day=rows["session"].max(),
        rows=len(rows),
        mae_usd=errors(rows, "predicted").mae_usd,
        naive_mae_usd=errors(rows, None).mae_usd,
        auc=scores.auc(_numbers(moved, "predicted"), (moved["actual"] > 0).to_numpy(), _days(moved)),
    )


def _deflate(found: Sequence[Horizon]) -> tuple[tuple[Horizon, ...], int]:
    """Each Sharpe ratio against the best that as many worthless rules would have shown, and how many were tried."""
    ratios = [_ratio(each.outcome) for horizon in found for each in horizon.trading]
    tried = [ratio for ratio in ratios if ratio is not None]
    variance = float(np.var(tried, ddof=1)) if len(tried) > 1 else 0.0

    def deflated(each: Trading) -> Trading:
        ratio, daily = _ratio(each.outcome), np.asarray(each.outcome.daily)
        if ratio is None:
            return each
        value = scores.deflated_sharpe(ratio, len(daily), *scores.moments(daily), len(tried), variance)
        return replace(each, deflated_sharpe=value)

    return tuple(replace(each, trading=tuple(map(deflated, each.trading))) for each in found), len(tried)


def _ratio(outcome: Outcome) -> float | None:
    return scores.sharpe(np.asarray(outcome.daily)) if outcome.trades else None


def _yearly(outcome: Outcome) -> float | None:
    ratio = _ratio(outcome)
    return None if ratio is None else float(ratio * np.sqrt(scores.TRADING_DAYS))


def _measure(rows: pd.DataFrame) -> Metrics:
    return measure(_numbers(rows, "close"), _numbers(rows, "predicted"), _numbers(rows, "actual"), _days(rows))


def _numbers(rows: pd.DataFrame, column: str) -> Array:
    return rows[column].to_numpy(dtype=float)


def _days(rows: pd.DataFrame) -> npt.NDArray[np.object_]:
    return rows["session"].to_numpy(dtype=object)
