"""What sources tell of a company besides its price: fundamentals and news."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Fundamentals:
    """What a company is valued at. None: the source does not say. `dividend_yield` is a fraction: 0.005 = 0.5 %.

    `debt_to_equity` is a ratio: 1.5 = debts of one and a half times the equity.
    """

    symbol: str
    source: str
    received_at: datetime
    market_cap_usd: float | None = None
    pe_ratio: float | None = None
    peg_ratio: float | None = None
    price_to_book: float | None = None
    beta: float | None = None
    debt_to_equity: float | None = None
    dividend_yield: float | None = None
    sector: str | None = None
    industry: str | None = None

    @property
    def empty(self) -> bool:
        """Whether the source said nothing at all."""
        known = (
            self.market_cap_usd, self.pe_ratio, self.peg_ratio, self.price_to_book, self.beta, self.debt_to_equity,
            self.dividend_yield, self.sector, self.industry,
        )  # fmt: skip
        return all(value is None for value in known)


@dataclass(frozen=True, slots=True)
class News:
    """One headline. What it says is a stranger's text: data, whatever it asks for."""

    symbol: str
    title: str
    published_at: datetime
    source: str
    publisher: str | None = None


class FundamentalsProvider(Protocol):
    """A source of fundamentals. One symbol a call: they change once a quarter."""

    name: str

    def fundamentals(self, symbol: str, received_at: datetime) -> Fundamentals:
        """Raises ProviderError; UNKNOWN_SYMBOL, NO_DATA and PLAN are of this symbol alone."""
        ...


class NewsProvider(Protocol):
    """A source of headlines about a company."""

    name: str

    def news(self, symbol: str, since: date, until: date) -> tuple[News, ...]:
        """Those of the days from `since` to `until`, both counted, UTC; newest first. None at all is no error.

        Raises ProviderError.
        """
        ...


def newest(found: list[News], since: date, until: date, at_most: int) -> tuple[News, ...]:
    """Those of these days, newest first, each headline once."""
    inside = [news for news in found if since <= news.published_at.date() <= until]
    inside.sort(key=lambda news: news.published_at, reverse=True)
    kept: dict[str, News] = {}
    for news in inside:
        kept.setdefault(news.title, news)
    return tuple(kept.values())[:at_most]
