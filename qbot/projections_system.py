"""What the data and monitoring keys of the board say, built from values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime

from qbot import portfolio
from qbot.contract.payloads_backend import (
    HealthStatus,
    LargestPosition,
    Level,
    PortfolioSummary,
    ServiceStatus,
    SystemHealth,
    TradingPerformance,
)
from qbot.contract.payloads_trading import SystemStatus
from qbot.market.calendar import MarketHours
from qbot.performance import Performance
from qbot.types import HORIZONS_MINUTES

SLOW_REDIS_MS = 50.0  # a local round trip takes well under one


@dataclass(frozen=True, slots=True)
class Health:
    """What `qbot.health.observe` measured just now."""

    redis_latency_ms: float
    postgres_answers: bool
    broker_answers: bool
    models_standing: int
    silent_queues: tuple[str, ...]
    last_fill_at: datetime | None
    open_orders: int
    sessions: tuple[str, ...]
    memory_mb: float
    cpu_pct: float
    uptime_s: int
    grok: ServiceStatus = ServiceStatus.OFFLINE  # by what came of the last call; without a key nobody asks
    sources: Mapping[str, bool] = field(default_factory=dict)  # of market data: whether each that was asked works
    fallen_silent: tuple[str, ...] = ()  # of the silent queues, those where somebody has worked before


def status(found: Health, wall: datetime, hours: MarketHours | None) -> SystemStatus:
    """`system_status`. A source is active by what came of asking it last; one without a key is not.

    `hours` is None when the calendar cannot be used.
    """
    return SystemStatus(
        redis_connected=True,
        postgres_connected=found.postgres_answers,
        finnhub_api_active=found.sources.get("finnhub", False),
        fmp_api_active=found.sources.get("fmp", False),
        marketstack_api_active=found.sources.get("marketstack", False),
        alpaca_api_active=found.broker_answers and found.sources.get("alpaca", True),
        grok_api_active=found.grok is ServiceStatus.ACTIVE,
        yfinance_api_active=found.sources.get("yfinance", False),
        twelvedata_api_active=found.sources.get("twelvedata", False),
        worker_running=not found.silent_queues,
        last_heartbeat=wall,
        uptime_seconds=found.uptime_s,
        memory_usage_mb=found.memory_mb,
        cpu_usage_percent=found.cpu_pct,
        market_open=hours.is_open if hours is not None else None,
        last_market_check=wall,
    )


def health(found: Health, wall: datetime) -> SystemHealth:
    """`backend:system_health`."""
    broker = ServiceStatus.ACTIVE if found.sources.get("alpaca", True) else ServiceStatus.DEGRADED
    broker = broker if found.broker_answers else ServiceStatus.OFFLINE
    trained = ServiceStatus.ACTIVE if found.models_standing else ServiceStatus.OFFLINE
    if 0 < found.models_standing < len(HORIZONS_MINUTES):
        trained = ServiceStatus.DEGRADED
    slow = found.redis_latency_ms > SLOW_REDIS_MS
    worst = HealthStatus.HEALTHY
    blind = bool(found.sources) and not any(found.sources.values())
    if slow or blind or trained is not ServiceStatus.ACTIVE or found.silent_queues:
        worst = HealthStatus.WARNING
    if not found.broker_answers or not found.postgres_answers:
        worst = HealthStatus.ERROR
    return SystemHealth(
        timestamp=wall,
        status=worst,
        redis_latency_ms=found.redis_latency_ms,
        alpaca_api_status=broker,
        database_status=ServiceStatus.ACTIVE if found.postgres_answers else ServiceStatus.OFFLINE,
        ml_models_status=trained,
        grok_api_status=found.grok,
        last_trade_execution=found.last_fill_at,
        pending_orders_count=found.open_orders,
        active_sessions=found.sessions,
        memory_usage_mb=found.memory_mb,
        cpu_usage_pct=found.cpu_pct,
        uptime_hours=round(found.uptime_s / 3600, 3),
    )


def portfolio_summary(found: portfolio.PortfolioSummary) -> PortfolioSummary:
    """`backend:portfolio_summary`."""
    largest = found.largest_position
    return PortfolioSummary(
        **{
            **asdict(found),
            "largest_position": LargestPosition(**asdict(largest)) if largest else None,
            "risk_level": Level(found.risk_level),
        }
    )


def trading_performance(found: Performance) -> TradingPerformance:
    """`backend:trading_performance`."""
    return TradingPerformance(**asdict(found))
