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
from qbot.types import LEFT_BEHIND, Source


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
    LEFT_BEHIND: ActiveOrderStatus.CANCELED,
    "rejected": ActiveOrderStatus.REJECTED,
}


def active_order_status(venue_word: str) -> ActiveOrderStatus:
    """The documented status for a venue's word; words the documents lack (held, pending_cancel …) rest as ACCEPTED."""
    return _STATUS_OF_VENUE_WORD.get(venue_word, ActiveOrderStatus.ACCEPTED)


class TradingPerformance(Payload):
    """`backend:trading_performance`."""

    timestamp: Timestamp
    daily_pnl: Usd = Field(description="Change of the equity since the previous close; USD.")
    weekly_pnl: Usd = Field(description="Change of the equity since Monday; USD.")
    monthly_pnl: Usd = Field(description="Change of the equity since the month began; USD.")
    total_pnl: Usd = Field(description="Change of the equity since QBot began to record the account, fees in it; USD.")
    win_rate: Fraction = Field(description="Winning of all closed trades; fraction; 0 while there are none.")
    avg_trade_duration: Number = Field(description="minutes from entry to exit; 0 while there are none")
    sharpe_ratio: Number | None = Field(
        description="Annualised from daily returns; null on the first day and while none differs."
    )
    max_drawdown: Fraction = Field(description="Largest fall from a peak of the equity; fraction.")
    total_trades: Count = Field(description="Closed round trips.")
    winning_trades: Count = Field(description="Closed with a profit.")
    losing_trades: Count = Field(description="Closed with a loss.")
    avg_win: Usd = Field(description="USD a winning trade; 0 while there are none")
    avg_loss: Usd = Field(description="USD a losing trade, negative; 0 while there are none")
    current_positions: Count = Field(description="Open positions.")
    portfolio_value: Usd = Field(description="Cash and positions; USD.")
    cash_balance: Usd = Field(description="Cash; USD.")
    buying_power: Usd = Field(description="What the broker would let the account buy for; USD.")
    total_fees: Usd | None = Field(
        None,
        description="Fees that the venue took; in the profits above, not in those of single trades; USD (extension).",
    )


class GrokCandidate(Payload):
    """One element of `backend:grok_candidates`."""

    symbol: Ticker
    score: Fraction = Field(description="Grok's score; 0 to 1.")
    recommendation: Recommendation
    reason: Sentence = Field(description="Why, in Grok's words.")
    target_price: Price | None = Field(description="Price expected; USD a share.")
    current_price: Price | None = Field(description="Price when it was generated; USD a share.")
    expected_return: SignedFraction | None = Field(description="Fraction, signed: 0.25 = 25 %.")
    risk_level: Scale5
    confidence: Fraction = Field(description="Grok's confidence; 0 to 1.")
    time_horizon: Name = Field(description="15min, 30min, 60min, 1D or 1W")
    generated_at: Timestamp
    expires_at: Timestamp


class ActiveOrder(Payload):
    """One element of `backend:active_orders`."""

    order_id: Name = Field(description="The broker's id.")
    symbol: Ticker
    side: OrderSide
    quantity: Quantity = Field(description="Shares ordered.")
    filled_qty: Quantity = Field(description="Shares filled so far.")
    order_type: ActiveOrderType
    limit_price: Price | None = Field(description="USD a share; null without a limit.")
    stop_price: Price | None = Field(None, description="USD a share (extension).")
    status: ActiveOrderStatus
    created_at: Timestamp
    updated_at: Timestamp
    source: Source = Field(description="Who asked for it.")
    estimated_value: Usd = Field(description="`quantity` × limit, stop or last price; USD.")
    fees: Usd = Field(description="USD; 0: no commission; regulatory fees come by the day: `total_fees`.")


class RecentTrade(Payload):
    """One element of `backend:recent_trades`."""

    trade_id: Name = Field(description="The venue's id of the execution.")
    symbol: Ticker
    side: OrderSide
    quantity: Quantity = Field(description="Shares of this execution.")
    price: Price
    value: Usd = Field(description="`quantity` × price; USD.")
    fees: Usd = Field(description="USD; 0: no commission; regulatory fees come by the day: `total_fees`.")
    pnl: Usd | None = Field(description="Realised, first in first out; USD; null where it closed nothing.")
    pnl_pct: SignedFraction | None = Field(description="Realised return; fraction; null as pnl.")
    executed_at: Timestamp
    source: Source = Field(description="Who asked for it.")
    strategy: Name | None = Field(description="The strategy it was decided by; null: made outside QBot.")
    session_id: Name | None = Field(description="The trading session it was decided in; null: none.")


class LargestPosition(Payload):
    symbol: Ticker
    value: Usd = Field(description="Market value; USD.")
    weight: Fraction = Field(description="Of the total value; fraction.")


class PortfolioSummary(Payload):
    """`backend:portfolio_summary`."""

    timestamp: Timestamp
    total_value: Usd = Field(description="Cash and positions; USD.")
    cash_balance: Usd = Field(description="Cash; USD.")
    invested_amount: Usd = Field(description="Market value of all positions; USD.")
    day_change: Usd = Field(description="Since the previous close; USD.")
    day_change_pct: SignedFraction = Field(description="Since the previous close; fraction, signed: 0.05 = 5 %.")
    positions_count: Count = Field(description="Open positions.")
    largest_position: LargestPosition | None = Field(description="Null: nothing is held.")
    sector_allocation: dict[Name, Fraction] = Field(description="Of the invested amount; fractions that add up to 1.")
    risk_level: Level = Field(description="From the largest position's and all positions' share of the total value.")
    diversification_score: Fraction = Field(
        description="0 (one position or none) to 1 (spread as the target number of equal ones)"
    )


class Alert(Payload):
    """One element of `backend:alerts_active`."""

    alert_id: Name
    type: AlertType
    severity: Severity
    symbol: Ticker | None = Field(description="The ticker it is about; null: none.")
    title: Sentence
    message: Sentence
    triggered_at: Timestamp
    acknowledged: bool = Field(description="A human has seen it.")
    auto_dismiss: bool = Field(description="May go without a human.")
    expires_at: Timestamp | None = Field(description="When it goes by itself; null: once it is seen.")
    action_required: bool = Field(description="A human has to see it: critical and not acknowledged.")


class SystemHealth(Payload):
    """`backend:system_health`."""

    timestamp: Timestamp
    status: HealthStatus
    redis_latency_ms: Number = Field(description="milliseconds of one PING")
    alpaca_api_status: ServiceStatus
    database_status: ServiceStatus
    ml_models_status: ServiceStatus
    grok_api_status: ServiceStatus
    last_trade_execution: Timestamp | None = Field(description="Null: nothing was traded yet.")
    pending_orders_count: Count = Field(description="Orders open at the broker.")
    active_sessions: tuple[Name, ...] = Field(description="Ids of the sessions that are alive.")
    memory_usage_mb: Number = Field(description="megabytes")
    cpu_usage_pct: Number = Field(description="percent")
    uptime_hours: Number = Field(description="hours")
