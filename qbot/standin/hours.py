"""The exchange's sessions as the vendors need them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from qbot.clock import NEW_YORK
from qbot.market.calendar import Session, sessions_between

LOOK_BACK = timedelta(days=14)  # two sessions lie in it whatever the holidays


def day_of(session: Session) -> date:
    """Of New York."""
    return session[0].astimezone(NEW_YORK).date()


def begun(now: datetime) -> tuple[Session, Session]:
    """The session that began last, and the one before it."""
    until = [session for session in _around(now.astimezone(UTC).date()) if session[0] <= now]
    return until[-1], until[-2]


def last_ended(now: datetime) -> Session:
    """The last session that is over."""
    last, before = begun(now)
    return last if last[1] <= now else before


def of_days(first: date, last: date) -> list[Session]:
    """The sessions of these days of New York, both counted."""
    if first > last:
        return []
    begin, end = (datetime.combine(day, time(), NEW_YORK) for day in (first, last + timedelta(days=1)))
    return sessions_between(begin.astimezone(UTC), end.astimezone(UTC))


@lru_cache(maxsize=64)
def _around(day: date) -> tuple[Session, ...]:
    midnight = datetime.combine(day, time(), UTC)
    return tuple(sessions_between(midnight - LOOK_BACK, midnight + timedelta(days=1)))
