"""Settings whose caps come into play."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

from qbot.types import SizingMethod, Strategy, TradingConfig

LOOSE: dict[str, Any] = {
    "max_daily_trades": 60, "daily_notional_cap_usd": Decimal(200_000), "max_position_per_ticker": 20,
    "cash_reserve_usd": Decimal(2_000), "trading_capital_usd": Decimal(150_000), "cooldown_minutes": 0.0,
}  # fmt: skip


def some_config(rng: Random, cash_usd: Decimal) -> TradingConfig:
    """Settings whose caps come into play."""
    return TradingConfig(
        buy_threshold_pct=0.001,
        sell_threshold_pct=0.002,
        strategy=rng.choice(tuple(Strategy)),
        max_position_per_trade=rng.choice((2, 5, 12)),
        max_position_size=rng.choice((4, 10, 100)),
        max_position_per_ticker=rng.choice((2, 4, 8)),
        max_trades_per_run=rng.choice((1, 2, 3)),
        max_daily_trades=rng.choice((8, 12, 40)),
        daily_notional_cap_usd=Decimal(rng.choice((12_000, 30_000, 120_000))),
        cooldown_minutes=rng.choice((0.0, 15.0, 30.0)),
        cash_reserve_usd=cash_usd * Decimal(rng.choice(("0.05", "0.6", "0.85"))),
        trading_capital_usd=Decimal(rng.choice((9_000, 30_000, 120_000))),
        max_position_pct=Decimal(rng.choice(("0.04", "0.08", "0.20"))),
        target_diversification=rng.choice((2, 3, 5)),
        stop_loss_pct=Decimal(rng.choice(("0.01", "0.02", "0.05"))),
        take_profit_pct=Decimal(rng.choice(("0.01", "0.02", "0.10"))),
        ml_confidence_threshold=rng.choice((0.55, 0.7)),
        aggressiveness=rng.choice((1, 3, 5)),
        risk_level=rng.choice((2, 3, 4)),
        position_sizing=rng.choice(tuple(SizingMethod)),
        excluded_tickers=frozenset({"PEP"}) if rng.random() < 0.2 else frozenset(),
    )
