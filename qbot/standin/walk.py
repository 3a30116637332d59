"""Made-up prices: a pure function of seed, symbol and time, so that every bar agrees with every quote, for ever.

A price is a sum of waves, of half a year down to seven minutes, with phases of the symbol's own. It is reckoned at each
whole minute of a session and goes straight between two of them; out of hours it stands where the session ended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np

from qbot.market.calendar import Session, last_and_before, sessions_between
from qbot.standin import hours
from qbot.standin.market import Bar, Snapshot
from qbot.types import BAR_MINUTES, TICKER

MINUTE = timedelta(minutes=1)
DAY_S = 86_400.0
WAVES = (  # how long one takes, and how far it goes: a fraction of the price
    (183 * DAY_S, 0.10), (41 * DAY_S, 0.02), (9 * DAY_S, 0.008), (1.3 * DAY_S, 0.005),
    (5_820.0, 0.0025), (1_860.0, 0.0012), (420.0, 0.0005),
)  # fmt: skip
LOWEST_USD, HIGHEST_USD = 20.0, 500.0
FEWEST_SHARES, MOST_SHARES = 400_000, 40_000_000  # of a session
EDGES = 0.5  # the first and the last minutes trade half as much again as the average
HALF_SPREAD_USD = 0.01
SESSIONS_KEPT = 12_000  # two of each symbol, however many: 6 kB each
Points: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"


class Course(NamedTuple):
    """A session of a symbol at each minute, the first and the last one counted: the price, the shares traded so far."""

    usd: Points
    shares: Points


class Walk:
    """Prices of these symbols, or of every one that looks like a ticker."""

    def __init__(self, seed: int = 1, symbols: Collection[str] | None = None) -> None:
        self._seed = seed
        self._symbols = None if symbols is None else frozenset(symbols)
        self._course = lru_cache(maxsize=SESSIONS_KEPT)(self._make_course)

    def snapshots(self, symbols: Sequence[str], now: datetime) -> dict[str, Snapshot]:
        last, before = last_and_before(now)
        return {symbol: self._snapshot(symbol, last, before, now) for symbol in symbols if self._knows(symbol)}

    def bars(self, symbols: Sequence[str], start: datetime, end: datetime, now: datetime) -> dict[str, list[Bar]]:
        until, length = min(end, now), timedelta(minutes=BAR_MINUTES)
        sessions = sessions_between(start, until) if start < until else []

        def told(symbol: str) -> list[Bar]:
            found = (bar for session in sessions for bar in self._of_session(symbol, session))
            return [bar for bar in found if start <= bar.at < end and bar.at + length <= now]

        return {symbol: told(symbol) if self._knows(symbol) else [] for symbol in symbols}

    def days(self, symbols: Sequence[str], first: date, last: date, now: datetime) -> dict[str, list[Bar]]:
        ended = [session for session in hours.of_days(first, last) if session[1] <= now]
        return {
            symbol: [self._day(symbol, session) for session in ended] if self._knows(symbol) else []
            for symbol in symbols
        }

    def _knows(self, symbol: str) -> bool:
        return bool(TICKER.fullmatch(symbol)) if self._symbols is None else symbol in self._symbols

    def _snapshot(self, symbol: str, session: Session, before: Session, now: datetime) -> Snapshot:
        course, at = self._course(symbol, session), min(now, session[1])
        minutes = (at - session[0]) / MINUTE
        price = round(_between(course.usd, minutes), 2)
        seen = course.usd[: int(minutes) + 1]
        return Snapshot(
            symbol, price, round(price - HALF_SPREAD_USD, 2), round(price + HALF_SPREAD_USD, 2), at, session[0],
            open=float(seen[0]), high=max(float(seen.max()), price), low=min(float(seen.min()), price),
            volume=int(_between(course.shares, minutes)),
            previous_close=float(self._course(symbol, before).usd[-1]),
        )  # fmt: skip

    def _of_session(self, symbol: str, session: Session) -> list[Bar]:
        """Its five-minute bars, those to come as well."""
        course = self._course(symbol, session)
        usd, edges = course.usd, course.usd[::BAR_MINUTES]
        inside = usd[:-1].reshape(-1, BAR_MINUTES)
        columns = (
            edges[:-1], np.maximum(inside.max(axis=1), edges[1:]), np.minimum(inside.min(axis=1), edges[1:]), edges[1:],
            np.diff(course.shares[::BAR_MINUTES].astype(np.int64)),
        )  # fmt: skip
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [Bar(session[0] + BAR_MINUTES * number * MINUTE, *row) for number, row in enumerate(rows)]

    def _day(self, symbol: str, session: Session) -> Bar:
        course = self._course(symbol, session)
        usd = course.usd
        return Bar(
            session[0], float(usd[0]), float(usd.max()), float(usd.min()), float(usd[-1]), int(course.shares[-1])
        )

    def _make_course(self, symbol: str, session: Session) -> Course:
        minutes = np.arange(int((session[1] - session[0]) / MINUTE) + 1)
        seconds = session[0].timestamp() + 60.0 * minutes
        total = np.zeros(len(minutes))
        for number, (length_s, share) in enumerate(WAVES):
            total += share * np.sin(2 * np.pi * (seconds / length_s + self._chance(symbol, f"wave {number}")))
        base = LOWEST_USD * (HIGHEST_USD / LOWEST_USD) ** self._chance(symbol, "price")
        most = max(FEWEST_SHARES, MOST_SHARES * self._chance(symbol, "volume") ** 3)
        whole = most * (0.7 + 0.6 * self._chance(symbol, f"volume {session[0]:%F}"))
        share_of = minutes / minutes[-1]
        shares = whole * (share_of + EDGES * np.sin(2 * np.pi * share_of) / (2 * np.pi))
        return Course(np.round(base * np.exp(total), 2), np.floor(shares))

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
    return begin + (end - begin) * (minutes - whole)
