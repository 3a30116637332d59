"""How many shares an entry asks for. Pure; the gate still has the last word on every cap."""

from __future__ import annotations

import math
from decimal import ROUND_DOWN, Decimal

from qbot.types import Account, SizingMethod, TradingConfig

AGGRESSIVENESS_STEP = Decimal("0.2")  # 1 → 0.6, 3 → 1, 5 → 1.4: the middle of the documented scale changes nothing
BASE_POSITION_PCT = Decimal("0.05")  # of equity, for PERCENTAGE: a quarter of the documented maximum of 20 %
REFERENCE_VOLATILITY_PCT = Decimal("0.0025")  # the typical 60-minute move of a liquid US share
HALF_A_SHARE = Decimal("0.5")


def shares(
    config: TradingConfig, account: Account, price_usd: Decimal, volatility_pct: float | None, risk_factor: Decimal
) -> Decimal:
    """Whole shares of one entry order: the method's number × aggressiveness × risk level × risk factor, rounded down.

    At most the share limits. `risk_factor` is the risk engine's, 0 to 1. `volatility_pct` is the expected 60-minute
    move as a fraction; VOLATILITY_BASED without it buys nothing. Nor is anything bought where price, equity or factor
    is no positive number.
    """
    if not all(value.is_finite() and value > 0 for value in (price_usd, account.equity_usd, risk_factor)):
        return Decimal(0)
    levels, caution = _scale(config.aggressiveness) * _scale(config.risk_level), min(risk_factor, Decimal(1))
    most = Decimal(min(config.max_position_per_trade, config.max_position_size))
    if config.position_sizing is SizingMethod.FIXED:
        wanted = _fixed(most * levels, caution)
    else:
        wanted = _by_equity(config, account, price_usd, volatility_pct) * levels * caution
    return max(Decimal(0), min(wanted.to_integral_value(ROUND_DOWN), most))


def _fixed(wanted: Decimal, caution: Decimal) -> Decimal:
    """A cautious level must not round one share down to none; it is a human's choice, and meant to trade.

    The risk factor may: a share that cannot shrink stays while more than half of it is left, and is not bought then.
    """
    left = max(Decimal(1), wanted) * caution
    return Decimal(1) if HALF_A_SHARE < left < 1 else left


def _scale(level: int) -> Decimal:
    return 1 + AGGRESSIVENESS_STEP * (level - 3)


def _by_equity(config: TradingConfig, account: Account, price_usd: Decimal, volatility_pct: float | None) -> Decimal:
    by_share_of_equity = account.equity_usd * BASE_POSITION_PCT / price_usd
    if config.position_sizing is SizingMethod.PERCENTAGE:
        return by_share_of_equity
    if volatility_pct is None or not 0 < volatility_pct < math.inf:
        return Decimal(0)
    return by_share_of_equity * min(REFERENCE_VOLATILITY_PCT / Decimal(str(volatility_pct)), Decimal(2))
