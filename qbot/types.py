"""The values that stages exchange. Frozen, no I/O, no clock: time is always an argument.

Money and quantity are Decimal where they touch an order, float where they are statistics. Times are aware UTC and are
market time unless a name ends in `_wall`. Thresholds and returns named `_pct` are fractions: 0.05 is 5 %.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import Any

HORIZONS_MINUTES: tuple[int, ...] = (15, 30, 60)
BAR_MINUTES = 5
SLOTS = 78  # five-minute bars of a regular session, 09:30 to 16:00 New York
TICKER = re.compile(r"[A-Z][A-Z0-9.\-]{0,11}")  # as the contract's Ticker; nothing in it can change a URL or a key


def ticker(text: str) -> str:
    """A ticker in the one spelling that QBot knows it by: in capitals, and a class of shares behind a dot, as at the
    venue. Some write BRK-B; taken for another ticker than BRK.B, it would exclude nothing, and its orders be rejected.
    """
    return text.strip().upper().replace("-", ".")


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class Action(StrEnum):
    BUY = "BUY"
    SELL = "SELL"
    HOLD = "HOLD"


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


class TradingState(StrEnum):
    """ACTIVE: all may pass. REDUCING: exits only. OFF: a human's orders only. HALTED: a human's exits only.

    Cancels and resting stops pass in each of them.
    """

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    OFF = "OFF"
    HALTED = "HALTED"


class IntentKind(StrEnum):
    """PROTECTION: a stop-loss and take-profit put back for an entry that lost its own, or the sale in their place."""

    ENTRY = "entry"
    EXIT = "exit"
    PROTECTION = "protection"


class Source(StrEnum):
    """Who asked for an order. The first four are the documented names of `backend:active_orders`."""

    AUTOTRADING = "autotrading"
    MANUAL = "manual"
    GROK = "grok_signal"
    ML = "ml_prediction"
    EMERGENCY = "emergency"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Quote:
    """The latest price of one symbol: `at` is when the venue stamped it, `received_at` when QBot had it."""

    symbol: str
    price_usd: Decimal
    bid_usd: Decimal
    ask_usd: Decimal
    at: datetime
    received_at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Day:
    """A session so far, of one symbol: prices in USD, volume in shares, and the close before it. None: not known."""

    open: float | None = None
    high: float | None = None
    low: float | None = None
    volume: float | None = None
    previous_close: float | None = None

    def reaching(self, price_usd: float) -> Day:
        """With a price of the session that is later than what is summed up here. One without a begin stays so."""
        if self.high is None or self.low is None:
            return self
        return replace(self, high=max(self.high, price_usd), low=min(self.low, price_usd))


@dataclass(frozen=True, slots=True)
class Forecast:
    """One artifact's forecast of one symbol over one horizon. `return_pct` and the interval are fractions."""

    forecast_id: str
    symbol: str
    horizon_minutes: int
    issued_at: datetime
    current_price_usd: float
    return_pct: float
    low_return_pct: float
    high_return_pct: float
    confidence: float
    artifact_id: str
    skilled: bool

    @property
    def target_price_usd(self) -> float:
        """current × (1 + return)."""
        return self.current_price_usd * (1.0 + self.return_pct)


@dataclass(frozen=True, slots=True)
class Signal:
    """A wish to trade; it becomes an order only through the risk gate.

    `reasons`: what each source said, in a fixed order; `why`: what settled it, in one sentence.
    """

    signal_id: str
    symbol: str
    action: Action
    confidence: float
    strength: float
    predicted_return_pct: float
    horizon_minutes: int
    target_price_usd: float
    current_price_usd: float
    stop_loss_usd: float | None
    issued_at: datetime
    expires_at: datetime
    forecast_id: str | None
    source: Source
    reasons: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Position:
    symbol: str
    qty: Decimal
    avg_entry_price_usd: Decimal
    market_value_usd: Decimal
    unrealized_pl_usd: Decimal
    current_price_usd: Decimal


