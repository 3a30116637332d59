"""The risk gate: one fixed order of checks, each with a named refusal and the numbers it compared. Pure.

Whatever is unknown is denied. Exits pass where entries do not: they skip the checks that only limit new risk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from qbot import limits, protection
from qbot.types import (
    Account,
    BrokerOrder,
    IntentKind,
    OrderType,
    Position,
    Proposal,
    Quote,
    RiskReport,
    Side,
    Source,
    TradingConfig,
    TradingHours,
    TradingState,
    Usage,
    Verdict,
)

Numbers = dict[str, str]
Refusal = tuple[str, str, Numbers]


@dataclass(frozen=True, slots=True)
class Market:
    """Everything outside the settings that the gate looks at. None means unknown, and unknown is denied."""

    now: datetime
    state: TradingState
    latched: bool
    market_open: bool | None
    reconciled: bool
    settings_problem: str | None
    paper_problem: str | None
    account: Account | None
    quotes: Mapping[str, Quote]
    positions: Mapping[str, Position]
    open_orders: Sequence[BrokerOrder]
    max_day_loss_pct: Decimal = limits.MAX_DAY_LOSS_PCT
    risk_report: RiskReport | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One proposal with all that is judged about it.

    `known_reserved_usd` was reserved before this run: the broker's buying power has it deducted already.
    """

    proposal: Proposal
    config: TradingConfig
    market: Market
    usage: Usage
    trades_this_run: int
    known_reserved_usd: Decimal = Decimal(0)

    @property
    def automatic(self) -> bool:
        return self.proposal.source not in (Source.MANUAL, Source.EMERGENCY)

    @property
    def a_humans_exit(self) -> bool:
        return self.proposal.kind is IntentKind.EXIT and not self.automatic

    @property
    def position_qty(self) -> Decimal:
        held = self.market.positions.get(self.proposal.symbol)
        return held.qty if held else Decimal(0)

    @property
    def position_value_usd(self) -> Decimal:
        held = self.market.positions.get(self.proposal.symbol)
        value = held.market_value_usd.copy_abs() if held else Decimal(0)
        return _total(value, self.usage.reserved_by_symbol.get(self.proposal.symbol, Decimal(0)))

    @property
    def exposure_usd(self) -> Decimal:
        """Market value of all positions, short ones counted like long ones, and of all entries still on their way."""
        return _total(*(p.market_value_usd.copy_abs() for p in self.market.positions.values()), self.usage.reserved_usd)


Check = Callable[[Case], Refusal | None]


def within_trading_hours(hours: TradingHours, now: datetime) -> bool:
    """True when `now` lies in the session's own hours, the close excluded."""
    local = now.astimezone(ZoneInfo(hours.timezone)).time()
    return hours.market_open <= local < hours.market_close


def _latch(case: Case) -> Refusal | None:
    if case.market.latched is False or case.a_humans_exit:
        return None
    return "EMERGENCY_LATCHED", "the emergency stop is latched; trading needs a new start by a human", {}


def _state(case: Case) -> Refusal | None:
    state = case.market.state
    if state is TradingState.ACTIVE or case.a_humans_exit:
        return None
    if state is TradingState.REDUCING and case.proposal.kind is IntentKind.EXIT:
        return None
    if state is TradingState.HALTED and not case.automatic:  # off: a human may still enter by hand
        return None
    return "TRADING_OFF", f"trading is {state}", {"state": str(state)}


def _paper(case: Case) -> Refusal | None:
    problem = case.market.paper_problem
    return None if problem is None else ("LIVE_NOT_ALLOWED", problem, {})


def _settings(case: Case) -> Refusal | None:
    problem = case.market.settings_problem
    if problem is None:
        problem = _unusable(case.config)
    return None if problem is None else ("SETTINGS_INVALID", problem, {})


