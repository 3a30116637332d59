"""What the gate looks at besides the settings, put together in one place: for the cycles and for orders by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from qbot.control import Settings
from qbot.market.calendar import MarketHours
from qbot.reconciliation import Books
from qbot.risk import Market
from qbot.session import Switch
from qbot.types import Quote, RiskReport, TradingState


def market(
    settings: Settings,
    switch: Switch,
    hours: MarketHours,
    books: Books,
    quotes: Mapping[str, Quote],
    now: datetime,
    report: RiskReport | None,
) -> Market:
    """The market at `now`, from what was read. `report`: the risk engine's; None refuses entries."""
    return Market(
        now=now,
        state=state(switch),
        latched=switch.latched and not switch.reducing,
        market_open=hours.is_open,
        reconciled=books.reconciled,
        settings_problem=settings.invalid,
        paper_problem=settings.live_problem,
        account=books.account,
        quotes=quotes,
        positions=books.positions,
        open_orders=books.open_orders,
        risk_report=report,
        settings_at_wall=settings.read_at_wall,
    )


def state(switch: Switch) -> TradingState:
    """REDUCING: a circuit breaker tripped while trading, so that the exits of the cycles go on.

    OFF: a human may still enter by hand. HALTED: nobody may.
    """
    if switch.on:
        return TradingState.ACTIVE
    if switch.reducing:
        return TradingState.REDUCING
    return TradingState.HALTED if switch.latched else TradingState.OFF
