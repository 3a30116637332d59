"""The risk gate: one fixed order of checks, each with a named refusal and the numbers it compared. Pure.

Whatever is unknown is denied. Exits pass where entries do not: they skip the checks that only limit new risk. The
checks stand in `risk_permission`, `risk_order` and `risk_caps`; `docs/risk-gate.md` shows the whole order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from qbot import limits, risk_caps, risk_order, risk_permission
from qbot.risk_case import NAN, Case, Check, Market, Whose, finite, whose
from qbot.risk_permission import within_trading_hours
from qbot.types import IntentKind, OrderType, Proposal, Quote, Side, TradingConfig, Usage, Verdict

__all__ = ["Case", "Market", "evaluate", "gate", "reserve", "within_trading_hours", "worst_price"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One check with its place in the order: whose orders it is asked about, and the refusals it may give."""

    check: Check
    whose: frozenset[Whose]
    refusals: tuple[str, ...]


CYCLE_ENTRY, HUMAN_EXIT = frozenset({Whose.CYCLE_ENTRY}), frozenset({Whose.HUMAN_EXIT})
ENTRIES, EXITS = CYCLE_ENTRY | {Whose.HUMAN_ENTRY}, HUMAN_EXIT | {Whose.CYCLE_EXIT}
CYCLE, NO_HUMAN_EXIT = CYCLE_ENTRY | {Whose.CYCLE_EXIT}, ENTRIES | {Whose.CYCLE_EXIT}
PROTECTION = frozenset({Whose.PROTECTION})  # in every state: it only lowers the risk, as the lost one would have
ORDERS, ALL = ENTRIES | EXITS, frozenset(Whose)

RULES: tuple[Rule, ...] = (
    Rule(risk_permission.latch, NO_HUMAN_EXIT, ("EMERGENCY_LATCHED",)),
    Rule(risk_permission.breaker, ENTRIES, ("BREAKER_TRIPPED",)),
    Rule(risk_permission.state, NO_HUMAN_EXIT, ("TRADING_OFF",)),
    Rule(risk_permission.paper, ENTRIES, ("LIVE_NOT_ALLOWED",)),
    Rule(risk_permission.settings, ENTRIES, ("SETTINGS_INVALID",)),
    Rule(risk_permission.settings_age, ENTRIES, ("SETTINGS_STALE",)),
    Rule(risk_permission.reconciled, ENTRIES, ("NOT_RECONCILED",)),
    Rule(risk_permission.account_known, ENTRIES, ("ACCOUNT_UNKNOWN",)),
    Rule(risk_permission.account_blocked, ENTRIES, ("ACCOUNT_BLOCKED",)),
    Rule(risk_permission.risk_known, ENTRIES, ("RISK_UNKNOWN", "RISK_STALE")),
    Rule(risk_permission.market_open, NO_HUMAN_EXIT, ("MARKET_CLOSED",)),
    Rule(risk_permission.trading_hours, CYCLE_ENTRY, ("OUTSIDE_TRADING_HOURS",)),
    Rule(risk_order.quantity, ALL, ("QUANTITY_INVALID",)),
    Rule(risk_order.direction, ALL, ("DIRECTION_INVALID",)),
    Rule(risk_order.duplicate_intent, ORDERS, ("DUPLICATE_INTENT",)),
    Rule(risk_order.own_prices, ORDERS, ("ORDER_PRICE_INVALID",)),
    Rule(risk_order.quote, ENTRIES, ("QUOTE_MISSING", "QUOTE_STALE")),
    Rule(risk_order.price, ENTRIES, ("PRICE_INVALID",)),
    Rule(risk_order.forecast, CYCLE_ENTRY, ("SIGNAL_MISSING", "FORECAST_EXPIRED")),
    Rule(risk_order.collar, ENTRIES, ("PRICE_COLLAR",)),
    Rule(risk_order.room, CYCLE_ENTRY, ("NO_ROOM_FOR_STOP",)),
    Rule(risk_order.fat_finger, HUMAN_EXIT, ("FAT_FINGER",)),
    Rule(risk_order.excluded, ENTRIES, ("EXCLUDED",)),
    Rule(risk_caps.day_loss, ENTRIES, ("DAY_LOSS",)),
    Rule(risk_caps.rolling_loss, ENTRIES, ("ROLLING_LOSS",)),
    Rule(risk_caps.drawdown, ENTRIES, ("DRAWDOWN",)),
    Rule(risk_caps.cooldown, ENTRIES, ("COOLDOWN",)),
    Rule(risk_caps.throttle, ENTRIES, ("TOO_MANY_ORDERS",)),
    Rule(risk_caps.trades_per_run, CYCLE_ENTRY, ("MAX_TRADES_PER_RUN",)),
    Rule(risk_caps.daily_trades, ENTRIES, ("MAX_DAILY_TRADES",)),
    Rule(risk_caps.per_ticker, ENTRIES, ("MAX_POSITION_PER_TICKER",)),
    Rule(risk_caps.shares, ENTRIES, ("MAX_SHARES_PER_ORDER",)),
    Rule(risk_order.order_size, ENTRIES, ("MAX_ORDER_NOTIONAL",)),
    Rule(risk_order.on_its_way, CYCLE, ("ORDER_ON_ITS_WAY",)),
    Rule(risk_order.opposite, ENTRIES, ("OPPOSITE_ORDER_OPEN",)),
    Rule(risk_caps.diversification, CYCLE_ENTRY, ("TARGET_DIVERSIFICATION",)),
    Rule(risk_caps.position_share, ENTRIES, ("MAX_POSITION_PCT",)),
    Rule(risk_caps.daily_notional, ENTRIES, ("DAILY_NOTIONAL_CAP",)),
    Rule(risk_caps.capital, ENTRIES, ("TRADING_CAPITAL",)),
    Rule(risk_caps.cash, ENTRIES, ("CASH_RESERVE",)),
    Rule(risk_order.held, EXITS, ("NOT_HELD",)),
    Rule(risk_order.levels, PROTECTION, ("LEVELS_INVALID",)),
    Rule(risk_order.free, PROTECTION, ("NOT_FREE",)),
)
CHECKS: Mapping[Whose, tuple[Check, ...]] = {
    each: tuple(rule.check for rule in RULES if each in rule.whose) for each in Whose
}


