"""The exchange's sessions as the vendors need them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from qbot.clock import NEW_YORK
from qbot.market.calendar import Session, last_and_before, sessions_between


def day_of(session: Session) -> date:
    """Of New York."""
    return session[0].astimezone(NEW_YORK).date()


def last_ended(now: datetime) -> Session:
    """The last session that is over."""
    last, before = last_and_before(now)
    return last if last[1] <= now else before


def of_days(first: date, last: date) -> list[Session]:
    """The sessions of these days of New York, both counted."""
    if first > last:
        return []
    begin, end = (datetime.combine(day, time(), NEW_YORK) for day in (first, last + timedelta(days=1)))
    return sessions_between(begin.astimezone(UTC), end.astimezone(UTC))
