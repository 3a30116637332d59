"""Every documented field of the settings documents: what it changes, why it changes nothing, or that it only records.

The table below is compared with the models themselves: a new field fails until it is listed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from qbot import committing, configuration, control, mirrors, rebalancing, risk, session, signals, sizing, trading
from qbot.configuration import SOURCES, Effective, effective
from qbot.contract import keys
from qbot.contract.board import Snapshot
from qbot.contract.key import Key
from qbot.reconciliation import Books
from qbot.risk import Case
from qbot.session import Inputs, Switch
from qbot.types import Action, Proposal, RiskReport, Source, Usage
from qbot.votes import Technical
from tests.support.values import NOW, account, entry, forecast, market, position, quote, signal

D = Decimal
SETTINGS, RISK, SESSION = keys.TRADING_SETTINGS, keys.RISK_SETTINGS, keys.AUTOTRADING_ENABLED
CONFIG, STRATEGY, PORTFOLIO = keys.TRADING_CONFIG, keys.BOT_STRATEGY, keys.PORTFOLIO_SETTINGS
Documents = Mapping[Key[Any], Mapping[str, Any]]
Shown = dict[str, Any]


class Effect(NamedTuple):
    """Two values of one field, and what differs between them; `beside` holds in both."""

    before: Any
    after: Any
    changes: set[str]
    beside: Mapping[str, Any] = {}


class Declined(NamedTuple):
    """A value that is asked for in vain, and a word of the reason that the human is told."""

    value: Any
    reason: str


class Recorded(NamedTuple):
    """Who wrote it and when: told to whoever reads the document, and nothing else."""

    value: Any


WHEN, WHO = Recorded("2026-09-25T14:00:00Z"), Recorded("somebody")
START = {"source": "frontend_ui", "session_id": "s2"}
FIELDS: dict[Key[Any], dict[str, Effect | Declined | Recorded]] = {
    SETTINGS: {
        "enabled": Effect(False, True, {"switch"}),
        "buy_threshold_pct": Effect(0.05, 0.02, {"signals"}),
        "sell_threshold_pct": Effect(0.05, 0.02, {"signals"}),
        "max_position_per_trade": Effect(1, 20, {"size", "shares"}),
        "strategy": Effect("CONSERVATIVE", "AGGRESSIVE", {"signals"}),
        "last_updated": WHEN,
        "updated_by": WHO,
    },
    RISK: {
        "daily_notional_cap": Effect(50_000, 20_000, {"daily volume"}),
        "max_position_per_ticker": Effect(5, 3, {"orders of a ticker"}),
        "cooldown_minutes": Effect(10, 60, {"cooldown"}),
        "max_trades_per_run": Effect(3, 2, {"orders of a cycle"}),
        "emergency_stop_active": Effect(False, True, {"switch"}),
    },
    SESSION: {
        "enabled": Effect(False, True, {"switch"}, START),
        "buy_threshold_pct": Effect(0.05, 0.02, {"signals"}),
        "sell_threshold_pct": Effect(0.05, 0.02, {"signals"}),
        "max_position_per_trade": Effect(1, 20, {"size", "shares"}),
        "strategy": Effect("CONSERVATIVE", "AGGRESSIVE", {"signals"}),
        "timestamp": WHEN,
        "source": Effect("somebody", "frontend_ui", {"switch"}, {"enabled": True}),
        "market_hours_check": Effect(True, False, {"hours"}, {"trading_hours": {"market_open": "10:00"}}),
        "session_id": Effect("s1", "s2", {"switch"}, {"enabled": True, "source": "frontend_ui"}),
        "trading_hours": Effect({"market_open": "09:30"}, {"market_open": "10:00"}, {"hours"}),
    },
    CONFIG: {
        "aggressiveness": Effect(3, 5, {"size"}, {"_": {STRATEGY: {"position_sizing_method": "PERCENTAGE"}}}),
        "max_position_size": Effect(100, 5, {"shares"}, {"_": {SETTINGS: {"max_position_per_trade": 1}}}),
        "max_daily_trades": Effect(50, 20, {"orders of a day"}),
        "buy_threshold_pct": Effect(0.05, 0.02, {"signals"}),
        "sell_threshold_pct": Effect(0.05, 0.02, {"signals"}),
        "stop_loss_pct": Effect(0.05, 0.03, {"stop-loss"}),
        "take_profit_pct": Effect(0.10, 0.20, {"take-profit"}),
        "cash_reserve": Effect(5_000, 50_000, {"cash"}),
        "trading_capital": Effect(100_000, 20_000, {"capital"}),
        "use_ml_signals": Effect(True, False, {"signals"}),
        "ml_confidence_threshold": Effect(0.8, 0.95, {"signals"}),
        "paper_mode": Effect(True, False, {"live"}),
        "session_id": WHO,
        "updated_at": WHEN,
        "updated_by": WHO,
    },
    STRATEGY: {
        "strategy_type": Effect("CONSERVATIVE", "AGGRESSIVE", {"signals"}),
        "use_grok_signals": Declined(True, "no key"),
        "use_ml_predictions": Effect(True, False, {"signals"}),
        "use_technical_analysis": Effect(True, False, {"signals"}),
        "grok_score_threshold": Declined(0.85, "no key"),
        "ml_confidence_threshold": Effect(0.8, 0.95, {"signals"}),
        "risk_level": Effect(3, 5, {"size"}, {"position_sizing_method": "PERCENTAGE"}),
        "position_sizing_method": Effect("FIXED", "PERCENTAGE", {"size"}),
        "diversification_target": Effect(5, 2, {"positions"}),
        "session_id": WHO,
        "updated_at": WHEN,
    },
    PORTFOLIO: {
        "target_diversification": Effect(5, 2, {"positions"}),
        "max_position_pct": Effect(0.2, 0.1, {"share of the portfolio"}),
        "rebalance_enabled": Effect(False, True, {"rebalancing"}),
        "rebalance_threshold": Effect(0.05, 0.3, {"rebalancing"}, {"rebalance_enabled": True}),
        "preferred_sectors": Effect([], ["healthcare"], {"order of entries"}),
        "excluded_tickers": Effect(["TSLA"], ["MSFT"], {"exclusions"}),
        "cash_reserve": Effect(5_000, 50_000, {"cash"}),
        "updated_at": WHEN,
    },
}  # fmt: skip
TABLE = [(key, name, what) for key, fields in FIELDS.items() for name, what in fields.items()]


def rows(kind: type) -> list[Any]:
    """The rows of one kind, each named by its key and field."""
    return [pytest.param(key, name, what, id=f"{key.name}.{name}") for key, name, what in TABLE if type(what) is kind]


@pytest.mark.parametrize("key", SOURCES, ids=lambda key: key.name)
def test_every_field_of_the_document_is_in_the_table(key: Key[Any]) -> None:
    model = key.adapter._type  # what the contract itself validates with
    assert set(FIELDS[key]) == set(model.model_fields)


@pytest.mark.parametrize(("key", "name", "what"), rows(Effect))
def test_a_setting_changes_what_it_says_and_nothing_else(key: Key[Any], name: str, what: Effect) -> None:
    before, after = (
        behaviour(documents(key, name, what.before, what)),
        behaviour(documents(key, name, what.after, what)),
    )
    assert {aspect for aspect in before if before[aspect] != after[aspect]} == what.changes


@pytest.mark.parametrize(("key", "name", "what"), rows(Declined))
def test_what_has_no_effect_is_declined_with_a_reason(key: Key[Any], name: str, what: Declined) -> None:
    asked = {key: {name: what.value}}
    assert behaviour(asked) == behaviour({key: {}})
    told = configuration.declined(found(asked).documents.stored())
    assert list(told) == [name]
    assert what.reason in told[name]
    assert configuration.declined(found({}).documents.stored()) == {}


@pytest.mark.parametrize(("key", "name", "what"), rows(Recorded))
def test_who_wrote_a_document_and_when_changes_nothing(key: Key[Any], name: str, what: Recorded) -> None:
    assert behaviour({key: {name: what.value}}) == behaviour({key: {}})


def test_what_was_asked_for_and_then_was_not_is_not_declined() -> None:
    refrained = {STRATEGY: {"use_grok_signals": False}}
    assert configuration.declined(found(refrained).documents.stored()) == {}


def test_a_sector_that_no_ticker_is_in_is_declined_and_the_others_count() -> None:
    told = configuration.declined(
        found({PORTFOLIO: {"preferred_sectors": ["Finance", "Gardening"]}}).documents.stored()
    )
    assert told == {"preferred_sectors": "no sector is called Gardening"}


def test_the_documents_own_examples_are_no_configuration_error() -> None:
    examples = {key: json.loads(key.example) for key in SOURCES}
    assert found(examples).problem is None
    told = configuration.declined(found(examples).documents.stored())
    assert set(told) == {"use_grok_signals", "grok_score_threshold"}


# --- what the settings come to --------------------------------------------------------------------------------------


def documents(key: Key[Any], name: str, value: Any, what: Effect) -> Documents:
    """The one document with the field, and what stands beside it: `_` holds other documents."""
    others: Documents = what.beside.get("_", {})
    beside = {field: other for field, other in what.beside.items() if field != "_"}
    return {**others, key: {**beside, name: value}}


def snapshot(found: Documents) -> Snapshot:
    """A board with these documents and nothing else."""
    named = (*SOURCES, keys.AUTOTRADING_STATUS)
    wires = {key: json.dumps(found[key]).encode() if key in found else None for key in named}
    return Snapshot({key.name: key.reading(wire) for key, wire in wires.items()})


def found(documents: Documents) -> Effective:
    return effective(snapshot(documents), {})


def behaviour(documents: Documents) -> Shown:
    """All that settings can change, each aspect in a scene of its own."""
    result = found(documents)
    assert result.problem is None
    shown = {**_gate(result), **_orders(result)}
    environment: Any = SimpleNamespace(settings=SimpleNamespace(allow_live=False))
    return {**shown, "live": control.live_problem(environment, result.config), "switch": _switch(documents)}


def calm_at(now: datetime) -> RiskReport:
    """The risk engine sees nothing."""
    return RiskReport(now, D(1), (), (), D(0), D(0))


def _gate(result: Effective) -> Shown:
    def judge(proposal: Proposal, usage: Usage | None = None, run: int = 0, **more: Any) -> str | None:
        return risk.evaluate(Case(proposal, result.config, market(**more), usage or Usage(), run)).refusal

    one, early = entry(qty="1"), NOW - timedelta(minutes=15)  # at 9:45 in New York
    lately = Usage(last_entry_at={"AAPL": NOW - timedelta(minutes=30)})
    held = {symbol: position(symbol, "1") for symbol in ("SPY", "QQQ", "XLK")}
    return {
        "shares": (judge(entry(qty="10")), judge(entry(qty="10", source=Source.MANUAL))),
        "daily volume": judge(one, Usage(notional_today_usd=D(30_000))),
        "orders of a ticker": judge(one, Usage(entries_today={"AAPL": 3})),
        "cooldown": judge(one, lately),
        "orders of a cycle": judge(one, run=2),
        "orders of a day": judge(one, Usage(orders_today=30)),
        "hours": judge(one, now=early, quotes={"AAPL": quote(now=early)}, risk_report=calm_at(early)),
        "cash": judge(one, account=account(cash_usd="40000")),
        "capital": judge(one, Usage(reserved_usd=D(30_000))),
        "positions": judge(one, positions=held),
        "share of the portfolio": judge(one, positions={"AAPL": position(qty="150")}),
        "exclusions": judge(entry("MSFT", "1")),
    }


def _orders(result: Effective) -> Shown:
    config = result.config
    made = [
        forecast("AAPL", return_pct=0.06, confidence=0.9),
        forecast("MSFT", return_pct=0.2, confidence=0.9),
        forecast("SPY", return_pct=-0.06, confidence=0.9),
        forecast("UNH", return_pct=0.2, confidence=0.9),
    ]
    quotes = {symbol: quote(symbol) for symbol in ("AAPL", "MSFT", "SPY", "UNH")}
    technicals = {symbol: Technical(NOW, 99.0 if symbol == "MSFT" else 50.0) for symbol in quotes}
    wishes = signals.signals(made, quotes, technicals, config, NOW, allow_unskilled=False)
    equal = [signal("AAPL"), signal("UNH", predicted_return_pct=0.09)]
    books = Books(account(), {}, (), NOW, 0, {})
    wanted = trading.propose(trading.View([], quotes, equal), books, config).proposals
    large = {"SPY": position("SPY", "400")}  # 40 % of the portfolio
    too_large = rebalancing.plan(config, account(), large, quotes, NOW).sales
    spec = committing._order(entry(qty="1"), config, market(), "c").spec
    return {
        "signals": [wish.action for wish in wishes],
        "size": sizing.shares(config, account(equity="1500"), D(100), 0.0025, D(1)),
        "order of entries": [proposal.symbol for proposal in wanted],
        "rebalancing": [(one.symbol, one.qty) for one in too_large],
        "stop-loss": spec.stop_loss_usd,
        "take-profit": spec.take_profit_usd,
    }


def _switch(documents: Documents) -> tuple[bool, str | None, bool]:
    """A board that was empty, and then these documents came."""
    nothing = Inputs().fingerprints()
    after, _ = session.step(Switch(seen=nothing), mirrors.observed(snapshot(documents)))
    return after.on, after.session_id, after.latched


def test_with_the_documented_defaults_each_scene_is_allowed() -> None:
    """So that whatever is refused above is refused for the reason it is listed with."""
    plain = found({})
    assert {name: refusal for name, refusal in _gate(plain).items() if refusal} == {
        "shares": ("MAX_SHARES_PER_ORDER", None)  # ten, where one is the default; by hand a hundred are
    }
    assert _orders(plain)["signals"] == [Action.HOLD, Action.HOLD, Action.HOLD, Action.BUY]
