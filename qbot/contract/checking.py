"""Whether what stands on the board is what the contract says: one verdict a key. Pure: values and times in.

Age is counted from the last write. A key that follows the wall ages by the wall. A key that follows the market ages
by the seconds the exchange was open since then, in market time: while it is closed such a key rests, and a replay's
keys age as much faster as the replay runs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from qbot import limits
from qbot.contract import keys
from qbot.contract.key import Direction, Key, Pace, Reading
from qbot.contract.names import UnknownKey, find, groups
from qbot.contract.payloads_channels import Stamp

Session = tuple[datetime, datetime]
GONE = "absent"  # what a stamp says of a key that was removed
# Fields that tell when a payload was made, the first that it has.
_TIMES = ("timestamp", "time", "last_heartbeat", "updated", "updated_at", "last_updated", "last_refresh", "created_at")


class Status(StrEnum):
    """ABSENT: not there, and the contract says what that means. MISSING: not there, and it should be."""

    OK = "ok"
    ABSENT = "absent"
    STALE = "stale"
    INVALID = "invalid"
    MISSING = "missing"


FAULTS = (Status.MISSING, Status.INVALID, Status.STALE)


@dataclass(frozen=True)
class Found:
    """What stood at one key; `raw` is None where nothing is or no string. `hidden`: this user may not read it."""

    reading: Reading[Any]
    raw: bytes | None = None
    size_bytes: int = 0
    hidden: bool = False

    @property
    def sha1(self) -> str | None:
        """Of the bytes, as a stamp has it."""
        return None if self.raw is None else hashlib.sha1(self.raw, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Looked:
    """Everything a check judges: what each key held, each ticker key under its own name, and the stamps of writes."""

    found: Mapping[str, Found]
    stamps: Mapping[str, Stamp]
    tickers: Sequence[str] = ()


@dataclass(frozen=True)
class Times:
    """Wall time, how to get market time from it, and the sessions of the exchange (open, close) of the last weeks."""

    wall: datetime
    market_at: Callable[[datetime], datetime]
    sessions: Sequence[Session]
    speed: float = 1.0


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one key. Ages are seconds of its pace: of the wall, or of open market time."""

    key: str
    group: str
    status: Status
    reason: str | None = None
    pace: Pace = Pace.WALL
    age_s: float | None = None
    allowed_s: float | None = None
    size_bytes: int | None = None
    members: int | None = None  # of a pattern: keys found
    candidates: int | None = None  # of a pattern: tickers asked for
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Report:
    """All verdicts, in the order of the contract. `unknown`: keys that QBot once wrote and the contract lacks."""

    verdicts: tuple[Verdict, ...]
    unknown: tuple[str, ...]
    market_open: bool

    @property
    def whole(self) -> bool:
        """True when nothing is missing, invalid or stale."""
        return not self.faults

    @property
    def faults(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.status in FAULTS)

    def counts(self) -> dict[Status, int]:
        """How many keys have each status."""
        counted = Counter(verdict.status for verdict in self.verdicts)
        return {status: counted[status] for status in Status}

    def summary(self) -> str:
        """58 keys: 47 ok, 11 absent (with reasons), 0 missing, 0 invalid, 0 stale"""
        n = self.counts()
        return (
            f"{len(self.verdicts)} keys: {n[Status.OK]} ok, {n[Status.ABSENT]} absent (with reasons), "
            f"{n[Status.MISSING]} missing, {n[Status.INVALID]} invalid, {n[Status.STALE]} stale"
        )


def check(looked: Looked, times: Times) -> Report:
    """Judges every key of the contract."""
    verdicts = []
    for group, entries in groups().items():
        for key in entries:
            verdicts.append(_family(key, group, looked, times) if key.pattern else judge(key, group, looked, times))
    market = times.market_at(times.wall)
    is_open = any(begin <= market < end for begin, end in times.sessions)
    return Report(tuple(verdicts), _unknown(looked.stamps), is_open)


def judge(key: Key[Any], group: str, looked: Looked, times: Times) -> Verdict:
    """The verdict on one key that is no pattern."""
    found, stamp = looked.found.get(key.name), looked.stamps.get(key.name)
    if found is None or (found.hidden and (stamp is None or stamp.sha1 == GONE)) or not _present(found):
        status = Status.ABSENT if key.absent else Status.MISSING
        return Verdict(key.name, group, status, key.absent or f"{key.writer} has not written it", stamp=stamp)
    told = stamp if stamp is not None and _is_of(stamp, key, found) else None
    age, allowed = _age_s(key, found, told, times), allowed_s(key, times)
    status, reason = _state(key, found, age, allowed)
    size = None if found.hidden else found.size_bytes
    return Verdict(key.name, group, status, reason, key.pace, age, allowed, size, stamp=told)


