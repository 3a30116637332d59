"""Finnhub: quotes, headlines and fundamentals of one symbol a request.

Free: 60 calls a minute and 30 a second. A symbol it does not know is HTTP 200 with zeros. Bars are not free.
Facts of the wire: finnhub.io/docs/api.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from typing import Any

from qbot.market import reading
from qbot.market.asking import OF_SYMBOL, in_batches, readable
from qbot.market.company import Fundamentals, News, newest
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.market.reply import Reply, by_status, error_of
from qbot.market.wire import Getter
from qbot.types import Day, Quote

NAME = "finnhub"
KEY_HEADER = "X-Finnhub-Token"
NEWS_MAX = 50
MILLION = 1e6  # the unit of its market capitalisation
SAYS = (
    ("limit reached", Fault.MINUTE_LIMIT),
    ("too many requests", Fault.MINUTE_LIMIT),
    ("api key", Fault.AUTH),  # "Invalid API key.", "Please use an API key."
    ("have access to this resource", Fault.PLAN),
)


class Finnhub:
    """A Provider, FundamentalsProvider and NewsProvider. A credit is a call."""

    name = NAME

    def __init__(self, wire: Getter) -> None:
        self._wire = wire

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        return in_batches(NAME, symbols, 1, partial(self._quote, received_at=received_at))

    def fundamentals(self, symbol: str, received_at: datetime) -> Fundamentals:
        reply = self._sound("/stock/metric", {"symbol": symbol, "metric": "all"})
        with readable(NAME):
            found = parse_fundamentals(symbol, reply.body, received_at)
        if found.empty:
            raise ProviderError(NAME, Fault.NO_DATA, f"no metrics of {symbol}", credits=1)
        return found

    def news(self, symbol: str, since: date, until: date) -> tuple[News, ...]:
        span = {"from": since.isoformat(), "to": until.isoformat()}
        reply = self._sound("/company-news", {"symbol": symbol, **span})
        with readable(NAME):
            return newest(parse_news(symbol, reply.body), since, until, NEWS_MAX)

    def _quote(self, batch: Sequence[str], received_at: datetime) -> Answer:
        (symbol,) = batch
        reply = self._wire.get("/quote", {"symbol": symbol})
        fault = classify(reply)
        if fault is not None and fault not in OF_SYMBOL:
            raise error_of(NAME, fault, reply)
        found = None if fault else parse_quote(symbol, reply.body, received_at)
        if found is None:
            return Answer({}, {symbol: fault or Fault.NO_DATA}, credits=1)
        return Answer({symbol: found}, credits=1, days={symbol: parse_day(reply.body)})

    def _sound(self, path: str, query: dict[str, str]) -> Reply:
        reply = self._wire.get(path, query)
        if fault := classify(reply):
            raise error_of(NAME, fault, reply)
        return reply


def classify(reply: Reply) -> Fault | None:
    """What is wrong with an answer; None: nothing. One repository reports the 429 text under HTTP 200."""
    body = reading.mapping(reply.body)
    if isinstance(said := body.get("error"), str):
        return next((fault for part, fault in SAYS if part in said.lower()), by_status(reply) or Fault.TRANSIENT)
    if fault := by_status(reply):
        return fault
    zeros = [reading.decimal(body.get(name)) for name in ("c", "pc", "t")]
    return Fault.UNKNOWN_SYMBOL if zeros == [0, 0, 0] else None


def parse_quote(symbol: str, body: Any, received_at: datetime) -> Quote | None:
    """The body of /quote; None without a price or a time. It tells neither bid nor ask."""
    found = reading.mapping(body)
    return reading.quote(NAME, symbol, reading.price(found.get("c")), reading.unix_time(found.get("t")), received_at)


def parse_day(body: Any) -> Day:
    """The session, of the body of /quote. It has no volume."""
    found = reading.mapping(body)
    high, low, begin, before = (reading.price_number(found.get(name)) for name in ("h", "l", "o", "pc"))
    return Day(open=begin, high=high, low=low, previous_close=before)


def parse_fundamentals(symbol: str, body: Any, received_at: datetime) -> Fundamentals:
    """The body of /stock/metric. Market capitalisation comes in millions, the dividend yield in percent."""
    metric = reading.mapping(reading.mapping(body).get("metric"))

    def first(*names: str) -> float | None:
        return next((value for name in names if (value := reading.number(metric.get(name))) is not None), None)

    cap = first("marketCapitalization")
    yield_percent = first("currentDividendYieldTTM", "dividendYieldIndicatedAnnual")
    return Fundamentals(
        symbol,
        NAME,
        received_at,
        market_cap_usd=None if cap is None else reading.number(cap * MILLION),
        pe_ratio=first("peTTM", "peBasicExclExtraTTM", "peAnnual"),
        peg_ratio=first("pegTTM"),
        price_to_book=first("pb", "pbQuarterly", "pbAnnual"),
        beta=first("beta"),
        debt_to_equity=first("totalDebt/totalEquityQuarterly", "totalDebt/totalEquityAnnual"),
        dividend_yield=None if yield_percent is None else yield_percent / 100,
    )


def parse_news(symbol: str, body: Any) -> list[News]:
    """The body of /company-news; headlines without a text or a time are left out."""
    return [
        News(symbol, title, at, NAME, reading.words(row.get("source"), 100))
        for row in reading.rows(body)
        if (title := reading.words(row.get("headline"))) and (at := reading.unix_time(row.get("datetime")))
    ]
