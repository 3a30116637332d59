"""What the paper exchange's data API says, so that all vendors tell of the one market that QBot trades at.

Its limit of requests counts for all vendors together. So every symbol ever asked for is read at once, in batches, and
no more often than once a market second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from threading import Lock
from typing import Any

import requests

from qbot import clock
from qbot.clock import NEW_YORK
from qbot.errors import DataUnavailable
from qbot.exchange.data_api import SYMBOL
from qbot.market.asking import batches
from qbot.market.calendar import last_and_before
from qbot.standin import hours
from qbot.standin.market import Bar, Snapshot

KEY = "PAPER"  # as the exchange itself has it
KEPT_S = 1.0
BATCH = 200
PAGE = 10_000
TIMEOUT_S = (2.0, 10.0)


class OfExchange:
    """The market of a paper exchange at `url`. Its time is the exchange's own. Safe to share.

    `kept_s`: market seconds for which what was read counts.
    """

    def __init__(self, url: str, key: str = KEY, *, kept_s: float = KEPT_S) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # it is on this machine: no proxy
        self._session.headers.update({"APCA-API-KEY-ID": key, "APCA-API-SECRET-KEY": key})
        self._kept_s = kept_s
        self._lock = Lock()
        self._asked: set[str] = set()
        self._known: dict[str, Snapshot] = {}
        self._read_s = float("-inf")

    def snapshots(self, symbols: Sequence[str], now: datetime) -> Mapping[str, Snapshot]:
        sound = {symbol for symbol in symbols if SYMBOL.fullmatch(symbol)}
        with self._lock:
            if not sound <= self._asked or clock.monotonic_s() - self._read_s > clock.wall_seconds(self._kept_s):
                asked = self._asked | sound
                self._known = dict(self._read(asked))
                self._asked, self._read_s = asked, clock.monotonic_s()
            return {symbol: self._known[symbol] for symbol in symbols if symbol in self._known}

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime, now: datetime) -> dict[str, list[Bar]]:
        told = self._bars(symbols, "5Min", start, end)
        return {symbol: [bar for bar in bars if start <= bar.at < end] for symbol, bars in told.items()}

    def days(self, symbols: Sequence[str], first: date, last: date, now: datetime) -> dict[str, list[Bar]]:
        begins = {hours.day_of(session): session[0] for session in hours.of_days(first, last)}
        if not begins:
            return {symbol: [] for symbol in symbols}
        start, end = (datetime.combine(day, time(), NEW_YORK) for day in (first, last))
        told = self._bars(symbols, "1Day", start, end)
        return {
            symbol: [_moved(bar, begins[day]) for bar in bars if (day := bar.at.astimezone(NEW_YORK).date()) in begins]
            for symbol, bars in told.items()
        }

    def _read(self, asked: Collection[str]) -> Iterator[tuple[str, Snapshot]]:
        for some in batches(sorted(asked), BATCH):
            body = self._get("/v2/stocks/snapshots", {"symbols": ",".join(some)})
            yield from ((symbol, _snapshot(symbol, row)) for symbol, row in body.items())

    def _bars(self, symbols: Sequence[str], frame: str, start: datetime, end: datetime) -> dict[str, list[Bar]]:
        """Of all of them at once; a page may end in the middle of a symbol."""
        found: dict[str, list[Bar]] = {symbol: [] for symbol in symbols}
        span = {"start": start.astimezone(UTC).isoformat(), "end": end.astimezone(UTC).isoformat()}
        for some in batches(sorted(symbol for symbol in found if SYMBOL.fullmatch(symbol)), BATCH):
            query = {"symbols": ",".join(some), "timeframe": frame, "limit": str(PAGE), **span}
            while True:
                with self._lock:
                    body = self._get("/v2/stocks/bars", query)
                for symbol, rows in body["bars"].items():
                    found[symbol] += [_bar(row) for row in rows]
                if not body["next_page_token"]:
                    break
                query["page_token"] = body["next_page_token"]
        return found

    def _get(self, path: str, query: Mapping[str, str]) -> Any:
        try:
            answer = self._session.get(self._url + path, params=query, timeout=TIMEOUT_S)
            answer.raise_for_status()
            return answer.json()
        except requests.RequestException as error:
            raise DataUnavailable(f"the paper exchange at {self._url}: {type(error).__name__}") from error


def _snapshot(symbol: str, row: Mapping[str, Any]) -> Snapshot:
    """The exchange's daily bar begins with the first bar that ended: until then the session is its one price."""
    trade, book = row["latestTrade"], row["latestQuote"]
    price, at = float(trade["p"]), datetime.fromisoformat(trade["t"])
    begin = last_and_before(at)[0][0]
    day, before = row.get("dailyBar"), row.get("prevDailyBar")
    if day is None or datetime.fromisoformat(day["t"]).astimezone(NEW_YORK).date() != begin.astimezone(NEW_YORK).date():
        day, before = {"o": price, "h": price, "l": price, "v": 0}, day
    return Snapshot(
        symbol, price, float(book["bp"]), float(book["ap"]), at, begin,
        open=float(day["o"]), high=max(float(day["h"]), price), low=min(float(day["l"]), price), volume=int(day["v"]),
        previous_close=float(before["c"]) if before else float(day["o"]),
    )  # fmt: skip


def _bar(row: Mapping[str, Any]) -> Bar:
    at = datetime.fromisoformat(row["t"]).astimezone(UTC)
    return Bar(at, float(row["o"]), float(row["h"]), float(row["l"]), float(row["c"]), int(row["v"]))


def _moved(bar: Bar, begin: datetime) -> Bar:
    return Bar(begin, bar.open, bar.high, bar.low, bar.close, bar.volume)
