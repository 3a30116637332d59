"""Scenes for the gate: a plain order of each kind, and one way to fail each check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

from qbot.risk import Case, Market, evaluate
from qbot.risk_case import Whose
from qbot.types import (
    IntentKind,
    OrderType,
    Proposal,
    RiskReport,
    Side,
    Source,
    TradingConfig,
    TradingHours,
    TradingState,
    Usage,
    Verdict,
)
from tests.support.values import CONFIG, NOW, account, broker_order, entry, market, position, quote, sale

D = Decimal
OPEN, UNUSED = market(), Usage()
REPORT = RiskReport(NOW, D(1), (), (), D(0), D(0))


@dataclass(frozen=True)
class Scene:
    """All that one verdict depends on; the default is an entry of ten AAPL at 100 USD that passes every check."""

    proposal: Proposal
    config: TradingConfig = CONFIG
    market: Market = OPEN
    usage: Usage = UNUSED
    trades_this_run: int = 0
    allowed_this_run: frozenset[tuple[str, Side]] = frozenset()

    def verdict(self) -> Verdict:
        return evaluate(self.case())

    def case(self) -> Case:
        known_usd = self.usage.reserved_usd
        run = (self.trades_this_run, known_usd if known_usd.is_finite() else D(0), self.allowed_this_run)
        return Case(self.proposal, self.config, self.market, self.usage, *run)

    def proposing(self, **more: Any) -> Scene:
        return replace(self, proposal=replace(self.proposal, **more))

    def configured(self, **more: Any) -> Scene:
        return replace(self, config=replace(self.config, **more))

    def amid(self, **more: Any) -> Scene:
        return replace(self, market=replace(self.market, **more))

    def reported(self, **more: Any) -> Scene:
        return self.amid(risk_report=replace(REPORT, **more))

    def used(self, **more: Any) -> Scene:
        return replace(self, usage=replace(self.usage, **more))

    def by_hand(self) -> Scene:
        return self.proposing(source=Source.MANUAL, signal=None)


ENTRY = Scene(entry())
HELD = market(positions={"AAPL": position()})
EXIT = Scene(sale(), market=HELD)
RESTING = {"order_type": OrderType.LIMIT, "take_profit_usd": D(110), "stop_loss_usd": D(95)}
PROTECTION = EXIT.proposing(kind=IntentKind.PROTECTION, **RESTING)
Spoil = Callable[[Scene], Scene]

# One way to fail each check, in their order: what is spoilt, and of whose order.
IN_ORDER: list[tuple[str, Spoil]] = [
    ("EMERGENCY_LATCHED", lambda s: s.amid(latched=True)),
    ("BREAKER_TRIPPED", lambda s: s.reported(tripped=("drawdown", "data_gap"))),
    ("TRADING_OFF", lambda s: s.amid(state=TradingState.HALTED)),
    ("LIVE_NOT_ALLOWED", lambda s: s.amid(paper_problem="paper_mode is false")),
    ("SETTINGS_INVALID", lambda s: s.amid(settings_problem="not JSON")),
    ("SETTINGS_STALE", lambda s: s.amid(settings_at_wall=NOW - timedelta(hours=1))),
    ("NOT_RECONCILED", lambda s: s.amid(reconciled=False)),
    ("ACCOUNT_UNKNOWN", lambda s: s.amid(account=None)),
    ("ACCOUNT_BLOCKED", lambda s: s.amid(account=replace(account(), blocked=("trading_blocked", "status X")))),
    ("RISK_UNKNOWN", lambda s: s.amid(risk_report=None)),
    ("MARKET_CLOSED", lambda s: s.amid(market_open=False)),
    ("OUTSIDE_TRADING_HOURS", lambda s: s.configured(trading_hours=TradingHours(market_open=time(10, 1)))),
    ("QUANTITY_INVALID", lambda s: s.proposing(qty=D("0.5"))),
    ("DIRECTION_INVALID", lambda s: s.proposing(side=Side.SELL if s.proposal.side is Side.BUY else Side.BUY)),
    ("DUPLICATE_INTENT", lambda s: replace(s, allowed_this_run=frozenset({("AAPL", s.proposal.side)}))),
    ("ORDER_PRICE_INVALID", lambda s: s.proposing(order_type=OrderType.STOP)),
    ("QUOTE_STALE", lambda s: s.amid(quotes={"AAPL": quote(age_s=3_600)})),
    ("PRICE_INVALID", lambda s: s.proposing(price_usd=D(0))),
    ("SIGNAL_MISSING", lambda s: s.proposing(signal=None)),
    ("PRICE_COLLAR", lambda s: s.proposing(limit_price_usd=D(103), order_type=OrderType.LIMIT)),
    ("NO_ROOM_FOR_STOP", lambda s: s.configured(stop_loss_pct=D("0.00009"))),
    ("FAT_FINGER", lambda s: s.proposing(limit_price_usd=D("49.99"), order_type=OrderType.LIMIT)),
    ("EXCLUDED", lambda s: s.configured(excluded_tickers=frozenset({"AAPL"}))),
    ("DAY_LOSS", lambda s: s.amid(account=account(last_equity_usd="120000"))),
    ("ROLLING_LOSS", lambda s: s.reported(rolling_loss_pct=D("0.10"))),
    ("DRAWDOWN", lambda s: s.reported(drawdown_pct=D("0.15"))),
    ("COOLDOWN", lambda s: s.used(last_entry_at={"AAPL": NOW})),
    ("TOO_MANY_ORDERS", lambda s: s.used(orders_last_minute=160)),
    ("MAX_TRADES_PER_RUN", lambda s: replace(s, trades_this_run=3)),
    ("MAX_DAILY_TRADES", lambda s: s.used(orders_today=50)),
    ("MAX_POSITION_PER_TICKER", lambda s: s.used(entries_today={"AAPL": 5})),
    ("MAX_SHARES_PER_ORDER", lambda s: s.configured(max_position_per_trade=9, max_position_size=9)),
    ("MAX_ORDER_NOTIONAL", lambda s: s.proposing(price_usd=D(30_000))),
    ("ORDER_ON_ITS_WAY", lambda s: s.used(unsettled={"AAPL": frozenset({s.proposal.side})})),
    ("OPPOSITE_ORDER_OPEN", lambda s: s.amid(open_orders=[broker_order()])),
    ("TARGET_DIVERSIFICATION", lambda s: s.configured(target_diversification=0)),
    ("MAX_POSITION_PCT", lambda s: s.configured(max_position_pct=D("0.0099"))),
    ("DAILY_NOTIONAL_CAP", lambda s: s.configured(daily_notional_cap_usd=D(999))),
    ("TRADING_CAPITAL", lambda s: s.configured(trading_capital_usd=D(999))),
    ("CASH_RESERVE", lambda s: s.configured(cash_reserve_usd=D(99_001))),
    ("NOT_HELD", lambda s: s.proposing(qty=D(11))),
    ("LEVELS_INVALID", lambda s: s.proposing(stop_loss_usd=D(110))),
    ("NOT_FREE", lambda s: s.used(protecting={"AAPL": D(1)})),
]
SPOILS = dict(IN_ORDER)
NAMES = list(SPOILS)
# What a spoilt thing spoils besides: what is unknown is over every limit, and a large order is large for all of them.
ALSO = {
    "ACCOUNT_UNKNOWN": {"DAY_LOSS", "MAX_POSITION_PCT", "CASH_RESERVE"},
    "RISK_UNKNOWN": {"ROLLING_LOSS", "DRAWDOWN"},
    "QUANTITY_INVALID": {"NOT_HELD"},
    "MAX_ORDER_NOTIONAL": {"MAX_POSITION_PCT", "DAILY_NOTIONAL_CAP", "TRADING_CAPITAL", "CASH_RESERVE"},
}
CYCLES_EXIT = {
    "EMERGENCY_LATCHED", "TRADING_OFF", "MARKET_CLOSED", "QUANTITY_INVALID", "DIRECTION_INVALID", "DUPLICATE_INTENT",
    "ORDER_PRICE_INVALID", "ORDER_ON_ITS_WAY", "NOT_HELD",
}  # fmt: skip
HUMANS_EXIT = {
    "QUANTITY_INVALID", "DIRECTION_INVALID", "DUPLICATE_INTENT", "ORDER_PRICE_INVALID", "FAT_FINGER", "NOT_HELD",
}  # fmt: skip
PROTECTIONS = {"QUANTITY_INVALID", "DIRECTION_INVALID", "LEVELS_INVALID", "NOT_FREE"}
ENTRIES = set(NAMES) - {"FAT_FINGER", "NOT_HELD", "LEVELS_INVALID", "NOT_FREE"}
CYCLE_ALONE = {
    "OUTSIDE_TRADING_HOURS", "SIGNAL_MISSING", "NO_ROOM_FOR_STOP", "MAX_TRADES_PER_RUN", "ORDER_ON_ITS_WAY",
    "TARGET_DIVERSIFICATION",
}  # fmt: skip
REFUSED_BY: dict[Whose, tuple[Scene, set[str]]] = {
    Whose.CYCLE_ENTRY: (ENTRY, ENTRIES),
    Whose.HUMAN_ENTRY: (ENTRY.by_hand(), ENTRIES - CYCLE_ALONE),
    Whose.CYCLE_EXIT: (EXIT, CYCLES_EXIT),
    Whose.HUMAN_EXIT: (EXIT.by_hand(), HUMANS_EXIT),
    Whose.PROTECTION: (PROTECTION, PROTECTIONS),
}


def refusal(scene: Scene) -> str | None:
    """The name of the refusal, after looking that the verdict explains itself."""
    found = scene.verdict()
    assert found.allowed is (found.refusal is None)
    assert found.message
    assert found.numbers
    assert all(isinstance(number, str) for number in found.numbers.values())
    return found.refusal
