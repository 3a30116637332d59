"""The checks of whether anything may be traded now, whatever the order. Pure."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from qbot import limits
from qbot.risk_case import Case, Refusal, Whose, account_of, finite, whose
from qbot.types import Account, TradingConfig, TradingHours, TradingState

SETTINGS, NUMBERS = tuple(field.name for field in fields(TradingConfig)), (float, Decimal)


def within_trading_hours(hours: TradingHours, now: datetime) -> bool:
    """True when `now` lies in the session's own hours, the close excluded."""
    local = now.astimezone(ZoneInfo(hours.timezone)).time()
    return hours.market_open <= local < hours.market_close


def latch(case: Case) -> Refusal | None:
    """whether the emergency stop is latched"""
    if case.market.latched is False:
        return None
    message = "the emergency stop is latched; trading needs a new start by a human"
    return Refusal("EMERGENCY_LATCHED", message, {"latched": str(case.market.latched)})


def breaker(case: Case) -> Refusal | None:
    """the circuit breakers of the risk report against none"""
    report = case.market.risk_report
    if report is None or not report.tripped:  # without a report the check of it refuses
        return None
    names = ", ".join(report.tripped)
    return Refusal("BREAKER_TRIPPED", f"a circuit breaker stands until a human resumes: {names}", {"tripped": names})


def state(case: Case) -> Refusal | None:
    """the state of trading against what it lets pass"""
    found, asked = case.market.state, whose(case.proposal)
    passes = {
        TradingState.ACTIVE: (Whose.CYCLE_ENTRY, Whose.HUMAN_ENTRY, Whose.CYCLE_EXIT),
        TradingState.REDUCING: (Whose.CYCLE_EXIT,),
        TradingState.OFF: (Whose.HUMAN_ENTRY,),
    }
    if asked in passes.get(found, ()):
        return None
    return Refusal("TRADING_OFF", f"trading is {found}", {"state": str(found)})


def paper(case: Case) -> Refusal | None:
    """whether live trading is asked for that is not done"""
    problem = case.market.paper_problem
    if problem is None:
        return None
    return Refusal("LIVE_NOT_ALLOWED", problem, {"paper_mode": str(case.config.paper_mode)})


def settings(case: Case) -> Refusal | None:
    """every setting against what is a setting; stop-loss and take-profit against what can protect"""
    told = case.market.settings_problem
    if told is not None:
        return Refusal("SETTINGS_INVALID", told, {"problem": told})
    values = [(name, getattr(case.config, name)) for name in SETTINGS]
    broken = {name: str(v) for name, v in values if isinstance(v, NUMBERS) and not finite(v)}
    if broken:
        return Refusal("SETTINGS_INVALID", f"not a finite number: {', '.join(broken)}", broken)
    return _unprotected(case.config)


def _unprotected(config: TradingConfig) -> Refusal | None:
    if 0 < config.stop_loss_pct < 1 and config.take_profit_pct > 0:
        return None
    loss, profit = config.stop_loss_pct, config.take_profit_pct
    message = f"no order can be protected by {loss:.2%} stop-loss, {profit:.2%} profit"
    return Refusal("SETTINGS_INVALID", message, {"stop_loss_pct": str(loss), "take_profit_pct": str(profit)})


def settings_age(case: Case) -> Refusal | None:
    """the age of the settings, in wall time, against SETTINGS_MAX_AGE_S"""
    read, wall = case.market.settings_at_wall, case.market.wall
    if read is None or wall is None:
        numbers = {"read": str(read), "wall": str(wall)}
        return Refusal("SETTINGS_STALE", "when the settings were read is unknown", numbers)
    age_s, most_s = (wall - read).total_seconds(), limits.SETTINGS_MAX_AGE_S
    if -limits.CLOCK_SKEW_S <= age_s <= most_s:
        return None
    numbers = {"age_s": f"{age_s:.0f}", "max_age_s": str(most_s)}
    return Refusal("SETTINGS_STALE", f"the settings were read {age_s:.0f} s ago", numbers)


def reconciled(case: Case) -> Refusal | None:
    """whether ledger and broker agreed when they were compared last"""
    if case.market.reconciled is True:
        return None
    message = "ledger and broker have not been compared lately"
    return Refusal("NOT_RECONCILED", message, {"reconciled": str(case.market.reconciled)})


def account_known(case: Case) -> Refusal | None:
    """the account's amounts against what is a number, the last day's equity against 0"""
    account = account_of(case)
    if finite(*_amounts(account).values()) and account.last_equity_usd > 0:
        return None
    numbers = {name: str(amount) for name, amount in _amounts(account).items()}
    return Refusal("ACCOUNT_UNKNOWN", "the account could not be read", numbers)


def _amounts(account: Account) -> dict[str, Decimal]:
    names = ("equity_usd", "last_equity_usd", "cash_usd", "buying_power_usd")
    return {name: getattr(account, name) for name in names}


def account_blocked(case: Case) -> Refusal | None:
    """what the broker says stands against orders of the account, against nothing"""
    flags = ", ".join(account_of(case).blocked)
    if not flags:
        return None
    return Refusal("ACCOUNT_BLOCKED", f"the broker does not let the account trade: {flags}", {"blocked": flags})


def risk_known(case: Case) -> Refusal | None:
    """whether there is a risk report, its factor within 0 and 1, its age against RISK_REPORT_MAX_AGE_S"""
    report, most_s = case.market.risk_report, limits.RISK_REPORT_MAX_AGE_S
    if report is None:
        return Refusal("RISK_UNKNOWN", "what the risk engine says is unknown", {"report": "None"})
    if not finite(report.factor) or not 0 <= report.factor <= 1:
        return Refusal("RISK_UNKNOWN", "the risk engine's factor is none", {"factor": str(report.factor)})
    age_s = (case.market.now - report.at).total_seconds()
    if -limits.CLOCK_SKEW_S <= age_s <= most_s:
        return None
    numbers = {"age_s": f"{age_s:.0f}", "max_age_s": str(most_s)}
    return Refusal("RISK_STALE", f"the risk engine's report is {age_s:.0f} s old", numbers)


def market_open(case: Case) -> Refusal | None:
    """whether the exchange is open"""
    told = case.market.market_open
    if told is True:
        return None
    message = "whether the exchange is open is unknown" if told is None else "the exchange is closed"
    return Refusal("MARKET_CLOSED", message, {"market_open": str(told), "now": case.market.now.isoformat()})


def trading_hours(case: Case) -> Refusal | None:
    """the time against the session's own hours"""
    hours, now = case.config.trading_hours, case.market.now
    if not case.config.market_hours_check or within_trading_hours(hours, now):
        return None
    numbers = {"open": str(hours.market_open), "close": str(hours.market_close), "timezone": hours.timezone}
    message = "outside the session's trading hours"
    return Refusal("OUTSIDE_TRADING_HOURS", message, {**numbers, "now": now.isoformat()})
