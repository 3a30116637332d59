"""What is held, in the figures of `backend:portfolio_summary`. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from qbot import sectors
from qbot.types import Account, Position

# A third in one share, or nearly no cash, is called high; a fifth at most and half in cash is called low.
HIGH_WEIGHT, HIGH_EXPOSURE = 0.35, 0.95
LOW_WEIGHT, LOW_EXPOSURE = 0.20, 0.50


class RiskLevel(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


@dataclass(frozen=True, slots=True)
class Largest:
    """The position with the highest value; `weight` is its fraction of the total value."""

    symbol: str
    value: float
    weight: float


@dataclass(frozen=True, slots=True)
class PortfolioSummary:
    """The fields of `backend:portfolio_summary` by the same names: USD and fractions."""

    timestamp: datetime
    total_value: float
    cash_balance: float
    invested_amount: float
    day_change: float
    day_change_pct: float
    positions_count: int
    largest_position: Largest | None
    sector_allocation: dict[str, float]
    risk_level: RiskLevel
    diversification_score: float


def summary(
    account: Account, positions: Sequence[Position], now: datetime, *, target_positions: int = 5
) -> PortfolioSummary:
    """All figures as of `now`. `target_positions` is how many positions the owner aims at."""
    values = {position.symbol: abs(float(position.market_value_usd)) for position in positions}
    total, before = float(account.equity_usd), float(account.last_equity_usd)
    invested = sum(values.values())
    largest = _largest(values, total)
    return PortfolioSummary(
        timestamp=now,
        total_value=round(total, 2),
        cash_balance=round(float(account.cash_usd), 2),
        invested_amount=round(invested, 2),
        day_change=round(total - before, 2) if before > 0 else 0.0,
        day_change_pct=round(total / before - 1, 6) if before > 0 else 0.0,
        positions_count=len(positions),
        largest_position=largest,
        sector_allocation=sector_allocation(values),
        risk_level=risk_level(largest.weight if largest else 0.0, _share(invested, total)),
        diversification_score=diversification(list(values.values()), target_positions),
    )


def preferred(symbol: str, names: Collection[str]) -> bool:
    """Whether the symbol's sector is one of those named, by whatever name."""
    mine = sectors.of(symbol)
    return mine is not None and mine in {sectors.named(name) for name in names}


def unheard_of(names: Collection[str]) -> list[str]:
    """Those of the names that are no sector's."""
    return sorted(name for name in names if sectors.named(name) is None)


def sector_allocation(values: dict[str, float]) -> dict[str, float]:
    """Fraction of the invested amount by sector, the largest first; they add up to 1. Empty when nothing is held."""
    invested = sum(values.values())
    by_sector: defaultdict[str, float] = defaultdict(float)
    for symbol, value in values.items():
        by_sector[sectors.of(symbol) or sectors.UNKNOWN] += value
    ordered = sorted(by_sector.items(), key=lambda item: (-item[1], item[0]))
    return {sector: _share(value, invested) for sector, value in ordered if value > 0}


def diversification(values: Sequence[float], target_positions: int) -> float:
    """How evenly the money is spread, 0 to 1: 1 − Herfindahl's index, over what the target number of equal parts gives.

    The index is the sum of squared weights (Hirschman 1964): 1 for a single position, 1/n for n equal ones.
    """
    invested = sum(values)
    if invested <= 0:
        return 0.0
    spread = 1.0 - sum((value / invested) ** 2 for value in values)
    best = 1.0 - 1.0 / max(target_positions, 2)
    return round(min(max(spread / best, 0.0), 1.0), 4)


def risk_level(largest_weight: float, exposure: float) -> RiskLevel:
    """From the largest position's and all positions' fractions of the total value."""
    if largest_weight > HIGH_WEIGHT or exposure > HIGH_EXPOSURE:
        return RiskLevel.HIGH
    if largest_weight <= LOW_WEIGHT and exposure <= LOW_EXPOSURE:
        return RiskLevel.LOW
    return RiskLevel.MEDIUM


def _largest(values: dict[str, float], total: float) -> Largest | None:
    if not values:
        return None
    symbol, value = max(values.items(), key=lambda item: (item[1], item[0]))
    return Largest(symbol, round(value, 2), _share(value, total))


def _share(part: float, whole: float) -> float:
    """A fraction, at most 1; all of it where there is nothing left to compare with."""
    if part <= 0:
        return 0.0
    return min(part / whole, 1.0) if whole > 0 else 1.0
