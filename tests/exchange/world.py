"""A small made-up market for tests of the pure engine: one session's bars of a few symbols, an order book on it."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any

import pandas as pd

from qbot.exchange.account import Ledger
from qbot.exchange.advance import advance
from qbot.exchange.book import Book
from qbot.exchange.engine import submit
from qbot.exchange.market import Market
from qbot.exchange.orders import NewOrder, Order
from qbot.exchange.sessions import Sessions

OPEN = datetime(2025, 7, 7, 13, 30, tzinfo=UTC)  # a Monday, 09:30 in New York
CLOSE = datetime(2025, 7, 7, 20, 0, tzinfo=UTC)
NEXT_OPEN = OPEN + timedelta(days=1)
BAR = timedelta(minutes=5)
Ohlc = tuple[float, float, float, float]


@cache
def sessions() -> Sessions:
    """June to October 2025."""
    return Sessions(date(2025, 6, 1), date(2025, 10, 31))


def frame(symbol: str, bars: list[Ohlc], start: datetime = OPEN, gaps: frozenset[int] = frozenset()) -> pd.DataFrame:
    """Consecutive five-minute bars from `start`; those numbered in `gaps` are missing."""
    rows = [
        {"symbol": symbol, "ts": start + i * BAR, "open": o, "high": h, "low": low, "close": c, "volume": 1000 + i,
         "vwap": (h + low + c) / 3, "trades": 10}
        for i, (o, h, low, c) in enumerate(bars) if i not in gaps
    ]  # fmt: skip
    made = pd.DataFrame(rows)
    return made.assign(ts=made["ts"].astype("datetime64[us, UTC]"))


def market(**bars: list[Ohlc]) -> Market:
    """A market of several symbols, all from the open of 2025-07-07."""
    return Market(pd.concat([frame(symbol, rows) for symbol, rows in bars.items()], ignore_index=True))


def flat(price: float, count: int = 78) -> list[Ohlc]:
    """Bars that do not move."""
    return [(price, price, price, price)] * count


def book(of: Market, at: datetime = OPEN, cash: str = "100000") -> Book:
    """An empty book on a market. Ids count up; none of the first thousand splits its order."""
    count = itertools.count(1)
    return Book(of, sessions(), Ledger(Decimal(cash), Decimal(cash)), at.timestamp(),
                new_id=lambda: f"00000000-0000-4000-8000-{next(count):012d}")  # fmt: skip


_ids = itertools.count(1)


def request(symbol: str = "AAA", side: str = "buy", qty: str = "10", type: str = "market", tif: str = "day",
            **more: Any) -> NewOrder:  # fmt: skip
    """An order request; prices may be given as text."""
    prices = {k: Decimal(v) if isinstance(v, str) and k not in {"order_class", "client_order_id"} else v
              for k, v in more.items()}  # fmt: skip
    prices.setdefault("client_order_id", f"test-{next(_ids)}")
    return NewOrder(symbol=symbol, side=side, qty=Decimal(qty), type=type, time_in_force=tif, **prices)


def place(on: Book, at: datetime, *args: str, **more: Any) -> Order:
    """Submit a request and let it trade at once."""
    order = submit(on, request(*args, **more), at)
    advance(on, at)
    return order


def with_shares(on: Book, at: datetime, symbol: str = "AAA", qty: str = "10") -> Book:
    """The book after a market buy that filled, its events forgotten."""
    order = place(on, at, symbol, "buy", qty)
    assert order.status == "filled", order
    on.take_changes()
    return on


def events(on: Book) -> list[str]:
    """What has happened since it was last asked, as `event type`."""
    return [f"{event.name} {event.order.type}" for event in on.take_changes().events]
