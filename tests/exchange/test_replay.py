"""The timeline of a replay: the file's last sessions, with their own closing times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from qbot.errors import ConfigError
from qbot.exchange.replay import build_timeline, first_replayed_open

WALL = datetime(2026, 1, 1, tzinfo=UTC)
MARGIN = timedelta(minutes=15)


def test_the_last_sessions_are_replayed_half_days_and_holidays_as_they_were() -> None:
    line = build_timeline(None, 15, 60.0, None, WALL)
    assert len(line.segments) == 15 and line.speed == 60.0
    days = {start.date().isoformat(): (start, end) for start, end in line.segments}
    assert "2025-07-04" not in days and max(days) == "2025-07-18"
    half_day = days["2025-07-03"]
    assert half_day == (
        datetime(2025, 7, 3, 13, 30, tzinfo=UTC) - MARGIN,
        datetime(2025, 7, 3, 17, 0, tzinfo=UTC) + MARGIN,
    )


def test_a_replay_starts_before_the_first_open_or_where_it_was_left() -> None:
    line = build_timeline(None, 15, 60.0, None, WALL)
    assert line.market_at(WALL) == line.segments[0][0] == first_replayed_open(None, 15) - MARGIN
    later = WALL + timedelta(hours=1)
    resumed = build_timeline(None, 15, 60.0, line.elapsed_s(later), later + timedelta(days=3))
    assert resumed.market_at(later + timedelta(days=3)) == line.market_at(later)


def test_a_file_with_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="47 sessions"):
        build_timeline(None, 47, 60.0, None, WALL)
