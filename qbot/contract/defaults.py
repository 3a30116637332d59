"""What holds where a frontend has said nothing: the documents' own values, and off.

A field without a default here has none: thresholds and strategy of `frontend:*` would override the main settings,
and the trading capital depends on the account.
"""

from __future__ import annotations

from decimal import Decimal

from qbot.contract.payloads_autotrading import Strategy
from qbot.contract.payloads_settings import (
    BotStrategy,
    PortfolioSettings,
    RiskSettings,
    SizingMethod,
    TradingConfig,
    TradingSettings,
)

TRADING_SETTINGS = TradingSettings(
    enabled=False,
    buy_threshold_pct=0.05,
    sell_threshold_pct=0.05,
    max_position_per_trade=1,
    strategy=Strategy.CONSERVATIVE,
    updated_by="backend_init",
)
RISK_SETTINGS = RiskSettings(
    daily_notional_cap=Decimal(50_000),
    max_position_per_ticker=5,
    cooldown_minutes=30,
    max_trades_per_run=3,
    emergency_stop_active=False,
)
TRADING_CONFIG = TradingConfig(
    aggressiveness=3,
    max_position_size=100,
    max_daily_trades=50,
    stop_loss_pct=0.05,
    take_profit_pct=0.10,
    cash_reserve=Decimal(5_000),
    use_ml_signals=True,
    ml_confidence_threshold=0.80,
    paper_mode=True,
)
BOT_STRATEGY = BotStrategy(
    use_grok_signals=True,
    use_ml_predictions=True,
    use_technical_analysis=True,
    grok_score_threshold=0.85,
    ml_confidence_threshold=0.80,
    position_sizing_method=SizingMethod.FIXED,
    diversification_target=5,
)
PORTFOLIO_SETTINGS = PortfolioSettings(
    target_diversification=5,
    max_position_pct=0.20,
    rebalance_enabled=False,
    rebalance_threshold=0.05,
    preferred_sectors=(),
    excluded_tickers=(),
    cash_reserve=Decimal(5_000),
)