def _unusable(config: TradingConfig) -> str | None:
    """What no order can be judged or protected with: a number that is none, a stop-loss at the price or at zero."""
    values = ((field.name, getattr(config, field.name)) for field in fields(config))
    broken = [name for name, value in values if isinstance(value, float | Decimal) and not _finite(value)]
    if broken:
        return f"not a finite number: {', '.join(broken)}"
    if not 0 < config.stop_loss_pct < 1 or config.take_profit_pct <= 0:
        return f"no order can be protected by {config.stop_loss_pct:.2%} stop-loss, {config.take_profit_pct:.2%} profit"
    return None


def _finite(*values: float | Decimal) -> bool:
    return all(v.is_finite() if isinstance(v, Decimal) else math.isfinite(v) for v in values)


def _total(*amounts: Decimal) -> Decimal:
    """The sum; NaN if one of them is no number."""
    return sum(amounts, Decimal(0)) if _finite(*amounts) else Decimal("NaN")


def _reconciled(case: Case) -> Refusal | None:
    if case.market.reconciled is True:
        return None
    return "NOT_RECONCILED", "ledger and broker have not been compared lately", {}


def _market_open(case: Case) -> Refusal | None:
    if case.market.market_open is True or case.a_humans_exit:  # the venue keeps it for the open
        return None
    known = case.market.market_open is not None
    return "MARKET_CLOSED", "the exchange is closed" if known else "whether the exchange is open is unknown", {}


def _trading_hours(case: Case) -> Refusal | None:
    hours = case.config.trading_hours
    if not case.automatic or not case.config.market_hours_check or within_trading_hours(hours, case.market.now):
        return None
    numbers = {"open": str(hours.market_open), "close": str(hours.market_close), "timezone": hours.timezone}
    return "OUTSIDE_TRADING_HOURS", "outside the session's trading hours", numbers


def _quantity(case: Case) -> Refusal | None:
    qty = case.proposal.qty
    if qty.is_finite() and qty > 0 and qty == qty.to_integral_value():
        return None
    return "QUANTITY_INVALID", "only a positive number of whole shares can be traded", {"qty": str(qty)}


def _direction(case: Case) -> Refusal | None:
    proposal = case.proposal
    if (proposal.kind is IntentKind.ENTRY) == (proposal.side is Side.BUY):
        return None
    return "DIRECTION_INVALID", "long only: entries buy and exits sell", {"side": str(proposal.side)}


def _held(case: Case) -> Refusal | None:
    selling = case.usage.selling.get(case.proposal.symbol, Decimal(0))
    if case.proposal.source is Source.EMERGENCY:  # it looks at the broker before and after each sale
        selling = Decimal(0)
    if _finite(case.position_qty, selling) and case.proposal.qty <= case.position_qty - selling:
        return None
    numbers = {"qty": str(case.proposal.qty), "held": str(case.position_qty), "being_sold": str(selling)}
    return "NOT_HELD", "more shares than are held, and not being sold already, cannot be sold", numbers


def _free(case: Case) -> Refusal | None:
    """A protection covers shares that no other sale holds or is about to."""
    symbol = case.proposal.symbol
    resting = protection.resting(case.market.open_orders).get(symbol, Decimal(0))
    coming = [of.get(symbol, Decimal(0)) for of in (case.usage.selling, case.usage.protecting)]
    if _finite(case.position_qty, *coming) and case.proposal.qty <= case.position_qty - resting - sum(coming):
        return None
    return "NOT_FREE", "shares that other sales hold cannot be protected", {
        "qty": str(case.proposal.qty), "held": str(case.position_qty), "resting": str(resting)
    }  # fmt: skip


def _levels(case: Case) -> Refusal | None:
    """A stop-loss under a take-profit, or a sale at the market in their place."""
    stop, profit = case.proposal.stop_loss_usd, case.proposal.take_profit_usd
    if case.proposal.order_type is OrderType.MARKET and stop is None and profit is None:
        return None
    if stop is not None and profit is not None and _finite(stop, profit) and 0 < stop < profit:
        return None
    return "LEVELS_INVALID", "a protection needs a stop-loss under a take-profit", {
        "stop_loss_usd": str(stop), "take_profit_usd": str(profit)
    }  # fmt: skip


