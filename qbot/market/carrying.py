"""Carries out requests of a plan: each through its source's gate, all sources at once, within a bound of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import pandas as pd

from qbot import limits
from qbot.market import bars as bar_frames
from qbot.market.asking import OF_SYMBOL, batches
from qbot.market.backfilling import Asker
from qbot.market.calendar import sessions_between
from qbot.market.company import Fundamentals, News
from qbot.market.feeds import Feed
from qbot.market.gaps import DAY_BARS_MAX, LENGTH, Reach
from qbot.market.limiting import Closed
from qbot.market.planning import Ask
from qbot.market.plans import Need
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.market.yahoo import Yahoo
from qbot.types import BAR_MINUTES

T = TypeVar("T")
NEWS_BACK = timedelta(days=2)


@dataclass(frozen=True)
class Told:
    """What one request brought. `failed`: why nothing came, or nothing more; `bars`: as far as they were asked for.

    `cut`: of a long history there is more; the next pass goes on with it.
    """

    ask: Ask
    answer: Answer = field(default_factory=lambda: Answer({}))
    bars: pd.DataFrame = field(default_factory=bar_frames.empty)
    fundamentals: tuple[Fundamentals, ...] = ()
    news: Mapping[str, tuple[News, ...]] = field(default_factory=dict)
    failed: ProviderError | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class When:
    """The time of asking. `bars_from`: by symbol, from when on bars are wanted. `begin`: called as a request leaves."""

    now: datetime
    wall: Callable[[], datetime]
    bars_from: Mapping[str, datetime]
    begin: Callable[[], None] = lambda: None


def carry_out(feed: Feed, ask: Ask, when: When) -> Told:
    """Make one request. Raises BoardUnavailable or StoreUnavailable where nobody can tell whether it may be made."""
    try:
        return CARRIERS[ask.need](feed, ask, when)
    except ProviderError as error:
        return Told(ask, Answer({}, dict.fromkeys(ask.symbols, error.fault)), failed=error)


def _asked(feed: Feed, when: When, symbols: int, question: Callable[[], T]) -> T:
    def leaving() -> T:
        when.begin()
        return question()

    return feed.gate.call(symbols, leaving)


def _prices(feed: Feed, ask: Ask, when: When) -> Told:
    answer = _asked(feed, when, len(ask.symbols), lambda: feed.quotes.quotes(ask.symbols, when.wall()))
    return Told(ask, answer, failed=answer.failed)


def _bars(feed: Feed, ask: Ask, when: When) -> Told:
    """Symbols that want the same time are asked for together. What came before a failure is kept."""
    assert feed.bars is not None
    if isinstance(feed.bars, Yahoo) and Need.PRICE in ask.brings:
        return _chart(feed, feed.bars, ask, when)
    source = feed.bars
    pieces = list(_pieces(Asker(feed.plan, source, feed.gate).reach, ask, when))
    found = Told(ask, cut=len(pieces) > limits.BARS_REQUESTS_MAX)
    for start, end, symbols in pieces[: limits.BARS_REQUESTS_MAX]:
        try:
            frame = _asked(feed, when, len(symbols), lambda: source.bars(symbols, start, end))  # noqa: B023 — at once
        except ProviderError as error:
            came = bar_frames.empty() if error.bars is None else error.bars
            return replace(found, bars=bar_frames.joined([found.bars, came]), failed=error)
        found = replace(found, bars=bar_frames.joined([found.bars, frame]))
    return found


def _chart(feed: Feed, yahoo: Yahoo, ask: Ask, when: When) -> Told:
    (symbol,) = ask.symbols
    start = when.bars_from[symbol]
    answer, frame = _asked(feed, when, 1, lambda: yahoo.chart(symbol, start, when.now, when.wall()))
    return Told(ask, answer, frame)


def _pieces(reach: Reach, ask: Ask, when: When) -> Iterator[tuple[datetime, datetime, Sequence[str]]]:
    """From when to when to ask for which symbols, so that each is one request on the wire, too: what an adapter asks
    for besides nobody waits with, or counts. They meet at whole five minutes, so that no bar is lost. Those that want
    the least come first, each from its oldest on.
    """
    for start, symbols in sorted(_spans(ask, when), reverse=True):
        start -= timedelta(minutes=start.minute % BAR_MINUTES, seconds=start.second, microseconds=start.microsecond)
        per_call, days = len(symbols), reach.days
        if reach.bars is not None and len(symbols) * _bars_at_most(start, when.now) > reach.bars:
            per_call = min(len(symbols), reach.bars // DAY_BARS_MAX)
            days = reach.bars // (DAY_BARS_MAX * per_call)
        for some in batches(symbols, per_call):
            for begin, end in bar_frames.spans(start, when.now, days):
                yield begin, end, some


def _bars_at_most(start: datetime, end: datetime) -> int:
    """Of one symbol."""
    return min((end - start) // LENGTH + 1, DAY_BARS_MAX * len(sessions_between(start, end)))


def _spans(ask: Ask, when: When) -> list[tuple[datetime, tuple[str, ...]]]:
    """The symbols by the day from which on they want bars: each day from the earliest of its begins."""
    by_day: dict[object, list[str]] = {}
    for symbol in ask.symbols:
        by_day.setdefault(when.bars_from[symbol].date(), []).append(symbol)
    return [(min(when.bars_from[symbol] for symbol in symbols), tuple(symbols)) for symbols in by_day.values()]


def _fundamentals(feed: Feed, ask: Ask, when: When) -> Told:
    source = feed.fundamentals
    assert source is not None
    found, missing = [], {}
    for symbol in ask.symbols:
        try:
            found.append(_asked(feed, when, 1, lambda: source.fundamentals(symbol, when.wall())))  # noqa: B023 — at once
        except ProviderError as error:
            if error.fault not in OF_SYMBOL:
                raise
            missing[symbol] = error.fault
    return Told(ask, Answer({}, missing), fundamentals=tuple(found))


def _news(feed: Feed, ask: Ask, when: When) -> Told:
    source = feed.news
    assert source is not None
    today = when.now.date()
    found, missing = {}, {}
    for symbol in ask.symbols:
        try:
            found[symbol] = _asked(feed, when, 1, lambda: source.news(symbol, today - NEWS_BACK, today))  # noqa: B023 — at once
        except ProviderError as error:
            if error.fault not in OF_SYMBOL:
                raise
            missing[symbol] = error.fault
    return Told(ask, Answer({}, missing), news=found)


CARRIERS: Mapping[Need, Callable[[Feed, Ask, When], Told]] = {
    Need.PRICE: _prices, Need.CLOSE: _prices, Need.BARS: _bars, Need.FUNDAMENTALS: _fundamentals, Need.NEWS: _news,
}  # fmt: skip


class Carriers:
    """Requests on their way. A few at once of each source, so that a slow one holds up no other.

    `carry` makes one request and raises for what concerns all of them; it calls what it is given as the request leaves.
    """

    def __init__(self, carry: Callable[[Ask, Callable[[], None]], Told]) -> None:
        self._carry = carry
        self._left: set[Ask] = set()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._running: dict[Future[Told], Ask] = {}

    def send(self, asks: Iterable[Ask]) -> None:
        """Make these requests too, in their order."""
        for ask in asks:
            pool = self._pools.get(ask.source)
            if pool is None:
                pool = self._pools[ask.source] = ThreadPoolExecutor(limits.DATA_AT_ONCE, f"data-{ask.source}")
            self._running[pool.submit(self._carry, ask, partial(self._left.add, ask))] = ask

    @property
    def asked(self) -> tuple[Ask, ...]:
        """What is on its way."""
        return tuple(self._running.values())

    def come(self, within_s: float) -> list[Told]:
        """What has come back: all of it as soon as it is there, or what there is after that time."""
        done, _ = wait(self._running, timeout=max(0.0, within_s))
        return [self._told(future) for future in done]

    def give_up(self) -> Iterator[Told]:
        """What has not come back, as failed. A request that is being made ends by itself, and nobody hears of it.

        Of one that has not left the source knows nothing: its turn did not come.
        """
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for ask in self._running.values():
            error: ProviderError = Closed(ask.source, Fault.MINUTE_LIMIT, "its turn did not come in this pass")
            if ask in self._left:
                error = ProviderError(ask.source, Fault.TRANSIENT, "no answer within this pass")
            yield Told(ask, Answer({}, dict.fromkeys(ask.symbols, error.fault)), failed=error)
        self._running.clear()

    def _told(self, future: Future[Told]) -> Told:
        del self._running[future]
        return future.result()
