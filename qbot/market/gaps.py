"""Which bars are missing, and how few requests bring them, the newest first. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from qbot import limits
from qbot.market.calendar import Session
from qbot.types import BAR_MINUTES

LENGTH = timedelta(minutes=BAR_MINUTES)
OVERLAP = timedelta(minutes=limits.BARS_OVERLAP_MINUTES)
SETTLED = timedelta(seconds=limits.BARS_SETTLED_S)
DAY_BARS_MAX = 192  # from 4:00 to 20:00, where a source has the hours around a session too
Key = tuple[str, datetime]  # a symbol and the begin of a session
Told = Mapping[Key, Mapping[str, int]]  # which sources have told all they have of a session: how many bars


@dataclass(frozen=True, slots=True)
class Gap:
    """A session of which a symbol has fewer bars than it has five minutes, so far as it has gone."""

    symbol: str
    session: Session
    have: int
    expected: int

    @property
    def key(self) -> Key:
        return self.symbol, self.session[0]


@dataclass(frozen=True, slots=True)
class Reach:
    """How one source can be asked for bars. `symbols`, `days`, `bars`: what one request may span, nights included;
    `back_days`: how far back it goes, None: without an end.
    """

    symbols: int
    days: int
    bars: int | None = None
    back_days: int | None = None

    def first(self, now: datetime) -> datetime | None:
        """The earliest start that may be asked for."""
        return None if self.back_days is None else now - timedelta(days=self.back_days)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and the gaps it may fill."""

    symbols: tuple[str, ...]
    start: datetime
    end: datetime
    gaps: tuple[Gap, ...]


def expected(session: Session, now: datetime) -> int:
    """How many bars of a session are complete."""
    return max(0, (min(now, session[1]) - session[0]) // LENGTH)


def settled(session: Session, now: datetime) -> bool:
    """Whether it is over for so long that nobody has more bars of it later."""
    return session[1] + SETTLED <= now


def missing(
    symbols: Sequence[str], sessions: Iterable[Session], have: Mapping[Key, int], told: Told, now: datetime
) -> list[Gap]:
    """The gaps, newest session first. Minutes without a trade have no bar: where a source has told all the bars it
    has of a session, and it has some, the session is complete.
    """
    found = []
    for session in sorted(sessions, reverse=True):
        whole = expected(session, now)
        for symbol in symbols:
            key = (symbol, session[0])
            if have.get(key, 0) < whole and not any(told.get(key, {}).values()):
                found.append(Gap(symbol, session, have.get(key, 0), whole))
    return found


def asks(gaps: Sequence[Gap], calendar: Sequence[Session], reach: Reach, now: datetime) -> list[Ask]:
    """The requests for these gaps, newest first. Each begins a little before and ends a little after, in bars that
    should be known: another scale shows there. `calendar`: all sessions, some days more than those of the gaps.
    """
    earliest = reach.first(now)
    within = [gap for gap in gaps if earliest is None or gap.session[0] >= earliest]
    by_session: defaultdict[Session, list[Gap]] = defaultdict(list)
    for gap in within:
        by_session[gap.session].append(gap)
    ordered = sorted(calendar)
    places = {session: place for place, session in enumerate(ordered)}
    begins = {session: _before(session, ordered, places) for session in by_session}
    ends = {session: _after(session, ordered, places) for session in by_session}
    per_call, sessions_max = _shape(reach, len({gap.symbol for gap in within}))
    found = []
    for window in _windows(sorted(by_session, reverse=True), places, begins, ends, sessions_max, reach.days):
        of_symbol: defaultdict[str, list[Gap]] = defaultdict(list)
        for session in window:
            for gap in by_session[session]:
                of_symbol[gap.symbol].append(gap)
        names = list(of_symbol)
        for first in range(0, len(names), per_call):
            some = tuple(names[first : first + per_call])
            inside = tuple(gap for symbol in some for gap in of_symbol[symbol])
            start = min(begins[gap.session] for gap in inside)
            end = min(now, max(ends[gap.session] for gap in inside))
            found.append(Ask(some, start if earliest is None else max(start, earliest), end, inside))
    return found


def _before(session: Session, ordered: Sequence[Session], places: Mapping[Session, int]) -> datetime:
    """So long before the end of the session before that its last bars come too."""
    place = places.get(session, 0)
    return ordered[place - 1][1] - OVERLAP if place else session[0]


def _after(session: Session, ordered: Sequence[Session], places: Mapping[Session, int]) -> datetime:
    """So long after the begin of the session after that its first bars come too."""
    place = places.get(session, len(ordered))
    return ordered[place + 1][0] + OVERLAP if place + 1 < len(ordered) else session[1]


def _shape(reach: Reach, symbols: int) -> tuple[int, int]:
    """How many symbols and how many sessions a request may have, so that its answer is no longer than one page."""
    per_call = max(1, min(reach.symbols, symbols))
    if reach.bars is None:
        return per_call, reach.days
    cells = max(1, reach.bars // DAY_BARS_MAX)
    per_call = min(per_call, cells)
    return per_call, max(1, cells // per_call - 1)  # but one for the bars before and after


def _windows(
    newest_first: Sequence[Session],
    places: Mapping[Session, int],
    begins: Mapping[Session, datetime],
    ends: Mapping[Session, datetime],
    sessions_max: int,
    days_max: int,
) -> Iterator[list[Session]]:
    """Sessions that fit into one request."""
    window: list[Session] = []
    for session in newest_first:
        if window:
            count = places[window[0]] - places[session] + 1
            if count > sessions_max or ends[window[0]] - begins[session] > timedelta(days=days_max):
                yield window
                window = []
        window.append(session)
    if window:
        yield window
