"""Writes onto the board what the last pass left in Postgres: prices, their days, and how the sources did."""

from __future__ import annotations

from qbot import projections_market
from qbot.market.calendar import day_and_before
from qbot.projections_market import day_of
from qbot.runtime import Runtime
from qbot.store import bars, companies, quotes, sources, universe
from qbot.store.companies import Kind
from qbot.store.engine import transaction
from qbot.types import Day


def market_data(rt: Runtime) -> None:
    """The latest prices beside their day, and who gave them."""
    now = rt.market()
    today, before = day_and_before(now)
    with transaction(rt.engine) as connection:
        tickers = universe.tickers(connection) or rt.named_tickers
        prices = quotes.accepted(connection, tickers)
        by_bars = bars.days(connection, sorted(prices), today, before)
        told = quotes.days(connection, prices, today[0])
        figures = companies.facts(connection, Kind.FUNDAMENTALS, tickers)
        made = sources.last_pass(connection)
    days = {}
    for symbol, one in prices.items():
        day = day_of(by_bars.get(symbol, Day()), told.get(symbol, ()), one.quote.source)
        inside = today[0] <= one.quote.at < today[1]  # newer than the last whole bar
        days[symbol] = day.reaching(float(one.quote.price_usd)) if inside else day
    bodies = {symbol: fact.body for symbol, fact in figures.items()}
    writes = projections_market.market_data(prices, days, bodies, made, tickers, now)
    rt.board.write_many(writes, now=rt.wall())
