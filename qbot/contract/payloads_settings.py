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

    enabled: bool | None = Field(None, description="The main switch.")
    buy_threshold_pct: Fraction | None = Field(None, description="Buy above this forecast return; fraction.")
    sell_threshold_pct: Fraction | None = Field(None, description="Sell below minus this return; fraction.")
    max_position_per_trade: Shares | None = Field(None, description="Shares an order.")
    strategy: StrategyName | None = None
    last_updated: Timestamp | None = None
    updated_by: Text | None = Field(None, description="Who wrote it.")


class RiskSettings(PartialPayload):
    """`risk_settings`: 0 allows nothing."""

    daily_notional_cap: UsdLimit | None = Field(
        None, description="Buys and sells a New York day; beyond it no entry; USD."
    )
    max_position_per_ticker: Count | None = Field(None, description="Entry orders a ticker and New York day.")
    cooldown_minutes: Minutes | None = Field(None, description="Pause of a ticker's entries after an entry; minutes.")
    max_trades_per_run: Count | None = Field(
        None, description="Orders a trading cycle, sales counted; beyond it no entry."
    )
    emergency_stop_active: bool | None = Field(None, description="Mirrors the latch; false from a frontend releases.")


class TradingConfig(PartialPayload):
    """`frontend:trading_config`."""

    aggressiveness: Scale5 | None = Field(None, description="Scales position sizes; 1 (cautious) to 5 (bold).")
    max_position_size: Shares | None = Field(None, description="Shares an order.")
    max_daily_trades: Count | None = Field(
        None, description="Orders a New York day, sales counted; beyond it no entry."
    )
    buy_threshold_pct: Fraction | None = Field(None, description="Buy above this forecast return; fraction.")
    sell_threshold_pct: Fraction | None = Field(None, description="Sell below minus this return; fraction.")
    stop_loss_pct: Fraction | None = Field(None, description="Distance below the entry price; fraction.")
    take_profit_pct: Fraction | None = Field(None, description="Distance above the entry price; fraction.")
    cash_reserve: UsdLimit | None = Field(None, description="Cash never touched; USD. Given twice: the larger holds.")
    trading_capital: UsdLimit | None = Field(None, description="The most that may be invested; USD.")
    use_ml_signals: bool | None = Field(None, description="Forecasts may give signals.")
    ml_confidence_threshold: Fraction | None = Field(None, description="Least confidence of a forecast; 0 to 1.")
    paper_mode: bool | None = Field(None, description="False asks for live trading; the environment must allow it too.")
    session_id: Name | None = None
    updated_at: Timestamp | None = None
    updated_by: Text | None = Field(None, description="Who wrote it.")


class BotStrategy(PartialPayload):
    """`frontend:bot_strategy`."""

    strategy_type: StrategyName | None = None
    use_grok_signals: bool | None = Field(None, description="Grok's picks may give signals; declined without a key.")
    use_ml_predictions: bool | None = Field(None, description="Forecasts may give signals.")
    use_technical_analysis: bool | None = Field(None, description="Indicators may give signals.")
    grok_score_threshold: Fraction | None = Field(
        None, description="Least score of a Grok candidate; 0 to 1; as above."
    )
    ml_confidence_threshold: Fraction | None = Field(None, description="Least confidence of a forecast; 0 to 1.")
    risk_level: Scale5 | None = Field(None, description="Appetite for risk; 1 (cautious) to 5 (bold).")
    position_sizing_method: SizingMethod | None = Field(None, description="How many shares an entry has.")
    diversification_target: Count | None = Field(None, description="Number of positions aimed at.")
    session_id: Name | None = None
    updated_at: Timestamp | None = None


class PortfolioSettings(PartialPayload):
    """`frontend:portfolio_settings`."""

    target_diversification: Count | None = Field(None, description="Number of positions aimed at.")
    max_position_pct: Fraction | None = Field(None, description="Share of the portfolio in one position; fraction.")
    rebalance_enabled: bool | None = Field(
        None, description="Sell what has grown too large a part of the portfolio; off by default."
    )
    rebalance_threshold: Fraction | None = Field(
        None, description="How far over its target a position may lie; fraction of the portfolio; at least 0.01 counts."
    )
    preferred_sectors: Annotated[tuple[Name, ...], Field(max_length=100)] | None = Field(
        None, description="Sector names, in any common spelling; of one cycle's entries those in them come first."
    )
    excluded_tickers: Annotated[tuple[Ticker, ...], Field(max_length=5_000)] | None = Field(
        None, description="Never bought."
    )
    cash_reserve: UsdLimit | None = Field(None, description="Cash never touched; USD. Given twice: the larger holds.")
    updated_at: Timestamp | None = None


class UiState(PartialPayload):
    """`frontend:ui_state`: for statistics and session tracking; it never changes what is traded."""

    active_tab: Text | None = Field(None, description="For statistics.")
    autotrading_enabled: bool | None = Field(None, description="What the interface shows; switches nothing.")
    paper_mode: bool | None = Field(None, description="What the interface shows; switches nothing.")
    last_refresh: Timestamp | None = None
    notifications_enabled: bool | None = Field(None, description="For statistics.")
    chart_timeframe: Text | None = Field(None, description="For statistics.")
    theme: Text | None = Field(None, description="For statistics.")
    session_id: Name | None = Field(None, description="The session that is alive.")
