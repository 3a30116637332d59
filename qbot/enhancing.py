"""`yfinance_enhanced:{TICKER}`: a year of days with indicators, fundamentals and headlines, a few tickers a pass.

Only what the pass over the prices has left over of Yahoo's patience is used for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog

from qbot import clock, limits
from qbot.contract import keys
from qbot.contract.payloads_market import YahooDay, YahooFundamentals, YahooNews, YahooStatus, YahooTicker
from qbot.market import daily, reading
from qbot.market.asking import OF_SYMBOL
from qbot.market.calendar import last_and_before
from qbot.market.feeds import Feed
from qbot.market.limiting import Closed
from qbot.market.provider import Fault, ProviderError
from qbot.market.yahoo import NAME, Yahoo
from qbot.runtime import Runtime
from qbot.showing_market import cannot_be_shown
from qbot.store import companies, sources
from qbot.store.companies import Fact, Kind
from qbot.store.engine import transaction
from qbot.store.sources import Got

log = structlog.get_logger(__name__)
YEAR = timedelta(days=366)
TRIED = "days_tried"  # a need, as it were: when a ticker's days were last asked for in vain
AGAIN, SKEW = timedelta(seconds=limits.ENHANCED_AGAIN_S), timedelta(seconds=limits.CLOCK_SKEW_S)
NEVER = datetime.min.replace(tzinfo=UTC)
RATIOS = tuple(set(YahooFundamentals.model_fields) - {"market_cap", "sector", "industry"})


def enhance(rt: Runtime, tickers: Sequence[str], until_s: float = math.inf) -> None:
    """Ask Yahoo for the days of those tickers whose last ones are the oldest, and show what is known of each.

    `until_s`: of the monotonic clock; from then on nobody is asked any more.
    """
    feed = rt.feeds.get(NAME)
    if feed is None or not isinstance(feed.quotes, Yahoo) or feed.gate.hold() is not None:
        return
    now, whole = rt.market(), _last_close(rt.market())
    with transaction(rt.engine) as connection:
        known = {symbol: fact.known_at for symbol, fact in companies.facts(connection, Kind.DAYS, tickers).items()}
        tried = {symbol: one.got_at for symbol, one in sources.got(connection, TRIED, tickers).items()}
    due = _due(tickers, known, tried, now, whole)
    done, failed = _ask(rt, feed, feed.quotes, due[: limits.ENHANCED_PER_PASS], whole, until_s)
    if done or failed:
        show(rt, tickers, done, failed)


def _due(
    tickers: Sequence[str],
    known: Mapping[str, datetime],
    tried: Mapping[str, datetime | None],
    now: datetime,
    whole: datetime,
) -> list[str]:
    """Those without the days up to `whole`, those first that were longest not asked for.

    `tried`: when one was last asked for in vain. What lies ahead of now was noted by a clock that was set back.
    """

    def last(at: datetime | None) -> datetime:
        return at if at is not None and at <= now + SKEW else NEVER

    since = {symbol: (last(known.get(symbol)), last(tried.get(symbol))) for symbol in tickers}
    due = [symbol for symbol, (had, asked) in since.items() if had < whole and now - asked >= AGAIN]
    return sorted(due, key=lambda symbol: (max(since[symbol]), symbol))


def _last_close(now: datetime) -> datetime:
    """When the last whole day was over."""
    (_, close), (_, close_before) = last_and_before(now)
    return close if now >= close + timedelta(seconds=limits.CLOSING_PRINT_S) else close_before


def _ask(
    rt: Runtime, feed: Feed, yahoo: Yahoo, due: Sequence[str], last: datetime, until_s: float
) -> tuple[list[str], list[str]]:
    """The symbols that days up to the last whole one came of, and those that none came of.

    It ends where Yahoo itself does not answer, or time is up.
    """
    done: list[str] = []
    failed: list[str] = []
    stumbles = 0
    for symbol in due:
        if clock.monotonic_s() >= until_s or stumbles >= limits.DATA_STUMBLES_MAX:
            break
        try:
            rows = _rows(feed, yahoo, symbol, last)
        except ProviderError as error:
            failed.append(symbol)
            log.info("days_not_had", symbol=symbol, why=str(error))
            if isinstance(error, Closed) or error.fault not in (*OF_SYMBOL, Fault.TRANSIENT):
                break
            stumbles = stumbles + 1 if error.fault is Fault.TRANSIENT else 0
            with transaction(rt.engine) as connection:  # what is known of it stays
                sources.note_got(connection, TRIED, {symbol: Got(rt.market())})
        else:
            done.append(symbol)
            stumbles = 0
            with transaction(rt.engine) as connection:
                companies.note(connection, Kind.DAYS, {symbol: rows}, NAME, rt.market())
    return done, failed


def _rows(feed: Feed, yahoo: Yahoo, symbol: str, last: datetime) -> list[dict[str, Any]]:
    """A year of days with indicators. Raises ProviderError, also where there is none."""
    rows = daily.rows_of(feed.gate.call(1, lambda: yahoo.days(symbol, (last - YEAR).date(), last.date())))
    if not rows:
        raise ProviderError(NAME, Fault.NO_DATA, f"no days of {symbol}")
    return rows


def show(rt: Runtime, tickers: Sequence[str], done: Sequence[str] = (), failed: Sequence[str] = ()) -> None:
    """Write the tickers' keys; with nothing done, of all tickers that anything is known of."""
    named = list(done) or list(tickers)
    with transaction(rt.engine) as connection:
        facts = {kind: companies.facts(connection, kind, named) for kind in Kind}
    writes: list[tuple[Any, Any]] = []
    for symbol in named:
        if symbol not in facts[Kind.DAYS]:
            continue
        try:
            told = ticker_of(symbol, {kind: facts[kind].get(symbol) for kind in Kind})
        except ValueError as error:
            cannot_be_shown(rt, "the days of Yahoo Finance", error, symbol)
        else:
            writes.append((keys.YFINANCE_ENHANCED.of(symbol), told))
    if not writes and not failed:
        return
    status = YahooStatus(
        timestamp=rt.wall(),
        tickers_processed=len(writes) + len(failed),
        success_count=len(writes),
        error_count=len(failed),
        next_update=rt.wall() + timedelta(seconds=limits.FETCH_PASS_S),
    )
    rt.board.write_many([*writes, (keys.YFINANCE_STATUS, status)], now=rt.wall())


