"""Yahoo Finance through yfinance: quotes, bars, days, fundamentals and headlines, without a key.

One symbol a request. `Ticker.history` and not `download`, which never raises, so that "limited" and "no data" differ.
Yahoo publishes no limits and says nothing of how long to wait. Class shares have a dash there: BRK-B.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd

from qbot.market import bars as bar_frames
from qbot.market import reading
from qbot.market.asking import OF_SYMBOL, in_batches, readable
from qbot.market.company import Fundamentals, News, newest
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.market.reply import Reply, by_status, message_of
from qbot.market.yahoo_link import Asked, Link, YahooFailed
from qbot.types import Day, Quote

NAME = "yfinance"
BARS_BACK_DAYS = 59  # five-minute bars go back sixty days, counted to this very moment
BARS_SPAN_DAYS = 59
NEWS_MAX = 10
DAY_COLUMNS = ("symbol", "day", "open", "high", "low", "close", "volume")
PARTS = ("chart", "quoteSummary", "quoteResponse", "finance")
FRAME_VALUES = ("Open", "High", "Low", "Close", "Volume")
SAYS = (
    ("too many requests", Fault.MINUTE_LIMIT),
    ("symbol may be delisted", Fault.UNKNOWN_SYMBOL),  # chart, HTTP 404
    ("quote not found", Fault.UNKNOWN_SYMBOL),  # quoteSummary, HTTP 404
    ("data doesn't exist", Fault.NO_DATA),
    ("data not available", Fault.NO_DATA),
    ("must be within", Fault.NO_DATA),
)
TURNED_AWAY = 999  # Yahoo's own status for whoever asks too often


class Yahoo:
    """A BarProvider, FundamentalsProvider and NewsProvider. A credit is a request; one call may take several."""

    name = NAME

    def __init__(self, link: Link) -> None:
        self._link = link

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        return in_batches(NAME, symbols, 1, partial(self._quote, received_at=received_at))

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        return bar_frames.gather(NAME, symbols, 1, bar_frames.spans(start, end, BARS_SPAN_DAYS), self._bars)

    def days(self, symbol: str, first: date, last: date) -> pd.DataFrame:
        """Daily bars from the first to the last day, both counted: DAY_COLUMNS, split adjusted, oldest first.

        Raises ProviderError; UNKNOWN_SYMBOL and NO_DATA are of this symbol alone.
        """
        query = {"start": first.isoformat(), "end": (last + timedelta(days=1)).isoformat(), "interval": "1d"}
        asked = self._asked(
            partial(self._link.history, their_symbol(symbol), auto_adjust=False, actions=False, **query)
        )
        with readable(NAME, asked.requests):
            return parse_days(symbol, asked.value[0])

    def fundamentals(self, symbol: str, received_at: datetime) -> Fundamentals:
        asked = self._asked(partial(self._link.info, their_symbol(symbol)))
        with readable(NAME, asked.requests):
            found = parse_fundamentals(symbol, asked.value, received_at)
        if found.empty:
            raise ProviderError(NAME, Fault.NO_DATA, f"no fundamentals of {symbol}", credits=asked.requests)
        return found

    def news(self, symbol: str, since: date, until: date) -> tuple[News, ...]:
        asked = self._asked(partial(self._link.news, their_symbol(symbol), NEWS_MAX))
        with readable(NAME, asked.requests):
            return newest(parse_news(symbol, asked.value), since, until, NEWS_MAX)

    def _quote(self, batch: Sequence[str], received_at: datetime) -> Answer:
        (symbol,) = batch
        ask = partial(
            self._link.history, their_symbol(symbol), period="1d", interval="1d", auto_adjust=False, actions=False
        )
        try:
            asked = self._asked(ask)
        except ProviderError as error:
            if error.fault not in OF_SYMBOL:
                raise
            return Answer({}, {symbol: error.fault}, error.credits)
        with readable(NAME, asked.requests):
            frame, meta = asked.value
            found = parse_quote(symbol, meta, received_at)
            if found is None:
                return Answer({}, {symbol: Fault.NO_DATA}, asked.requests)
            return Answer({symbol: found}, credits=asked.requests, days={symbol: parse_day(frame, meta)})

    def chart(self, symbol: str, start: datetime, end: datetime, received_at: datetime) -> tuple[Answer, pd.DataFrame]:
        """The five-minute bars of one symbol, and its price, which the same answer holds. Raises ProviderError."""
        start = max(start, end - timedelta(days=BARS_BACK_DAYS))
        query = {"start": start, "end": end, "interval": "5m", "prepost": False}
        ask = partial(self._link.history, their_symbol(symbol), auto_adjust=False, actions=False, **query)
        try:
            asked = self._asked(ask)
        except ProviderError as error:
            if error.fault not in OF_SYMBOL:
                raise
            return Answer({}, {symbol: error.fault}, error.credits), bar_frames.empty()
        with readable(NAME, asked.requests):
            frame, meta = asked.value
            found, bars = parse_quote(symbol, meta, received_at), parse_bars(symbol, frame, start, end)
        if found is None:
            return Answer({}, {symbol: Fault.NO_DATA}, asked.requests), bars
        return Answer({symbol: found}, credits=asked.requests), bars

    def _bars(self, batch: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        (symbol,) = batch
        return self.chart(symbol, start, end, received_at=end)[1]

    def _asked(self, ask: Callable[[], Asked]) -> Asked:
        """Raises ProviderError."""
        try:
            return ask()
        except YahooFailed as failed:
            fault = fault_of(failed)
            said = message_of(failed.reply) if failed.reply is not None else ""
            raise ProviderError(NAME, fault, said or str(failed), credits=failed.requests) from None


def their_symbol(symbol: str) -> str:
    return symbol.replace(".", "-")


def fault_of(failed: YahooFailed) -> Fault:
    """Why yfinance gave nothing: the answer's own word first, then yfinance's."""
    if failed.limited:
        return Fault.MINUTE_LIMIT
    if failed.reply is None:
        return Fault.TRANSIENT
    return classify(failed.reply) or (Fault.NO_DATA if failed.missing else Fault.TRANSIENT)


def classify(reply: Reply) -> Fault | None:
    """What is wrong with an answer; None: nothing. There is no key: 401 and 403 are of a cookie, and pass."""
    body = reading.mapping(reply.body)
    errors = [reading.mapping(reading.mapping(body.get(part)).get("error")) for part in PARTS]
    said = next((error["description"] for error in errors if isinstance(error.get("description"), str)), None)
    if said is None and reply.body is None:
        said = reply.text[:200]
    if said is not None and (known := next((fault for part, fault in SAYS if part in said.lower()), None)):
        return known
    if any(errors):
        return Fault.TRANSIENT
    if reply.status == TURNED_AWAY:
        return Fault.MINUTE_LIMIT
    fault = by_status(reply)
    if fault in (Fault.AUTH, Fault.PLAN):
        return Fault.TRANSIENT
    results = [part.get("result") for name in PARTS if (part := reading.mapping(body.get(name)))]
    return fault or (Fault.NO_DATA if results and not any(results) else None)


def parse_quote(symbol: str, meta: Mapping[str, Any], received_at: datetime) -> Quote | None:
    """The metadata of a chart; None without a price or a time, of another symbol, or in another currency.

    It tells neither bid nor ask.
    """
    if meta.get("symbol") not in (symbol, their_symbol(symbol)) or meta.get("currency") != "USD":
        return None
    at = _time(meta.get("regularMarketTime"))
    return reading.quote(NAME, symbol, reading.price(meta.get("regularMarketPrice")), at, received_at)


def _time(value: Any) -> datetime | None:
    """Unix seconds, or what yfinance made of them."""
    if not isinstance(value, datetime):
        return reading.unix_time(value)
    return reading.unix_time(value.timestamp()) if value.tzinfo else None


def parse_day(frame: pd.DataFrame, meta: Mapping[str, Any]) -> Day:
    """The session, of a chart of one day."""
    begin = reading.price_number(float(frame["Open"].iloc[-1])) if len(frame) else None
    names = ("regularMarketDayHigh", "regularMarketDayLow", "chartPreviousClose")
    high, low, before = (reading.price_number(meta.get(name)) for name in names)
    return Day(begin, high, low, reading.number(meta.get("regularMarketVolume")), before)


def parse_bars(symbol: str, frame: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """A frame of five-minute bars, in New York's time, as BAR_COLUMNS in UTC."""
    if not len(frame):
        return bar_frames.empty()
    stamps = pd.DatetimeIndex(frame.index).tz_convert("UTC").to_pydatetime()
    values = zip(*(frame[name].tolist() for name in FRAME_VALUES), strict=True)
    return bar_frames.frame_of(((symbol, at, *row) for at, row in zip(stamps, values, strict=True)), start, end)


