"""The only clock. Two times exist: wall time (heartbeats, sessions, emergencies) and market time (bars, orders, caps).
A clock can be set; where too early would do harm, the uptime of the machine is asked as well.

Outside a replay they are the same. In a replay, market time follows a timeline of sessions that `qbot up` writes to
the file named by `QBOT_CLOCK_FILE`: closed hours are skipped but for `CLOSED_MARGIN_MINUTES` each side of a session.
"""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

CLOCK_FILE_ENV = "QBOT_CLOCK_FILE"
CLOSED_MARGIN_MINUTES = 15
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class Timeline:
    """Maps wall time to market time: `segments` of market time laid end to end, run through `speed` times faster.

    At `anchor_wall` the replay stood `anchor_elapsed_s` market seconds after the start of the first segment.
    """

    speed: float
    anchor_wall: datetime
    anchor_elapsed_s: float
    segments: tuple[tuple[datetime, datetime], ...]
    _ends_s: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.segments:
            raise ValueError("a timeline needs at least one segment")
        if not (0 < self.speed < math.inf and math.isfinite(self.anchor_elapsed_s)):
            raise ValueError("speed must be positive, and speed and anchor numbers")
        ends = [moment for segment in self.segments for moment in segment]
        if any(moment.tzinfo is None for moment in (self.anchor_wall, *ends)):
            raise ValueError("the times of a timeline need a zone")
        if any(later < earlier for earlier, later in pairwise(ends)):
            raise ValueError("the segments of a timeline must follow one another")
        lengths = ((end - start).total_seconds() for start, end in self.segments)
        object.__setattr__(self, "_ends_s", tuple(accumulate(lengths)))

    @property
    def length_s(self) -> float:
        """Market seconds in the whole replay."""
        return self._ends_s[-1]

    def elapsed_s(self, wall: datetime) -> float:
        """Market seconds run through at `wall`, held at the two ends of the replay."""
        raw = self.anchor_elapsed_s + (wall - self.anchor_wall).total_seconds() * self.speed
        return min(max(raw, 0.0), self.length_s)

    def market_at(self, wall: datetime) -> datetime:
        """Market time at `wall`. After the last segment it stands still at its end."""
        return self.market_after(self.elapsed_s(wall))

    def market_after(self, elapsed_s: float) -> datetime:
        """Market time `elapsed_s` market seconds after the start of the replay, held at its two ends."""
        elapsed_s = min(max(elapsed_s, 0.0), self.length_s)
        index = min(bisect_right(self._ends_s, elapsed_s), len(self.segments) - 1)
        segment_begin_s = self._ends_s[index - 1] if index else 0.0
        return self.segments[index][0] + timedelta(seconds=elapsed_s - segment_begin_s)

    def finished(self, wall: datetime) -> bool:
        """True when the replay has come to its end."""
        return self.elapsed_s(wall) >= self.length_s

    def to_json(self) -> str:
        """The form in which processes share the timeline."""
        segments = [[start.isoformat(), end.isoformat()] for start, end in self.segments]
        body = {"speed": self.speed, "anchor_wall": self.anchor_wall.isoformat(),
                "anchor_elapsed_s": self.anchor_elapsed_s, "segments": segments}  # fmt: skip
        return json.dumps(body)

    @classmethod
    def from_json(cls, text: str) -> Timeline:
        """Inverse of `to_json`. Raises ValueError on anything else."""
        try:
            body = json.loads(text)
            segments = tuple((datetime.fromisoformat(a), datetime.fromisoformat(b)) for a, b in body["segments"])
            anchor = datetime.fromisoformat(body["anchor_wall"])
            return cls(float(body["speed"]), anchor, float(body["anchor_elapsed_s"]), segments)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a timeline: {error!r}") from error


@lru_cache(maxsize=1)
def timeline() -> Timeline | None:
    """The replay of this process, or None when market time is wall time. Read once: a replay is never re-anchored."""
    path = os.environ.get(CLOCK_FILE_ENV)
    return Timeline.from_json(Path(path).read_text()) if path else None


def wall_now() -> datetime:
    """Wall time, aware UTC."""
    return datetime.now(UTC)


def market_now() -> datetime:
    """Market time, aware UTC."""
    wall, replay = wall_now(), timeline()
    return replay.market_at(wall) if replay else wall


def speed() -> float:
    """Market seconds a wall second: 1 outside a replay."""
    replay = timeline()
    return replay.speed if replay else 1.0


def wall_seconds(market_seconds: float) -> float:
    """How long `market_seconds` take on the wall."""
    return market_seconds / speed()


def monotonic_s() -> float:
    """Seconds from an arbitrary start, for measuring durations."""
    return time.monotonic()


@dataclass(frozen=True, slots=True)
class Uptime:
    """Seconds of one boot of one machine, asleep or awake, which nobody can set. Those of two boots tell nothing."""

    boot: str
    seconds: float


def uptime() -> Uptime:
    """The same scale for all processes of a machine, until it starts again."""
    return Uptime(_boot(), time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)))


@lru_cache(maxsize=1)
def _boot() -> str:
    """Where the system names no boot, each process stands for itself: it compares with nobody's seconds but its own."""
    try:
        return BOOT_ID.read_text().strip() or uuid.uuid4().hex
    except OSError:
        return uuid.uuid4().hex


def pause(seconds: float) -> None:
    """Wait on the wall."""
    time.sleep(seconds)


def market_day(market: datetime) -> str:
    """The New York calendar day of a market time, `YYYY-MM-DD`: caps count by it."""
    return market.astimezone(NEW_YORK).date().isoformat()
