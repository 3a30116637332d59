"""When the exchange is open: XNYS sessions with holidays and half days, independent of any broker."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from operator import itemgetter

from qbot.clock import NEW_YORK
from qbot.errors import CalendarUnavailable

CALENDAR = "XNYS"
Session = tuple[datetime, datetime]
PLANNED = timedelta(days=35)  # the longest period of a quota lies within it
LOOK_BACK = timedelta(days=14)  # two sessions lie in it whatever the holidays
UNUSABLE = (ImportError, LookupError, StopIteration, ValueError)  # what a calendar without these days raises


@dataclass(frozen=True, slots=True)
class MarketHours:
    """The exchange at one moment. `next_open` and `next_close` lie after it."""

    is_open: bool
    trading_day: bool
    next_open: datetime
    next_close: datetime


@lru_cache(maxsize=8)
def _sessions(year: int) -> tuple[Session, ...]:
    """Open and close of each session of the year, a month more on either side."""
    import exchange_calendars as xcals  # slow to import, and not every process asks

    schedule = xcals.get_calendar(CALENDAR, start=f"{year - 1}-12-01", end=f"{year + 1}-01-31").schedule
    pairs = zip(schedule["open"], schedule["close"], strict=True)
    return tuple((a.to_pydatetime().astimezone(UTC), b.to_pydatetime().astimezone(UTC)) for a, b in pairs)


def market_hours(now: datetime) -> MarketHours:
    """The hours of the exchange at `now`. Raises CalendarUnavailable."""
    local = now.astimezone(NEW_YORK)
    try:
        sessions = _sessions(local.year)
        after = bisect_right(sessions, now, key=itemgetter(0))  # of those that have begun, the last one is before it
        last = sessions[after - 1]
        running = last[0] <= now < last[1]
        return MarketHours(
            is_open=running,
            trading_day=any(_day(session) == local.date() for session in sessions[after - 1 : after + 1]),
            next_open=sessions[after][0],
            next_close=(last if running else sessions[after])[1],
        )
    except UNUSABLE as error:
        raise CalendarUnavailable(f"{CALENDAR}: {type(error).__name__}: {error}") from error


def known_hours(now: datetime) -> MarketHours | None:
    """As `market_hours`; None when the calendar cannot be used."""
    try:
        return market_hours(now)
    except CalendarUnavailable:
        return None


def day_and_before(now: datetime) -> tuple[Session, Session]:
    """The session of this New York day, on other days the last one, and the session before it."""
    today = now.astimezone(NEW_YORK).date()
    until = [each for each in sessions_between(now - LOOK_BACK, now + timedelta(days=1)) if _day(each) <= today]
    return until[-1], until[-2]


def last_and_before(now: datetime) -> tuple[Session, Session]:
    """The session that began last, running or over, and the one before it."""
    sessions = _sessions(now.astimezone(NEW_YORK).year)
    after = bisect_right(sessions, now, key=itemgetter(0))
    return sessions[after - 1], sessions[after - 2]


def sessions_around(now: datetime) -> list[Session]:
    """Every session that planning of calls may have to do with."""
    return sessions_between(now - PLANNED, now + PLANNED)


def close_of(day: date) -> datetime | None:
    """When the session of this New York day closes; None without one, or when the calendar cannot be used."""
    begin = datetime(day.year, day.month, day.day, tzinfo=NEW_YORK)
    try:
        found = sessions_between(begin, begin + timedelta(days=1))
    except UNUSABLE:
        return None
    return found[0][1] if found else None


def _day(session: Session) -> date:
    return session[0].astimezone(NEW_YORK).date()


def sessions_between(start: datetime, end: datetime) -> list[Session]:
    """Open and close of every session that overlaps the span."""
    years = range(start.astimezone(NEW_YORK).year, end.astimezone(NEW_YORK).year + 1)
    found = {session for year in years for session in _sessions(year)}
    return sorted((begin, close) for begin, close in found if close > start and begin < end)
