"""Sources that answer what a test wants, behind real gates: for passes over several of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

import pandas as pd

from qbot.contract.board import client_of
from qbot.market import bars as bar_frames
from qbot.market.feeds import Feed
from qbot.market.limiting import Gate
from qbot.market.plans import FREE, Need
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.runtime import Runtime
from qbot.types import BAR_MINUTES, Day, Quote
from tests.support.runtime import World

BAR = timedelta(minutes=BAR_MINUTES)
NEEDS = frozenset({Need.PRICE, Need.BARS, Need.CLOSE})


@dataclass
class Made:
    """One source: a BarProvider. `price`: of a symbol, as text; None: it has none.

    `fails`: what it raises instead; `late`: how old its prices are; `waits`: it answers when that is set.
    """

    name: str
    market: Callable[[], datetime]
    price: Callable[[str], str | None]
    fails: ProviderError | None = None
    late: timedelta = timedelta(0)
    waits: threading.Event | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)
    asked_bars: list[tuple[str, ...]] = field(default_factory=list)
    missing: Fault = Fault.NO_DATA
    had: pd.DataFrame | None = None  # all its bars; None: one, of the last five minutes, at the price of now

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        self.asked.append(tuple(symbols))
        self._stumble()
        told = {symbol: price for symbol in symbols if (price := self.price(symbol)) is not None}
        at = self.market() - self.late
        found = {symbol: quote(symbol, price, at, received_at, self.name) for symbol, price in told.items()}
        days = {symbol: Day(open=float(price)) for symbol, price in told.items()}
        return Answer(found, {symbol: self.missing for symbol in symbols if symbol not in told}, 1, days=days)

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        self.asked_bars.append(tuple(symbols))
        self._stumble()
        if self.had is not None:
            rows = self.had[self.had["symbol"].isin(list(symbols)) & (self.had["ts"] + BAR <= end)]
            return rows[rows["ts"] >= start]
        begin = end.replace(minute=end.minute // 5 * 5, second=0, microsecond=0) - BAR
        rows = [
            (symbol, begin, price, price, price, price, 1_000)
            for symbol in symbols
            if (price := self.price(symbol)) is not None
        ]
        return bar_frames.frame_of(rows, start, end)

    def _stumble(self) -> None:
        if self.waits is not None:
            self.waits.wait(30)
        if self.fails is not None:
            raise self.fails


def quote(symbol: str, price: str, at: datetime, received_at: datetime, source: str) -> Quote:
    amount = Decimal(price)
    return Quote(symbol, amount, amount, amount, at, received_at, source)


def telling(prices: Mapping[str, str]) -> Callable[[str], str | None]:
    """These prices, whatever comes of the mapping later."""
    return prices.get


def with_sources(world: World, *sources: Made, offers: frozenset[Need] = NEEDS) -> Runtime:
    """A worker whose sources these are, on their free plans. Nothing is waited for between two tries."""
    rt = world.another()
    feeds = {}
    for one in sources:
        plan = replace(FREE[one.name], offers=FREE[one.name].offers & offers, bars_bring_price=False)
        gate = Gate(plan, "key", client_of(rt.settings), rt.engine, rt.wall, pause=lambda _seconds: None)
        feeds[one.name] = Feed(plan, gate, one, one if Need.BARS in plan.offers else None)
    rt.__dict__["feeds"] = feeds
    return rt
