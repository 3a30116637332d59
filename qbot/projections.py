"""What the trading keys of the board say, built from values. No I/O: the pipeline writes what these return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from qbot import clock
from qbot.contract.payloads_autotrading import AutotradingStats, BackendStatus
from qbot.contract.payloads_backend import (
    ActiveOrder,
    ActiveOrderType,
    Alert,
    AlertType,
    RecentTrade,
    Severity,
    active_order_status,
)
from qbot.contract.payloads_orders import OrderSide
from qbot.contract.payloads_trading import (
    MarketSession,
    MarketStatus,
    PortfolioPosition,
    PositionSide,
    RiskStatus,
    TradeLogEntry,
    TradingStatus,
)
from qbot.market.calendar import MarketHours
from qbot.performance import RoundTrip
from qbot.session import Switch
from qbot.store.shown import Context
from qbot.types import Position, RiskReport, Side, Source, Usage

Row = Mapping[str, Any]
NOBODY = Context(None, None)
ORDER_TYPES = {
    "market": ActiveOrderType.MARKET,
    "limit": ActiveOrderType.LIMIT,
    "stop": ActiveOrderType.STOP_LOSS,
    "stop_limit": ActiveOrderType.STOP_LIMIT,
}


def backend_status(switch: Switch, *, error: str | None, problem: str | None, market_open: bool) -> BackendStatus:
    """The one word for what QBot does, by fixed precedence: ERROR, CONFIG_ERROR, STOPPED, MARKET_CLOSED, RUNNING."""
    if error:
        return BackendStatus.ERROR
    if problem:
        return BackendStatus.CONFIG_ERROR
    if switch.latched or not switch.on:
        return BackendStatus.STOPPED
    return BackendStatus.RUNNING if market_open else BackendStatus.MARKET_CLOSED


def positions(held: Sequence[Position]) -> tuple[PortfolioPosition, ...]:
    """`portfolio_positions` and `autotrading:active_positions`."""
    return tuple(
        PortfolioPosition(
            ticker=position.symbol,
            qty=position.qty,
            avg_entry_price=position.avg_entry_price_usd,
            market_value=position.market_value_usd,
            unrealized_pl=position.unrealized_pl_usd,
            side=PositionSide.LONG if position.qty >= 0 else PositionSide.SHORT,
        )
        for position in sorted(held, key=lambda p: p.symbol)
    )


def trades_log(fills: Sequence[Row]) -> tuple[TradeLogEntry, ...]:
    """`trades_log` from the last executions with what stands behind them, oldest first."""
    return tuple(_trade(row) for row in fills)


def _trade(row: Row) -> TradeLogEntry:
    price, qty = float(row["price_usd"]), float(row["qty"])
    signal = row["signal"] or {}
    given: dict[str, Any] = {}
    if signal:
        given = {
            "current_price": signal["current_price_usd"],
            "predicted_price": signal["target_price_usd"],
            "change_pct": signal["predicted_return_pct"],
        }
    return TradeLogEntry(
        time=row["at"],
        ticker=row["symbol"],
        side=Side(row["side"]),
        qty=qty,
        price=price,
        total_value=round(price * qty, 2),
        reason=reason(row),
        order_id=row["broker_order_id"],
        status=row["status"] or "filled",
        order_response={"client_order_id": row["client_order_id"], "execution_id": row["execution_id"]},
        **given,
    )


def reason(row: Row) -> str:
    """Why an execution took place, in a sentence."""
    signal = row["signal"] or {}
    if signal.get("reasons"):
        return "; ".join(signal["reasons"])
    if row["parent_id"] is not None:
        return "take-profit reached" if row["order_type"] == "limit" else "stop-loss reached"
    if row["source"] in (Source.MANUAL, Source.EMERGENCY):
        return f"{row['source']} order"
    if row["source"] == Source.AUTOTRADING:
        return str(row["message"])
    return "an order made outside QBot"


def trading_status(
    last: Row | None,
    usage: Usage,
    traded_usd: Decimal,
    *,
    every_s: float,
    active: bool,
    stop_reason: str | None,
) -> TradingStatus:
    """`trading_status`. `last`: the newest cycle, with `ran_at`, `error` and `worker_pid`; None before the first."""
    ran_at = last["ran_at"] if last else None
    return TradingStatus(
        last_run=ran_at,
        last_error=last["error"] if last else None,
        trades_today=usage.orders_today,
        total_volume=_cents(traded_usd),
        active=active,
        next_run=ran_at + timedelta(seconds=every_s) if ran_at else None,
        worker_pid=last["worker_pid"] if last else None,
        stop_reason=stop_reason,
    )


def stats(status: TradingStatus, positions_count: int) -> AutotradingStats:
    """`autotrading:stats`: the same counts as in `trading_status`."""
    return AutotradingStats(
        trades_today=status.trades_today,
        total_volume=status.total_volume,
        last_run=status.last_run,
        next_run=status.next_run,
        positions_count=positions_count,
    )


def risk_status(usage: Usage, cooldown_minutes: float, now: datetime, report: RiskReport | None = None) -> RiskStatus:
    """`risk_status`: the cooldowns still running, what counts against the day's cap, and what the risk engine said."""
    ends = {s: at + timedelta(minutes=cooldown_minutes) for s, at in usage.last_entry_at.items()}
    return RiskStatus(
        notional_today=_cents(usage.notional_today_usd),
        last_reset=now.astimezone(clock.NEW_YORK).date(),
        cooldowns={symbol: end for symbol, end in sorted(ends.items()) if end > now},
        **_engine(report),
    )