def _duplicate(case: Case) -> Refusal | None:
    if case.proposal.side not in case.usage.unsettled.get(case.proposal.symbol, frozenset()):
        return None
    if not case.automatic:
        return None
    return "ORDER_ON_ITS_WAY", f"a {case.proposal.side} order of {case.proposal.symbol} is still on its way", {}


def _opposite(case: Case) -> Refusal | None:
    proposal = case.proposal
    if Side.SELL in case.usage.unsettled.get(proposal.symbol, frozenset()):
        return "OPPOSITE_ORDER_OPEN", f"a sale of {proposal.symbol} is on its way", {}
    for order in case.market.open_orders:
        if order.symbol == proposal.symbol and order.side is not proposal.side and not order.protective:
            return "OPPOSITE_ORDER_OPEN", "an open order on the other side would be a wash trade", {
                "order": order.broker_order_id
            }  # fmt: skip
    return None


def _quote(case: Case) -> Refusal | None:
    quote = case.market.quotes.get(case.proposal.symbol)
    if quote is None or not _finite(quote.price_usd) or quote.price_usd <= 0:
        return "QUOTE_MISSING", f"no price of {case.proposal.symbol} is known", {}
    age_s = (case.market.now - quote.at).total_seconds()
    if -limits.CLOCK_SKEW_S <= age_s <= limits.QUOTE_MAX_AGE_S:
        return None
    return "QUOTE_STALE", f"the last price is {age_s:.0f} s old", {
        "age_s": f"{age_s:.0f}", "max_age_s": str(limits.QUOTE_MAX_AGE_S)
    }  # fmt: skip


def _price(case: Case) -> Refusal | None:
    price = case.proposal.price_usd
    if _finite(price) and price > 0:
        return None
    return "PRICE_INVALID", "what the order may cost is unknown", {"price_usd": str(price)}


def _forecast(case: Case) -> Refusal | None:
    signal = case.proposal.signal
    if not case.automatic:
        return None
    if signal is None:
        return "SIGNAL_MISSING", "an automatic order needs a signal", {}
    if case.market.now < signal.expires_at:
        return None
    return "FORECAST_EXPIRED", "the forecast behind the signal has expired", {"expired": signal.expires_at.isoformat()}


def _collar(case: Case) -> Refusal | None:
    proposal, quote = case.proposal, case.market.quotes[case.proposal.symbol]
    price = proposal.limit_price_usd
    if price is None:
        return None
    if _finite(price) and 0 < price <= quote.price_usd * (1 + limits.PRICE_COLLAR_PCT):
        return None
    return "PRICE_COLLAR", "the limit is too far on the costly side of the last price", {
        "limit_usd": str(price), "last_usd": str(quote.price_usd), "collar_pct": str(limits.PRICE_COLLAR_PCT)
    }  # fmt: skip


def _excluded(case: Case) -> Refusal | None:
    if case.proposal.symbol not in case.config.excluded_tickers:
        return None
    return "EXCLUDED", f"{case.proposal.symbol} is on the exclusion list", {}


def _day_loss(case: Case) -> Refusal | None:
    account, most = case.market.account, case.market.max_day_loss_pct
    if account is None or not _finite(*_amounts(account)) or account.last_equity_usd <= 0:
        return "ACCOUNT_UNKNOWN", "the account could not be read", {}
    loss = (account.last_equity_usd - account.equity_usd) / account.last_equity_usd
    if _finite(most) and loss < most:
        return None
    return "DAY_LOSS", f"the day's loss of {loss:.2%} reached its limit", {
        "loss_pct": f"{loss:.6f}", "max_day_loss_pct": str(most)
    }  # fmt: skip


def _amounts(account: Account) -> tuple[Decimal, ...]:
    return account.equity_usd, account.last_equity_usd, account.cash_usd, account.buying_power_usd


