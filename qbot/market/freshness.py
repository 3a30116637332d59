"""Whether a provider still tells what happens: one that answers with yesterday's prices is as good as down."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from qbot import limits
from qbot.errors import DataUnavailable
from qbot.market.calendar import market_hours
from qbot.types import Quote

MAX_AGE = timedelta(seconds=limits.QUOTE_MAX_AGE_S)


def check(quotes: Mapping[str, Quote], now: datetime) -> None:
    """Raises DataUnavailable without a single quote, or with none of this session once it has run for MAX_AGE."""
    if not quotes:
        raise DataUnavailable("not one quote came back")
    newest = max(quote.at for quote in quotes.values())
    running = market_hours(now).is_open and market_hours(now - MAX_AGE).is_open
    if running and now - newest > MAX_AGE:
        raise DataUnavailable(f"the newest quote is of {newest.isoformat()}, the exchange is open")
