"""From a file of bars to a market with its sessions, and to the timeline on which the whole system replays it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from qbot.clock import CLOSED_MARGIN_MINUTES, Timeline
from qbot.errors import ConfigError
from qbot.exchange.market import Market, in_regular_hours, read_bars, span
from qbot.exchange.sessions import Session, Sessions, moment

CALENDAR_MARGIN = timedelta(days=100)  # a good-till-canceled order lives 90 days, and has to find its sessions


@lru_cache(maxsize=2)
def load_market(bars_file: Path | None, today: date) -> tuple[Market, Sessions]:
    """The market of a file (the shipped sample if None), and the sessions around it and around `today`.

    Neither ever changes. Raises ConfigError if the file cannot be used.
    """
    bars = read_bars(bars_file)
    first, last = span(bars)
    sessions = _sessions(min(first, today), max(last, today))
    return Market(in_regular_hours(bars, sessions)), sessions


def build_timeline(
    bars_file: Path | None, replay_days: int, speed: float, resume_elapsed_s: float | None, wall: datetime
) -> Timeline:
    """The replay of the file's last `replay_days` sessions, beginning now or where an earlier run had come to.

    Each session is a segment, with `CLOSED_MARGIN_MINUTES` of closed market on both sides. `resume_elapsed_s` is
    `Timeline.elapsed_s` at the earlier run's end. Raises ConfigError if the file holds no session before them, which
    would leave nothing to train on.
    """
    held = replayed_sessions(bars_file, replay_days)
    margin = timedelta(minutes=CLOSED_MARGIN_MINUTES)
    segments = tuple((moment(s.open_s) - margin, moment(s.close_s) + margin) for s in held)
    return Timeline(speed, wall.astimezone(UTC), resume_elapsed_s or 0.0, segments)


def first_replayed_open(bars_file: Path | None, replay_days: int) -> datetime:
    """When the first replayed session opens: models are trained on bars before it."""
    return moment(replayed_sessions(bars_file, replay_days)[0].open_s)


def replayed_sessions(bars_file: Path | None, replay_days: int) -> list[Session]:
    """The last `replay_days` sessions of the file. Raises ConfigError if it does not hold more than that."""
    bars = read_bars(bars_file)
    sessions = _sessions(*span(bars))
    days = set(in_regular_hours(bars, sessions)["ts"].dt.tz_convert("America/New_York").dt.date.unique())
    held = [s for s in sessions.all if s.day in days]
    if len(held) <= replay_days:
        raise ConfigError(f"{len(held)} sessions in the file: too few to replay {replay_days} and to train before them")
    return held[-replay_days:]


def _sessions(first: date, last: date) -> Sessions:
    return Sessions(first - CALENDAR_MARGIN, last + CALENDAR_MARGIN)
