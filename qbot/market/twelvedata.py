"""Twelve Data: quotes and bars of several symbols a request, a credit a symbol.

Free: 8 credits a minute, 800 a day. Numbers are strings. Errors come under HTTP 200 as well, and within a batch each
symbol has its own. Times without a zone are the exchange's unless UTC is asked for. Facts of the wire:
twelvedata.com/docs, support.twelvedata.com.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd

from qbot.market import bars as bar_frames
from qbot.market import reading
from qbot.market.asking import OF_SYMBOL, in_batches
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.market.reply import Reply, by_status, error_of, second_of_minute
from qbot.market.wire import Getter
from qbot.types import Day, Quote

NAME = "twelvedata"
KEY_HEADER, KEY_PREFIX = "Authorization", "apikey "
SYMBOLS_MAX = 8  # a request of more than the minute's credits is refused as a whole
BARS_SPAN_DAYS = 60  # 43 sessions have 3,354 bars; 5,000 a symbol and request are the most
BARS_MAX = "5000"
SAYS = (
    ("credits for the day", Fault.QUOTA),
    ("daily limit", Fault.QUOTA),
    ("current minute", Fault.MINUTE_LIMIT),
    ("no data is available", Fault.NO_DATA),
    (" plan", Fault.PLAN),  # 404 as well: "This symbol is available starting with the Grow or Venture plan."
    ("**symbol**", Fault.UNKNOWN_SYMBOL),  # "**symbol** or **figi** parameter is missing or invalid", "… not found"
)
CODES: dict[object, Fault] = {401: Fault.AUTH, 403: Fault.PLAN, 404: Fault.UNKNOWN_SYMBOL, 429: Fault.MINUTE_LIMIT}


class TwelveData:
    """A BarProvider. A credit is a symbol asked for."""

    name = NAME

    def __init__(self, wire: Getter) -> None:
        self._wire = wire

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        return in_batches(NAME, symbols, SYMBOLS_MAX, partial(self._batch, received_at=received_at))

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        spans = bar_frames.spans(start, end, BARS_SPAN_DAYS)
        return bar_frames.gather(NAME, symbols, SYMBOLS_MAX, spans, self._bars)

    def _batch(self, batch: Sequence[str], received_at: datetime) -> Answer:
        reply, rows = self._rows("/quote", batch, {})
        if rows is None:
            return in_batches(NAME, batch, 1, partial(self._batch, received_at=received_at))
        quotes = {s: quote for s, row in rows.items() if (quote := parse_quote(s, row, received_at))}
        faults = {s: fault for s, row in rows.items() if (fault := fault_of(row))}
        missing = {s: faults.get(s, Fault.NO_DATA) for s in batch if s not in quotes}
        failed = _ill(faults, reply, len(batch))
        return Answer(quotes, missing, len(batch), failed, {s: parse_day(rows[s]) for s in quotes})

    def _bars(self, batch: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        query = {
            "interval": "5min", "timezone": "UTC", "order": "asc", "outputsize": BARS_MAX, "adjust": "splits",
            "start_date": f"{start:%Y-%m-%d %H:%M:%S}", "end_date": f"{end:%Y-%m-%d %H:%M:%S}",
        }  # fmt: skip
        reply, rows = self._rows("/time_series", batch, query)
        if rows is None:
            return bar_frames.gather(NAME, batch, 1, [(start, end)], self._bars)
        faults = {symbol: fault for symbol in batch if (fault := fault_of_series(rows.get(symbol, {})))}
        found = [row for symbol, body in rows.items() if symbol not in faults for row in parse_bars(symbol, body)]
        frame = bar_frames.frame_of(found, start, end)
        if failed := _ill(faults, reply, len(batch)):
            failed.bars = frame
            raise failed
        return frame

    def _rows(
        self, path: str, batch: Sequence[str], query: Mapping[str, str]
    ) -> tuple[Reply, dict[str, Mapping[str, Any]] | None]:
        """The part of each symbol. None: it refuses several as a whole for one of them, and does not say which.

        Raises ProviderError. What it refuses is not charged.
        """
        reply = self._wire.get(path, {"symbol": ",".join(batch), **query}, len(batch))
        fault = classify(reply)
        if fault is not None and fault not in OF_SYMBOL:
            raise _error(fault, reply, 0 if fault is not Fault.TRANSIENT else len(batch))
        if fault is not None and len(batch) > 1:
            return reply, None
        return reply, by_symbol(batch, reply.body)


def classify(reply: Reply) -> Fault | None:
    """What is wrong with an answer as a whole; None: nothing. A batch in which each symbol has its own is none."""
    body = reading.mapping(reply.body)
    if (fault := fault_of(body)) is not None:
        return fault
    if fault := by_status(reply):
        return fault
    return None if body else Fault.TRANSIENT


def fault_of(body: Mapping[str, Any]) -> Fault | None:
    """What an error object says, alone or within a batch; None: it is none."""
    if body.get("status") != "error" and not (isinstance(body.get("message"), str) and "code" in body):
        return None
    said = body.get("message")
    told = said.lower() if isinstance(said, str) else ""
    code = reading.decimal(body.get("code"))
    if code == 401 or "apikey" in told:
        return Fault.AUTH
    return next((fault for part, fault in SAYS if part in told), CODES.get(code, Fault.TRANSIENT))


def fault_of_series(body: Mapping[str, Any]) -> Fault | None:
    """As `fault_of`: one that has no bars says so, and what says nothing of them is an answer in no known form."""
    return fault_of(body) or (None if isinstance(body.get("values"), list) else Fault.TRANSIENT)


def by_symbol(batch: Sequence[str], body: Any) -> dict[str, Mapping[str, Any]]:
    """The part of each symbol: several are keyed by it, a single one is not."""
    found = reading.mapping(body)
    if len(batch) == 1 and not reading.mapping(found.get(batch[0])):
        return {batch[0]: found}
    return {symbol: reading.mapping(found[symbol]) for symbol in batch if symbol in found}


def parse_quote(symbol: str, row: Mapping[str, Any], received_at: datetime) -> Quote | None:
    """A quote's object; None without a price or a time, of another symbol, or in another currency.

    `timestamp` is the begin of the day's candle; `last_quote_at` is the price's time, where there is one.
    """
    if row.get("symbol", symbol) != symbol or row.get("currency", "USD") != "USD":
        return None
    at = reading.unix_time(row.get("last_quote_at")) or reading.unix_time(row.get("timestamp"))
    return reading.quote(NAME, symbol, reading.price(row.get("close")), at, received_at)


def parse_day(row: Mapping[str, Any]) -> Day:
    """The session of a quote's object."""
    names = ("open", "high", "low", "previous_close")
    begin, high, low, before = (reading.price_number(row.get(name)) for name in names)
    return Day(begin, high, low, reading.number(row.get("volume")), before)


def parse_bars(symbol: str, body: Mapping[str, Any]) -> list[bar_frames.Row]:
    """A series that was asked for in UTC. One in another currency has no bars."""
    if reading.mapping(body.get("meta")).get("currency", "USD") != "USD":
        return []
    return [
        (symbol, reading.naive_utc_time(row.get("datetime")), *(row.get(name) for name in bar_frames.VALUES))
        for row in reading.rows(body.get("values"))
    ]


def _ill(faults: Mapping[str, Fault], reply: Reply, credits: int) -> ProviderError | None:
    """What a symbol of a batch has against the source itself: others will have it next."""
    ill = next((fault for fault in faults.values() if fault not in OF_SYMBOL), None)
    return None if ill is None else _error(ill, reply, credits)


def _error(fault: Fault, reply: Reply, credits: int) -> ProviderError:
    """With the rest of its minute to wait, by its own clock, where it says that the minute is used up."""
    wait_s = float(60 - (second_of_minute(reply) or 0)) if fault is Fault.MINUTE_LIMIT else None
    return error_of(NAME, fault, reply, credits=credits, wait_s=wait_s)