def parse_days(symbol: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of daily bars as DAY_COLUMNS. Its index is the exchange's day, with a zone or without."""
    days = [stamp.date() for stamp in frame.index]
    values = zip(*(frame[name].tolist() for name in FRAME_VALUES), strict=True) if days else ()
    rows = []
    for day, (*prices, volume) in zip(days, values, strict=True):
        sound = [reading.price_number(price) for price in prices]
        if None not in sound:
            rows.append((symbol, day, *sound, max(reading.number(volume) or 0.0, 0.0)))
    return pd.DataFrame(rows, columns=list(DAY_COLUMNS))


def parse_fundamentals(symbol: str, info: Mapping[str, Any], received_at: datetime) -> Fundamentals:
    """`Ticker.info`. Debt to equity comes in percent; `dividendYield` as a fraction or in percent, as its parts fall
    together, so it is reckoned from the dividend of a year in USD a share."""
    price = reading.price_number(info.get("currentPrice")) or reading.price_number(info.get("regularMarketPrice"))
    rate, debt = reading.number(info.get("dividendRate")), reading.number(info.get("debtToEquity"))
    peg = reading.number(info.get("trailingPegRatio"))
    return Fundamentals(
        symbol,
        NAME,
        received_at,
        market_cap_usd=reading.number(info.get("marketCap")),
        pe_ratio=reading.number(info.get("trailingPE")),
        peg_ratio=reading.number(info.get("pegRatio")) if peg is None else peg,
        price_to_book=reading.number(info.get("priceToBook")),
        beta=reading.number(info.get("beta")),
        debt_to_equity=None if debt is None else debt / 100,
        dividend_yield=reading.number(rate / price)
        if price and rate is not None
        else reading.number(info.get("trailingAnnualDividendYield")),
        sector=reading.words(info.get("sector"), 100),
        industry=reading.words(info.get("industry"), 100),
    )


def parse_news(symbol: str, found: Any) -> list[News]:
    """`Ticker.get_news`: an article's facts lie in `content`. Headlines without a text or a time are left out."""
    headlines = []
    for row in reading.rows(found):
        content = reading.mapping(row.get("content"))
        title, at = reading.words(content.get("title")), reading.iso_time(content.get("pubDate"))
        publisher = reading.words(reading.mapping(content.get("provider")).get("displayName"), 100)
        if title and at:
            headlines.append(News(symbol, title, at, NAME, publisher))
    return headlines
