"""Financial Modeling Prep, the `stable` API: quotes and profiles of one symbol a request.

Free: 250 calls a day. Several symbols in one `/quote` silently give `[]`, and `/batch-quote` is not in the free plan.
A refusal by plan is HTTP 402 with plain text under a JSON content type: of one symbol, or of the whole endpoint.
Class shares have a dash there: BRK-B. Facts of the wire: site.financialmodelingprep.com/developer/docs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from qbot.market import reading
from qbot.market.asking import OF_SYMBOL, in_batches, readable
from qbot.market.company import Fundamentals
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.market.reply import Reply, by_status, error_of, is_page
from qbot.market.wire import Getter
from qbot.types import Day, Quote

NAME = "fmp"
KEY_HEADER = "apikey"
OF_ONE_SYMBOL = ("premium query parameter", "this value set for 'symbol'")
SAYS = (
    ("limit reach", Fault.QUOTA),  # "Limit Reach . Please upgrade your plan …": of the day
    ("too many requests", Fault.MINUTE_LIMIT),
    ("api key", Fault.AUTH),
    *((part, Fault.PLAN) for part in OF_ONE_SYMBOL),
    ("restricted endpoint", Fault.PLAN),
    ("exclusive endpoint", Fault.PLAN),
    ("legacy endpoint", Fault.PLAN),
    ("under your current subscription", Fault.PLAN),
)


class Fmp:
    """A Provider and FundamentalsProvider. A credit is a call."""

    name = NAME

    def __init__(self, wire: Getter) -> None:
        self._wire = wire

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        return in_batches(NAME, symbols, 1, partial(self._quote, received_at=received_at))

    def fundamentals(self, symbol: str, received_at: datetime) -> Fundamentals:
        reply = self._wire.get("/profile", {"symbol": their_symbol(symbol)})
        if fault := classify(reply):
            raise error_of(NAME, fault, reply)
        with readable(NAME):
            found = parse_fundamentals(symbol, reply.body, received_at)
        if found.empty:
            raise ProviderError(NAME, Fault.NO_DATA, f"no profile of {symbol}", credits=1)
        return found

    def _quote(self, batch: Sequence[str], received_at: datetime) -> Answer:
        (symbol,) = batch
        reply = self._wire.get("/quote", {"symbol": their_symbol(symbol)})
        fault = classify(reply)
        if fault is not None and (fault not in OF_SYMBOL or (fault is Fault.PLAN and not of_one_symbol(reply))):
            raise error_of(NAME, fault, reply)
        found = None if fault else parse_quote(symbol, reply.body, received_at)
        if found is None:
            return Answer({}, {symbol: fault or Fault.NO_DATA}, credits=1)
        return Answer({symbol: found}, credits=1, days={symbol: parse_day(symbol, reply.body)})


def their_symbol(symbol: str) -> str:
    return symbol.replace(".", "-")


def classify(reply: Reply) -> Fault | None:
    """What is wrong with an answer; None: nothing. Some report the text of 429 under HTTP 200."""
    if said := _said(reply):
        found = next((fault for part, fault in SAYS if part in said), None)
        return found or by_status(reply) or Fault.TRANSIENT
    if fault := by_status(reply):
        return fault
    if reply.body == []:
        return Fault.UNKNOWN_SYMBOL
    return None if isinstance(reply.body, list) else Fault.TRANSIENT


def of_one_symbol(reply: Reply) -> bool:
    """Whether a refusal by plan is of the symbol asked for, not of the endpoint."""
    return any(part in _said(reply) for part in OF_ONE_SYMBOL)


def _said(reply: Reply) -> str:
    """The text of an error, in lower case; empty: it is none. Plain text is one only where the status says so, too."""
    if reply.body is None or isinstance(reply.body, str):
        return "" if reply.status < 400 or is_page(reply) else reply.text[:1000].lower()
    body = reading.mapping(reply.body)
    return next(
        (said.lower() for name in ("Error Message", "message", "error") if isinstance(said := body.get(name), str)), ""
    )


def parse_quote(symbol: str, body: Any, received_at: datetime) -> Quote | None:
    """The body of /quote; None without a price or a time, or of another symbol. It tells neither bid nor ask."""
    row = _row(symbol, body)
    return reading.quote(
        NAME, symbol, reading.price(row.get("price")), reading.unix_time(row.get("timestamp")), received_at
    )


def parse_day(symbol: str, body: Any) -> Day:
    """The session, of the body of /quote."""
    row = _row(symbol, body)
    names = ("open", "dayHigh", "dayLow", "previousClose")
    begin, high, low, before = (reading.price_number(row.get(name)) for name in names)
    return Day(begin, high, low, reading.number(row.get("volume")), before)


def parse_fundamentals(symbol: str, body: Any, received_at: datetime) -> Fundamentals:
    """The body of /profile. `lastDividend` is that of a year, in USD a share."""
    row = _row(symbol, body)
    price, dividend = reading.price_number(row.get("price")), reading.number(row.get("lastDividend"))
    return Fundamentals(
        symbol,
        NAME,
        received_at,
        market_cap_usd=reading.number(row.get("marketCap")),
        beta=reading.number(row.get("beta")),
        dividend_yield=reading.number(dividend / price) if price and dividend is not None else None,
        sector=reading.words(row.get("sector"), 100),
        industry=reading.words(row.get("industry"), 100),
    )


def _row(symbol: str, body: Any) -> dict[str, Any]:
    return next((dict(row) for row in reading.rows(body) if row.get("symbol") in (symbol, their_symbol(symbol))), {})
