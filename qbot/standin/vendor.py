"""What a vendor is to the server: how it is asked, what it answers, and which of the troubles it can have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from qbot.standin.market import Bars, Prices, Snapshot
from qbot.standin.troubles import LIES, Trouble

JSON, TEXT, PAGE = "application/json", "text/plain", "text/html"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request. `path`: below the vendor's prefix; `headers` by small letters."""

    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Said:
    """An answer."""

    body: bytes = b""
    status: int = 200
    kind: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Market:
    """What a vendor knows at a moment. `unknown`: symbols that it shall not know."""

    prices: Prices
    now: datetime
    unknown: frozenset[str] = frozenset()

    def snapshot(self, symbol: str) -> Snapshot | None:
        """None: it does not know the symbol."""
        return self.prices.snapshots([symbol], self.now).get(symbol)

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> Bars:
        """Five-minute bars from `start` on, before `end`."""
        return self.prices.bars(symbols, start, end, self.now)


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor at the paths under `prefix`.

    `without_key`: what it answers to a request without a key, or None where one came. `symbols_of`: those asked for, as
    QBot writes them. `refusals`: its recorded body of each trouble that has one; `lies`: the others it can have.
    `aside`: whether a path is one that no refusal and no lie touches.
    """

    name: str
    prefix: str
    without_key: Callable[[Ask], Said | None]
    answer: Callable[[Ask, Market], Said]
    refusals: Mapping[Trouble, Said]
    symbols_of: Callable[[Ask], tuple[str, ...]]
    lies: frozenset[Trouble] = LIES
    aside: Callable[[str], bool] = lambda _path: False

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """Those it can have, in the order of their table."""
        own = {Trouble.DEAD, Trouble.SLOW, *self.refusals, *self.lies}
        return tuple(trouble for trouble in Trouble if trouble in own)


def said(body: Any, status: int = 200, **headers: str) -> Said:
    """A body as JSON. NaN stays NaN, as some vendors send it."""
    return Said(json.dumps(body).encode(), status, JSON, headers)


def text(body: str, status: int = 200, kind: str = TEXT) -> Said:
    """A body as it is."""
    return Said(body.encode(), status, kind)


def listed(ask: Ask) -> tuple[str, ...]:
    """The symbols of the usual parameters."""
    named = ask.query.get("symbol") or ask.query.get("symbols") or ""
    return tuple(symbol for part in named.split(",") if (symbol := part.strip()))


def with_dots(ask: Ask) -> tuple[str, ...]:
    """The same of a vendor that writes BRK-B for BRK.B."""
    return tuple(ours(symbol) for symbol in listed(ask))


def ours(symbol: str) -> str:
    return symbol.upper().replace("-", ".")


def theirs(symbol: str) -> str:
    return symbol.replace(".", "-")


def is_price(value: float | None) -> bool:
    """Whether one can reckon with it."""
    return value is not None and value == value and value > 0


def change(now: float | None, before: float) -> tuple[float | None, float | None]:
    """In USD and in percent; None where either is no price."""
    if now is None or not is_price(now) or not is_price(before):
        return None, None
    return round(now - before, 4), round(100 * (now / before - 1), 4)
