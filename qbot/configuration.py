"""One effective configuration out of every settings key. Pure but for the types of the contract.

Limits and confidences: the strictest that was given. Threshold and strategy: session over `frontend:*` over
`trading_settings`. A key that holds nonsense keeps its last good value, and entries wait until it is valid again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import time
from decimal import Decimal
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from qbot import portfolio
from qbot.contract import keys
from qbot.contract.board import Snapshot
from qbot.contract.key import Key
from qbot.contract.merge import overlay
from qbot.contract.payloads_autotrading import AutotradingSession
from qbot.contract.payloads_settings import (
    BotStrategy,
    PortfolioSettings,
    RiskSettings,
    TradingSettings,
)
from qbot.contract.payloads_settings import (
    TradingConfig as FrontendConfig,
)
from qbot.types import SizingMethod, Strategy, TradingConfig, TradingHours

T = TypeVar("T")
P = TypeVar("P", AutotradingSession, BotStrategy, FrontendConfig, PortfolioSettings, RiskSettings, TradingSettings)
Stored = Mapping[str, Mapping[str, Any]]

SOURCES: tuple[Key[Any], ...] = (
    keys.TRADING_SETTINGS,
    keys.RISK_SETTINGS,
    keys.AUTOTRADING_ENABLED,
    keys.TRADING_CONFIG,
    keys.BOT_STRATEGY,
    keys.PORTFOLIO_SETTINGS,
)
DEFAULTS = TradingConfig()
BY_DEFAULT = "backend_init"  # `updated_by` of the default `trading_settings` that QBot writes, as documented


@dataclass(frozen=True, slots=True)
class Documents:
    """The settings documents as they count: each the last good value with what was written since laid over it."""

    settings: TradingSettings
    risk: RiskSettings
    session: AutotradingSession
    config: FrontendConfig
    strategy: BotStrategy
    portfolio: PortfolioSettings

    def stored(self) -> dict[str, dict[str, Any]]:
        """For the revision in Postgres: what a later bad write falls back to."""
        return {field.name: _stored(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Effective:
    """The configuration, the documents behind it, and what is wrong with a key, if anything."""

    config: TradingConfig
    documents: Documents
    problems: Mapping[str, str]

    @property
    def problem(self) -> str | None:
        """All problems in one sentence, or None."""
        return "; ".join(f"{key}: {problem}" for key, problem in sorted(self.problems.items())) or None


def effective(snapshot: Snapshot, last_good: Stored) -> Effective:
    """The configuration that the board gives, with the last good documents of the newest revision.

    A stored document that another version wrote and this one cannot read counts as none, and is told as a problem.
    """
    problems = {key.name: problem for key in SOURCES if (problem := snapshot[key].problem)}

    def document(key: Key[P], name: str, empty: P) -> P:
        reading = snapshot[key]
        try:
            before = type(empty).model_validate_json(json.dumps(last_good[name])) if name in last_good else empty
        except ValidationError:
            before = empty
            problems[key.name] = "what was stored of it cannot be read; what it leaves out has the documented defaults"
        if reading.problem:
            return before
        if reading.value is None:
            return empty  # absent: the documented defaults
        if isinstance(reading.value, TradingSettings) and reading.value.updated_by == BY_DEFAULT:
            return overlay(empty, _given_by_a_human(reading.value))
        return overlay(before, reading.value)

    session = document(keys.AUTOTRADING_ENABLED, "session", AutotradingSession())
    fresh = snapshot[keys.AUTOTRADING_ENABLED].value
    if fresh is not None and fresh.session_id is not None and fresh.session_id != _old_session(last_good):
        session = fresh  # a new session inherits nothing from the one before
    documents = Documents(
        settings=document(keys.TRADING_SETTINGS, "settings", TradingSettings()),
        risk=document(keys.RISK_SETTINGS, "risk", RiskSettings()),
        session=session,
        config=document(keys.TRADING_CONFIG, "config", FrontendConfig()),
        strategy=document(keys.BOT_STRATEGY, "strategy", BotStrategy()),
        portfolio=document(keys.PORTFOLIO_SETTINGS, "portfolio", PortfolioSettings()),
    )
    return Effective(merge(documents), documents, problems)


def _given_by_a_human(settings: TradingSettings) -> TradingSettings:
    """What a frontend changed in the document that QBot wrote by default; the rest counts as not given."""
    named = {name for name in settings.model_fields_set if name in TradingConfig.__dataclass_fields__}
    return TradingSettings.model_construct(
        **{name: getattr(settings, name) for name in named if getattr(settings, name) != getattr(DEFAULTS, name)}
    )


def merge(found: Documents) -> TradingConfig:
    """The documents as one configuration."""
    d, settings, risk, session = DEFAULTS, found.settings, found.risk, found.session
    config, strategy, holdings = found.config, found.strategy, found.portfolio
    return TradingConfig(
        buy_threshold_pct=_first(
            d.buy_threshold_pct, session.buy_threshold_pct, config.buy_threshold_pct, settings.buy_threshold_pct
        ),
        sell_threshold_pct=_first(
            d.sell_threshold_pct, session.sell_threshold_pct, config.sell_threshold_pct, settings.sell_threshold_pct
        ),
        strategy=Strategy(_first(d.strategy, session.strategy, strategy.strategy_type, settings.strategy)),
        max_position_per_trade=_least(
            d.max_position_per_trade, session.max_position_per_trade, settings.max_position_per_trade
        ),
        max_position_size=_least(d.max_position_size, config.max_position_size),
        max_position_per_ticker=_least(d.max_position_per_ticker, risk.max_position_per_ticker),
        max_trades_per_run=_least(d.max_trades_per_run, risk.max_trades_per_run),
        max_daily_trades=_least(d.max_daily_trades, config.max_daily_trades),
        daily_notional_cap_usd=_least(d.daily_notional_cap_usd, risk.daily_notional_cap),
        cooldown_minutes=_most(d.cooldown_minutes, risk.cooldown_minutes),
        cash_reserve_usd=_most(d.cash_reserve_usd, config.cash_reserve, holdings.cash_reserve),
        trading_capital_usd=_least(d.trading_capital_usd, config.trading_capital),
        max_position_pct=_decimal(_least(float(d.max_position_pct), holdings.max_position_pct)),
        target_diversification=_least(
            d.target_diversification, strategy.diversification_target, holdings.target_diversification
        ),
        stop_loss_pct=_decimal(_least(float(d.stop_loss_pct), config.stop_loss_pct)),
        take_profit_pct=_decimal(_first(float(d.take_profit_pct), config.take_profit_pct)),
        ml_confidence_threshold=_most(
            d.ml_confidence_threshold, config.ml_confidence_threshold, strategy.ml_confidence_threshold
        ),
        grok_score_threshold=_most(d.grok_score_threshold, strategy.grok_score_threshold),
        use_ml=_all(config.use_ml_signals, strategy.use_ml_predictions),
        use_grok=_all(strategy.use_grok_signals),
        use_technical_analysis=_all(strategy.use_technical_analysis),
        aggressiveness=_first(d.aggressiveness, config.aggressiveness),
        risk_level=_first(d.risk_level, strategy.risk_level),
        position_sizing=SizingMethod(_first(d.position_sizing, strategy.position_sizing_method)),
        excluded_tickers=frozenset(holdings.excluded_tickers or ()),
        preferred_sectors=frozenset(holdings.preferred_sectors or ()),
        rebalance_enabled=holdings.rebalance_enabled is True,
        rebalance_threshold_pct=_decimal(_first(float(d.rebalance_threshold_pct), holdings.rebalance_threshold)),
        paper_mode=config.paper_mode is not False,
        market_hours_check=session.market_hours_check is not False,
        trading_hours=_hours(session),
    )


def declined(documents: Stored, grok_off: str | None = "has no key here") -> dict[str, str]:
    """What was asked for and has no effect in this version, with the reason, by setting. `documents`: as stored.
    `grok_off`: why Grok is off, to follow its name; None when it is not.

    The documents' own examples ask for some of it: that is no mistake of the settings, and trading goes on.
    """
    strategy, portfolio_settings = documents.get("strategy", {}), documents.get("portfolio", {})
    found = {}
    if grok_off and strategy.get("use_grok_signals"):
        found["use_grok_signals"] = f"Grok {grok_off}: it is off, and gives no signal"
    if grok_off and "grok_score_threshold" in strategy:
        found["grok_score_threshold"] = f"Grok {grok_off}: there are no scores to compare with it"
    unheard_of = portfolio.unheard_of(portfolio_settings.get("preferred_sectors", ()))
    if unheard_of:
        found["preferred_sectors"] = f"no sector is called {', '.join(unheard_of)}"
    return found


def readable(config: TradingConfig) -> dict[str, Any]:
    """The configuration as JSON: for the revision in Postgres and the channel of changes."""

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal | time):
            return str(value)
        if isinstance(value, frozenset):
            return sorted(value)
        return {name: plain(part) for name, part in value.items()} if isinstance(value, dict) else value

    return {name: plain(value) for name, value in asdict(config).items()}


def _hours(session: AutotradingSession) -> TradingHours:
    given = session.trading_hours
    if given is None:
        return DEFAULTS.trading_hours
    default = DEFAULTS.trading_hours
    return TradingHours(
        market_open=time.fromisoformat(given.market_open) if given.market_open else default.market_open,
        market_close=time.fromisoformat(given.market_close) if given.market_close else default.market_close,
        timezone=given.timezone or default.timezone,
    )


def _first(default: T, *given: T | None) -> T:
    """What was given by the strongest source, in order of strength."""
    return next((value for value in given if value is not None), default)


def _given(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]


def _least(default: T, *given: T | None) -> T:
    return min(_given(given), default=default)  # type: ignore[type-var]


def _most(default: T, *given: T | None) -> T:
    return max(_given(given), default=default)  # type: ignore[type-var]


def _all(*flags: bool | None) -> bool:
    return False not in flags


def _decimal(value: float) -> Decimal:
    return Decimal(str(value))


def _stored(document: BaseModel) -> dict[str, Any]:
    return document.model_dump(mode="json", exclude_unset=True)


def _old_session(last_good: Stored) -> str | None:
    before = last_good.get("session", {}).get("session_id")
    return str(before) if before is not None else None
