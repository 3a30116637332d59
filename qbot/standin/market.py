"""What the vendors tell of: prices of a moment, five-minute bars and days, wherever they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A symbol at one moment: its last trade, the best bid and ask, its session so far. USD and shares.

    `begin`: when that session opened. `price`, `bid` and `ask` may be what no price can be, where a vendor lies.
    """

    symbol: str
    price: float | None
    bid: float | None
    ask: float | None
    at: datetime
    begin: datetime
    open: float
    high: float
    low: float
    volume: int
    previous_close: float


@dataclass(frozen=True, slots=True)
class Bar:
    """What was traded from `at` on, for five minutes or a session. USD and shares."""

    at: datetime
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    volume: int


Bars: TypeAlias = Mapping[str, Sequence[Bar]]  # by each symbol asked for, in that order; of one that is not known, none


class Prices(Protocol):
    """A market. Time is an argument: what lies after `now` is not known yet."""

    def snapshots(self, symbols: Sequence[str], now: datetime) -> Mapping[str, Snapshot]:
        """Those of the symbols that are known. Raises DataUnavailable."""
        ...

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime, now: datetime) -> Bars:
        """Five-minute bars that begin at `start` or later, before `end`, and have ended. Raises DataUnavailable."""
        ...

    def days(self, symbols: Sequence[str], first: date, last: date, now: datetime) -> Bars:
        """The sessions of these days of New York, both counted, that have ended. Raises DataUnavailable."""
        ...
