"""Marketstack: the last close of up to a hundred symbols a request.

Free: 100 requests a month, each symbol counting as one, and ends of days only. The key goes into the query; there is no
other way. Unknown symbols are left out of the answer. Facts of the wire: docs.apilayer.com/marketstack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from functools import partial
from typing import Any

from qbot.market import reading
from qbot.market.asking import in_batches
from qbot.market.calendar import close_of
from qbot.market.provider import Answer, Fault
from qbot.market.reply import Reply, by_status, error_of
from qbot.market.wire import Getter
from qbot.types import Day, Quote

NAME = "marketstack"
KEY_PARAMETER = "access_key"
YEAR = timedelta(days=366)  # what is older is no close that anybody asked for, and each year's calendar takes a while
SYMBOLS_MAX = 100
CODES = {
    "invalid_access_key": Fault.AUTH,
    "missing_access_key": Fault.AUTH,
    "unauthorized": Fault.AUTH,
    "inactive_user": Fault.AUTH,
    "user_inactive": Fault.AUTH,
    "function_access_restricted": Fault.PLAN,
    "https_access_restricted": Fault.PLAN,
    "invalid_api_function": Fault.PLAN,  # no such endpoint for this key
    "too_many_requests": Fault.QUOTA,  # of the month
    "usage_limit_reached": Fault.QUOTA,
    "monthly_usage_limit_reached": Fault.QUOTA,
    "rate_limit_reached": Fault.MINUTE_LIMIT,  # five a second
    "no_valid_symbols_provided": Fault.UNKNOWN_SYMBOL,  # HTTP 422: not one of them
    "data_not_available": Fault.NO_DATA,
}
GATEWAY = (  # of the newer host, whose gateway answers before Marketstack does
    ("daily/monthly api rate limit", Fault.QUOTA),
    ("authentication credentials", Fault.AUTH),
    ("api key", Fault.AUTH),
    ("rate limit exceeded", Fault.MINUTE_LIMIT),
)


class Marketstack:
    """A Provider. A credit is a symbol asked for."""

    name = NAME

    def __init__(self, wire: Getter) -> None:
        self._wire = wire

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        return in_batches(NAME, symbols, SYMBOLS_MAX, partial(self._batch, received_at=received_at))

    def _batch(self, batch: Sequence[str], received_at: datetime) -> Answer:
        query = {"symbols": ",".join(batch), "limit": str(SYMBOLS_MAX)}
        reply = self._wire.get("/eod/latest", query, len(batch))
        fault = classify(reply)
        if fault in (Fault.UNKNOWN_SYMBOL, Fault.NO_DATA):
            return Answer({}, dict.fromkeys(batch, fault), len(batch))
        if fault is not None:
            raise error_of(NAME, fault, reply, credits=0 if fault in (Fault.AUTH, Fault.QUOTA) else len(batch))
        rows = by_symbol(reply.body)
        quotes = {s: quote for s in batch if s in rows and (quote := parse_quote(s, rows[s], received_at))}
        missing = {s: Fault.NO_DATA if s in rows else Fault.UNKNOWN_SYMBOL for s in batch if s not in quotes}
        return Answer(quotes, missing, len(batch), days={s: parse_day(rows[s]) for s in quotes})


def classify(reply: Reply) -> Fault | None:
    """What is wrong with an answer; None: nothing."""
    body = reading.mapping(reply.body)
    error = reading.mapping(body.get("error"))
    for said in (error.get("code"), error.get("type")):
        if isinstance(said, str) and said.lower() in CODES:
            return CODES[said.lower()]
    if isinstance(said := body.get("message"), str):
        told = said.replace("\\/", "/").lower()
        return next((fault for part, fault in GATEWAY if part in told), by_status(reply) or Fault.TRANSIENT)
    if fault := by_status(reply):
        return fault
    return None if "error" not in body and isinstance(body.get("data"), list) else Fault.TRANSIENT


def by_symbol(body: Any) -> dict[str, Mapping[str, Any]]:
    """The newest row of each symbol. ISO times of one zone sort as text."""
    rows = sorted(reading.rows(reading.mapping(body).get("data")), key=lambda row: str(row.get("date")))
    return {symbol: row for row in rows if isinstance(symbol := row.get("symbol"), str)}


def parse_quote(symbol: str, row: Mapping[str, Any], received_at: datetime) -> Quote | None:
    """The end of a day as a quote; None without a price or a time.

    Its time is the midnight of its day in UTC. It tells of that day's close, where that is over; else it stays dated
    before it: it never looks fresher than it is.
    """
    at = reading.iso_time(row.get("date"))
    recent = at is not None and at.time() == time() and at <= received_at <= at + YEAR
    close = close_of(at.date()) if at is not None and recent else None
    over = close is not None and close <= received_at
    return reading.quote(NAME, symbol, reading.price(row.get("close")), close if over else at, received_at)


def parse_day(row: Mapping[str, Any]) -> Day:
    """The session of a row."""
    begin, high, low = (reading.price_number(row.get(name)) for name in ("open", "high", "low"))
    return Day(begin, high, low, reading.number(row.get("volume")))
