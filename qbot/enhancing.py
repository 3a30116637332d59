"""`yfinance_enhanced:{TICKER}`: a year of days with indicators, fundamentals and headlines, a few tickers a pass.

Only what the pass over the prices has left over of Yahoo's patience is used for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from qbot import limits
from qbot.contract import keys
from qbot.contract.payloads_market import YahooDay, YahooFundamentals, YahooNews, YahooStatus, YahooTicker
from qbot.market import daily
from qbot.market.asking import OF_SYMBOL
from qbot.market.calendar import last_and_before
from qbot.market.feeds import Feed
from qbot.market.provider import ProviderError
from qbot.market.yahoo import NAME, Yahoo
from qbot.runtime import Runtime
from qbot.store import companies
from qbot.store.companies import Fact, Kind
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
YEAR = timedelta(days=366)


def enhance(rt: Runtime, tickers: Sequence[str]) -> None:
    """Ask Yahoo for the days of those tickers whose last ones are the oldest, and show what is known of each."""
    feed = rt.feeds.get(NAME)
    if feed is None or not isinstance(feed.quotes, Yahoo) or feed.gate.hold() is not None:
        return
    now = rt.market()
    with transaction(rt.engine) as connection:
        known = companies.facts(connection, Kind.DAYS, tickers)
    never = datetime.min.replace(tzinfo=now.tzinfo)
    since = {symbol: known[symbol].known_at if symbol in known else never for symbol in tickers}
    whole = _last_close(now)
    due = [symbol for symbol in sorted(tickers, key=lambda one: (since[one], one)) if since[symbol] < whole]
    done, failed = _ask(rt, feed, feed.quotes, due[: limits.ENHANCED_PER_PASS], now)
    if done or failed:
        show(rt, tickers, done, failed)


def _last_close(now: datetime) -> datetime:
    """When the last whole day was over."""
    (_, close), (_, close_before) = last_and_before(now)
    return close if now >= close + timedelta(seconds=limits.CLOSING_PRINT_S) else close_before


def _ask(rt: Runtime, feed: Feed, yahoo: Yahoo, due: Sequence[str], now: datetime) -> tuple[list[str], list[str]]:
    """The symbols that days came of, and those that none came of. It ends where Yahoo itself does not answer."""
    done: list[str] = []
    failed: list[str] = []
    for symbol in due:
        try:
            frame = feed.gate.call(1, lambda: yahoo.days(symbol, (now - YEAR).date(), now.date()))  # noqa: B023 — at once
        except ProviderError as error:
            failed.append(symbol)
            log.info("days_not_had", symbol=symbol, why=str(error))
            if error.fault not in OF_SYMBOL:
                break
            rows: list[dict[str, Any]] = []
        else:
            done.append(symbol)
            rows = daily.rows_of(frame)
        with transaction(rt.engine) as connection:
            companies.note(connection, Kind.DAYS, {symbol: rows}, NAME, now)
    return done, failed


def show(rt: Runtime, tickers: Sequence[str], done: Sequence[str] = (), failed: Sequence[str] = ()) -> None:
    """Write the tickers' keys; with nothing done, of all tickers that anything is known of."""
    named = list(done) or list(tickers)
    with transaction(rt.engine) as connection:
        facts = {kind: companies.facts(connection, kind, named) for kind in Kind}
    shown = [symbol for symbol in named if symbol in facts[Kind.DAYS]]
    writes: list[tuple[Any, Any]] = [
        (keys.YFINANCE_ENHANCED.of(symbol), ticker_of(symbol, {kind: facts[kind].get(symbol) for kind in Kind}))
        for symbol in shown
    ]
    if not writes and not failed:
        return
    status = YahooStatus(
        timestamp=rt.wall(),
        tickers_processed=len(shown) + len(failed),
        success_count=len(shown),
        error_count=len(failed),
        next_update=rt.wall() + timedelta(seconds=limits.FETCH_PASS_S),
    )
    rt.board.write_many([*writes, (keys.YFINANCE_STATUS, status)], now=rt.wall())


def ticker_of(symbol: str, facts: dict[Kind, Fact | None]) -> YahooTicker:
    """What is known of one ticker, as the board tells it."""
    days, figures, news = facts[Kind.DAYS], facts[Kind.FUNDAMENTALS], facts[Kind.NEWS]
    history = (
        tuple(YahooDay(date=row["day"], ticker=symbol, **_without(row, "day")) for row in days.body) if days else ()
    )
    told = figures.body if figures else {}
    known = [fact.known_at for fact in (days, figures, news) if fact is not None]
    return YahooTicker(
        ticker=symbol,
        timestamp=max(known),
        historical_data=history,
        fundamentals=YahooFundamentals(
            market_cap=told.get("market_cap_usd"),
            **{name: told.get(name) for name in YahooFundamentals.model_fields if name != "market_cap"},
        ),
        news=tuple(
            YahooNews(title=one["title"], publisher=one.get("publisher"), published=one["published_at"], sentiment=None)
            for one in (news.body if news else ())
        ),
        data_points=len(history),
    )


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
