"""Payloads of `autotrading:*`: how a frontend starts and stops trading, and what it hears back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from qbot.contract.fields import (
    ClockTime,
    Count,
    Fraction,
    Name,
    PartialPayload,
    Payload,
    Shares,
    Timestamp,
    TimeZone,
    Usd,
)
from qbot.types import Strategy as Strategy


class StrategyWord(StrEnum):
    """What a frontend may call a strategy: BALANCED is another word for MODERATE."""

    CONSERVATIVE = "CONSERVATIVE"
    MODERATE = "MODERATE"
    BALANCED = "BALANCED"
    AGGRESSIVE = "AGGRESSIVE"


def _strategy(value: Any) -> Any:
    name = "MODERATE" if value == "BALANCED" else value
    if not isinstance(name, str) or name not in Strategy.__members__:
        raise ValueError("not a strategy")
    return Strategy[name]


StrategyName = Annotated[
    Strategy,
    BeforeValidator(_strategy, json_schema_input_type=StrategyWord),
    Field(description="How far the thresholds are bent; BALANCED is MODERATE."),
]


class AutotradingStatus(StrEnum):
    """What the frontend says it wants."""

    ACTIVE = "ACTIVE"
    STOPPED = "STOPPED"


class BackendStatus(StrEnum):
    """What QBot does. Precedence when several hold: ERROR, CONFIG_ERROR, STOPPED, MARKET_CLOSED, RUNNING."""

    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    MARKET_CLOSED = "MARKET_CLOSED"
    ERROR = "ERROR"
    CONFIG_ERROR = "CONFIG_ERROR"


class TradingHours(PartialPayload):
    """The session's own hours; they narrow the exchange's, never widen them."""

    market_open: ClockTime | None = Field(None, description="No entries before it; HH:MM.")
    market_close: ClockTime | None = Field(None, description="No entries after it; HH:MM.")
    timezone: TimeZone | None = Field(None, description="Zone of both times; IANA name, such as America/New_York.")

    @model_validator(mode="after")
    def _open_before_close(self) -> TradingHours:
        if self.market_open and self.market_close and self.market_open >= self.market_close:
            raise ValueError("market_open must be before market_close")
        return self


class AutotradingSession(PartialPayload):
    """`autotrading:enabled`: a frontend's write with `enabled` true and source `frontend_ui` starts trading."""

    enabled: bool | None = Field(None, description="Whether to trade; false ends the session as DEL does.")
    buy_threshold_pct: Fraction | None = Field(None, description="Buy above this forecast return; fraction.")
    sell_threshold_pct: Fraction | None = Field(None, description="Sell below minus this return; fraction.")
    max_position_per_trade: Shares | None = Field(None, description="Shares an order.")
    strategy: StrategyName | None = None
    timestamp: Timestamp | None = Field(None, description="When the frontend wrote it; old ones are valid.")
    source: Name | None = Field(None, description="`frontend_ui` starts trading; nothing else does.")
    market_hours_check: bool | None = Field(None, description="False drops trading_hours, never the calendar.")
    session_id: Name | None = Field(None, description="A new one stops the old session first.")
    trading_hours: TradingHours | None = Field(None, description="A field left out keeps its value.")


class AutotradingStats(Payload):
    trades_today: Count = Field(description="Orders this New York day.")
    total_volume: Usd = Field(description="Executed this New York day, buys and sells; USD.")
    last_run: Timestamp | None = Field(description="The last trading cycle; null before the first.")
    next_run: Timestamp | None = Field(description="When the next one is due; null before the first.")
    positions_count: Count = Field(description="Open positions.")
