"""Market time in a replay: it runs forward, at its speed, through the sessions only, and stands still at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot import clock
from qbot.clock import NEW_YORK, Timeline, market_day
from qbot.market.calendar import sessions_between
from qbot.settings import ROOT

WALL = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MONDAY = datetime(2026, 9, 21, 13, 15, tzinfo=UTC)
HOURS = timedelta(hours=7)
TWO_DAYS = Timeline(60.0, WALL, 0.0, ((MONDAY, MONDAY + HOURS), (MONDAY + timedelta(1), MONDAY + timedelta(1) + HOURS)))


def after(wall_s: float) -> datetime:
    return WALL + timedelta(seconds=wall_s)


@pytest.mark.parametrize(
    ("wall_s", "market"),
    [
        (-1, MONDAY),  # before its start it has not begun
        (0, MONDAY),
        (1, MONDAY + timedelta(minutes=1)),
        (419.999, MONDAY + timedelta(minutes=419, seconds=59.94)),
        (420, MONDAY + timedelta(days=1)),  # the night is skipped
        (421, MONDAY + timedelta(days=1, minutes=1)),
        (840, MONDAY + timedelta(days=1) + HOURS),
        (10_000, MONDAY + timedelta(days=1) + HOURS),  # after its end it stands still
    ],
)
def test_a_replay_runs_at_its_speed_and_skips_the_closed_hours(wall_s: float, market: datetime) -> None:
    assert TWO_DAYS.market_at(after(wall_s)) == market
    assert TWO_DAYS.finished(after(wall_s)) is (wall_s >= 840)


def test_a_replay_taken_up_again_goes_on_where_it_was() -> None:
    resumed = replace(TWO_DAYS, anchor_wall=after(5_000), anchor_elapsed_s=TWO_DAYS.elapsed_s(after(500)))
    for wall_s in (0, 1, 100, 1_000):
        assert resumed.market_at(after(5_000 + wall_s)) == TWO_DAYS.market_at(after(500 + wall_s))


def test_the_length_is_that_of_the_segments_alone() -> None:
    assert TWO_DAYS.length_s == 2 * HOURS.total_seconds()
    assert TWO_DAYS.market_after(1e9) == MONDAY + timedelta(days=1) + HOURS
    assert TWO_DAYS.market_after(-1.0) == MONDAY


MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
SPANS = st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 30_000)), min_size=1, max_size=6)


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    start, gaps_and_lengths = draw(MOMENTS), draw(SPANS)
    edges = list(accumulate(part for pair in gaps_and_lengths for part in pair))
    moments = [start + timedelta(seconds=edge) for edge in edges]
    segments = tuple(zip(moments[::2], moments[1::2], strict=True))
    return Timeline(draw(st.floats(0.01, 1_000)), draw(MOMENTS), draw(st.floats(-1e5, 1e6)), segments)


@given(timelines(), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_market_time_never_runs_backwards_and_never_leaves_the_segments(line: Timeline, walls: list[float]) -> None:
    seen = [line.market_at(line.anchor_wall + timedelta(seconds=wall_s)) for wall_s in sorted(walls)]
    assert seen == sorted(seen)
    assert all(0 <= line.elapsed_s(line.anchor_wall + timedelta(seconds=wall_s)) <= line.length_s for wall_s in walls)
    assert all(any(start <= moment <= end for start, end in line.segments) for moment in seen)


@given(timelines(), st.floats(0, 1e5), st.floats(0, 1_000))
def test_within_a_segment_market_seconds_are_wall_seconds_times_the_speed(
    line: Timeline, wall_s: float, more_s: float
) -> None:
    one, two = (line.anchor_wall + timedelta(seconds=s) for s in (wall_s, wall_s + more_s))
    before, then = line.market_at(one), line.market_at(two)
    inside = any(start <= before <= then < end for start, end in line.segments)
    passed_s = (two - one).total_seconds() * line.speed
    if inside and line.elapsed_s(one) > 0:
        assert (then - before).total_seconds() == pytest.approx(passed_s, abs=1e-4, rel=1e-6)
    assert line.elapsed_s(two) - line.elapsed_s(one) <= passed_s * (1 + 1e-9) + 1e-4


@given(timelines())
def test_a_timeline_comes_back_from_json_as_it_went_in(line: Timeline) -> None:
    assert Timeline.from_json(line.to_json()) == line


NOT_TIMELINES = {
    "no JSON": "{",
    "null": "null",
    "a list": "[]",
    "a number": "7",
    "empty": "{}",
    "no segment": json.dumps({**json.loads(TWO_DAYS.to_json()), "segments": []}),
    "half a segment": json.dumps({**json.loads(TWO_DAYS.to_json()), "segments": [["2026-09-21T13:15:00+00:00"]]}),
    "times of no zone": json.dumps({**json.loads(TWO_DAYS.to_json()), "anchor_wall": "2026-09-21T13:15:00"}),
    "no speed": json.dumps({**json.loads(TWO_DAYS.to_json()), "speed": None}),
    "speed NaN": json.dumps({**json.loads(TWO_DAYS.to_json()), "speed": float("nan")}),
    "speed infinite": json.dumps({**json.loads(TWO_DAYS.to_json()), "speed": float("inf")}),
    "standing still": json.dumps({**json.loads(TWO_DAYS.to_json()), "speed": 0}),
    "backwards": json.dumps({**json.loads(TWO_DAYS.to_json()), "speed": -1}),
    "anchor NaN": json.dumps({**json.loads(TWO_DAYS.to_json()), "anchor_elapsed_s": float("nan")}),
}


@pytest.mark.parametrize("text", NOT_TIMELINES.values(), ids=NOT_TIMELINES)
def test_what_is_no_timeline_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Timeline.from_json(text)


def test_segments_must_follow_one_another() -> None:
    first, second = TWO_DAYS.segments
    for disorder in ((second, first), (first, first), ((first[1], first[0]),)):
        with pytest.raises(ValueError, match="follow one another"):
            replace(TWO_DAYS, segments=disorder)


def test_a_replay_of_real_sessions_shows_no_closed_hour_but_the_margins() -> None:
    margin = timedelta(minutes=clock.CLOSED_MARGIN_MINUTES)
    sessions = sessions_between(MONDAY, MONDAY + timedelta(days=7))
    line = Timeline(60.0, WALL, 0.0, tuple((begin - margin, end + margin) for begin, end in sessions))
    open_at = 0
    for minute in range(int(line.length_s // 60)):
        moment = line.market_after(minute * 60.0)
        assert moment.astimezone(NEW_YORK).weekday() < 5
        assert any(begin - margin <= moment < end + margin for begin, end in sessions)
        open_at += any(begin <= moment < end for begin, end in sessions)
    assert open_at == len(sessions) * 390


# --- the clock of a process -----------------------------------------------------------------------------------------


def test_without_a_replay_market_time_is_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(clock.CLOCK_FILE_ENV, raising=False)
    clock.timeline.cache_clear()
    assert clock.timeline() is None
    assert abs(clock.market_now() - clock.wall_now()) < timedelta(seconds=5)
    assert (clock.speed(), clock.wall_seconds(600.0)) == (1.0, 600.0)
    assert clock.wall_now().tzinfo is UTC


def test_in_a_replay_all_market_time_comes_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "clock.json"
    file.write_text(replace(TWO_DAYS, anchor_wall=clock.wall_now() - timedelta(hours=1)).to_json())
    monkeypatch.setenv(clock.CLOCK_FILE_ENV, str(file))
    clock.timeline.cache_clear()
    try:
        assert clock.market_now() == MONDAY + timedelta(days=1) + HOURS
        assert (clock.speed(), clock.wall_seconds(600.0)) == (60.0, 10.0)
    finally:
        monkeypatch.undo()
        clock.timeline.cache_clear()


@pytest.mark.parametrize(
    ("market", "day"),
    [
        ("2026-09-25T03:59:59+00:00", "2026-09-24"),
        ("2026-09-25T04:00:00+00:00", "2026-09-25"),
        ("2026-01-15T04:59:59+00:00", "2026-01-14"),  # winter: New York is an hour further
        ("2026-01-15T05:00:00+00:00", "2026-01-15"),
        ("2026-11-01T05:30:00+00:00", "2026-11-01"),  # the hour that comes twice
        ("2026-09-25T06:00:00+02:00", "2026-09-25"),
    ],
)
def test_caps_count_by_the_day_in_new_york(market: str, day: str) -> None:
    assert market_day(datetime.fromisoformat(market)) == day


def test_the_uptime_is_the_machines_and_the_same_scale_for_every_process() -> None:
    code = "from qbot import clock; up = clock.uptime(); print(up.boot, up.seconds)"
    before = clock.uptime()
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    boot, seconds = told.split()
    after = clock.uptime()
    assert before.boot == boot == after.boot
    assert before.seconds <= float(seconds) <= after.seconds


def test_where_the_system_names_no_boot_a_process_stands_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "BOOT_ID", Path("/nowhere"))
    clock._boot.cache_clear()
    try:
        mine = clock.uptime().boot
        assert clock.uptime().boot == mine
        clock._boot.cache_clear()
        assert clock.uptime().boot != mine
    finally:
        clock._boot.cache_clear()