@dataclass(frozen=True, slots=True)
class Account:
    """The broker's account. `account_id` and `number` are the venue's; None where it tells none.

    `blocked`: what the venue says stands against orders, in its own words.
    """

    equity_usd: Decimal
    last_equity_usd: Decimal
    cash_usd: Decimal
    buying_power_usd: Decimal
    account_id: str | None = None
    number: str | None = None
    blocked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Activity:
    """What changed an account besides trades: a fee, a dividend, a transfer, a split. `kind` is the venue's own word.

    `amount_usd` goes into the account, or, negative, out of it. `day`: when it settled; `at`: when the venue made it.
    """

    activity_id: str
    kind: str
    amount_usd: Decimal
    day: date
    at: datetime
    sub_kind: str | None = None
    symbol: str | None = None
    qty: Decimal | None = None
    status: str = "executed"
    description: str = ""


@dataclass(frozen=True, slots=True)
class Opening:
    """The account that the ledger is of, and what counts in it: fills after `positions_from` (None: all of them).

    `cash_usd` is the cash before every fill and activity that counts; None: not reckoned yet. `other_account_id` is
    another account that answers in its place.
    """

    account_id: str | None
    number: str | None
    kind: str
    opened_at: datetime
    opened_at_wall: datetime
    who: str
    reason: str
    opening: int = 0
    positions_from: datetime | None = None
    cash_usd: Decimal | None = None
    other_account_id: str | None = None
    other_number: str | None = None


@dataclass(frozen=True, slots=True)
class OrderSpec:
    """What is sent to a broker. `take_profit_usd` and `stop_loss_usd` make a buy a bracket, and a sale an OCO.

    `protects`: client order id of the entry whose shares it protects.
    """

    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    order_type: OrderType
    time_in_force: TimeInForce
    limit_price_usd: Decimal | None = None
    stop_price_usd: Decimal | None = None
    take_profit_usd: Decimal | None = None
    stop_loss_usd: Decimal | None = None
    extended_hours: bool = False
    protects: str | None = None


@dataclass(frozen=True, slots=True)
class BrokerOrder:
    """An order as the broker tells it. `status` is the venue's own word; unknown words are kept, not raised on."""

    broker_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    filled_qty: Decimal
    filled_avg_price_usd: Decimal | None
    order_type: str
    time_in_force: str
    limit_price_usd: Decimal | None
    stop_price_usd: Decimal | None
    status: str
    created_at: datetime
    updated_at: datetime
    parent_id: str | None = None
    order_class: str = ""
    replaces: str | None = None  # the broker's id of the order it took the place of
    legs: tuple[BrokerOrder, ...] = ()  # of a bracket or OCO, where the venue told of them with it
    raw: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def open(self) -> bool:
        """True while the order can still trade or hold shares."""
        return self.status not in CLOSED_ORDER_STATUSES

    @property
    def protective(self) -> bool:
        """True for a resting stop-loss or take-profit: a leg of a bracket or OCO."""
        return self.parent_id is not None or self.order_class == "oco"


LEFT_BEHIND = "left_behind"  # QBot's own word: of an account that the ledger has left, its end is not known
CLOSED_ORDER_STATUSES = frozenset({"filled", "canceled", "expired", "rejected", "replaced", LEFT_BEHIND})


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. `execution_id` is the venue's and makes recording it twice harmless."""

    execution_id: str
    broker_order_id: str
    symbol: str
    side: Side
    qty: Decimal
    price_usd: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class TradingHours:
    """The hours a session allows, in its own zone, next to the exchange calendar."""

    market_open: time = time(9, 30)
    market_close: time = time(16, 0)
    timezone: str = "America/New_York"


class Strategy(StrEnum):
    """BALANCED of the older document is MODERATE."""

    CONSERVATIVE = "CONSERVATIVE"
    MODERATE = "MODERATE"
    AGGRESSIVE = "AGGRESSIVE"


class SizingMethod(StrEnum):
    FIXED = "FIXED"
    PERCENTAGE = "PERCENTAGE"
    VOLATILITY_BASED = "VOLATILITY_BASED"