def evaluate(case: Case) -> Verdict:
    """Judge one proposal by the first check that refuses it."""
    checks = CHECKS[whose(case.proposal)]
    for check in checks:
        refusal = check(case)
        if refusal is not None:
            return Verdict(False, refusal.name, refusal.message, refusal.numbers)
    numbers = {"notional_usd": str(case.proposal.notional_usd), "checks": str(len(checks))}
    return Verdict(True, None, "all checks passed", numbers)


def gate(
    proposals: Sequence[Proposal], config: TradingConfig, market: Market, usage: Usage
) -> list[tuple[Proposal, Verdict]]:
    """Judge proposals in order, each one counting what those before it were allowed, exits too."""
    judged: list[tuple[Proposal, Verdict]] = []
    trades, known_usd, allowed = 0, usage.reserved_usd, frozenset[tuple[str, Side]]()
    for proposal in proposals:
        verdict = evaluate(Case(proposal, config, market, usage, trades, known_usd, allowed))
        judged.append((proposal, verdict))
        if verdict.allowed:
            usage = reserve(usage, proposal, market.now)
            if proposal.kind is not IntentKind.PROTECTION:
                trades += 1
                allowed |= {(proposal.symbol, proposal.side)}
    return judged


def reserve(usage: Usage, proposal: Proposal, now: datetime) -> Usage:
    """The usage after `proposal` was allowed: the same sums the ledger will give once its intent is committed."""
    symbol, qty, notional = proposal.symbol, proposal.qty, proposal.notional_usd
    lately = usage.orders_last_minute + 1
    if proposal.kind is IntentKind.PROTECTION:
        return _reserve_protection(replace(usage, orders_last_minute=lately), proposal)
    unsettled = usage.unsettled.get(symbol, frozenset()) | {proposal.side}
    usage = replace(
        usage,
        orders_last_minute=lately,
        orders_today=usage.orders_today + 1,
        notional_today_usd=usage.notional_today_usd + notional,
        unsettled={**usage.unsettled, symbol: unsettled},
    )
    if proposal.kind is IntentKind.EXIT:
        return replace(usage, selling=_added(usage.selling, symbol, qty))
    return replace(
        usage,
        entries_today={**usage.entries_today, symbol: usage.entries_today.get(symbol, 0) + 1},
        last_entry_at={**usage.last_entry_at, symbol: now},
        reserved_usd=usage.reserved_usd + notional,
        reserved_by_symbol=_added(usage.reserved_by_symbol, symbol, notional),
    )


def _reserve_protection(usage: Usage, proposal: Proposal) -> Usage:
    """No cap is used up. What is sold at once is a sale like others; what rests can be cancelled for one."""
    symbol, qty = proposal.symbol, proposal.qty
    if proposal.order_type is not OrderType.MARKET:
        return replace(usage, protecting=_added(usage.protecting, symbol, qty))
    unsettled = usage.unsettled.get(symbol, frozenset()) | {proposal.side}
    selling = _added(usage.selling, symbol, qty)
    return replace(usage, unsettled={**usage.unsettled, symbol: unsettled}, selling=selling)


def _added(sums: Mapping[str, Decimal], symbol: str, amount: Decimal) -> dict[str, Decimal]:
    return {**sums, symbol: sums.get(symbol, Decimal(0)) + amount}


def worst_price(
    quote: Quote, order_type: OrderType, limit_usd: Decimal | None, side: Side, stop_usd: Decimal | None = None
) -> Decimal:
    """What the caps reckon with: a limit order costs at most its limit, any other at most the collar over the ask.

    A stop buys only once the price has come to it, so the collar lies over the stop then. NaN if a price is no number.
    """
    if limit_usd is not None and order_type in (OrderType.LIMIT, OrderType.STOP_LIMIT):
        return limit_usd
    if side is Side.SELL:
        return quote.price_usd
    prices = [quote.ask_usd, quote.price_usd, *([] if stop_usd is None else [stop_usd])]
    return max(prices) * (1 + limits.PRICE_COLLAR_PCT) if finite(*prices) else NAN