def open_seconds(start: datetime, end: datetime, sessions: Iterable[Session]) -> float:
    """How long the exchange was open between two market times; 0 when `end` is before `start`."""
    overlaps = ((min(end, closed) - max(start, opened)).total_seconds() for opened, closed in sessions)
    return sum(overlap for overlap in overlaps if overlap > 0)


def age_s(pace: Pace, written: datetime, times: Times) -> float:
    """Seconds of the key's own pace since it was written, at wall time `written`."""
    if pace is Pace.WALL:
        return max((times.wall - written).total_seconds(), 0.0)
    return open_seconds(times.market_at(written), times.market_at(times.wall), times.sessions)


def allowed_s(key: Key[Any], times: Times) -> float | None:
    """The oldest a key may be, in seconds of its pace; None: any age. A replay gives every run a time on the wall."""
    if key.max_age_s is None or key.pace is Pace.WALL or times.speed <= 1:
        return key.max_age_s
    return max(key.max_age_s, limits.REPLAY_MIN_MAX_AGE_S * times.speed)


def _state(key: Key[Any], found: Found, age: float | None, allowed: float | None) -> tuple[Status, str | None]:
    if found.reading.problem and not found.hidden:
        return Status.INVALID, found.reading.problem
    if allowed is None:
        return Status.OK, None
    if age is None:
        return Status.STALE, "nothing tells when it was written"
    return (Status.STALE, f"{key.writer} no longer writes it") if age > allowed else (Status.OK, None)


def _present(found: Found) -> bool:
    return found.hidden or found.reading.present


def _is_of(stamp: Stamp, key: Key[Any], found: Found) -> bool:
    """Whether the stamp is of this value. QBot stamps all it writes; a frontend's write may not be stamped yet."""
    return found.hidden or key.direction is Direction.BACKEND or stamp.sha1 == found.sha1


def _age_s(key: Key[Any], found: Found, stamp: Stamp | None, times: Times) -> float | None:
    if stamp is not None:
        return age_s(key.pace, stamp.time, times)
    said = said_time(found.reading.value)
    if said is None:
        return None
    if key.pace is Pace.WALL:
        return age_s(Pace.WALL, said, times)
    return open_seconds(said, times.market_at(times.wall), times.sessions)  # such payloads carry market time


def said_time(value: Any) -> datetime | None:
    """When a payload says it was made; of an array, the newest element's. None where it does not say."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, tuple):
        return max((at for at in map(said_time, value) if at), default=None)
    if isinstance(value, BaseModel):
        times = (getattr(value, name, None) for name in _TIMES)
        return next((at for at in times if isinstance(at, datetime)), None)
    return None


def _family(key: Key[Any], group: str, looked: Looked, times: Times) -> Verdict:
    """A pattern is as good as its worst member, and absent when it has none."""
    members = [judge(key.of(ticker), group, looked, times) for ticker in looked.tickers]
    there = [each for each in members if each.status not in (Status.ABSENT, Status.MISSING)]
    if not there:
        status = Status.ABSENT if key.absent else Status.MISSING
        return Verdict(key.name, group, status, key.absent, members=0, candidates=len(members))
    bad = [each for each in there if each.status is not Status.OK]
    worst = max(bad or there, key=lambda each: (each.status is Status.INVALID, each.age_s or 0.0))
    reason = f"{len(bad)} of {len(there)}, such as {worst.key}: {worst.reason}" if bad else None
    size = sum(each.size_bytes or 0 for each in there)
    return Verdict(
        key.name, group, worst.status, reason, key.pace, worst.age_s, worst.allowed_s, size, len(there), len(members)
    )


def _unknown(stamps: Mapping[str, Stamp]) -> tuple[str, ...]:
    """Names with a stamp that no entry explains, as another version of QBot may have left them."""
    names = []
    for name, stamp in stamps.items():
        try:
            find(name)
        except UnknownKey:
            if stamp.sha1 != GONE and name != keys.REVISION_COUNTER:
                names.append(name)
    return tuple(sorted(names))