def _cooldown(case: Case) -> Refusal | None:
    last = case.usage.last_entry_at.get(case.proposal.symbol)
    if last is None:
        return None
    until = last + timedelta(minutes=case.config.cooldown_minutes)
    if case.market.now >= until:
        return None
    return "COOLDOWN", f"{case.proposal.symbol} was bought lately", {
        "until": until.isoformat(), "cooldown_minutes": str(case.config.cooldown_minutes)
    }  # fmt: skip


def _over(name: str, message: str, used: Decimal | int, most: Decimal | int) -> Refusal | None:
    """The one shape of a cap: `used` counts the proposal in. What is no number is over every cap."""
    if _finite(Decimal(used), Decimal(most)) and used <= most:
        return None
    return name, message, {"used": str(used), "limit": str(most)}


def _trades_per_run(case: Case) -> Refusal | None:
    if not case.automatic:
        return None
    used, most = case.trades_this_run + 1, case.config.max_trades_per_run
    return _over("MAX_TRADES_PER_RUN", "this cycle has traded enough", used, most)


def _daily_trades(case: Case) -> Refusal | None:
    used, most = case.usage.orders_today + 1, case.config.max_daily_trades
    return _over("MAX_DAILY_TRADES", "the day's number of trades is reached", used, most)


def _per_ticker(case: Case) -> Refusal | None:
    used = case.usage.entries_today.get(case.proposal.symbol, 0) + 1
    most = case.config.max_position_per_ticker
    return _over("MAX_POSITION_PER_TICKER", f"enough orders of {case.proposal.symbol} today", used, most)


def _shares(case: Case) -> Refusal | None:
    most = Decimal(case.config.max_position_size)
    if case.automatic:
        most = min(most, Decimal(case.config.max_position_per_trade))
    return _over("MAX_SHARES_PER_ORDER", "too many shares for one order", case.proposal.qty, most)


def _order_size(case: Case) -> Refusal | None:
    most = limits.MAX_ORDER_NOTIONAL_USD
    return _over("MAX_ORDER_NOTIONAL", "too large an order", case.proposal.notional_usd, most)


def _diversification(case: Case) -> Refusal | None:
    coming = set(case.usage.reserved_by_symbol)
    used = len(set(case.market.positions) | coming | {case.proposal.symbol})
    if case.proposal.symbol in case.market.positions or not case.automatic:
        return None
    most = case.config.target_diversification
    return _over("TARGET_DIVERSIFICATION", "as many positions as wanted are held", used, most)


def _position_share(case: Case) -> Refusal | None:
    equity = case.market.account.equity_usd if case.market.account else Decimal(0)
    used = case.position_value_usd + case.proposal.notional_usd
    most = equity * case.config.max_position_pct
    return _over("MAX_POSITION_PCT", "the position would be too large a part of the portfolio", used, most)


def _daily_notional(case: Case) -> Refusal | None:
    used = _total(case.usage.notional_today_usd, case.proposal.notional_usd)
    return _over("DAILY_NOTIONAL_CAP", "the day's volume is used up", used, case.config.daily_notional_cap_usd)


def _capital(case: Case) -> Refusal | None:
    used = case.exposure_usd + case.proposal.notional_usd
    return _over("TRADING_CAPITAL", "the trading capital is used up", used, case.config.trading_capital_usd)


def _cash(case: Case) -> Refusal | None:
    account = case.market.account
    if account is None:
        return "ACCOUNT_UNKNOWN", "the account could not be read", {}
    used = _total(case.usage.reserved_usd, case.proposal.notional_usd)
    most = min(account.cash_usd, account.buying_power_usd + case.known_reserved_usd) - case.config.cash_reserve_usd
    return _over("CASH_RESERVE", "the cash reserve must stay untouched", used, most)


