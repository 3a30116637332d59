"""Payloads of the settings that frontends write. Every field may be left out; 0 as a limit allows nothing."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from qbot.contract.fields import (
    Count,
    Fraction,
    Minutes,
    Name,
    PartialPayload,
    Scale5,
    Shares,
    Text,
    Ticker,
    Timestamp,
    UsdLimit,
)
from qbot.contract.payloads_autotrading import StrategyName
from qbot.types import SizingMethod as SizingMethod


class TradingSettings(PartialPayload):
    """`trading_settings`: the main switch and the thresholds. `enabled` is false until a frontend says otherwise."""

    enabled: bool | None = None
    buy_threshold_pct: Fraction | None = Field(None, description="Buy above this forecast return; fraction.")
    sell_threshold_pct: Fraction | None = Field(None, description="Sell below minus this return; fraction.")
    max_position_per_trade: Shares | None = Field(None, description="Shares an order.")
    strategy: StrategyName | None = None
    last_updated: Timestamp | None = None
    updated_by: Text | None = None


class RiskSettings(PartialPayload):
    """`risk_settings`: 0 allows nothing."""

    daily_notional_cap: UsdLimit | None = Field(None, description="Buys and sells a New York day; USD.")
    max_position_per_ticker: Count | None = Field(None, description="Entry orders a ticker and New York day.")
    cooldown_minutes: Minutes | None = Field(None, description="Pause of a ticker's entries after a trade; minutes.")
    max_trades_per_run: Count | None = Field(None, description="Orders a trading cycle.")
    emergency_stop_active: bool | None = Field(None, description="Mirrors the latch; false from a frontend releases.")


class TradingConfig(PartialPayload):
    """`frontend:trading_config`."""

    aggressiveness: Scale5 | None = None
    max_position_size: Shares | None = Field(None, description="Shares an order.")
    max_daily_trades: Count | None = Field(None, description="Entry orders a New York day.")
    buy_threshold_pct: Fraction | None = Field(None, description="Buy above this forecast return; fraction.")
    sell_threshold_pct: Fraction | None = Field(None, description="Sell below minus this return; fraction.")
    stop_loss_pct: Fraction | None = Field(None, description="Distance below the entry price; fraction.")
    take_profit_pct: Fraction | None = Field(None, description="Distance above the entry price; fraction.")
    cash_reserve: UsdLimit | None = Field(None, description="Cash never touched; USD. Given twice: the larger holds.")
    trading_capital: UsdLimit | None = Field(None, description="The most that may be invested; USD.")
    use_ml_signals: bool | None = None
    ml_confidence_threshold: Fraction | None = Field(None, description="Least confidence of a forecast; 0 to 1.")
    paper_mode: bool | None = Field(None, description="False asks for live trading; the environment must allow it too.")
    session_id: Name | None = None
    updated_at: Timestamp | None = None
    updated_by: Text | None = None


class BotStrategy(PartialPayload):
    """`frontend:bot_strategy`."""

    strategy_type: StrategyName | None = None
    use_grok_signals: bool | None = None
    use_ml_predictions: bool | None = None
    use_technical_analysis: bool | None = None
    grok_score_threshold: Fraction | None = Field(None, description="Least score of a Grok candidate; 0 to 1.")
    ml_confidence_threshold: Fraction | None = Field(None, description="Least confidence of a forecast; 0 to 1.")
    risk_level: Scale5 | None = None
    position_sizing_method: SizingMethod | None = None
    diversification_target: Count | None = Field(None, description="Number of positions aimed at.")
    session_id: Name | None = None
    updated_at: Timestamp | None = None


class PortfolioSettings(PartialPayload):
    """`frontend:portfolio_settings`."""

    target_diversification: Count | None = Field(None, description="Number of positions aimed at.")
    max_position_pct: Fraction | None = Field(None, description="Share of the portfolio in one position; fraction.")
    rebalance_enabled: bool | None = None
    rebalance_threshold: Fraction | None = Field(None, description="Drift that asks for rebalancing; fraction.")
    preferred_sectors: Annotated[tuple[Name, ...], Field(max_length=100)] | None = None
    excluded_tickers: Annotated[tuple[Ticker, ...], Field(max_length=5_000)] | None = None
    cash_reserve: UsdLimit | None = Field(None, description="Cash never touched; USD. Given twice: the larger holds.")
    updated_at: Timestamp | None = None


class UiState(PartialPayload):
    """`frontend:ui_state`: for statistics and session tracking; it never changes what is traded."""

    active_tab: Text | None = None
    autotrading_enabled: bool | None = None
    paper_mode: bool | None = None
    last_refresh: Timestamp | None = None
    notifications_enabled: bool | None = None
    chart_timeframe: Text | None = None
    theme: Text | None = None
    session_id: Name | None = None
