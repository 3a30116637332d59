"""Quotes and bars from Alpaca's data API, in batches: one request a hundred symbols."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

import pandas as pd
import requests
from alpaca.common.exceptions import APIError
from alpaca.data.enums import Adjustment, DataFeed
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import StockBarsRequest, StockSnapshotRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

from qbot.broker.alpaca import harden
from qbot.errors import UNREADABLE, ConfigError, DataUnavailable
from qbot.market import bars as bar_frames
from qbot.market import reading
from qbot.market.asking import in_batches
from qbot.market.bounded import bound
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.market.reply import Reply, by_status, message_of, reply_of, retry_after_s
from qbot.settings import Settings
from qbot.types import BAR_MINUTES, Day, Quote

SOURCE = "alpaca"
SYMBOLS_PER_REQUEST = 200  # keeps the URL under 2,000 characters
SAYS = (
    ("subscription does not permit", Fault.PLAN),  # 403: the consolidated feed on a free plan
    ("forbidden", Fault.AUTH),  # 403 without a code: wrong keys, too
    ("unauthorized", Fault.AUTH),
    ("access key verification failed", Fault.AUTH),
    ("too many requests", Fault.MINUTE_LIMIT),
    ("rate limit", Fault.MINUTE_LIMIT),
    ("invalid symbol", Fault.UNKNOWN_SYMBOL),
)


class AlpacaData:
    """Market data of one account's feed: a BarProvider. A credit is a request."""

    source = SOURCE
    name = SOURCE

    def __init__(self, client: StockHistoricalDataClient, feed: DataFeed) -> None:
        harden(client)
        bound(client)
        self._client = client
        self._feed = feed

    def latest(self, symbols: Sequence[str], received_at: datetime) -> dict[str, Quote]:
        """The latest trade and quote of each symbol; symbols without a usable price are left out.

        Raises DataUnavailable when one of the requests was not answered.
        """
        quotes: dict[str, Quote] = {}
        try:
            with _readable():
                for raw in self._in_batches(symbols, self._snapshots):
                    quotes.update((q.symbol, q) for s, snap in raw.items() if (q := parse_quote(s, snap, received_at)))
        except ProviderError as error:
            raise DataUnavailable(str(error)) from None  # the name that the board tells of a cycle without prices
        return quotes

    def quotes(self, symbols: Sequence[str], received_at: datetime) -> Answer:
        ask = partial(self._batch, received_at=received_at)
        return in_batches(SOURCE, symbols, SYMBOLS_PER_REQUEST, ask, per_symbol=False)

    def _batch(self, batch: Sequence[str], received_at: datetime) -> Answer:
        asked = list(batch)
        raw = self._without_bad_symbols(asked, self._snapshots)
        quotes = {s: quote for s in asked if (quote := parse_quote(s, raw.get(s), received_at))}
        missing = {s: Fault.NO_DATA if s in asked else Fault.UNKNOWN_SYMBOL for s in batch if s not in quotes}
        return Answer(quotes, missing, 1 + len(batch) - len(asked), days={s: parse_day(raw[s]) for s in quotes})

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        ask = self._bars
        return bar_frames.gather(SOURCE, symbols, SYMBOLS_PER_REQUEST, [(start, end)], ask, per_symbol=False)

    def _bars(self, batch: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        def fetch(some: Sequence[str]) -> Any:
            request = StockBarsRequest(
                symbol_or_symbols=list(some), timeframe=TimeFrame(BAR_MINUTES, TimeFrameUnit.Minute),
                start=start, end=end, feed=self._feed, adjustment=Adjustment.SPLIT,
            )  # fmt: skip
            return self._client.get_stock_bars(request)

        asked = list(batch)
        raw = self._without_bad_symbols(asked, fetch)
        return bar_frames.frame_of(parse_bars(raw.get("bars", raw), start), start, end)

    def _snapshots(self, batch: Sequence[str]) -> Any:
        return self._client.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols=list(batch), feed=self._feed))

    def _in_batches(self, symbols: Sequence[str], fetch: Any) -> Iterator[dict[str, Any]]:
        for first in range(0, len(symbols), SYMBOLS_PER_REQUEST):
            yield self._without_bad_symbols(list(symbols[first : first + SYMBOLS_PER_REQUEST]), fetch)

    def _without_bad_symbols(self, batch: list[str], fetch: Any) -> dict[str, Any]:
        """One unknown symbol is 400 for the whole batch: take the one it names out of it and ask again."""
        turns = 0
        while batch:
            turns += 1
            try:
                return dict(fetch(batch))
            except APIError as error:
                refusal = reply_of(error.status_code or 0, _headers(error), str(error))
            except (requests.RequestException, ValueError) as error:
                raise _no_answer(error, turns) from None
            named = re.search(r"invalid symbol:?\s*[\"']?([^\s\"',}]+)", refusal.text)
            if refusal.status != 400 or named is None or named[1] not in batch:
                raise _refused(refusal, turns)
            batch.remove(named[1])
        return {}


