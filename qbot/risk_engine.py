"""The risk engine: how much of a position may be taken now, and when trading must stop until a human looks. Pure.

Reasons multiply a factor on the size of new positions; what is unknown counts as bad. Circuit breakers stop entries.
Losses are taken from readings of the equity that others confirm: one bad reading neither trips nor makes a peak.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from qbot import limits
from qbot.types import Account, Position, RiskReport

EquityPoint = tuple[datetime, Decimal]
BREAKER = "breaker_"  # in front of a breaker's name among the reasons
READINGS = 3  # of which the median is believed


@dataclass(frozen=True, slots=True)
class Equity:
    """Confirmed equity in USD: now, at the begin of the rolling window, and at its peak."""

    now_usd: Decimal
    begin_usd: Decimal
    peak_usd: Decimal

    @property
    def rolling_loss_pct(self) -> Decimal:
        return _loss(self.begin_usd, self.now_usd)

    @property
    def drawdown_pct(self) -> Decimal:
        return _loss(self.peak_usd, self.now_usd)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the engine looks at, at `now` (market time). None means unknown.

    `confidence`: the forecasts' median. `volatility_ratio`: of the last hour to what is usual at its time of day.
    `model_age_days`: of the oldest standing artifact. `fresh_share`: of the tickers, with data as new as they should
    be; counts while the market is open. `standing`: breakers that tripped. `*_minutes`: how long it has lasted.
    """

    now: datetime
    market_open: bool
    equity: Equity | None = None
    confidence: float | None = None
    volatility_ratio: float | None = None
    model_age_days: float | None = None
    fresh_share: float | None = None
    standing: tuple[str, ...] = ()
    rejected_in_a_row: int = 0
    lost_in_a_row: int = 0
    drift_minutes: float = 0.0
    gap_minutes: float = 0.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Something that makes positions smaller. `value` is what is measured, None if unknown; `bad` judges it."""

    name: str
    unknown: str
    factor: Decimal
    threshold: float | Decimal
    value: Callable[[Seen], float | Decimal | None]
    bad: Callable[[float | Decimal, float | Decimal], bool]
    meaning: str


@dataclass(frozen=True, slots=True)
class Breaker:
    """Trips when what is measured reaches `limit`. `advice`: what a human does before resuming."""

    name: str
    limit: float | Decimal
    value: Callable[[Seen], float | Decimal]
    meaning: str
    advice: str


@dataclass(frozen=True, slots=True)
class Trip:
    """A breaker whose limit is reached, with the numbers."""

    name: str
    why: str
    advice: str
    numbers: Mapping[str, str]


def _below(value: float | Decimal, threshold: float | Decimal) -> bool:
    return value < threshold


def _above(value: float | Decimal, threshold: float | Decimal) -> bool:
    return value > threshold


def _fresh(seen: Seen) -> float | None:
    return seen.fresh_share if seen.market_open else 1.0


def _drawdown(seen: Seen) -> Decimal | None:
    return seen.equity.drawdown_pct if seen.equity else None


REASONS = (
    Reason(
        "low_confidence", "confidence_unknown", limits.LOW_CONFIDENCE_FACTOR, limits.LOW_CONFIDENCE,
        lambda seen: seen.confidence, _below, "median confidence of the forecasts",
    ),
    Reason(
        "drawdown", "equity_unknown", limits.HIGH_DRAWDOWN_FACTOR, limits.HIGH_DRAWDOWN_PCT,
        _drawdown, _above, "fall of the equity from its peak",
    ),
    Reason(
        "high_volatility", "volatility_unknown", limits.HIGH_VOLATILITY_FACTOR, limits.HIGH_VOLATILITY_RATIO,
        lambda seen: seen.volatility_ratio, _above, "volatility of the last hour to what is usual at its time of day",
    ),
    Reason(
        "model_stale", "model_unknown", limits.MODEL_STALE_FACTOR, limits.MODEL_STALE_DAYS,
        lambda seen: seen.model_age_days, _above, "days since the oldest standing artifact was made",
    ),
    Reason(
        "data_gap", "data_unknown", limits.DATA_GAP_FACTOR, limits.FRESH_SHARE_MIN,
        _fresh, _below, "share of the tickers with fresh bars, while the market is open",
    ),
)  # fmt: skip

BREAKERS = (
    Breaker(
        "rolling_loss", limits.MAX_ROLLING_LOSS_PCT,
        lambda seen: seen.equity.rolling_loss_pct if seen.equity else Decimal(0),
        f"loss of the equity within {limits.ROLLING_LOSS_DAYS} days, five sessions",
        "Look at the trades of the last days and at the settings.",
    ),
    Breaker(
        "drawdown", limits.MAX_DRAWDOWN_PCT,
        lambda seen: seen.equity.drawdown_pct if seen.equity else Decimal(0),
        "fall of the equity from its peak",
        "Look at the trades since the peak and at the settings.",
    ),
    Breaker(
        "rejected_orders", limits.REJECTED_IN_A_ROW_MAX,
        lambda seen: seen.rejected_in_a_row,
        "orders in a row that the venue rejected, a human's own left out",
        "See in the intents why, and clear it up with the broker.",
    ),
    Breaker(
        "losing_trades", limits.LOSING_TRADES_MAX,
        lambda seen: seen.lost_in_a_row,
        "closed trades in a row that lost",
        "Look at these trades and at the quality of the forecasts.",
    ),
    Breaker(
        "ledger_drift", limits.DRIFT_MINUTES_MAX,
        lambda seen: seen.drift_minutes,
        "minutes for which ledger and broker have not agreed",
        "Compare positions and fills at the broker with those of QBot.",
    ),
    Breaker(
        "data_gap", limits.DATA_GAP_MINUTES_MAX,
        lambda seen: seen.gap_minutes,
        f"minutes of open market in which more than {limits.DATA_GAP_SHARE_MAX:.0%} of the tickers had no fresh bars",
        "See that the provider and the task fetch_data work.",
    ),
)  # fmt: skip


def report(seen: Seen) -> RiskReport:
    """The factor with its reasons, the losses, and the breakers that stand or trip now.

    The factor is the product of the reasons' factors, not below RISK_FACTOR_MIN; 0 with a tripped breaker.
    """
    factor, reasons = Decimal(1), []
    for reason in REASONS:
        value = reason.value(seen)
        unknown = value is None or not math.isfinite(value)
        if unknown or (value is not None and reason.bad(value, reason.threshold)):
            factor *= reason.factor
            reasons.append(reason.unknown if unknown else reason.name)
    tripped = tuple(sorted({*seen.standing, *(trip.name for trip in trips(seen))}))
    factor = Decimal(0) if tripped else max(factor, limits.RISK_FACTOR_MIN)
    equity = seen.equity
    return RiskReport(
        at=seen.now,
        factor=factor,
        reasons=(*(BREAKER + name for name in tripped), *reasons),
        tripped=tripped,
        rolling_loss_pct=equity.rolling_loss_pct if equity else Decimal(0),
        drawdown_pct=equity.drawdown_pct if equity else Decimal(0),
    )


def trips(seen: Seen) -> tuple[Trip, ...]:
    """The breakers whose limit is reached now and that do not stand yet."""
    found = []
    for breaker in BREAKERS:
        value = breaker.value(seen)
        if breaker.name not in seen.standing and value >= breaker.limit:
            numbers = {"value": _shown(value), "limit": str(breaker.limit)}
            if seen.equity:
                numbers |= {
                    "equity_usd": str(seen.equity.now_usd),
                    "window_begin_usd": str(seen.equity.begin_usd),
                    "peak_usd": str(seen.equity.peak_usd),
                }
            why = f"{breaker.meaning}: {numbers['value']}, limit {breaker.limit}"
            found.append(Trip(breaker.name, why, breaker.advice, numbers))
    return tuple(found)


def numbers(seen: Seen) -> dict[str, str | None]:
    """What was measured, for the log."""
    measured = {reason.name: reason.value(seen) for reason in REASONS}
    measured |= {BREAKER + breaker.name: breaker.value(seen) for breaker in BREAKERS}
    return {name: None if value is None else _shown(value) for name, value in measured.items()}


def believable(account: Account, positions: Iterable[Position]) -> bool:
    """Whether the equity is a positive number that cash and positions add up to, within EQUITY_JUMP_MAX_PCT."""
    held_usd = sum((position.market_value_usd for position in positions), Decimal(0))
    amounts = (account.equity_usd, account.cash_usd, held_usd)
    if not all(amount.is_finite() for amount in amounts) or account.equity_usd <= 0:
        return False
    difference = abs(account.equity_usd - account.cash_usd - held_usd)
    return difference <= limits.EQUITY_JUMP_MAX_PCT * account.equity_usd


def confirmed(curve: Sequence[EquityPoint]) -> list[EquityPoint]:
    """The readings (oldest first) without what no other reading confirms.

    Of each minute the median, then of each three minutes in a row the median, at the time of the last one. What is no
    positive number is left out. A fall is believed at its second minute; fewer than three minutes confirm nothing.
    """
    usable = [(at, usd) for at, usd in curve if usd.is_finite() and usd > 0]
    minutes = [list(group) for _, group in groupby(usable, key=lambda point: int(point[0].timestamp() // 60))]
    medians = [(group[-1][0], statistics.median(usd for _, usd in group)) for group in minutes]
    return [
        (medians[i][0], statistics.median(usd for _, usd in medians[i - READINGS + 1 : i + 1]))
        for i in range(READINGS - 1, len(medians))
    ]


def equity(curve: Sequence[EquityPoint], peak_usd: Decimal | None) -> Equity | None:
    """Where the equity stands, from readings since the begin of the window; `peak_usd` is the one known before.

    None when nothing is confirmed, but for the first minutes of all, without a peak to have fallen from.
    """
    sure = [usd for _, usd in confirmed(curve)]
    if sure:
        return Equity(sure[-1], sure[0], max(sure) if peak_usd is None else max(*sure, peak_usd))
    usable = [usd for _, usd in curve if usd.is_finite() and usd > 0]
    return Equity(usable[-1], usable[-1], usable[-1]) if usable and peak_usd is None else None


def confidence(surest: Iterable[float]) -> float | None:
    """The median over the symbols; `surest`: the confidence of each one's surest forecast. None without forecasts."""
    known = [each if math.isfinite(each) else 0.0 for each in surest]
    return statistics.median(known) if known else None


def age_days(made_at: Iterable[datetime], now: datetime) -> float | None:
    """Days since the oldest of these artifacts was made. None without one."""
    oldest = min(made_at, default=None)
    return None if oldest is None else (now - oldest).total_seconds() / 86_400


def streak(outcomes: Iterable[bool]) -> int:
    """How many at the end are true. `outcomes`: oldest first."""
    count = 0
    for outcome in outcomes:
        count = count + 1 if outcome else 0
    return count


def _loss(before_usd: Decimal, now_usd: Decimal) -> Decimal:
    return max(Decimal(0), (before_usd - now_usd) / before_usd) if before_usd > 0 else Decimal(0)


def _shown(value: float | Decimal) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6f}".rstrip("0").rstrip(".")
