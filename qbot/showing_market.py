"""Writes onto the board what the last pass left in Postgres: prices, their days, and how the sources did."""

from __future__ import annotations

from datetime import timedelta

import structlog
from pydantic import ValidationError

from qbot import alerts, limits, projections_market
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.market.calendar import day_and_before
from qbot.projections_market import day_of
from qbot.runtime import Runtime
from qbot.store import bars, companies, quotes, sources, universe
from qbot.store.companies import Kind
from qbot.store.engine import transaction
from qbot.types import Day

log = structlog.get_logger(__name__)
SKEW = timedelta(seconds=limits.CLOCK_SKEW_S)  # a pass that is yet to begin was noted by a clock that ran ahead


def market_data(rt: Runtime) -> None:
    """The latest prices beside their day, and who gave them. Where they cannot be shown a human is told."""
    now = rt.market()
    today, before = day_and_before(now)
    with transaction(rt.engine) as connection:
        tickers = universe.tickers(connection) or rt.named_tickers
        prices = quotes.accepted(connection, tickers)
        by_bars = bars.days(connection, sorted(prices), today, before)
        told = quotes.days(connection, prices, today[0])
        figures = companies.facts(connection, Kind.FUNDAMENTALS, tickers)
        made = sources.last_pass(connection, now + SKEW)
    days = {}
    for symbol, one in prices.items():
        day = day_of(by_bars.get(symbol, Day()), told.get(symbol, ()), one.quote.source)
        inside = today[0] <= one.quote.at < today[1]  # newer than the last whole bar
        days[symbol] = day.reaching(float(one.quote.price_usd)) if inside else day
    bodies = {symbol: fact.body for symbol, fact in figures.items()}
    try:
        writes = projections_market.market_data(prices, days, bodies, made, tickers, now)
        rt.board.write_many(writes, now=rt.wall())
    except ValueError as error:
        cannot_be_shown(rt, "the prices", error)


def cannot_be_shown(rt: Runtime, what: str, error: ValueError, symbol: str | None = None) -> None:
    """What breaks the contract stays off the board: whoever trades by it goes on, and a human is told once."""
    found = error.errors(include_input=False, include_url=False) if isinstance(error, ValidationError) else ()
    places = {".".join(map(str, one["loc"])): one["msg"] for one in found}
    why = "; ".join(f"{place}: {words}" for place, words in list(places.items())[:5]) or type(error).__name__
    log.error("cannot_be_shown", what=what, symbol=symbol, why=why)
    title, message = "Market data cannot be shown", f"The board keeps what it told of {symbol or what} before: {why}"
    alerts.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, title, message, about=f"{what} not shown")