ENTRY_CHECKS: tuple[Check, ...] = (
    _latch, _state, _paper, _settings, _reconciled, _market_open, _trading_hours, _quantity, _direction, _quote,
    _price, _forecast, _collar, _excluded, _day_loss, _cooldown, _trades_per_run, _daily_trades, _per_ticker, _shares,
    _order_size, _duplicate, _opposite, _diversification, _position_share, _daily_notional, _capital, _cash,
)  # fmt: skip
EXIT_CHECKS: tuple[Check, ...] = (_latch, _state, _market_open, _quantity, _direction, _duplicate, _held)

# In every state: it only lowers the risk, as the stop-loss would that the venue was sent with the entry.
PROTECTION_CHECKS: tuple[Check, ...] = (_quantity, _direction, _levels, _free)
CHECKS = {
    IntentKind.ENTRY: ENTRY_CHECKS,
    IntentKind.EXIT: EXIT_CHECKS,
    IntentKind.PROTECTION: PROTECTION_CHECKS,
}


def evaluate(case: Case) -> Verdict:
    """Judge one proposal by the first check that refuses it."""
    checks = CHECKS[case.proposal.kind]
    for check in checks:
        refusal = check(case)
        if refusal is not None:
            return Verdict(False, refusal[0], refusal[1], refusal[2])
    notional = {"notional_usd": str(case.proposal.notional_usd), "checks": str(len(checks))}
    return Verdict(True, None, "all checks passed", notional)


def gate(
    proposals: Sequence[Proposal], config: TradingConfig, market: Market, usage: Usage
) -> list[tuple[Proposal, Verdict]]:
    """Judge proposals in order, each one counting what those before it were allowed, exits too."""
    judged: list[tuple[Proposal, Verdict]] = []
    trades, known_usd = 0, usage.reserved_usd
    for proposal in proposals:
        verdict = evaluate(Case(proposal, config, market, usage, trades, known_usd))
        judged.append((proposal, verdict))
        if verdict.allowed:
            usage = reserve(usage, proposal, market.now)
            trades += 1
    return judged


def reserve(usage: Usage, proposal: Proposal, now: datetime) -> Usage:
    """The usage after `proposal` was allowed: the same sums the ledger will give once its intent is committed."""
    symbol, notional = proposal.symbol, proposal.notional_usd
    if proposal.kind is IntentKind.PROTECTION:
        return _reserve_protection(usage, proposal)
    unsettled = usage.unsettled.get(symbol, frozenset()) | {proposal.side}
    usage = replace(
        usage,
        orders_today=usage.orders_today + 1,
        notional_today_usd=usage.notional_today_usd + notional,
        unsettled={**usage.unsettled, symbol: unsettled},
    )
    if proposal.kind is IntentKind.EXIT:
        selling = usage.selling.get(symbol, Decimal(0)) + proposal.qty
        return replace(usage, selling={**usage.selling, symbol: selling})
    return replace(
        usage,
        entries_today={**usage.entries_today, symbol: usage.entries_today.get(symbol, 0) + 1},
        last_entry_at={**usage.last_entry_at, symbol: now},
        reserved_usd=usage.reserved_usd + notional,
        reserved_by_symbol={
            **usage.reserved_by_symbol,
            symbol: usage.reserved_by_symbol.get(symbol, Decimal(0)) + notional,
        },
    )


def _reserve_protection(usage: Usage, proposal: Proposal) -> Usage:
    """No cap is used up. What is sold at once is a sale like others; what rests can be cancelled for one."""
    symbol, qty = proposal.symbol, proposal.qty
    if proposal.order_type is not OrderType.MARKET:
        return replace(usage, protecting={**usage.protecting, symbol: usage.protecting.get(symbol, Decimal(0)) + qty})
    unsettled = usage.unsettled.get(symbol, frozenset()) | {Side.SELL}
    return replace(
        usage,
        unsettled={**usage.unsettled, symbol: unsettled},
        selling={**usage.selling, symbol: usage.selling.get(symbol, Decimal(0)) + qty},
    )


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
    return max(prices) * (1 + limits.PRICE_COLLAR_PCT) if _finite(*prices) else Decimal("NaN")
