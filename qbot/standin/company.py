"""Made-up facts and headlines of companies: the same for ever, whoever tells them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from qbot.exchange.assets import KNOWN
from qbot.standin.walk import chance

SECTORS = (
    ("Technology", "Consumer Electronics"), ("Healthcare", "Biotechnology"), ("Financial Services", "Banks - Regional"),
    ("Consumer Cyclical", "Internet Retail"), ("Industrials", "Aerospace & Defense"), ("Energy", "Oil & Gas E&P"),
)  # fmt: skip
EVENTS = ("reports its quarter", "opens a plant", "names a new board member", "is seen higher by an analyst")
HEADLINE_AT = time(13, 5)  # before the open, UTC


@dataclass(frozen=True, slots=True)
class Company:
    """`dividend_usd`: of a year and share. `debt_to_equity`: a ratio."""

    symbol: str
    name: str
    exchange: str
    sector: str
    industry: str
    shares: int
    pe_ratio: float
    peg_ratio: float
    price_to_book: float
    beta: float
    debt_to_equity: float
    dividend_usd: float


@dataclass(frozen=True, slots=True)
class Headline:
    title: str
    at: datetime
    publisher: str


def company(symbol: str) -> Company:
    def between(low: float, high: float, what: str) -> float:
        return round(low + (high - low) * chance(f"{symbol} {what}"), 2)

    name, exchange = KNOWN.get(symbol, (f"{symbol} Corporation (made up)", "NASDAQ"))
    sector, industry = SECTORS[int(chance(f"{symbol} sector") * len(SECTORS))]
    return Company(
        symbol, name, exchange, sector, industry, shares=int(between(50, 8_000, "shares") * 1e6),
        pe_ratio=between(9, 45, "pe"), peg_ratio=between(0.6, 3, "peg"), price_to_book=between(1, 14, "book"),
        beta=between(0.5, 1.8, "beta"), debt_to_equity=between(0.1, 2.5, "debt"),
        dividend_usd=between(0, 4, "dividend"),
    )  # fmt: skip


def headlines(symbol: str, first: date, last: date, now: datetime) -> list[Headline]:
    """One a day or none, of the days from the first to the last, newest first; none of the time after `now`."""
    found = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        event = int(chance(f"{symbol} {day}") * 2 * len(EVENTS))
        at = datetime.combine(day, HEADLINE_AT, UTC)
        if event < len(EVENTS) and at <= now:
            found.append(Headline(f"Made up: {symbol} {EVENTS[event]}", at, "Made-up Wire"))
    return found[::-1]