@dataclass(frozen=True, slots=True)
class TradingConfig:
    """The effective settings of one revision, merged from every frontend key. Defaults are the documented ones."""

    buy_threshold_pct: float = 0.05
    sell_threshold_pct: float = 0.05
    strategy: Strategy = Strategy.CONSERVATIVE
    max_position_per_trade: int = 1
    max_position_size: int = 100
    max_position_per_ticker: int = 5
    max_trades_per_run: int = 3
    max_daily_trades: int = 50
    daily_notional_cap_usd: Decimal = Decimal("50000")
    cooldown_minutes: float = 30.0
    cash_reserve_usd: Decimal = Decimal("5000")
    trading_capital_usd: Decimal = Decimal("120430.50")
    max_position_pct: Decimal = Decimal("0.20")
    target_diversification: int = 5
    stop_loss_pct: Decimal = Decimal("0.05")
    take_profit_pct: Decimal = Decimal("0.10")
    ml_confidence_threshold: float = 0.80
    grok_score_threshold: float = 0.85
    use_ml: bool = True
    use_grok: bool = True
    use_technical_analysis: bool = True
    aggressiveness: int = 3
    risk_level: int = 3
    position_sizing: SizingMethod = SizingMethod.FIXED
    excluded_tickers: frozenset[str] = frozenset()
    preferred_sectors: frozenset[str] = frozenset()
    rebalance_enabled: bool = False
    rebalance_threshold_pct: Decimal = Decimal("0.05")
    paper_mode: bool = True
    market_hours_check: bool = True
    trading_hours: TradingHours = TradingHours()


@dataclass(frozen=True, slots=True)
class Usage:
    """What the caps count, as the ledger holds it inside the gate's transaction.

    `selling`: shares of sales that the positions the gate looks at may not know yet; `protecting`: the same of OCOs
    that protect. These use up no cap, like the legs of a bracket. `orders_last_minute` counts every intent, whatever
    became of it, in wall time.
    """

    orders_today: int = 0
    notional_today_usd: Decimal = Decimal(0)
    entries_today: Mapping[str, int] = field(default_factory=dict)
    last_entry_at: Mapping[str, datetime] = field(default_factory=dict)
    reserved_usd: Decimal = Decimal(0)
    reserved_by_symbol: Mapping[str, Decimal] = field(default_factory=dict)
    unsettled: Mapping[str, frozenset[Side]] = field(default_factory=dict)
    selling: Mapping[str, Decimal] = field(default_factory=dict)
    protecting: Mapping[str, Decimal] = field(default_factory=dict)
    orders_last_minute: int = 0


@dataclass(frozen=True, slots=True)
class RiskReport:
    """What the risk engine says at `at` (market time). `factor` scales the size of every new position: 0 to 1.

    `reasons` name what lowers it; `tripped` the circuit breakers that stand until a human resumes. The losses are
    positive fractions: of the equity at the begin of the rolling window, and of its peak.
    """

    at: datetime
    factor: Decimal
    reasons: tuple[str, ...]
    tripped: tuple[str, ...]
    rolling_loss_pct: Decimal
    drawdown_pct: Decimal


@dataclass(frozen=True, slots=True)
class Proposal:
    """An order someone would like. `price_usd` is what the caps reckon with: the worst price it may cost.

    The last three are of a PROTECTION alone: its levels, none where it sells at once, and the entry it protects.
    """

    symbol: str
    side: Side
    qty: Decimal
    kind: IntentKind
    source: Source
    price_usd: Decimal
    order_type: OrderType = OrderType.MARKET
    time_in_force: TimeInForce = TimeInForce.DAY
    limit_price_usd: Decimal | None = None
    stop_price_usd: Decimal | None = None
    signal: Signal | None = None
    extended_hours: bool = False
    take_profit_usd: Decimal | None = None
    stop_loss_usd: Decimal | None = None
    protects: str | None = None
    why: str | None = None  # where no signal says it

    @property
    def notional_usd(self) -> Decimal:
        """What the caps count. An exit passes without a known price, and then counts for nothing."""
        if self.kind is IntentKind.PROTECTION:
            return Decimal(0)
        if self.kind is IntentKind.EXIT and not self.price_usd.is_finite():
            return Decimal(0)
        return self.qty * self.price_usd


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer to one proposal: `refusal` names the first check that failed, `numbers` what it compared."""

    allowed: bool
    refusal: str | None
    message: str
    numbers: dict[str, str]
