"""What can be wrong with a vendor, switchable at run time, and the lies among it as changes of a market."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from qbot.clock import NEW_YORK
from qbot.market.calendar import last_and_before
from qbot.standin import hours
from qbot.standin.market import Bar, Bars, Prices, Snapshot

SLOW_S = 15.0  # longer than anybody waits for an answer
LIE_FACTOR, SPLIT_FACTOR = 1.07, 2.0


class Trouble(StrEnum):
    """Each at one vendor, which tells by its `troubles` whether it can have it."""

    DEAD = "dead"  # the connection closes without an answer
    SLOW = "slow"  # an answer after `latency_s`, or after SLOW_S
    MINUTE_LIMIT = "minute_limit"
    QUOTA = "quota"  # of a day or a month, or of money
    ERROR_IN_200 = "error_in_200"
    PLAN = "plan"  # the endpoint is not in the plan; of FMP 402 and plain text
    PLAN_SYMBOL = "plan_symbol"  # the symbol is not in the plan
    AUTH = "auth"
    SERVER_ERROR = "server_error"
    GARBAGE = "garbage"
    HTML = "html"
    EMPTY = "empty"
    WRONG_TIME_ZONE = "wrong_time_zone"  # stamped `hours` off; by default New York's clock taken for UTC
    LYING_PRICE = "lying_price"  # `factor` times what it is
    STALE = "stale"  # the session before
    ZERO = "zero"
    NEGATIVE = "negative"
    NULL = "null"
    NAN = "nan"
    UNSPLIT = "unsplit"  # all prices times `factor`: it does not know of a split
    UNKNOWN_SYMBOL = "unknown_symbol"


LIES = frozenset({
    Trouble.WRONG_TIME_ZONE, Trouble.LYING_PRICE, Trouble.STALE, Trouble.ZERO, Trouble.NEGATIVE, Trouble.NULL,
    Trouble.NAN, Trouble.UNSPLIT, Trouble.UNKNOWN_SYMBOL,
})  # fmt: skip
OF_PRICE: Mapping[Trouble | None, Callable[[float], float | None]] = {
    Trouble.ZERO: lambda _price: 0.0, Trouble.NEGATIVE: lambda price: -price, Trouble.NULL: lambda _price: None,
    Trouble.NAN: lambda _price: float("nan"),
}  # fmt: skip


class Switch(BaseModel):
    """How a vendor does. `latency_s`: before each answer. `symbols`: only these are concerned, as QBot writes them;
    none: all. `times`: so many requests, then it is well again; None: until it is healed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fault: Trouble | None = None
    latency_s: float = Field(default=0.0, ge=0, le=600)
    symbols: tuple[str, ...] = ()
    factor: float | None = Field(default=None, gt=0)
    hours: float | None = Field(default=None, ge=-48, le=48)
    times: int | None = Field(default=None, ge=1)

    def concerns(self, symbols: Sequence[str]) -> bool:
        """Whether a request for these symbols is."""
        return self.fault is not None and (not self.symbols or bool({*self.symbols} & {*symbols}))

    @property
    def wait_s(self) -> float:
        """Before an answer."""
        return self.latency_s or (SLOW_S if self.fault is Trouble.SLOW else 0.0)

    @property
    def scale(self) -> float:
        """What a price is multiplied by."""
        return self.factor or (SPLIT_FACTOR if self.fault is Trouble.UNSPLIT else LIE_FACTOR)

    def shift(self, at: datetime) -> timedelta:
        """What a time is moved by: New York's distance to UTC, unless it is told."""
        offset = at.astimezone(NEW_YORK).utcoffset() or timedelta(0)
        return offset if self.hours is None else timedelta(hours=self.hours)


@dataclass(frozen=True, slots=True)
class Lying:
    """A market as a vendor tells it that lies so."""

    truth: Prices
    switch: Switch

    def snapshots(self, symbols: Sequence[str], now: datetime) -> Mapping[str, Snapshot]:
        told = {}
        for symbol, true in self.truth.snapshots(symbols, now).items():
            one = self._snapshot(true) if self.switch.concerns([symbol]) else true
            if one is not None:
                told[symbol] = one
        return told

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime, now: datetime) -> Bars:
        return self._told(self.truth.bars(symbols, start, end, now), last_and_before(now)[0][0])

    def days(self, symbols: Sequence[str], first: date, last: date, now: datetime) -> Bars:
        return self._told(self.truth.days(symbols, first, last, now), hours.last_ended(now)[0])

    def _told(self, true: Bars, newest: datetime) -> Bars:
        """`newest`: the begin of what a stale one does not know yet."""
        return {
            symbol: self._bars(bars, newest) if self.switch.concerns([symbol]) else bars
            for symbol, bars in true.items()
        }

    def _snapshot(self, true: Snapshot) -> Snapshot | None:
        fault = self.switch.fault
        if fault is Trouble.UNKNOWN_SYMBOL:
            return None
        if fault is Trouble.WRONG_TIME_ZONE:
            return replace(true, at=true.at + self.switch.shift(true.at))
        if fault is Trouble.STALE:
            close, price = last_and_before(true.begin)[1][1], true.previous_close
            return replace(true, at=close, price=price, bid=price, ask=price)
        one = replace(true, price=self._price(true.price), bid=self._price(true.bid), ask=self._price(true.ask))
        if fault is Trouble.UNSPLIT:
            by = self.switch.scale
            day = {name: round(by * getattr(true, name), 4) for name in ("open", "high", "low", "previous_close")}
            one = replace(one, **day)
        return one

    def _bars(self, true: Sequence[Bar], newest: datetime) -> list[Bar]:
        if self.switch.fault is Trouble.UNKNOWN_SYMBOL:
            return []
        if self.switch.fault is Trouble.STALE:
            true = [bar for bar in true if bar.at < newest]
        elif self.switch.fault is Trouble.WRONG_TIME_ZONE:
            true = [replace(bar, at=bar.at + self.switch.shift(bar.at)) for bar in true]
        told = self._price
        return [
            replace(one, open=told(one.open), high=told(one.high), low=told(one.low), close=told(one.close))
            for one in true
        ]

    def _price(self, true: float | None) -> float | None:
        fault = self.switch.fault
        if true is None:
            return None
        if fault in (Trouble.LYING_PRICE, Trouble.UNSPLIT):
            return round(true * self.switch.scale, 4)
        return OF_PRICE[fault](true) if fault in OF_PRICE else true
