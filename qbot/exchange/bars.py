"""Bars of several lengths, put together from the five-minute ones. Only those that have ended are given."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, datetime, time
from typing import Any

from qbot.clock import NEW_YORK
from qbot.exchange.market import BAR_S, Series
from qbot.exchange.sessions import Session, Sessions, moment

Bar = dict[str, Any]
FRAMES = {"5Min": 300, "15Min": 900, "30Min": 1800, "1Hour": 3600, "1Day": 0}


def bar(series: Series, first: int, after: int, t: float | None = None) -> Bar:
    """The bars `first` to `after` - 1 as one, in the vendor's letters; `t`: its start, if not the first bar's."""
    volume = sum(series.volume[first:after])
    weighted = sum(v * w for v, w in zip(series.volume[first:after], series.vwap[first:after], strict=True))
    start = moment(series.start_s[first] if t is None else t)
    return {
        "t": f"{start:%Y-%m-%dT%H:%M:%SZ}", "o": series.open[first], "h": max(series.high[first:after]),
        "l": min(series.low[first:after]), "c": series.close[after - 1], "v": int(volume),
        "n": int(sum(series.trades[first:after])),
        "vw": round(weighted / volume, 6) if volume else series.close[after - 1],
    }  # fmt: skip


def between(series: Series, sessions: Sessions, frame: str, start: float, end: float, now: float) -> list[Bar]:
    """The bars that start in [start, end] and have ended at `now`, in order of time."""
    if frame == "1Day":
        return _daily(series, sessions, start, end, now)
    step = FRAMES[frame]
    known = series.known(now)
    first = bisect_left(series.start_s, start)
    if step == BAR_S:
        after = min(known, bisect_left(series.start_s, end + 0.001))
        return [bar(series, index, index + 1) for index in range(first, after)]
    first = bisect_left(series.start_s, start - start % step if start % step == 0 else start - start % step + step)
    made: list[Bar] = []
    while first < known:
        bucket = series.start_s[first] - series.start_s[first] % step
        after = bisect_left(series.start_s, bucket + step)
        if bucket > end or bucket + step > now:
            break
        made.append(bar(series, first, after, bucket))
        first = after
    return made


def _daily(series: Series, sessions: Sessions, start: float, end: float, now: float) -> list[Bar]:
    """Daily bars start at midnight New York and end with the session."""
    made: list[Bar] = []
    for session in sessions.all:
        midnight = _midnight(session)
        if start <= midnight <= end and session.close_s <= now:
            found = _day(series, session, now)
            if found:
                made.append(found)
    return made


def _day(series: Series, session: Session, now: float) -> Bar | None:
    first = bisect_left(series.start_s, session.open_s)
    after = min(bisect_left(series.start_s, session.close_s), series.known(now))
    return bar(series, first, after, _midnight(session)) if after > first else None


def _midnight(session: Session) -> float:
    return datetime.combine(session.day, time(), NEW_YORK).astimezone(UTC).timestamp()


def days(series: Series, sessions: Sessions, now: float) -> tuple[Bar | None, Bar | None]:
    """The day so far (the last one while the market is closed) and the day before it."""
    begun = [s for s in sessions.all if s.open_s <= now and s.open_s >= now - 14 * 86_400]
    found = [day for session in reversed(begun) if (day := _day(series, session, now))]
    return (found[0] if found else None), (found[1] if len(found) > 1 else None)
