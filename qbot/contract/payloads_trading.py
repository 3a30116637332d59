"""Payloads of the core trading keys: status, positions, trades, market and risk."""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from pydantic import Field, JsonValue

from qbot.contract.fields import (
    Count,
    DecimalText,
    EasternTimestamp,
    Fraction,
    Name,
    Number,
    Payload,
    Price,
    Quantity,
    Sentence,
    SignedFraction,
    Ticker,
    Timestamp,
    Usd,
)
from qbot.types import Side


class PositionSide(StrEnum):
    LONG = "long"
    SHORT = "short"


class MarketSession(StrEnum):
    OPEN = "OPEN"
    CLOSED = "CLOSED"
    ERROR = "ERROR"


class TradingStatus(Payload):
    """`trading_status`."""

    last_run: Timestamp | None
    last_error: Sentence | None = Field(description="Null: the last cycle had none.")
    trades_today: Count = Field(description="Orders this New York day.")
    total_volume: Usd = Field(description="Executed this New York day, buys and sells; USD.")
    active: bool = Field(description="Whether QBot trades.")
    next_run: Timestamp | None
    worker_pid: Count | None = Field(description="Process id of the worker of the last cycle.")
    stop_reason: Sentence | None = Field(None, description="Why it does not trade, such as emergency_stop.")


class SystemStatus(Payload):
    """`system_status`. A service that has no key is not active."""

    redis_connected: bool
    postgres_connected: bool
    finnhub_api_active: bool
    fmp_api_active: bool | None = None
    marketstack_api_active: bool | None = None
    alpaca_api_active: bool
    grok_api_active: bool
    yfinance_api_active: bool
    twelvedata_api_active: bool | None = None
    worker_running: bool = Field(description="Every queue's worker has begun a task lately.")
    last_heartbeat: Timestamp
    uptime_seconds: Count = Field(description="seconds")
    memory_usage_mb: Number = Field(description="megabytes, resident, all processes of QBot")
    cpu_usage_percent: Number = Field(description="percent, of all processors of the machine")
    market_open: bool | None = Field(None, description="The exchange is open.")
    last_market_check: Timestamp | None = Field(None, description="When that was last looked at.")


class PortfolioPosition(Payload):
    """One element of `portfolio_positions`: its numbers are strings, as the broker gives them."""

    ticker: Ticker
    qty: DecimalText = Field(description="shares, as a string")
    avg_entry_price: DecimalText = Field(description="USD a share, as a string")
    market_value: DecimalText = Field(description="USD, as a string")
    unrealized_pl: DecimalText = Field(description="USD, as a string")
    side: PositionSide


class TradeLogEntry(Payload):
    """One element of `trades_log`, with the fields of both documents."""

    time: Timestamp
    ticker: Ticker
    side: Side
    qty: Quantity
    price: Price | None = Field(None, description="Price of the trade; USD a share.")
    total_value: Usd | None = Field(None, description="`qty` × `price`; USD.")
    reason: Sentence | None = Field(None, description="Why, for a human.")
    order_id: Name | None = Field(None, description="The broker's id.")
    status: Name | None = Field(None, description="The venue's word: submitted, filled …")
    current_price: Price | None = Field(None, description="Price the decision was made at; USD a share.")
    predicted_price: Price | None = Field(None, description="Forecast the decision was made on; USD a share.")
    change_pct: SignedFraction | None = Field(None, description="Forecast return; fraction.")
    order_response: dict[str, JsonValue] | None = Field(None, description="The broker's answer.")


class MarketStatus(Payload):
    """`market_status`."""

    market_open: bool = Field(description="The exchange is open now.")
    current_time_et: EasternTimestamp
    next_open: Timestamp | None = Field(description="Null: unknown.")
    trading_day: bool = Field(description="The exchange opens today.")
    market_session: MarketSession


class RiskStatus(Payload):
    """`risk_status`."""

    notional_today: Usd = Field(description="Counts against daily_notional_cap: executed, and reserved by orders; USD.")
    last_reset: date = Field(description="New York day that the counts are of")
    cooldowns: dict[Ticker, Timestamp] = Field(description="No entries in a ticker before its time.")
    risk_factor: Fraction | None = Field(None, description="Factor on every new position; 0 to 1 (extension).")
    risk_reasons: tuple[Name, ...] | None = Field(None, description="Names of what lowers it (extension).")
    breakers: tuple[Name, ...] | None = Field(
        None, description="Circuit breakers that wait for `qbot resume` (extension)."
    )
    rolling_loss_pct: Fraction | None = Field(None, description="Lost within seven days; fraction (extension).")
    drawdown_pct: Fraction | None = Field(None, description="Fall from the peak of the equity; fraction (extension).")
    risk_checked_at: Timestamp | None = Field(None, description="When the risk engine looked last (extension).")