def _engine(report: RiskReport | None) -> dict[str, Any]:
    """Nothing before its first look."""
    if report is None:
        return {}
    return {
        "risk_factor": float(report.factor),
        "risk_reasons": report.reasons,
        "breakers": report.tripped,
        "rolling_loss_pct": round(float(report.rolling_loss_pct), 6),
        "drawdown_pct": round(float(report.drawdown_pct), 6),
        "risk_checked_at": report.at,
    }


def market_status(hours: MarketHours | None, now: datetime) -> MarketStatus:
    """`market_status`; `hours` is None when the calendar cannot be used."""
    session = MarketSession.ERROR
    if hours is not None:
        session = MarketSession.OPEN if hours.is_open else MarketSession.CLOSED
    return MarketStatus(
        market_open=hours is not None and hours.is_open,
        current_time_et=now.astimezone(clock.NEW_YORK),
        next_open=hours.next_open if hours is not None else None,
        trading_day=hours is not None and hours.trading_day,
        market_session=session,
    )


def active_orders(rows: Sequence[Row], prices: Mapping[str, float]) -> tuple[ActiveOrder, ...]:
    """`backend:active_orders` from the ledger's open orders."""
    return tuple(_active_order(row, prices) for row in rows)


def _active_order(row: Row, prices: Mapping[str, float]) -> ActiveOrder:
    price = row["limit_price_usd"] or row["stop_price_usd"] or prices.get(row["symbol"], 0.0)
    return ActiveOrder(
        order_id=row["broker_order_id"],
        symbol=row["symbol"],
        side=OrderSide(row["side"].upper()),
        quantity=float(row["qty"]),
        filled_qty=float(row["filled_qty"]),
        order_type=ORDER_TYPES.get(row["order_type"], ActiveOrderType.LIMIT),
        limit_price=_float(row["limit_price_usd"]),
        stop_price=_float(row["stop_price_usd"]),
        status=active_order_status(row["status"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        source=Source(row["source"]),
        estimated_value=round(float(price) * float(row["qty"]), 2),
        fees=0.0,  # no commission; regulatory fees are charged by the day, not by order
    )


def recent_trades(
    fills: Sequence[Row], trips: Sequence[RoundTrip], contexts: Mapping[str, Context]
) -> tuple[RecentTrade, ...]:
    """`backend:recent_trades`, newest first. What a sale realised is the sum over the round trips it closed.

    `contexts`: strategy and session behind each order, by broker's id.
    """
    made: dict[str, tuple[Decimal, Decimal]] = {}
    for trip in trips:
        pnl, cost = made.get(trip.exit_execution_id, (Decimal(0), Decimal(0)))
        made[trip.exit_execution_id] = (pnl + trip.pnl_usd, cost + trip.qty * trip.entry_price_usd)
    return tuple(_recent_trade(row, made, contexts) for row in reversed(fills))


def _recent_trade(
    row: Row, made: Mapping[str, tuple[Decimal, Decimal]], contexts: Mapping[str, Context]
) -> RecentTrade:
    strategy, session_id = contexts.get(row["broker_order_id"], NOBODY)
    pnl, cost = made.get(row["execution_id"], (None, None))
    price, qty = float(row["price_usd"]), float(row["qty"])
    return RecentTrade(
        trade_id=row["execution_id"],
        symbol=row["symbol"],
        side=OrderSide(row["side"].upper()),
        quantity=qty,
        price=price,
        value=round(price * qty, 2),
        fees=0.0,
        pnl=None if pnl is None else _cents(pnl),
        pnl_pct=None if pnl is None or not cost else float(pnl / cost),
        executed_at=row["at"],
        source=Source(row["source"] or Source.FOREIGN),
        strategy=strategy,
        session_id=session_id,
    )


def alerts(rows: Sequence[Row]) -> tuple[Alert, ...]:
    """`backend:alerts_active`."""
    return tuple(_alert(row) for row in rows)


def _alert(row: Row) -> Alert:
    """What is critical waits for a human and stays until one has seen it; all else goes by itself."""
    waits = row["severity"] == Severity.CRITICAL and not row["acknowledged"]
    return Alert(
        alert_id=row["alert_id"],
        type=AlertType(row["type"]),
        severity=Severity(row["severity"]),
        symbol=row["symbol"],
        title=row["title"],
        message=row["message"],
        triggered_at=row["triggered_at_wall"],
        acknowledged=row["acknowledged"],
        auto_dismiss=not waits,
        expires_at=None if waits else row["expires_at_wall"],
        action_required=waits,
    )


def _cents(value: Decimal) -> float:
    return round(float(value), 2)


def _float(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