def ticker_of(symbol: str, facts: dict[Kind, Fact | None]) -> YahooTicker:
    """What is known of one ticker, as the board tells it."""
    days, figures, news = facts[Kind.DAYS], facts[Kind.FUNDAMENTALS], facts[Kind.NEWS]
    history = tuple(_day(symbol, row) for row in (days.body if days else ()))
    told = figures.body if figures else {}
    ratios: dict[str, Any] = {name: reading.number(told.get(name)) for name in RATIOS}
    known = [fact.known_at for fact in (days, figures, news) if fact is not None]
    return YahooTicker(
        ticker=symbol,
        timestamp=max(known),
        historical_data=history,
        fundamentals=YahooFundamentals(
            market_cap=reading.number(told.get("market_cap_usd")),
            sector=told.get("sector"),
            industry=told.get("industry"),
            **ratios,
        ),
        news=tuple(_headline(one) for one in (news.body if news else ())),
        data_points=len(history),
    )


def _day(symbol: str, row: dict[str, Any]) -> YahooDay:
    figures = {name: value for name, value in row.items() if name != "day"}
    return YahooDay(date=date.fromisoformat(row["day"]), ticker=symbol, **figures)


def _headline(one: dict[str, Any]) -> YahooNews:
    """Nobody has read it for what it feels like: its sentiment is not known."""
    at = datetime.fromisoformat(one["published_at"])
    return YahooNews(title=one["title"], publisher=one.get("publisher"), published=at, sentiment=None)
