"""Which tickers are looked at from now on: what names one, what came and went, and what Grok may pick from."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import structlog

from qbot import grok_asking, limits, sectors
from qbot.market.universe import changes, dynamic_tickers
from qbot.runtime import Runtime
from qbot.store import state
from qbot.store import universe as store
from qbot.store.engine import transaction
from qbot.types import TradingConfig

log = structlog.get_logger(__name__)
PICKED, SKEW = timedelta(seconds=limits.GROK_PICKED_S), timedelta(seconds=limits.CLOCK_SKEW_S)
OLD = "picked by Grok, more than a day ago"


def refresh(rt: Runtime, config: TradingConfig) -> tuple[tuple[str, ...], frozenset[str]]:
    """The tickers, and the urgent ones among them: held, or with an open order. Changes are logged."""
    views, now = grok_asking.picks(rt, tradable(rt)) or {}, rt.market()
    picks = [symbol for symbol, view in views.items() if -SKEW <= now - view.as_of <= PICKED]
    with transaction(rt.engine) as connection:
        urgent = store.urgent(connection)
        before = store.tickers(connection)
        found = dynamic_tickers(rt.named_tickers, urgent, picks, config.preferred_sectors, config.excluded_tickers)
        found = replace(found, left_out=dict.fromkeys(set(views) - set(picks), OLD) | dict(found.left_out))
        store.replace(connection, {symbol: found.why[symbol] for symbol in found.tickers}, rt.wall())
    for change in changes(before, found):
        log.info("ticker_added" if change.added else "ticker_gone", symbol=change.symbol, why=change.why)
    return found.tickers, urgent


def tradable(rt: Runtime) -> tuple[str, ...]:
    """What Grok may pick from: what is looked at, then every ticker whose sector is known; without what is excluded."""
    with transaction(rt.engine) as connection:
        stored = state.newest_settings(connection).get("config", {})
    excluded = set(stored.get("excluded_tickers", ()))
    named = dict.fromkeys((*rt.tickers, *sorted(sectors.OF_SYMBOL)))
    return tuple(symbol for symbol in named if symbol not in excluded)
