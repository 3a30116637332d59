"""What a source of market data offers, and how it says that it cannot: the seam between vendors and everything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import pandas as pd

from qbot.errors import DataUnavailable
from qbot.market.reading import sentence
from qbot.types import Day, Quote

BAR_COLUMNS = ("symbol", "ts", "open", "high", "low", "close", "volume")


class Fault(StrEnum):
    """Why a source did not answer, by what has to happen next."""

    AUTH = "auth"  # the key is wrong: nobody asks again until a human changes it
    PLAN = "plan"  # the key's plan does not include this endpoint or symbol: not asked for again
    MINUTE_LIMIT = "minute_limit"  # too many calls in a short time: ask again after `retry_after_s`
    QUOTA = "quota"  # the calls of the day or month are used up: closed until they are renewed
    UNKNOWN_SYMBOL = "unknown_symbol"  # no such symbol there: the source is well
    NO_DATA = "no_data"  # the symbol is known, and there is nothing for what was asked
    TRANSIENT = "transient"  # time-out, lost connection, 5xx, an answer in no known form: may work next time


class ProviderError(DataUnavailable):
    """A source gave nothing at all, or of bars not all. `retry_after_s`: where it said how long to wait; seconds.

    `credits`: what asking cost nevertheless, as in Answer; 0 where no connection came about, None where nobody knows.
    `bars`: those that came before it failed, BAR_COLUMNS; None: none. The message is for humans and never holds a key;
    of a source's own words it is `reading.sentence`.
    """

    bars: pd.DataFrame | None = None

    def __init__(
        self,
        provider: str,
        fault: Fault,
        message: str,
        *,
        retry_after_s: float | None = None,
        credits: int | None = None,
    ) -> None:
        super().__init__(f"{provider}: {sentence(message)}")
        self.provider = provider
        self.fault = fault
        self.retry_after_s = retry_after_s
        self.credits = credits


@dataclass(frozen=True)
class Answer:
    """What one request for quotes brought. `missing`: why, for each symbol asked for that has no quote.

    `credits`: what it cost of the source's limits, in the source's own unit (calls, credits or symbols); 0 where nobody
    was asked, None where that is not known. `failed`: the error that ended it early, when some symbols were answered
    before. `days`: the session of a symbol, where the same answer told of it.
    """

    quotes: Mapping[str, Quote]
    missing: Mapping[str, Fault] = field(default_factory=dict)
    credits: int | None = None
    failed: ProviderError | None = None
    days: Mapping[str, Day] = field(default_factory=dict)


def added(costs: Iterable[int | None]) -> int | None:
    """What several requests cost; None where one of them does not say."""
    total = 0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


class Provider(Protocol):
    """A source of quotes. Times of quotes are aware UTC; prices are positive Decimals in USD."""

    name: str

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        """The latest price of each symbol. One bad symbol costs no other.

        Raises ProviderError when the source failed before anything came. One that is well and has no quote for any of
        these symbols has not failed: then the answer says why of each.
        """
        ...


class BarProvider(Provider, Protocol):
    """A source that has intraday bars too."""

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        """Five-minute bars that start at or after `start` and were complete at `end`: BAR_COLUMNS, split adjusted.

        `ts` is the begin of the bar, aware UTC. A symbol without rows has no bars. Raises ProviderError when the source
        did not answer for all of them, so that none seems to have no bars; what came is in its `bars`.
        """
        ...
