"""What the data and monitoring keys of the board say. `observe` measures; the rest is built from values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from qbot import clock, portfolio
from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_backend import (
    HealthStatus,
    LargestPosition,
    Level,
    PortfolioSummary,
    ServiceStatus,
    SystemHealth,
    TradingPerformance,
)
from qbot.contract.payloads_market import MarketPrice, MultiApiQuote, MultiApiStats, SourceCalls, SourceStats
from qbot.contract.payloads_trading import SystemStatus
from qbot.errors import BrokerError
from qbot.market.calendar import market_hours
from qbot.performance import Performance
from qbot.runtime import Runtime
from qbot.store import ledger, models
from qbot.types import Quote

MEGABYTE = 1024 * 1024
SLOW_REDIS_MS = 50.0  # a local round trip takes well under one


@dataclass(frozen=True, slots=True)
class Health:
    """What was measured just now."""

    redis_latency_ms: float
    broker_answers: bool
    models_standing: int
    last_fill_at: datetime | None
    open_orders: int
    sessions: tuple[str, ...]
    memory_mb: float
    cpu_pct: float
    uptime_s: int


def observe(rt: Runtime, connection: Connection) -> Health:
    """Measure: one PING, one broker clock, a few rows, and the processes of this installation."""
    begun = clock.monotonic_s()
    rt.board.ping()
    latency_ms = (clock.monotonic_s() - begun) * 1_000
    try:
        rt.broker.clock()
        answers = True
    except BrokerError:
        answers = False
    connection.execute(sa.select(1))
    ui = rt.board.read(keys.UI_STATE).value
    session = rt.board.read(keys.AUTOTRADING_SESSION_ACTIVE).value
    sessions = sorted({name for name in (session, ui.session_id if ui else None) if name})
    processes = _processes()
    return Health(
        redis_latency_ms=round(latency_ms, 3),
        broker_answers=answers,
        models_standing=len(models.standing_artifacts(connection)),
        last_fill_at=ledger.last_fill_at(connection),
        open_orders=len(ledger.open_orders(connection)),
        sessions=tuple(sessions),
        memory_mb=round(sum(_resident(p) for p in processes) / MEGABYTE, 1),
        cpu_pct=psutil.cpu_percent(interval=None),
        uptime_s=_uptime_s(processes),
    )


def _processes() -> list[psutil.Process]:
    """All processes under the supervisor of this one; this one alone when nothing supervises it."""
    top = psutil.Process()
    for parent in top.parents():
        if parent.pid <= 1 or "qbot" not in " ".join(_command(parent)):
            break
        top = parent
    return [top, *top.children(recursive=True)]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _uptime_s(processes: Sequence[psutil.Process]) -> int:
    return max(0, int(clock.wall_now().timestamp() - processes[0].create_time()))


def status(found: Health, wall: datetime, market: datetime) -> SystemStatus:
    """`system_status`. Providers without a key are not active."""
    hours = market_hours(market)
    return SystemStatus(
        redis_connected=True,
        postgres_connected=True,
        finnhub_api_active=False,
        fmp_api_active=False,
        marketstack_api_active=False,
        alpaca_api_active=found.broker_answers,
        grok_api_active=False,
        yfinance_api_active=False,
        twelvedata_api_active=False,
        worker_running=True,
        last_heartbeat=wall,
        uptime_seconds=found.uptime_s,
        memory_usage_mb=found.memory_mb,
        cpu_usage_percent=found.cpu_pct,
        market_open=hours.is_open,
        last_market_check=wall,
    )


def health(found: Health, wall: datetime) -> SystemHealth:
    """`backend:system_health`."""
    broker = ServiceStatus.ACTIVE if found.broker_answers else ServiceStatus.OFFLINE
    trained = ServiceStatus.ACTIVE if found.models_standing else ServiceStatus.OFFLINE
    slow = found.redis_latency_ms > SLOW_REDIS_MS
    worst = HealthStatus.HEALTHY
    if slow or not found.models_standing:
        worst = HealthStatus.WARNING
    if not found.broker_answers:
        worst = HealthStatus.ERROR
    return SystemHealth(
        timestamp=wall,
        status=worst,
        redis_latency_ms=found.redis_latency_ms,
        alpaca_api_status=broker,
        database_status=ServiceStatus.ACTIVE,
        ml_models_status=trained,
        grok_api_status=ServiceStatus.OFFLINE,
        last_trade_execution=found.last_fill_at,
        pending_orders_count=found.open_orders,
        active_sessions=found.sessions,
        memory_usage_mb=found.memory_mb,
        cpu_usage_pct=found.cpu_pct,
        uptime_hours=round(found.uptime_s / 3600, 3),
    )


def market_data(quotes: Mapping[str, Quote], tickers: Sequence[str], now: datetime) -> list[tuple[Key[Any], Any]]:
    """`market_data`, `market_source_stats`, `multi_api_enhanced_*` and `dynamic_tickers` after one fetch."""
    prices = {s: MarketPrice(price=float(q.price_usd), timestamp=q.at, source=q.source) for s, q in quotes.items()}
    missing = len(tickers) - len(quotes)
    counts = SourceStats(
        time=now, finnhub=0, twelvedata=0, fmp=0, marketstack=0, yfinance=0, stub=0, failed=missing, alpaca=len(quotes)
    )
    stats = MultiApiStats(
        timestamp=now,
        alpaca=SourceCalls(success=len(quotes), errors=missing),
        total_tickers=len(tickers),
        tickers_with_data=len(quotes),
        coverage_pct=round(100.0 * len(quotes) / len(tickers), 1) if tickers else 0.0,
    )
    return [
        (keys.MARKET_DATA, prices),
        (keys.MARKET_SOURCE_STATS, counts),
        (keys.MULTI_API_DATA, {symbol: _joined(quote) for symbol, quote in quotes.items()}),
        (keys.MULTI_API_STATS, stats),
        (keys.DYNAMIC_TICKERS, tuple(tickers)),
    ]


def _joined(quote: Quote) -> MultiApiQuote:
    return MultiApiQuote(
        price=float(quote.price_usd),
        open=None,
        high=None,
        low=None,
        change=None,
        change_pct=None,
        volume=None,
        primary_source=quote.source,
        sources_count=1,
        sources_used=(quote.source,),
        market_cap=None,
        pe_ratio=None,
        timestamp=quote.at,
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
