"""When the New York exchange trades, as epoch seconds: regular sessions (half days included) and extended hours."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import exchange_calendars

from qbot.clock import NEW_YORK

PRE_MARKET_OPENS = time(4, 0)
AFTER_MARKET_LASTS = timedelta(hours=4)  # 16:00 to 20:00; on a half day 13:00 to 17:00


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day. All four moments are epoch seconds; extended hours enclose the regular ones."""

    day: date
    open_s: float
    close_s: float
    extended_open_s: float
    extended_close_s: float


class Sessions:
    """The sessions from one day to another, both included."""

    def __init__(self, first: date, last: date) -> None:
        calendar = exchange_calendars.get_calendar("XNYS", start=first.isoformat(), end=last.isoformat())
        rows = calendar.schedule[["open", "close"]].itertuples()
        self.all = [_session(row[1].to_pydatetime(), row[2].to_pydatetime()) for row in rows]
        self._opens = [s.open_s for s in self.all]
        self._closes = [s.close_s for s in self.all]
        self._extended_closes = [s.extended_close_s for s in self.all]

    def is_open(self, t: float) -> bool:
        """True in regular hours, the opening moment included and the closing moment not."""
        index = bisect_right(self._opens, t) - 1
        return index >= 0 and t < self._closes[index]

    def next_open(self, t: float) -> float:
        """The first opening after `t`. Raises IndexError past the known days."""
        return self._opens[bisect_right(self._opens, t)]

    def next_close(self, t: float) -> float:
        """The first closing after `t`. Raises IndexError past the known days."""
        return self._closes[bisect_right(self._closes, t)]

    def next_extended_close(self, t: float) -> float:
        """The first end of extended hours after `t`. Raises IndexError past the known days."""
        return self._extended_closes[bisect_right(self._extended_closes, t)]

    def last_close(self, t: float) -> float | None:
        """The last closing at or before `t`."""
        index = bisect_right(self._closes, t) - 1
        return self._closes[index] if index >= 0 else None

    def latest(self, t: float) -> Session | None:
        """The session that opened last at or before `t`."""
        index = bisect_right(self._opens, t) - 1
        return self.all[index] if index >= 0 else None

    def windows(self, a: float, b: float, extended: bool) -> Iterator[tuple[float, float]]:
        """The parts of [a, b] in which an order may trade, in order of time. A single moment is a window too."""
        for index in range(bisect_left(self._extended_closes, a), len(self.all)):
            session = self.all[index]
            begin, end = (session.extended_open_s, session.extended_close_s) if extended else (
                session.open_s, session.close_s)  # fmt: skip
            if begin > b:
                return
            if a < end:
                yield max(a, begin), min(b, end)

    def between(self, first: date, last: date) -> list[Session]:
        """The sessions whose day lies in [first, last]."""
        return [s for s in self.all if first <= s.day <= last]


def _session(opens: datetime, closes: datetime) -> Session:
    day = opens.astimezone(NEW_YORK).date()
    pre = datetime.combine(day, PRE_MARKET_OPENS, NEW_YORK)
    after = closes + AFTER_MARKET_LASTS
    return Session(day, opens.timestamp(), closes.timestamp(), pre.timestamp(), after.timestamp())


def moment(t: float) -> datetime:
    """Epoch seconds as aware UTC, to the microsecond."""
    return datetime.fromtimestamp(t, UTC)
