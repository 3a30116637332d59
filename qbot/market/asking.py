"""Many symbols, asked for in as few requests as a source allows, and one bad symbol costs no other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from qbot import limits
from qbot.errors import UNREADABLE
from qbot.market.provider import Answer, Fault, ProviderError, added
from qbot.types import TICKER, Quote

OF_SYMBOL = frozenset({Fault.UNKNOWN_SYMBOL, Fault.NO_DATA, Fault.PLAN})  # the source is well; another may be had
T = TypeVar("T")


def in_batches(
    provider: str, symbols: Sequence[str], size: int, ask: Callable[[Sequence[str]], Answer], *, per_symbol: bool = True
) -> Answer:
    """All answers in one. `ask` gives the answer of one batch, or raises ProviderError; `per_symbol`: each costs one.

    It ends at an error of the source itself. One without a usable answer may be the batch's own: the next is still
    tried. Raises ProviderError when the source failed before anything came.
    """
    parts = [Answer({}, {symbol: Fault.UNKNOWN_SYMBOL for symbol in symbols if not TICKER.fullmatch(symbol)}, 0)]
    sound = [symbol for symbol in dict.fromkeys(symbols) if TICKER.fullmatch(symbol)]
    for batch, part in _asked(provider, batches(sound, size), ask, per_symbol):
        parts.append(_whole(batch, part))
    return _joined(symbols, parts)


def _asked(
    provider: str, chunks: Iterable[Sequence[str]], ask: Callable[[Sequence[str]], Answer], per_symbol: bool
) -> Iterator[tuple[Sequence[str], Answer]]:
    stumbles = 0
    for batch in chunks:
        try:
            part = ask(batch)
        except ProviderError as error:
            part = Answer({}, dict.fromkeys(batch, error.fault), error.credits, error)
        except UNREADABLE as error:
            cost = len(batch) if per_symbol else 1
            problem = unreadable(provider, error, cost)
            part = Answer({}, dict.fromkeys(batch, problem.fault), cost, problem)
        yield batch, part
        transient = part.failed is not None and part.failed.fault is Fault.TRANSIENT
        stumbles = stumbles + 1 if transient else 0
        if part.failed is not None and (not transient or stumbles >= limits.DATA_STUMBLES_MAX):
            return


def _whole(batch: Sequence[str], part: Answer) -> Answer:
    """With a word on every symbol of the batch, and on no other."""
    quotes = {symbol: part.quotes[symbol] for symbol in batch if symbol in part.quotes}
    missing = {symbol: part.missing.get(symbol, Fault.NO_DATA) for symbol in batch if symbol not in quotes}
    days = {symbol: day for symbol, day in part.days.items() if symbol in quotes}
    return Answer(quotes, missing, part.credits, part.failed, days)


def _joined(symbols: Sequence[str], parts: Sequence[Answer]) -> Answer:
    quotes: dict[str, Quote] = {symbol: quote for part in parts for symbol, quote in part.quotes.items()}
    missing = {symbol: fault for part in parts for symbol, fault in part.missing.items()}
    failed = parts[-1].failed  # one that others came after was its batch's own, and is told of those symbols alone
    credits = added(part.credits for part in parts)
    if failed is not None:
        missing |= {symbol: failed.fault for symbol in symbols if symbol not in quotes and symbol not in missing}
        if not quotes:
            failed.credits = credits
            raise failed
    days = {symbol: day for part in parts for symbol, day in part.days.items()}
    return Answer(quotes, missing, credits, failed, days)


def batches(symbols: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The symbols in order, at most `size` at a time."""
    for first in range(0, len(symbols), size):
        yield symbols[first : first + size]


def unreadable(provider: str, error: Exception, credits: int = 1) -> ProviderError:
    """The error that an answer in another form than the documented one is."""
    return ProviderError(provider, Fault.TRANSIENT, f"unreadable answer: {type(error).__name__}", credits=credits)


@contextmanager
def readable(provider: str, credits: int = 1) -> Iterator[None]:
    """Raises ProviderError where what is done in it cannot read the answer."""
    try:
        yield
    except UNREADABLE as error:
        raise unreadable(provider, error, credits) from None
