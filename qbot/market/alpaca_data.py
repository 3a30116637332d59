"""Quotes and bars from Alpaca's data API, in batches: one request a hundred symbols."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pandas as pd
import requests
from alpaca.common.exceptions import APIError
from alpaca.data.enums import Adjustment, DataFeed
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.requests import StockBarsRequest, StockSnapshotRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

from qbot.broker.alpaca import harden
from qbot.broker.alpaca_wire import UNREADABLE
from qbot.errors import ConfigError, DataUnavailable
from qbot.settings import Settings
from qbot.types import BAR_MINUTES, Quote

SOURCE = "alpaca"
SYMBOLS_PER_REQUEST = 200  # keeps the URL under 2,000 characters
BAR_COLUMNS = ("symbol", "ts", "open", "high", "low", "close", "volume")


class AlpacaData:
    """Market data of one account's feed."""

    source = SOURCE

    def __init__(self, client: StockHistoricalDataClient, feed: DataFeed) -> None:
        harden(client)
        self._client = client
        self._feed = feed

    def latest(self, symbols: Sequence[str], received_at: datetime) -> dict[str, Quote]:
        """The latest trade and quote of each symbol; symbols without a usable price are left out.

        Raises DataUnavailable when nothing could be read at all.
        """
        quotes: dict[str, Quote] = {}
        with _readable():
            for raw in self._in_batches(symbols, self._snapshots):
                quotes.update((q.symbol, q) for s, snap in raw.items() if (q := _quote(s, snap, received_at)))
        return quotes

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime) -> pd.DataFrame:
        """Five-minute bars that start at or after `start` and were complete at `end`: BAR_COLUMNS, split adjusted.

        Raises DataUnavailable.
        """

        def fetch(batch: Sequence[str]) -> Any:
            request = StockBarsRequest(
                symbol_or_symbols=list(batch), timeframe=TimeFrame(BAR_MINUTES, TimeFrameUnit.Minute),
                start=start, end=end, feed=self._feed, adjustment=Adjustment.SPLIT,
            )  # fmt: skip
            return self._client.get_stock_bars(request)

        with _readable():
            rows = [
                (symbol, bar["t"], bar["o"], bar["h"], bar["l"], bar["c"], bar["v"])
                for raw in self._in_batches(symbols, fetch)
                for symbol, bars in (raw.get("bars", raw) or {}).items()
                for bar in bars or []
            ]
            frame = pd.DataFrame(rows, columns=list(BAR_COLUMNS))
            frame["ts"] = pd.to_datetime(frame["ts"], utc=True)
            sound = (frame[["open", "high", "low", "close"]] > 0).all(axis=1)
        complete = frame["ts"] + pd.Timedelta(minutes=BAR_MINUTES) <= pd.Timestamp(end)
        return frame[sound & complete].reset_index(drop=True)

    def _snapshots(self, batch: Sequence[str]) -> Any:
        return self._client.get_stock_snapshot(StockSnapshotRequest(symbol_or_symbols=list(batch), feed=self._feed))

    def _in_batches(self, symbols: Sequence[str], fetch: Any) -> Iterator[dict[str, Any]]:
        for first in range(0, len(symbols), SYMBOLS_PER_REQUEST):
            yield self._without_bad_symbols(list(symbols[first : first + SYMBOLS_PER_REQUEST]), fetch)

    def _without_bad_symbols(self, batch: list[str], fetch: Any) -> dict[str, Any]:
        """One unknown symbol is 400 for the whole batch: drop the one it names and ask again."""
        while batch:
            try:
                return dict(fetch(batch))
            except APIError as error:
                named = re.search(r"invalid symbol:?\s*[\"']?([^\s\"',}]+)", str(error))
                if error.status_code != 400 or named is None or named[1] not in batch:
                    raise DataUnavailable(f"{SOURCE}: HTTP {error.status_code}") from error
                batch.remove(named[1])
            except (requests.RequestException, ValueError) as error:
                raise DataUnavailable(f"{SOURCE}: {type(error).__name__}") from error
        return {}


def connect(settings: Settings) -> AlpacaData:
    """The data client of the environment. Raises ConfigError without keys."""
    key, secret = settings.alpaca_api_key.get_secret_value(), settings.alpaca_secret_key.get_secret_value()
    if not key or not secret:
        raise ConfigError("no market data: set QBOT_ALPACA_API_KEY and QBOT_ALPACA_SECRET_KEY, or run `qbot up`")
    client = StockHistoricalDataClient(key, secret, raw_data=True, url_override=settings.alpaca_data_url)
    return AlpacaData(client, DataFeed(settings.alpaca_data_feed))


@contextmanager
def _readable() -> Iterator[None]:
    """An answer in another form than the documented one is no answer."""
    try:
        yield
    except UNREADABLE as error:
        raise DataUnavailable(f"{SOURCE}: unreadable answer: {error!r}") from error


def _quote(symbol: str, snapshot: dict[str, Any] | None, received_at: datetime) -> Quote | None:
    """The snapshot as a quote; None without a positive last price. A one-sided book (a zero) falls back to it."""
    trade = (snapshot or {}).get("latestTrade") or {}
    book = (snapshot or {}).get("latestQuote") or {}
    price = _price(trade.get("p"))
    if price is None or not trade.get("t"):
        return None
    at = datetime.fromisoformat(trade["t"]).astimezone(UTC)
    return Quote(
        symbol=symbol,
        price_usd=price,
        bid_usd=_price(book.get("bp")) or price,
        ask_usd=_price(book.get("ap")) or price,
        at=at,
        received_at=received_at,
        source=SOURCE,
    )


def _price(value: Any) -> Decimal | None:
    try:
        price = Decimal(str(value))
    except InvalidOperation:
        return None
    return price if price.is_finite() and price > 0 else None
