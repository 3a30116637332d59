"""The checks of what has been lost, done and spent so far, against the limits. Pure."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from qbot import limits
from qbot.risk_case import (
    NAN,
    Case,
    Refusal,
    Whose,
    account_of,
    exposure_usd,
    finite,
    over,
    position_value_usd,
    total,
    whose,
)


def day_loss(case: Case) -> Refusal | None:
    """the loss since the last day's equity against MAX_DAY_LOSS_PCT"""
    account, most = account_of(case), case.market.max_day_loss_pct
    known = finite(account.last_equity_usd, account.equity_usd) and account.last_equity_usd > 0
    loss = (account.last_equity_usd - account.equity_usd) / account.last_equity_usd if known else NAN
    return _reached("DAY_LOSS", "the day's loss", loss, most)


def rolling_loss(case: Case) -> Refusal | None:
    """the risk report's loss within ROLLING_LOSS_DAYS against MAX_ROLLING_LOSS_PCT"""
    report = case.market.risk_report
    loss = report.rolling_loss_pct if report else NAN
    return _reached("ROLLING_LOSS", "the loss of the last days", loss, limits.MAX_ROLLING_LOSS_PCT)


def drawdown(case: Case) -> Refusal | None:
    """the risk report's fall from the peak against MAX_DRAWDOWN_PCT"""
    report = case.market.risk_report
    loss = report.drawdown_pct if report else NAN
    return _reached("DRAWDOWN", "the fall from the peak", loss, limits.MAX_DRAWDOWN_PCT)


def _reached(name: str, what: str, loss: Decimal, most: Decimal) -> Refusal | None:
    """The one shape of a loss limit: reached is refused. What is no number has reached every limit."""
    if finite(loss, most) and loss < most:
        return None
    numbers = {"loss_pct": f"{loss:.6f}", "limit_pct": str(most)}
    return Refusal(name, f"{what} of {loss:.2%} reached its limit", numbers)


def cooldown(case: Case) -> Refusal | None:
    """the time since the symbol's last entry against cooldown_minutes"""
    symbol, now, minutes = case.proposal.symbol, case.market.now, case.config.cooldown_minutes
    last = case.usage.last_entry_at.get(symbol)
    if last is None or now >= last + timedelta(minutes=minutes):
        return None
    numbers = {"last": last.isoformat(), "now": now.isoformat(), "cooldown_minutes": str(minutes)}
    return Refusal("COOLDOWN", f"{symbol} was bought lately", numbers)


def throttle(case: Case) -> Refusal | None:
    """the intents of the last minute of wall time, of all workers, against ORDERS_PER_MINUTE_MAX"""
    used, most = case.usage.orders_last_minute + 1, limits.ORDERS_PER_MINUTE_MAX
    return over("TOO_MANY_ORDERS", "too many orders within a minute", used, most)


def trades_per_run(case: Case) -> Refusal | None:
    """the orders of this cycle against max_trades_per_run"""
    used, most = case.trades_this_run + 1, case.config.max_trades_per_run
    return over("MAX_TRADES_PER_RUN", "this cycle has traded enough", used, most)


def daily_trades(case: Case) -> Refusal | None:
    """the day's orders against max_daily_trades"""
    used, most = case.usage.orders_today + 1, case.config.max_daily_trades
    return over("MAX_DAILY_TRADES", "the day's number of trades is reached", used, most)


def per_ticker(case: Case) -> Refusal | None:
    """the day's entries of the symbol against max_position_per_ticker"""
    symbol, most = case.proposal.symbol, case.config.max_position_per_ticker
    used = case.usage.entries_today.get(symbol, 0) + 1
    return over("MAX_POSITION_PER_TICKER", f"enough orders of {symbol} today", used, most)


def shares(case: Case) -> Refusal | None:
    """the number of shares against max_position_size; a cycle's against max_position_per_trade too"""
    most = case.config.max_position_size
    if whose(case.proposal) is Whose.CYCLE_ENTRY:
        most = min(most, case.config.max_position_per_trade)
    return over("MAX_SHARES_PER_ORDER", "too many shares for one order", case.proposal.qty, most)


def diversification(case: Case) -> Refusal | None:
    """the symbols held or coming against target_diversification; more of what is held needs no place"""
    symbol, held = case.proposal.symbol, case.market.positions.keys()
    if symbol in held:
        return None
    used, most = len({*held, *case.usage.reserved_by_symbol, symbol}), case.config.target_diversification
    return over("TARGET_DIVERSIFICATION", "as many positions as wanted are held", used, most)


def position_share(case: Case) -> Refusal | None:
    """the value of the position, with what is on its way, against max_position_pct of the equity"""
    used = total(position_value_usd(case), case.proposal.notional_usd)
    equity, most_pct = account_of(case).equity_usd, case.config.max_position_pct
    most = equity * most_pct if finite(equity, most_pct) else NAN
    return over("MAX_POSITION_PCT", "the position would be too large a part of the portfolio", used, most)


def daily_notional(case: Case) -> Refusal | None:
    """the day's volume, purchases and sales, against daily_notional_cap"""
    used = total(case.usage.notional_today_usd, case.proposal.notional_usd)
    return over("DAILY_NOTIONAL_CAP", "the day's volume is used up", used, case.config.daily_notional_cap_usd)


def capital(case: Case) -> Refusal | None:
    """the value of all positions, with what is on its way, against trading_capital"""
    used = total(exposure_usd(case), case.proposal.notional_usd)
    return over("TRADING_CAPITAL", "the trading capital is used up", used, case.config.trading_capital_usd)


def cash(case: Case) -> Refusal | None:
    """what is on its way against the cash, or the buying power if less, above cash_reserve"""
    account = account_of(case)
    used = total(case.usage.reserved_usd, case.proposal.notional_usd)
    owned, power = account.cash_usd, total(account.buying_power_usd, case.known_reserved_usd)
    least = min(owned, power) if finite(owned, power) else NAN
    most = total(least, case.config.cash_reserve_usd.copy_negate())
    return over("CASH_RESERVE", "the cash reserve must stay untouched", used, most)