def connect(settings: Settings) -> AlpacaData:
    """The data client of the environment. Raises ConfigError without keys."""
    key, secret = settings.alpaca_api_key.get_secret_value(), settings.alpaca_secret_key.get_secret_value()
    if not key or not secret:
        raise ConfigError("no market data: set QBOT_ALPACA_API_KEY and QBOT_ALPACA_SECRET_KEY, or run `qbot up`")
    client = StockHistoricalDataClient(key, secret, raw_data=True, url_override=settings.alpaca_data_url)
    return AlpacaData(client, DataFeed(settings.alpaca_data_feed))


def classify(reply: Reply) -> Fault | None:
    """What is wrong with an answer; None: nothing. A wrong key may be told by a web page as well."""
    said = message_of(reply).lower()
    if reply.status >= 400 and (known := next((fault for part, fault in SAYS if part in said), None)):
        return known
    return Fault.AUTH if reply.status == 401 else by_status(reply)


def _refused(reply: Reply, credits: int) -> ProviderError:
    fault = classify(reply) or Fault.TRANSIENT
    # Bad symbols are taken out one by one; a refusal for one that was not asked for is none of a known form.
    fault = Fault.TRANSIENT if fault is Fault.UNKNOWN_SYMBOL else fault
    message = f"HTTP {reply.status}: {message_of(reply) or 'no known form'}"
    return ProviderError(SOURCE, fault, message, retry_after_s=retry_after_s(reply), credits=credits)


def _no_answer(error: Exception, credits: int) -> ProviderError:
    return ProviderError(SOURCE, Fault.TRANSIENT, type(error).__name__, credits=credits)


def _headers(error: APIError) -> dict[str, str]:
    found = getattr(error.response, "headers", None) or {}
    return {str(name).lower(): str(value) for name, value in found.items()}


@contextmanager
def _readable() -> Iterator[None]:
    """An answer in another form than the documented one is no answer."""
    try:
        yield
    except UNREADABLE as error:
        raise ProviderError(SOURCE, Fault.TRANSIENT, f"unreadable answer: {error!r}") from None


def parse_quote(symbol: str, snapshot: Any, received_at: datetime) -> Quote | None:
    """The snapshot as a quote; None without a positive last price and its time.

    A one-sided book (a zero) falls back to the price.
    """
    trade, book = (reading.mapping(reading.mapping(snapshot).get(name)) for name in ("latestTrade", "latestQuote"))
    bid, ask = reading.price(book.get("bp")), reading.price(book.get("ap"))
    at = reading.iso_time(trade.get("t"))
    return reading.quote(SOURCE, symbol, reading.price(trade.get("p")), at, received_at, bid, ask)


def parse_bars(raw: Any, start: datetime) -> list[bar_frames.Row]:
    """Bars by symbol. Raises ValueError where there are some and none has its prices and a time from `start` on: that
    is no word that there are none."""
    listed = [] if raw is None else list(raw.items())
    rows = [
        (symbol, reading.iso_time(bar.get("t")), *(bar.get(name) for name in "ohlcv"))
        for symbol, bars in listed
        for bar in reading.rows(bars)
    ]
    if any(bars for _symbol, bars in listed) and not any(_usable(row, start) for row in rows):
        raise ValueError("no bar is one that was asked for")
    return rows


def _usable(row: bar_frames.Row, start: datetime) -> bool:
    _symbol, at, *prices, _volume = row
    return at is not None and at >= start and all(reading.price_number(price) for price in prices)


def parse_day(snapshot: Any) -> Day:
    """The session of a snapshot."""
    today, before = (reading.mapping(reading.mapping(snapshot).get(name)) for name in ("dailyBar", "prevDailyBar"))
    begin, high, low = (reading.price_number(today.get(name)) for name in ("o", "h", "l"))
    return Day(begin, high, low, reading.number(today.get("v")), reading.price_number(before.get("c")))
