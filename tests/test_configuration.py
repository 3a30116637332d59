"""One configuration out of all settings keys: who is stronger, which limit is the strictest, what bad input changes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.configuration import BY_DEFAULT, DEFAULTS, SOURCES, Effective, Stored, effective, readable
from qbot.contract import examples, keys
from qbot.contract.board import Snapshot
from qbot.contract.key import Key
from qbot.types import SizingMethod, Strategy, TradingConfig, TradingHours

SETTINGS, RISK, SESSION = keys.TRADING_SETTINGS, keys.RISK_SETTINGS, keys.AUTOTRADING_ENABLED
CONFIG, STRATEGY, PORTFOLIO = keys.TRADING_CONFIG, keys.BOT_STRATEGY, keys.PORTFOLIO_SETTINGS
Documents = Mapping[Key[Any], Any]
PER_TRADE = "max_position_per_trade"
ALL_BAD: Documents = dict.fromkeys(SOURCES, "{")
DEFAULT_DOCUMENT: dict[str, Any] = {
    "enabled": False,
    "buy_threshold_pct": 0.05,
    "sell_threshold_pct": 0.05,
    "max_position_per_trade": 1,
    "strategy": "CONSERVATIVE",
    "last_updated": "2026-09-25T14:00:00Z",
    "updated_by": "backend_init",
}


def shown(documents: Documents) -> Snapshot:
    """A board with these documents; a str is written as it stands, an absent key is absent."""
    readings = {}
    for key in SOURCES:
        value = documents.get(key)
        wire = value.encode() if isinstance(value, str) else None if value is None else json.dumps(value).encode()
        readings[key.name] = key.reading(wire)
    return Snapshot(readings)


def found(documents: Documents, last_good: Stored | None = None) -> Effective:
    return effective(shown(documents), last_good or {})


def config(documents: Documents, last_good: Stored | None = None) -> TradingConfig:
    return found(documents, last_good).config


def after(*boards: Documents) -> Effective:
    """The configuration after one board was seen after the other, each with what the one before left in the store."""
    stored: Stored = {}
    for documents in boards:
        last = found(documents, stored)
        stored = json.loads(json.dumps(last.documents.stored()))
    return last


def test_without_any_key_the_documented_defaults_hold() -> None:
    assert found({}).config == TradingConfig()
    assert found({}).problem is None
    assert not any(found({}).documents.stored().values())


def test_the_documented_examples_give_the_documented_configuration() -> None:
    documents = {key: json.loads(examples.wire(key.name)) for key in SOURCES}
    result = found(documents)
    assert result.problem is None
    assert result.config.excluded_tickers == frozenset({"TSLA"})
    assert (result.config.max_position_per_trade, result.config.max_position_size) == (1, 100)
    assert result.config.cash_reserve_usd == Decimal(5_000)
    assert result.config.trading_capital_usd == Decimal("120430.50")
    assert result.config.risk_level == 5


EVERY_FIELD: list[tuple[Key[Any], str, Any, str, Any]] = [
    (SESSION, "buy_threshold_pct", 0.01, "buy_threshold_pct", 0.01),
    (CONFIG, "sell_threshold_pct", 0.01, "sell_threshold_pct", 0.01),
    (SETTINGS, "buy_threshold_pct", 0.01, "buy_threshold_pct", 0.01),
    (STRATEGY, "strategy_type", "AGGRESSIVE", "strategy", Strategy.AGGRESSIVE),
    (SETTINGS, "strategy", "BALANCED", "strategy", Strategy.MODERATE),
    (SESSION, "max_position_per_trade", 7, "max_position_per_trade", 7),
    (SETTINGS, "max_position_per_trade", 7, "max_position_per_trade", 7),
    (CONFIG, "max_position_size", 7, "max_position_size", 7),
    (RISK, "max_position_per_ticker", 0, "max_position_per_ticker", 0),
    (RISK, "max_trades_per_run", 9, "max_trades_per_run", 9),
    (CONFIG, "max_daily_trades", 90, "max_daily_trades", 90),
    (RISK, "daily_notional_cap", 10_000.5, "daily_notional_cap_usd", Decimal("10000.5")),
    (RISK, "cooldown_minutes", 0, "cooldown_minutes", 0.0),
    (CONFIG, "cash_reserve", 1.5, "cash_reserve_usd", Decimal("1.5")),
    (PORTFOLIO, "cash_reserve", 1.5, "cash_reserve_usd", Decimal("1.5")),
    (CONFIG, "trading_capital", 0, "trading_capital_usd", Decimal(0)),
    (PORTFOLIO, "max_position_pct", 0.1, "max_position_pct", Decimal("0.1")),
    (PORTFOLIO, "target_diversification", 8, "target_diversification", 8),
    (STRATEGY, "diversification_target", 8, "target_diversification", 8),
    (CONFIG, "stop_loss_pct", 0.3, "stop_loss_pct", Decimal("0.3")),
    (CONFIG, "take_profit_pct", 0.3, "take_profit_pct", Decimal("0.3")),
    (CONFIG, "ml_confidence_threshold", 0.5, "ml_confidence_threshold", 0.5),
    (STRATEGY, "ml_confidence_threshold", 0.5, "ml_confidence_threshold", 0.5),
    (CONFIG, "use_ml_signals", False, "use_ml", False),
    (STRATEGY, "use_ml_predictions", False, "use_ml", False),
    (STRATEGY, "use_technical_analysis", False, "use_technical_analysis", False),
    (STRATEGY, "use_grok_signals", False, "use_grok", False),
    (STRATEGY, "grok_score_threshold", 0.5, "grok_score_threshold", 0.5),
    (CONFIG, "aggressiveness", 5, "aggressiveness", 5),
    (STRATEGY, "risk_level", 1, "risk_level", 1),
    (STRATEGY, "position_sizing_method", "PERCENTAGE", "position_sizing", SizingMethod.PERCENTAGE),
    (PORTFOLIO, "excluded_tickers", ["tsla", " AAPL"], "excluded_tickers", frozenset({"TSLA", "AAPL"})),
    (PORTFOLIO, "rebalance_enabled", True, "rebalance_enabled", True),
    (PORTFOLIO, "rebalance_threshold", 0.1, "rebalance_threshold_pct", Decimal("0.1")),
    (PORTFOLIO, "preferred_sectors", ["Technology"], "preferred_sectors", frozenset({"Technology"})),
    (CONFIG, "paper_mode", False, "paper_mode", False),
    (SESSION, "market_hours_check", False, "market_hours_check", False),
    (SESSION, "trading_hours", {"market_open": "10:00"}, "trading_hours", TradingHours(market_open=time(10, 0))),
]


@pytest.mark.parametrize(("key", "name", "value", "target", "expected"), EVERY_FIELD)
def test_a_field_given_once_holds_alone(key: Key[Any], name: str, value: Any, target: str, expected: Any) -> None:
    result = config({key: {name: value}})
    assert getattr(result, target) == expected
    others = {other for other in TradingConfig.__dataclass_fields__ if other != target}
    assert {other: getattr(result, other) for other in others} == {other: getattr(DEFAULTS, other) for other in others}


def test_the_table_reaches_every_setting() -> None:
    assert {target for *_, target, _ in EVERY_FIELD} == set(TradingConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    ("documents", "name", "expected"),
    [
        ({SESSION: {PER_TRADE: 9}, SETTINGS: {PER_TRADE: 4}}, PER_TRADE, 4),
        ({SESSION: {PER_TRADE: 4}, SETTINGS: {PER_TRADE: 9}}, PER_TRADE, 4),
        ({CONFIG: {"cash_reserve": 100}, PORTFOLIO: {"cash_reserve": 900}}, "cash_reserve_usd", Decimal(900)),
        ({CONFIG: {"cash_reserve": 900}, PORTFOLIO: {"cash_reserve": 100}}, "cash_reserve_usd", Decimal(900)),
        ({CONFIG: {"ml_confidence_threshold": 0.6}, STRATEGY: {"ml_confidence_threshold": 0.9}},
         "ml_confidence_threshold", 0.9),
        ({STRATEGY: {"diversification_target": 3}, PORTFOLIO: {"target_diversification": 8}},
         "target_diversification", 3),
        ({CONFIG: {"use_ml_signals": True}, STRATEGY: {"use_ml_predictions": False}}, "use_ml", False),
    ],
)  # fmt: skip
def test_of_limits_given_twice_the_strictest_holds(documents: Documents, name: str, expected: Any) -> None:
    assert getattr(config(documents), name) == expected


def test_thresholds_and_strategy_follow_the_strength_of_their_source() -> None:
    weak: Documents = {SETTINGS: {"buy_threshold_pct": 0.01, "strategy": "AGGRESSIVE"}}
    middle: Documents = {**weak, CONFIG: {"buy_threshold_pct": 0.02}, STRATEGY: {"strategy_type": "MODERATE"}}
    strong: Documents = {**middle, SESSION: {"buy_threshold_pct": 0.03, "strategy": "CONSERVATIVE"}}
    told = [(config(one).buy_threshold_pct, config(one).strategy) for one in (weak, middle, strong)]
    assert told == [(0.01, Strategy.AGGRESSIVE), (0.02, Strategy.MODERATE), (0.03, Strategy.CONSERVATIVE)]


# --- partial, bad and missing documents -----------------------------------------------------------------------------


def test_a_partial_document_changes_just_what_it_has() -> None:
    result = after(
        {RISK: {"daily_notional_cap": 10_000, "cooldown_minutes": 5}, SETTINGS: {"max_position_per_trade": 3}},
        {RISK: {"cooldown_minutes": 7}, SETTINGS: {"enabled": False}},
    ).config
    assert (result.daily_notional_cap_usd, result.cooldown_minutes) == (Decimal(10_000), 7.0)
    assert result.max_position_per_trade == 3


def test_trading_hours_are_partial_too() -> None:
    first: Documents = {
        SESSION: {"session_id": "s1", "trading_hours": {"market_open": "10:00", "timezone": "Europe/Berlin"}}
    }
    second: Documents = {SESSION: {"session_id": "s1", "trading_hours": {"market_close": "15:00"}}}
    assert after(first, second).config.trading_hours == TradingHours(time(10, 0), time(15, 0), "Europe/Berlin")


def test_a_deleted_document_gives_its_defaults_back() -> None:
    result = after({RISK: {"daily_notional_cap": 10_000}, PORTFOLIO: {"excluded_tickers": ["TSLA"]}}, {})
    assert result.config == TradingConfig()


BAD = [
    "{",
    "[]",
    "null",
    '"on"',
    '{"max_trades_per_run": -1}',
    '{"cooldown_minutes": NaN}',
    '{"cooldown_minutes": 1e999}',
]


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_value_changes_nothing_and_is_told(bad: str) -> None:
    good: Documents = {RISK: {"daily_notional_cap": 10_000}, CONFIG: {"max_position_size": 5}}
    result = after(good, {**good, RISK: bad})
    assert result.config == after(good).config
    assert set(result.problems) == {RISK.name}
    assert result.problem is not None
    assert RISK.name in result.problem
    assert after(good, {**good, RISK: bad}, good).problem is None


def test_a_bad_value_from_the_beginning_leaves_the_defaults() -> None:
    assert config({RISK: "{"}) == TradingConfig()


def test_a_stored_document_of_another_version_counts_as_none_and_is_told() -> None:
    seen = found({keys.RISK_SETTINGS: {"cooldown_minutes": 5}}, {"risk": {"cooldown_minutes": "a word of the future"}})
    assert seen.config.cooldown_minutes == 5
    assert list(seen.problems) == [keys.RISK_SETTINGS.name]


def test_every_bad_key_is_named_in_order() -> None:
    result = found(ALL_BAD)
    assert list(result.problems) == [key.name for key in SOURCES]
    assert result.problem is not None
    assert result.problem.count(";") == len(SOURCES) - 1
    assert result.config == TradingConfig()


def test_a_new_session_inherits_nothing_from_the_one_before() -> None:
    old: Documents = {SESSION: {"session_id": "s1", "buy_threshold_pct": 0.001, "max_position_per_trade": 50}}
    new: Documents = {SESSION: {"session_id": "s2", "sell_threshold_pct": 0.002}}
    result = after(old, new).config
    assert (result.buy_threshold_pct, result.sell_threshold_pct) == (0.05, 0.002)
    assert result.max_position_per_trade == 1
    same = after(old, {SESSION: {"session_id": "s1", "sell_threshold_pct": 0.002}}).config
    assert (same.buy_threshold_pct, same.max_position_per_trade) == (0.001, 50)


def test_a_session_that_was_deleted_leaves_nothing_behind() -> None:
    session: Documents = {SESSION: {"session_id": "s1", "buy_threshold_pct": 0.001}}
    assert after(session, {}, {SESSION: {"enabled": True}}).config.buy_threshold_pct == 0.05


# --- the document QBot writes itself --------------------------------------------------------------------------------


def test_what_qbot_wrote_by_default_counts_as_not_given() -> None:
    assert DEFAULT_DOCUMENT["updated_by"] == BY_DEFAULT
    session = {"session_id": "s1", "max_position_per_trade": 10, "strategy": "AGGRESSIVE"}
    result = found({SETTINGS: DEFAULT_DOCUMENT, SESSION: session})
    assert (result.config.max_position_per_trade, result.config.strategy) == (10, Strategy.AGGRESSIVE)
    assert result.documents.stored()["settings"] == {}


def test_the_same_limit_of_a_frontend_is_a_limit() -> None:
    by_hand = {**DEFAULT_DOCUMENT, "updated_by": "frontend"}
    assert config({SETTINGS: by_hand, SESSION: {"max_position_per_trade": 10}}).max_position_per_trade == 1
    mirrored = {**DEFAULT_DOCUMENT, "updated_by": "qbot"}
    assert config({SETTINGS: mirrored, SESSION: {"max_position_per_trade": 10}}).max_position_per_trade == 1


def test_what_a_frontend_changed_in_the_default_document_counts_even_if_it_left_the_author() -> None:
    changed = {**DEFAULT_DOCUMENT, "enabled": True, "max_position_per_trade": 4, "buy_threshold_pct": 0.01}
    result = found({SETTINGS: changed, SESSION: {"max_position_per_trade": 10}})
    assert (result.config.max_position_per_trade, result.config.buy_threshold_pct) == (4, 0.01)
    assert result.documents.stored()["settings"] == {"max_position_per_trade": 4, "buy_threshold_pct": 0.01}


def test_a_default_document_ends_what_stood_there_before_and_a_partial_one_builds_on_nothing() -> None:
    before: Documents = {SETTINGS: {"max_position_per_trade": 3, "updated_by": "frontend"}}
    session: Documents = {SESSION: {"max_position_per_trade": 10}}
    assert after(before, {SETTINGS: DEFAULT_DOCUMENT, **session}).config.max_position_per_trade == 10
    partial: Documents = {SETTINGS: {"enabled": True}, **session}
    assert after({SETTINGS: DEFAULT_DOCUMENT}, partial).config.max_position_per_trade == 10
    limited: Documents = {SETTINGS: {"max_position_per_trade": 2}, **session}
    assert after({SETTINGS: DEFAULT_DOCUMENT}, limited).config.max_position_per_trade == 2


# --- any documents --------------------------------------------------------------------------------------------------

FRACTIONS, COUNTS, USD = st.floats(0, 1), st.integers(0, 1_000), st.floats(0, 1e9)
FIELDS: dict[Key[Any], dict[str, st.SearchStrategy[Any]]] = {
    SETTINGS: {"max_position_per_trade": COUNTS, "buy_threshold_pct": FRACTIONS, "enabled": st.booleans()},
    RISK: {"daily_notional_cap": USD, "max_position_per_ticker": COUNTS, "cooldown_minutes": st.floats(0, 10_000),
           "max_trades_per_run": COUNTS, "emergency_stop_active": st.booleans()},
    SESSION: {"max_position_per_trade": COUNTS, "sell_threshold_pct": FRACTIONS, "session_id": st.sampled_from("ab")},
    CONFIG: {"max_position_size": COUNTS, "max_daily_trades": COUNTS, "cash_reserve": USD, "trading_capital": USD,
             "ml_confidence_threshold": FRACTIONS, "stop_loss_pct": FRACTIONS, "paper_mode": st.booleans()},
    STRATEGY: {"ml_confidence_threshold": FRACTIONS, "diversification_target": COUNTS},
    PORTFOLIO: {"max_position_pct": FRACTIONS, "target_diversification": COUNTS, "cash_reserve": USD,
                "excluded_tickers": st.lists(st.sampled_from(["AAPL", "TSLA", "SPY"]))},
}  # fmt: skip
BOARDS = st.fixed_dictionaries(
    {}, optional={key: st.fixed_dictionaries({}, optional=fields) for key, fields in FIELDS.items()}
)
AT_MOST = {
    "max_position_per_trade": "max_position_per_trade", "max_position_size": "max_position_size",
    "max_position_per_ticker": "max_position_per_ticker", "max_trades_per_run": "max_trades_per_run",
    "max_daily_trades": "max_daily_trades", "daily_notional_cap": "daily_notional_cap_usd",
    "trading_capital": "trading_capital_usd", "max_position_pct": "max_position_pct",
    "stop_loss_pct": "stop_loss_pct", "target_diversification": "target_diversification",
    "diversification_target": "target_diversification",
}  # fmt: skip
AT_LEAST = {
    "cash_reserve": "cash_reserve_usd",
    "cooldown_minutes": "cooldown_minutes",
    "ml_confidence_threshold": "ml_confidence_threshold",
}


@settings(max_examples=100)
@given(BOARDS)
def test_no_limit_is_ever_looser_than_any_document_says(documents: dict[Key[Any], dict[str, Any]]) -> None:
    result = config(documents)
    for document in documents.values():
        for name, value in document.items():
            if name in AT_MOST:
                assert float(getattr(result, AT_MOST[name])) <= value
            elif name in AT_LEAST:
                assert float(getattr(result, AT_LEAST[name])) >= value
            elif name == "excluded_tickers":
                assert result.excluded_tickers == set(value)
            elif name == "paper_mode":
                assert result.paper_mode is value


@settings(max_examples=100)
@given(BOARDS)
def test_what_is_stored_serves_as_the_last_good_documents(documents: dict[Key[Any], dict[str, Any]]) -> None:
    first = found(documents)
    assert after(documents, documents).config == first.config
    assert after(documents, ALL_BAD).config == first.config


@settings(max_examples=100)
@given(BOARDS)
def test_a_configuration_is_readable_as_json_and_holds_only_numbers(documents: dict[Key[Any], dict[str, Any]]) -> None:
    result = config(documents)
    body = json.loads(json.dumps(readable(result), allow_nan=False))
    assert set(body) == set(TradingConfig.__dataclass_fields__)
    assert body["excluded_tickers"] == sorted(result.excluded_tickers)
    assert body["trading_hours"] == {"market_open": "09:30:00", "market_close": "16:00:00",
                                     "timezone": "America/New_York"}  # fmt: skip
    for name in TradingConfig.__dataclass_fields__:
        value = getattr(result, name)
        if isinstance(value, float | Decimal):
            assert math.isfinite(value)
            assert float(body[name]) == float(value)
