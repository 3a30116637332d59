"""What the market data keys of the board say, built from values. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from qbot.contract import keys
from qbot.contract.key import Key
from qbot.contract.payloads_market import MarketPrice, MultiApiQuote, MultiApiStats, SourceCalls, SourceStats
from qbot.market import reading
from qbot.store.quotes import Accepted
from qbot.store.sources import PassMade
from qbot.types import Day

SOURCES = ("alpaca", "finnhub", "twelvedata", "fmp", "marketstack", "yfinance")
Figures = Mapping[str, Any]


def market_data(
    prices: Mapping[str, Accepted],
    days: Mapping[str, Day],
    figures: Mapping[str, Figures],
    made: PassMade | None,
    tickers: Sequence[str],
    now: datetime,
) -> list[tuple[Key[Any], Any]]:
    """`market_data`, `market_source_stats`, `multi_api_enhanced_*` and `dynamic_tickers` as of the last pass.

    `figures`: fundamentals by symbol. QBot invents no prices: the documented `stub` stays 0.
    """
    shown = {symbol: prices[symbol] for symbol in tickers if symbol in prices}
    told = {
        symbol: MarketPrice(price=float(one.quote.price_usd), timestamp=one.quote.at, source=one.quote.source)
        for symbol, one in shown.items()
    }
    joined = {symbol: _joined(one, days.get(symbol, Day()), figures.get(symbol, {})) for symbol, one in shown.items()}
    return [
        (keys.MARKET_DATA, told),
        (keys.MARKET_SOURCE_STATS, _counts(made, now)),
        (keys.MULTI_API_DATA, joined),
        (keys.MULTI_API_STATS, _calls(made, now)),
        (keys.DYNAMIC_TICKERS, tuple(tickers)),
    ]


def day_of(bars: Day, told: Sequence[tuple[str, Day]], source: str) -> Day:
    """The session of a ticker: by its bars; what they do not say by what came with its price, then by other sources."""
    ranked = sorted(told, key=lambda one: one[0] != source)
    for _name, day in ranked:
        known = {each.name: getattr(bars, each.name) for each in fields(Day)}
        bars = replace(bars, **{name: getattr(day, name) for name, value in known.items() if value is None})
    return bars


def _counts(made: PassMade | None, now: datetime) -> SourceStats:
    answered = {name: made.sources.get(name, {}).get("answered", 0) if made else 0 for name in SOURCES}
    at = made.began_at if made else now
    return SourceStats(time=at, stub=0, failed=made.unanswered if made else 0, **answered)


def _calls(made: PassMade | None, now: datetime) -> MultiApiStats:
    if made is None:
        return MultiApiStats(timestamp=now, total_tickers=0, tickers_with_data=0, coverage_pct=0.0)
    calls = {
        name: SourceCalls(success=one["answered"], errors=one["failed"])
        for name, one in made.sources.items()
        if name in SOURCES
    }
    return MultiApiStats(
        timestamp=made.began_at,
        total_tickers=made.tickers,
        tickers_with_data=made.priced,
        coverage_pct=round(100.0 * made.priced / made.tickers, 1) if made.tickers else 0.0,
        **calls,
    )


def _joined(one: Accepted, day: Day, figures: Figures) -> MultiApiQuote:
    """A price beside its day. What no source tells is null, and so is what is no number of the contract."""
    price, before = float(one.quote.price_usd), day.previous_close
    return MultiApiQuote(
        price=price,
        open=reading.price_number(day.open),
        high=reading.price_number(day.high),
        low=reading.price_number(day.low),
        change=reading.number(round(price - before, 4)) if before else None,
        change_pct=reading.number(round((price / before - 1.0) * 100.0, 4)) if before else None,
        volume=reading.number(day.volume),  # a sum over a day, which may be larger than each part of it may
        primary_source=one.quote.source,
        sources_count=len(one.sources),
        sources_used=one.sources,
        market_cap=reading.number(figures.get("market_cap_usd")),
        pe_ratio=reading.number(figures.get("pe_ratio")),
        timestamp=one.quote.at,
    )
