"""Small builders of the values that stages exchange: a plain, allowed default, and what a test changes about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from qbot.risk import Market
from qbot.types import (
    Account,
    Action,
    BrokerOrder,
    Forecast,
    IntentKind,
    Position,
    Proposal,
    Quote,
    RiskReport,
    Side,
    Signal,
    Source,
    TradingConfig,
    TradingState,
)

NOW = datetime(2026, 9, 25, 14, 0, tzinfo=UTC)  # a Friday, 10:00 in New York
TODAY = "2026-09-25"
CENT = Decimal("0.01")
# No cap of it is near for one order of ten shares at 100 USD.
CONFIG = TradingConfig(
    max_position_per_trade=10,
    max_position_size=10,
    cooldown_minutes=30.0,
    trading_capital_usd=Decimal(50_000),
    ml_confidence_threshold=0.6,
)


def quote(symbol: str = "AAPL", price: str = "100", *, age_s: float = 0.0, now: datetime = NOW, **more: Any) -> Quote:
    """A price without a spread."""
    at = now - timedelta(seconds=age_s)
    values = {"bid_usd": Decimal(price), "ask_usd": Decimal(price), "at": at, "received_at": at, "source": "test"}
    return Quote(symbol, Decimal(price), **{**values, **more})


def forecast(symbol: str = "AAPL", horizon: int = 60, return_pct: float = 0.1, **more: Any) -> Forecast:
    """A skilled forecast issued now at 100 USD."""
    values: dict[str, Any] = {
        "forecast_id": f"{symbol}:{horizon}",
        "issued_at": NOW,
        "current_price_usd": 100.0,
        "low_return_pct": return_pct - 0.003,
        "high_return_pct": return_pct + 0.003,
        "confidence": 0.9,
        "artifact_id": f"h{horizon}",
        "skilled": True,
    }
    return Forecast(symbol=symbol, horizon_minutes=horizon, return_pct=return_pct, **{**values, **more})


def signal(symbol: str = "AAPL", action: Action = Action.BUY, **more: Any) -> Signal:
    """A signal that lives half an hour."""
    values: dict[str, Any] = {
        "signal_id": f"ml_{symbol}",
        "confidence": 0.9,
        "strength": 0.8,
        "predicted_return_pct": 0.1,
        "horizon_minutes": 60,
        "target_price_usd": 110.0,
        "current_price_usd": 100.0,
        "stop_loss_usd": 95.0,
        "issued_at": NOW,
        "expires_at": NOW + timedelta(minutes=30),
        "forecast_id": f"{symbol}:60",
        "source": Source.ML,
        "reasons": ("60 min: it rises",),
        "why": "60 min: it rises",
    }
    return Signal(symbol=symbol, action=action, **{**values, **more})


def position(symbol: str = "AAPL", qty: str = "10", price: str = "100") -> Position:
    """Shares bought at today's price."""
    amount = Decimal(qty) * Decimal(price)
    return Position(symbol, Decimal(qty), Decimal(price), amount, Decimal(0), Decimal(price))


def account(equity: str = "100000", **more: str) -> Account:
    """All in cash, unchanged since yesterday."""
    values = {"last_equity_usd": equity, "cash_usd": equity, "buying_power_usd": equity, **more}
    return Account(Decimal(equity), **{name: Decimal(value) for name, value in values.items()})


def market(**more: Any) -> Market:
    """An open market in which nothing stands against trading."""
    values: dict[str, Any] = {
        "now": NOW,
        "state": TradingState.ACTIVE,
        "latched": False,
        "market_open": True,
        "reconciled": True,
        "settings_problem": None,
        "paper_problem": None,
        "account": account(),
        "quotes": {symbol: quote(symbol) for symbol in ("AAPL", "MSFT", "SPY")},
        "positions": {},
        "open_orders": (),
        "risk_report": RiskReport(NOW, Decimal(1), (), (), Decimal(0), Decimal(0)),
        "settings_at_wall": NOW,
        "wall": NOW,
    }
    return Market(**{**values, **more})


def entry(symbol: str = "AAPL", qty: str = "10", price: str = "100", **more: Any) -> Proposal:
    """An automatic buy at the market."""
    values: dict[str, Any] = {"source": Source.ML, "signal": signal(symbol)}
    return Proposal(symbol, Side.BUY, Decimal(qty), IntentKind.ENTRY, **{**values, "price_usd": Decimal(price), **more})


def sale(symbol: str = "AAPL", qty: str = "10", price: str = "100", **more: Any) -> Proposal:
    """An automatic exit at the market."""
    values: dict[str, Any] = {"source": Source.ML, "signal": signal(symbol, Action.SELL)}
    return Proposal(symbol, Side.SELL, Decimal(qty), IntentKind.EXIT, **{**values, "price_usd": Decimal(price), **more})


def broker_order(symbol: str = "AAPL", side: Side = Side.SELL, **more: Any) -> BrokerOrder:
    """An order that rests at the venue."""
    values: dict[str, Any] = {
        "broker_order_id": f"b-{symbol}-{side}",
        "client_order_id": f"c-{symbol}-{side}",
        "qty": Decimal(10),
        "filled_qty": Decimal(0),
        "filled_avg_price_usd": None,
        "order_type": "limit",
        "time_in_force": "day",
        "limit_price_usd": Decimal(110),
        "stop_price_usd": None,
        "status": "new",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return BrokerOrder(symbol=symbol, side=side, **{**values, **more})


def intent_row(proposal: Proposal, **more: Any) -> Mapping[str, Any]:
    """What the ledger holds of a proposal that was allowed now: committed, nothing known of its fate."""
    values = {
        "symbol": proposal.symbol,
        "side": str(proposal.side),
        "kind": str(proposal.kind),
        "qty": proposal.qty,
        "spec": {"order_type": str(proposal.order_type)},
        "reserved_usd": proposal.notional_usd,
        "filled_usd": Decimal(0),
        "status": "committed",
        "market_day": TODAY,
        "created_at": NOW,
        "created_at_wall": NOW,
        "closed_at_wall": None,
    }
    return {**values, **more}
