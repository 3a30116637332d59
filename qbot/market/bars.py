"""Five-minute bars from rows of any source: sound, complete, each once. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from qbot.errors import UNREADABLE
from qbot.market import reading
from qbot.market.asking import batches, unreadable
from qbot.market.provider import BAR_COLUMNS, ProviderError, added
from qbot.types import BAR_MINUTES, TICKER

LENGTH = timedelta(minutes=BAR_MINUTES)
VALUES = ("open", "high", "low", "close", "volume")
Row = tuple[Any, ...]  # as BAR_COLUMNS: symbol, begin (aware UTC or None), then VALUES as the source has them
Span = tuple[datetime, datetime]


def frame_of(rows: Iterable[Row], start: datetime, end: datetime) -> pd.DataFrame:
    """BAR_COLUMNS of those bars that start at or after `start`, were complete at `end` and have sound prices.

    A bar begins at a whole five minutes: what does not is the running one, as some sources add it.
    """
    found: dict[tuple[str, datetime], tuple[Any, ...]] = {}
    for symbol, at, *values in rows:
        prices = [reading.price_number(value) for value in values[:4]]
        volume = reading.number(values[4])
        if at is None or at < start or at + LENGTH > end or not _whole(at) or not _sound(prices):
            continue
        found[symbol, at] = (symbol, at, *prices, max(volume or 0.0, 0.0))
    return _frame([found[key] for key in sorted(found)])


def empty() -> pd.DataFrame:
    """No bars, in the same columns."""
    return _frame([])


def _frame(rows: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(BAR_COLUMNS))
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True)
    return frame


def _whole(at: datetime) -> bool:
    return at.minute % BAR_MINUTES == 0 and at.second == 0 and at.microsecond == 0


def _sound(prices: Sequence[float | None]) -> bool:
    """All four there, and none outside of high and low, but for rounding."""
    known = [price for price in prices if price is not None]
    return len(known) == 4 and known[1] * 1.0001 >= max(known) and known[2] <= min(known) * 1.0001


def spans(start: datetime, end: datetime, days: int) -> list[Span]:
    """The time from start to end in pieces of at most so many days."""
    pieces, length = [], timedelta(days=days)
    while start < end:
        pieces.append((start, min(start + length, end)))
        start += length
    return pieces


def gather(
    provider: str,
    symbols: Sequence[str],
    size: int,
    pieces: Sequence[Span],
    ask: Callable[[Sequence[str], datetime, datetime], pd.DataFrame],
    *,
    per_symbol: bool = True,
) -> pd.DataFrame:
    """The bars of all symbols and pieces of time. `per_symbol`: each costs a credit, and not each request.

    It ends at the first error: raises ProviderError with the `bars` that came, and with what all of it cost.
    """
    found: list[pd.DataFrame] = []
    spent = cost = 0
    sound = [symbol for symbol in dict.fromkeys(symbols) if TICKER.fullmatch(symbol)]
    try:
        for batch in batches(sound, size):
            for begin, end in pieces:
                cost = len(batch) if per_symbol else 1
                frame = ask(batch, begin, end)
                found.append(frame[frame["symbol"].isin(batch)])
                spent += cost
    except ProviderError as error:
        raise _after(found, spent, error) from None
    except UNREADABLE as error:
        raise _after(found, spent, unreadable(provider, error, cost)) from None
    return joined(found)


def _after(found: Sequence[pd.DataFrame], spent: int, error: ProviderError) -> ProviderError:
    error.bars = joined([*found, empty() if error.bars is None else error.bars])
    error.credits = added([spent, error.credits])
    return error


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The bars of all of them."""
    some = [frame for frame in frames if len(frame)]
    return pd.concat(some, ignore_index=True) if some else empty()
