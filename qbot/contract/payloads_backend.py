"""Payloads of `backend:*`: what the frontends' dashboards show."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from qbot.contract.fields import (
    Count,
    Fraction,
    Name,
    Number,
    Payload,
    Price,
    Quantity,
    Scale5,
    Sentence,
    SignedFraction,
    Ticker,
    Timestamp,
    Usd,
)
from qbot.contract.payloads_orders import OrderSide
from qbot.types import Source


class Level(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


class Recommendation(StrEnum):
    STRONG_BUY = "STRONG_BUY"
    BUY = "BUY"
    HOLD = "HOLD"
    SELL = "SELL"
    STRONG_SELL = "STRONG_SELL"


class ActiveOrderStatus(StrEnum):
    NEW = "NEW"
    PENDING_NEW = "PENDING_NEW"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"


class ActiveOrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP_LOSS = "STOP_LOSS"
    STOP_LIMIT = "STOP_LIMIT"


class AlertType(StrEnum):
    PRICE_ALERT = "PRICE_ALERT"
    PORTFOLIO_ALERT = "PORTFOLIO_ALERT"
    TRADE_ALERT = "TRADE_ALERT"
    SYSTEM_ALERT = "SYSTEM_ALERT"


class Severity(StrEnum):
    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class HealthStatus(StrEnum):
    HEALTHY = "HEALTHY"
    WARNING = "WARNING"
    ERROR = "ERROR"
    OFFLINE = "OFFLINE"


class ServiceStatus(StrEnum):
    ACTIVE = "ACTIVE"
    DEGRADED = "DEGRADED"
    ERROR = "ERROR"
    OFFLINE = "OFFLINE"


_STATUS_OF_VENUE_WORD = {
    "new": ActiveOrderStatus.NEW,
    "pending_new": ActiveOrderStatus.PENDING_NEW,
    "partially_filled": ActiveOrderStatus.PARTIALLY_FILLED,
    "filled": ActiveOrderStatus.FILLED,
    "canceled": ActiveOrderStatus.CANCELED,
    "expired": ActiveOrderStatus.CANCELED,
    "replaced": ActiveOrderStatus.CANCELED,
    "rejected": ActiveOrderStatus.REJECTED,
}


def active_order_status(venue_word: str) -> ActiveOrderStatus:
    """The documented status for a venue's word; words the documents lack (held, pending_cancel …) rest as ACCEPTED."""
    return _STATUS_OF_VENUE_WORD.get(venue_word, ActiveOrderStatus.ACCEPTED)


class TradingPerformance(Payload):
    """`backend:trading_performance`."""

    timestamp: Timestamp
    daily_pnl: Usd
    weekly_pnl: Usd
    monthly_pnl: Usd
    total_pnl: Usd
    win_rate: Fraction = Field(description="Winning of all closed trades; fraction; 0 while there are none.")
    avg_trade_duration: Number = Field(description="minutes from entry to exit; 0 while there are none")
    sharpe_ratio: Number | None = Field(
        description="Annualised from daily returns; null on the first day and while none differs."
    )
    max_drawdown: Fraction = Field(description="Largest fall from a peak of the equity; fraction.")
    total_trades: Count = Field(description="Closed round trips.")
    winning_trades: Count
    losing_trades: Count
    avg_win: Usd = Field(description="USD a winning trade; 0 while there are none")
    avg_loss: Usd = Field(description="USD a losing trade, negative; 0 while there are none")
    current_positions: Count
    portfolio_value: Usd
    cash_balance: Usd
    buying_power: Usd


class GrokCandidate(Payload):
    """One element of `backend:grok_candidates`."""

    symbol: Ticker
    score: Fraction = Field(description="0 to 1")
    recommendation: Recommendation
    reason: Sentence
    target_price: Price | None
    current_price: Price | None
    expected_return: SignedFraction | None
    risk_level: Scale5
    confidence: Fraction = Field(description="0 to 1")
    time_horizon: Name = Field(description="15min, 30min, 60min, 1D or 1W")
    generated_at: Timestamp
    expires_at: Timestamp


class ActiveOrder(Payload):
    """One element of `backend:active_orders`."""

    order_id: Name
    symbol: Ticker
    side: OrderSide
    quantity: Quantity
    filled_qty: Quantity
    order_type: ActiveOrderType
    limit_price: Price | None
    stop_price: Price | None = Field(None, description="USD a share (extension).")
    status: ActiveOrderStatus
    created_at: Timestamp
    updated_at: Timestamp
    source: Source
    estimated_value: Usd
    fees: Usd


class RecentTrade(Payload):
    """One element of `backend:recent_trades`."""

    trade_id: Name
    symbol: Ticker
    side: OrderSide
    quantity: Quantity
    price: Price
    value: Usd
    fees: Usd
    pnl: Usd | None = Field(description="Realised; null where the trade closed nothing.")
    pnl_pct: SignedFraction | None = Field(description="Realised return; fraction; null as pnl.")
    executed_at: Timestamp
    source: Source
    strategy: Name | None
    session_id: Name | None


class LargestPosition(Payload):
    symbol: Ticker
    value: Usd
    weight: Fraction = Field(description="Of the total value; fraction.")


class PortfolioSummary(Payload):
    """`backend:portfolio_summary`."""

    timestamp: Timestamp
    total_value: Usd
    cash_balance: Usd
    invested_amount: Usd
    day_change: Usd
    day_change_pct: SignedFraction
    positions_count: Count
    largest_position: LargestPosition | None
    sector_allocation: dict[Name, Fraction] = Field(description="Of the invested amount; fractions that add up to 1.")
    risk_level: Level
    diversification_score: Fraction = Field(
        description="0 (one position or none) to 1 (spread as the target number of equal ones)"
    )


class Alert(Payload):
    """One element of `backend:alerts_active`."""

    alert_id: Name
    type: AlertType
    severity: Severity
    symbol: Ticker | None
    title: Sentence
    message: Sentence
    triggered_at: Timestamp
    acknowledged: bool
    auto_dismiss: bool
    expires_at: Timestamp | None
    action_required: bool


class SystemHealth(Payload):
    """`backend:system_health`."""

    timestamp: Timestamp
    status: HealthStatus
    redis_latency_ms: Number = Field(description="milliseconds of one PING")
    alpaca_api_status: ServiceStatus
    database_status: ServiceStatus
    ml_models_status: ServiceStatus
    grok_api_status: ServiceStatus
    last_trade_execution: Timestamp | None
    pending_orders_count: Count
    active_sessions: tuple[Name, ...]
    memory_usage_mb: Number = Field(description="megabytes")
    cpu_usage_pct: Number = Field(description="percent")
    uptime_hours: Number = Field(description="hours")
