"""What a refusal says: the words for a human and the numbers that were compared, one scene for each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from qbot.risk import CHECKS, RULES
from qbot.risk_case import whose
from qbot.types import OrderType, Side
from tests.support.scenes import ENTRY, EXIT, PROTECTION, SPOILS, Scene
from tests.support.values import CONFIG, NOW, account, broker_order, quote, signal

D = Decimal
AT = "2026-09-25T14:00:00+00:00"
LATE = NOW - timedelta(seconds=1)
HUMAN_EXIT = EXIT.by_hand()
NO_AMOUNTS = {"equity_usd": "NaN", "last_equity_usd": "NaN", "cash_usd": "NaN", "buying_power_usd": "NaN"}


def spoilt(name: str, scene: Scene = ENTRY) -> Scene:
    return SPOILS[name](scene)


WORDS: list[tuple[Scene, str, str, dict[str, str]]] = [
    (
        spoilt("EMERGENCY_LATCHED"), "EMERGENCY_LATCHED",
        "the emergency stop is latched; trading needs a new start by a human", {"latched": "True"},
    ),
    (
        spoilt("BREAKER_TRIPPED"), "BREAKER_TRIPPED",
        "a circuit breaker stands until a human resumes: drawdown, data_gap", {"tripped": "drawdown, data_gap"},
    ),
    (spoilt("TRADING_OFF"), "TRADING_OFF", "trading is HALTED", {"state": "HALTED"}),
    (spoilt("LIVE_NOT_ALLOWED"), "LIVE_NOT_ALLOWED", "paper_mode is false", {"paper_mode": "True"}),
    (spoilt("SETTINGS_INVALID"), "SETTINGS_INVALID", "not JSON", {"problem": "not JSON"}),
    (
        ENTRY.configured(cooldown_minutes=float("nan"), max_position_pct=D("Infinity")), "SETTINGS_INVALID",
        "not a finite number: cooldown_minutes, max_position_pct",
        {"cooldown_minutes": "nan", "max_position_pct": "Infinity"},
    ),
    (
        ENTRY.configured(stop_loss_pct=D(1), take_profit_pct=D("0.1")), "SETTINGS_INVALID",
        "no order can be protected by 100.00% stop-loss, 10.00% profit",
        {"stop_loss_pct": "1", "take_profit_pct": "0.1"},
    ),
    (
        spoilt("SETTINGS_STALE"), "SETTINGS_STALE",
        "the settings were read 3600 s ago", {"age_s": "3600", "max_age_s": "300"},
    ),
    (
        ENTRY.amid(settings_at_wall=None), "SETTINGS_STALE",
        "when the settings were read is unknown", {"read": "None", "wall": str(NOW)},
    ),
    (
        spoilt("NOT_RECONCILED"), "NOT_RECONCILED",
        "ledger and broker have not been compared lately", {"reconciled": "False"},
    ),
    (spoilt("ACCOUNT_UNKNOWN"), "ACCOUNT_UNKNOWN", "the account could not be read", NO_AMOUNTS),
    (
        ENTRY.amid(account=account(last_equity_usd="0")), "ACCOUNT_UNKNOWN", "the account could not be read",
        {"equity_usd": "100000", "last_equity_usd": "0", "cash_usd": "100000", "buying_power_usd": "100000"},
    ),
    (
        spoilt("ACCOUNT_BLOCKED"), "ACCOUNT_BLOCKED",
        "the broker does not let the account trade: trading_blocked, status X",
        {"blocked": "trading_blocked, status X"},
    ),
    (spoilt("RISK_UNKNOWN"), "RISK_UNKNOWN", "what the risk engine says is unknown", {"report": "None"}),
    (ENTRY.reported(factor=D("1.01")), "RISK_UNKNOWN", "the risk engine's factor is none", {"factor": "1.01"}),
    (
        ENTRY.reported(at=NOW - timedelta(seconds=901)), "RISK_STALE",
        "the risk engine's report is 901 s old", {"age_s": "901", "max_age_s": "900"},
    ),
    (spoilt("MARKET_CLOSED"), "MARKET_CLOSED", "the exchange is closed", {"market_open": "False", "now": AT}),
    (
        ENTRY.amid(market_open=None), "MARKET_CLOSED",
        "whether the exchange is open is unknown", {"market_open": "None", "now": AT},
    ),
    (
        spoilt("OUTSIDE_TRADING_HOURS"), "OUTSIDE_TRADING_HOURS", "outside the session's trading hours",
        {"open": "10:01:00", "close": "16:00:00", "timezone": "America/New_York", "now": AT},
    ),
    (
        spoilt("QUANTITY_INVALID"), "QUANTITY_INVALID",
        "only a positive number of whole shares can be traded", {"qty": "0.5"},
    ),
    (
        spoilt("DIRECTION_INVALID"), "DIRECTION_INVALID", "long only: entries buy and exits sell",
        {"side": "sell", "kind": "entry", "source": "ml_prediction"},
    ),
    (
        spoilt("DUPLICATE_INTENT"), "DUPLICATE_INTENT",
        "this run has a buy order of AAPL already", {"symbol": "AAPL", "side": "buy"},
    ),
    (
        ENTRY.proposing(order_type=OrderType.STOP_LIMIT), "ORDER_PRICE_INVALID",
        "a stop_limit order needs as prices: limit_price_usd, stop_price_usd",
        {"limit_price_usd": "None", "stop_price_usd": "None"},
    ),
    (
        HUMAN_EXIT.proposing(order_type=OrderType.LIMIT, limit_price_usd=D(-1)), "ORDER_PRICE_INVALID",
        "a limit order needs as prices: limit_price_usd", {"limit_price_usd": "-1"},
    ),
    (
        ENTRY.proposing(stop_price_usd=D(0), take_profit_usd=D("NaN"), stop_loss_usd=D(0)), "ORDER_PRICE_INVALID",
        "a market order needs as prices: none",
        {"stop_price_usd": "0", "take_profit_usd": "NaN", "stop_loss_usd": "0"},
    ),
    (
        ENTRY.amid(quotes={}), "QUOTE_MISSING", "no price of AAPL is known", {"symbol": "AAPL", "price_usd": "None"},
    ),
    (
        ENTRY.amid(quotes={"AAPL": quote(price="-1")}), "QUOTE_MISSING",
        "no price of AAPL is known", {"symbol": "AAPL", "price_usd": "-1"},
    ),
    (spoilt("QUOTE_STALE"), "QUOTE_STALE", "the last price is 3600 s old", {"age_s": "3600", "max_age_s": "900"}),
    (
        ENTRY.amid(quotes={"AAPL": quote(age_s=-61)}), "QUOTE_STALE",
        "the last price is from 61 s ahead of this cycle", {"age_s": "-61", "max_age_s": "900"},
    ),
    (spoilt("PRICE_INVALID"), "PRICE_INVALID", "what the order may cost is unknown", {"price_usd": "0"}),
    (spoilt("SIGNAL_MISSING"), "SIGNAL_MISSING", "an automatic order needs a signal", {"signal": "None"}),
    (
        ENTRY.proposing(signal=signal(expires_at=LATE)), "FORECAST_EXPIRED",
        "the forecast behind the signal has expired", {"expired": "2026-09-25T13:59:59+00:00", "now": AT},
    ),
    (
        spoilt("PRICE_COLLAR"), "PRICE_COLLAR", "the limit is too far on the costly side of the last price",
        {"limit_usd": "103", "last_usd": "100", "collar_pct": "0.02"},
    ),
    (
        spoilt("NO_ROOM_FOR_STOP"), "NO_ROOM_FOR_STOP",
        "the share costs too little for its stop-loss or take-profit",
        {"distance_usd": "0.00900", "least_usd": "0.01"},
    ),
    (
        spoilt("FAT_FINGER", HUMAN_EXIT), "FAT_FINGER",
        "its price is under 50% of the last one; a digit may be missing",
        {"limit_price_usd": "49.99", "last_usd": "100"},
    ),
    (
        HUMAN_EXIT.proposing(order_type=OrderType.STOP, stop_price_usd=D(10)), "FAT_FINGER",
        "its price is under 50% of the last one; a digit may be missing", {"stop_price_usd": "10", "last_usd": "100"},
    ),
    (spoilt("EXCLUDED"), "EXCLUDED", "AAPL is on the exclusion list", {"symbol": "AAPL"}),
    (
        spoilt("DAY_LOSS"), "DAY_LOSS",
        "the day's loss of 16.67% reached its limit", {"loss_pct": "0.166667", "limit_pct": "0.05"},
    ),
    (
        spoilt("ROLLING_LOSS"), "ROLLING_LOSS",
        "the loss of the last days of 10.00% reached its limit", {"loss_pct": "0.100000", "limit_pct": "0.10"},
    ),
    (
        spoilt("DRAWDOWN"), "DRAWDOWN",
        "the fall from the peak of 15.00% reached its limit", {"loss_pct": "0.150000", "limit_pct": "0.15"},
    ),
    (
        ENTRY.used(last_entry_at={"AAPL": LATE}), "COOLDOWN", "AAPL was bought lately",
        {"last": "2026-09-25T13:59:59+00:00", "now": AT, "cooldown_minutes": "30.0"},
    ),
    (
        spoilt("TOO_MANY_ORDERS"), "TOO_MANY_ORDERS",
        "too many orders within a minute", {"used": "161", "limit": "160"},
    ),
    (
        spoilt("MAX_TRADES_PER_RUN"), "MAX_TRADES_PER_RUN",
        "this cycle has traded enough", {"used": "4", "limit": "3"},
    ),
    (
        spoilt("MAX_DAILY_TRADES"), "MAX_DAILY_TRADES",
        "the day's number of trades is reached", {"used": "51", "limit": "50"},
    ),
    (
        spoilt("MAX_POSITION_PER_TICKER"), "MAX_POSITION_PER_TICKER",
        "enough orders of AAPL today", {"used": "6", "limit": "5"},
    ),
    (
        spoilt("MAX_SHARES_PER_ORDER"), "MAX_SHARES_PER_ORDER",
        "too many shares for one order", {"used": "10", "limit": "9"},
    ),
    (spoilt("MAX_ORDER_NOTIONAL"), "MAX_ORDER_NOTIONAL", "too large an order", {"used": "300000", "limit": "250000"}),
    (
        spoilt("ORDER_ON_ITS_WAY"), "ORDER_ON_ITS_WAY",
        "a buy order of AAPL is still on its way", {"symbol": "AAPL", "side": "buy"},
    ),
    (
        ENTRY.used(unsettled={"AAPL": frozenset({Side.SELL})}), "OPPOSITE_ORDER_OPEN",
        "a sale of AAPL is on its way", {"symbol": "AAPL"},
    ),
    (
        spoilt("OPPOSITE_ORDER_OPEN"), "OPPOSITE_ORDER_OPEN",
        "an open order on the other side would be a wash trade", {"order": "b-AAPL-sell"},
    ),
    (
        ENTRY.by_hand().amid(open_orders=[broker_order(parent_id="b-1")]), "OPPOSITE_ORDER_OPEN",
        "its stop-loss rests at the broker, which takes no simple purchase beside it: a wash trade",
        {"order": "b-AAPL-sell"},
    ),
    (
        spoilt("TARGET_DIVERSIFICATION"), "TARGET_DIVERSIFICATION",
        "as many positions as wanted are held", {"used": "1", "limit": "0"},
    ),
    (
        spoilt("MAX_POSITION_PCT"), "MAX_POSITION_PCT",
        "the position would be too large a part of the portfolio", {"used": "1000", "limit": "990.0000"},
    ),
    (
        spoilt("DAILY_NOTIONAL_CAP"), "DAILY_NOTIONAL_CAP",
        "the day's volume is used up", {"used": "1000", "limit": "999"},
    ),
    (spoilt("TRADING_CAPITAL"), "TRADING_CAPITAL", "the trading capital is used up", {"used": "1000", "limit": "999"}),
    (
        spoilt("CASH_RESERVE"), "CASH_RESERVE",
        "the cash reserve must stay untouched", {"used": "1000", "limit": "999"},
    ),
    (
        EXIT.proposing(qty=D(11)).used(selling={"AAPL": D(3)}), "NOT_HELD",
        "more shares than are held, and not being sold already, cannot be sold",
        {"qty": "11", "held": "10", "being_sold": "3"},
    ),
    (
        spoilt("LEVELS_INVALID", PROTECTION), "LEVELS_INVALID", "a protection needs a stop-loss under a take-profit",
        {"stop_loss_usd": "110", "take_profit_usd": "110"},
    ),
    (
        PROTECTION.used(protecting={"AAPL": D(1)}, selling={"AAPL": D(2)}).amid(open_orders=[broker_order()]),
        "NOT_FREE", "shares that other sales hold cannot be protected",
        {"qty": "10", "held": "10", "resting": "10", "being_sold": "3"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("scene", "name", "message", "numbers"), WORDS, ids=[f"{w[1]}-{i}" for i, w in enumerate(WORDS)]
)
def test_a_refusal_says_why_and_shows_the_numbers(
    scene: Scene, name: str, message: str, numbers: dict[str, Any]
) -> None:
    told = [answer for check in CHECKS[whose(scene.proposal)] if (answer := check(scene.case())) is not None]
    assert next(answer for answer in told if answer.name == name) == (name, message, numbers)


def test_every_refusal_has_its_words_here() -> None:
    assert {name for _, name, _, _ in WORDS} == {name for rule in RULES for name in rule.refusals}


def test_the_gate_tells_the_refusal_of_the_check_as_it_is() -> None:
    scene, name, message, numbers = WORDS[0]
    found = scene.verdict()
    assert (found.allowed, found.refusal, found.message, found.numbers) == (False, name, message, numbers)
    assert replace(ENTRY, config=CONFIG).verdict().message == "all checks passed"
