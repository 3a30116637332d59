"""What past forecasts would have traded at which thresholds, and what that would have earned after costs. Pure.

The rule: buy one ticker's share of the capital when its forecast return is over the return threshold and its
confidence is not under the confidence threshold, hold it for the horizon, sell it. Long only, at most one position a
ticker, each ticker an equal share of the capital. Bought and sold at the closes that the forecast is about, half a
spread away: what a perfect and small trader gets.

Forecasts are frames of one horizon: symbol, known_at, session, predicted, actual (fractions), confidence, close (USD).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from qbot.costs import USUAL, Costs
from qbot.types import TradingConfig

Array = npt.NDArray[np.float64]

COLUMNS = ("symbol", "known_at", "session", "horizon_minutes", "predicted", "actual", "confidence", "close")


@dataclass(frozen=True)
class Rule:
    """Both thresholds; the return as a fraction."""

    confidence_min: float
    return_min_pct: float


DOCUMENTED = Rule(TradingConfig().ml_confidence_threshold, TradingConfig().buy_threshold_pct)
CONFIDENCES = (0.50, 0.52, 0.54, 0.56, 0.60, DOCUMENTED.confidence_min)
RETURNS_PCT = (0.0, 0.0005, 0.001, 0.002, DOCUMENTED.return_min_pct)


@dataclass(frozen=True)
class Outcome:
    """What one rule would have done. Everything named `_pct` is a fraction.

    `passed`: forecasts over both thresholds; `trades`: those of them that found the ticker not held already.
    `gross_pct` and `net_pct` are of a trade, on average; `total_pct` is of the whole capital, not compounded;
    `daily`: the same, day by day, in the order of the days, those without a trade too.
    """

    horizon_minutes: int
    rule: Rule
    forecasts: int
    passed: int
    trades: int
    won: int
    gross_pct: float
    net_pct: float
    total_pct: float
    daily: tuple[float, ...]


def grid(confidences: Iterable[float] = CONFIDENCES, returns_pct: Iterable[float] = RETURNS_PCT) -> tuple[Rule, ...]:
    """Every pair, by confidence and then by return."""
    return tuple(Rule(c, r) for c in sorted(set(confidences)) for r in sorted(set(returns_pct)))


def outcomes(forecasts: pd.DataFrame, rules: Sequence[Rule], costs: Costs = USUAL) -> tuple[Outcome, ...]:
    """What each rule would have done with the forecasts, which are of one horizon (at least one row)."""
    ordered = forecasts.sort_values(["symbol", "known_at"], kind="stable")
    return tuple(_outcome(ordered, rule, costs) for rule in rules)


def passing(forecasts: pd.DataFrame, rule: Rule) -> npt.NDArray[np.bool_]:
    """The forecasts over both thresholds, as `qbot.signals` compares them."""
    over = (forecasts["predicted"] > rule.return_min_pct) & (forecasts["confidence"] >= rule.confidence_min)
    return over.to_numpy(dtype=bool)


def taken(ordered: pd.DataFrame, rule: Rule) -> pd.DataFrame:
    """The forecasts that become trades: each ticker's next one waits until its last is sold.

    `ordered` by symbol, then time.
    """
    wanted = ordered[passing(ordered, rule)]
    if wanted.empty:
        return wanted
    minutes = _minutes(wanted["known_at"])
    horizon = int(wanted["horizon_minutes"].iloc[0])
    lane = pd.factorize(wanted["symbol"])[0] * (int(minutes.max()) + horizon + 1)  # tickers one after another
    at = minutes + lane
    following = np.searchsorted(at, at + horizon, side="left").tolist()
    chosen, place = [], 0
    while place < len(following):
        chosen.append(place)
        place = following[place]
    return wanted.iloc[chosen]


def sentence(forecasts: pd.DataFrame, rule: Rule, costs: Costs = USUAL) -> str:
    """One sentence of plain words about the reader's own thresholds. `forecasts` may be of several horizons."""
    where = f"At a confidence of at least {rule.confidence_min:.2f} and a return over {percent(rule.return_min_pct)}"
    count = len(forecasts)
    if not count:
        return "No forecast has matured yet: there is nothing to look back on."
    passed = int(passing(forecasts, rule).sum())
    if not passed:
        return (
            f"{where}, none of {count:,} forecasts would have traded; the highest confidence seen was "
            f"{forecasts['confidence'].max():.2f}, the highest forecast return {percent(forecasts['predicted'].max())}."
        )
    parts = []
    for horizon, group in forecasts.groupby("horizon_minutes"):
        found = outcomes(group, [rule], costs)[0]
        if found.trades:
            verb = "earned" if found.total_pct >= 0 else "lost"
            parts.append(f"{found.trades:,} trades over {horizon} minutes {verb} {percent(abs(found.total_pct))}")
    return (
        f"{where}, {passed:,} of {count:,} forecasts would have traded: {'; '.join(parts)} of the capital after costs."
    )


def percent(fraction: float, digits: int = 2, *, sign: bool = False) -> str:
    """A fraction for people: 0.0123 as 1.23 %."""
    return f"{fraction * 100:{'+' if sign else ''}.{digits}f} %"


def _outcome(ordered: pd.DataFrame, rule: Rule, costs: Costs) -> Outcome:
    trades = taken(ordered, rule)
    gross = trades["actual"].to_numpy(dtype=float)
    net = gross - costs.round_trip_pct(trades["close"].to_numpy(dtype=float))
    daily = _daily(ordered, trades, net)
    return Outcome(
        horizon_minutes=int(ordered["horizon_minutes"].iloc[0]),
        rule=rule,
        forecasts=len(ordered),
        passed=int(passing(ordered, rule).sum()),
        trades=len(trades),
        won=int((net > 0).sum()),
        gross_pct=float(gross.mean()) if len(gross) else 0.0,
        net_pct=float(net.mean()) if len(net) else 0.0,
        total_pct=float(daily.sum()),
        daily=tuple(map(float, daily)),
    )


def _daily(ordered: pd.DataFrame, trades: pd.DataFrame, net: Array) -> Array:
    """Return of the capital on each day, which the tickers with a forecast on it share equally."""
    tickers = ordered.groupby("session")["symbol"].nunique()
    earned = pd.Series(net, index=trades["session"].to_numpy()).groupby(level=0).sum() if len(net) else None
    total = tickers * 0.0 if earned is None else earned.reindex(tickers.index, fill_value=0.0)
    return np.asarray((total / tickers).to_numpy(), dtype=float)


def _minutes(times: pd.Series[pd.Timestamp]) -> npt.NDArray[np.int64]:
    first = times.min()
    return np.asarray(((times - first) // pd.Timedelta(minutes=1)).to_numpy(), dtype=np.int64)
