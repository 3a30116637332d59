"""Made-up prices: a pure function of seed, symbol and time, so that every bar agrees with every quote, for ever.

A price is a sum of waves, of half a year down to seven minutes, with phases of the symbol's own. It is reckoned at each
whole minute of a session and goes straight between two of them; out of hours it stands where the session ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from qbot.market.calendar import Session, sessions_between
from qbot.standin import hours
from qbot.standin.market import Bar, Snapshot
from qbot.types import BAR_MINUTES, TICKER

MINUTE = timedelta(minutes=1)
DAY_S = 86_400.0
WAVES = (  # how long one takes, and how far it goes: a fraction of the price
    (183 * DAY_S, 0.10), (41 * DAY_S, 0.04), (9 * DAY_S, 0.015), (1.3 * DAY_S, 0.006),
    (5_820.0, 0.0025), (1_860.0, 0.0012), (420.0, 0.0005),
)  # fmt: skip
LOWEST_USD, HIGHEST_USD = 20.0, 500.0
FEWEST_SHARES, MOST_SHARES = 400_000, 40_000_000  # of a session
EDGES = 0.5  # the first and the last minutes trade half as much again as the average
HALF_SPREAD_USD = 0.01
SESSIONS_KEPT = 20_000  # two of each symbol, however many: 3 kB each
Points: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"


class Walk:
    """Prices of these symbols, or of every one that looks like a ticker."""

    def __init__(self, seed: int = 1, symbols: Collection[str] | None = None) -> None:
        self._seed = seed
        self._symbols = None if symbols is None else frozenset(symbols)
        self._points = lru_cache(maxsize=SESSIONS_KEPT)(self._make_points)

    def snapshots(self, symbols: Sequence[str], now: datetime) -> dict[str, Snapshot]:
        last, before = hours.begun(now)
        return {symbol: self._snapshot(symbol, last, before, now) for symbol in symbols if self._knows(symbol)}

    def bars(self, symbol: str, start: datetime, end: datetime, now: datetime) -> list[Bar]:
        until = min(end, now)
        if not self._knows(symbol) or until <= start:
            return []
        length = timedelta(minutes=BAR_MINUTES)
        found = (bar for session in sessions_between(start, until) for bar in self._of_session(symbol, session))
        return [bar for bar in found if start <= bar.at < end and bar.at + length <= now]

    def days(self, symbol: str, first: date, last: date, now: datetime) -> list[Bar]:
        if not self._knows(symbol):
            return []
        return [self._day(symbol, session) for session in hours.of_days(first, last) if session[1] <= now]

    def _knows(self, symbol: str) -> bool:
        return bool(TICKER.fullmatch(symbol)) if self._symbols is None else symbol in self._symbols

    def _snapshot(self, symbol: str, session: Session, before: Session, now: datetime) -> Snapshot:
        points, at = self._points(symbol, session), min(now, session[1])
        minutes = (at - session[0]) / MINUTE
        whole = int(minutes)
        price = _between(points, minutes)
        seen = points[: whole + 1]
        return Snapshot(
            symbol, price, round(price - HALF_SPREAD_USD, 2), round(price + HALF_SPREAD_USD, 2), at, session[0],
            open=float(points[0]), high=max(float(seen.max()), price), low=min(float(seen.min()), price),
            volume=self._shares(symbol, session, minutes), previous_close=float(self._points(symbol, before)[-1]),
        )  # fmt: skip

    def _of_session(self, symbol: str, session: Session) -> list[Bar]:
        points, found = self._points(symbol, session), []
        for first in range(0, len(points) - 1, BAR_MINUTES):
            inside = points[first : first + BAR_MINUTES + 1]
            begin, end = (self._shares(symbol, session, minute) for minute in (first, first + BAR_MINUTES))
            found.append(_bar(session[0] + first * MINUTE, inside, end - begin))
        return found

    def _day(self, symbol: str, session: Session) -> Bar:
        points = self._points(symbol, session)
        return _bar(session[0], points, self._shares(symbol, session, len(points) - 1))

    def _make_points(self, symbol: str, session: Session) -> Points:
        """The price at each minute of a session, the first and the last one counted."""
        count = int((session[1] - session[0]) / MINUTE) + 1
        seconds = session[0].timestamp() + 60.0 * np.arange(count)
        total = np.zeros(count)
        for number, (length_s, share) in enumerate(WAVES):
            total += share * np.sin(2 * np.pi * (seconds / length_s + self._chance(symbol, f"wave {number}")))
        base = LOWEST_USD * (HIGHEST_USD / LOWEST_USD) ** self._chance(symbol, "price")
        points: Points = np.round(base * np.exp(total), 2)
        return points

    def _shares(self, symbol: str, session: Session, minutes: float) -> int:
        """Traded since the open: most at the edges of the session."""
        most = MOST_SHARES * self._chance(symbol, "volume") ** 3
        whole = max(FEWEST_SHARES, most) * (0.7 + 0.6 * self._chance(symbol, f"volume {session[0]:%F}"))
        share = minutes / ((session[1] - session[0]) / MINUTE)
        return int(whole * (share + EDGES * np.sin(2 * np.pi * share) / (2 * np.pi)))

    def _chance(self, symbol: str, what: str) -> float:
        """A number from 0 to 1, always the same."""
        return chance(f"{self._seed} {symbol} {what}")


@lru_cache(maxsize=100_000)
def chance(text: str) -> float:
    """A number from 0 to 1 that any text has for ever."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48


def _between(points: Points, minutes: float) -> float:
    whole = min(int(minutes), len(points) - 2)
    begin, end = float(points[whole]), float(points[whole + 1])
    return round(begin + (end - begin) * (minutes - whole), 2)


def _bar(at: datetime, points: Points, volume: int) -> Bar:
    return Bar(at, float(points[0]), float(points.max()), float(points.min()), float(points[-1]), volume)
