"""When the exchange is open: sessions, half days, holidays, both changes of the clock, and the turn of the year."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.clock import NEW_YORK
from qbot.errors import CalendarUnavailable
from qbot.market.calendar import day_and_before, known_hours, last_and_before, market_hours, sessions_between

MICROSECOND = timedelta(microseconds=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def new_york(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("2026-09-25 13:30", "2026-09-25 20:00"),  # summer
        ("2026-01-15 14:30", "2026-01-15 21:00"),  # winter
        ("2026-03-09 13:30", "2026-03-09 20:00"),  # the first session after the clock went forward
        ("2026-11-02 14:30", "2026-11-02 21:00"),  # and after it went back
        ("2026-11-27 14:30", "2026-11-27 18:00"),  # half a day after Thanksgiving
        ("2026-12-24 14:30", "2026-12-24 18:00"),  # half a day before Christmas
    ],
)
def test_a_session_begins_and_ends_to_the_microsecond(begin: str, end: str) -> None:
    first, last = utc(begin), utc(end)
    for moment, is_open in ((first - MICROSECOND, False), (first, True), (last - MICROSECOND, True), (last, False)):
        found = market_hours(moment)
        assert (found.is_open, found.trading_day) == (is_open, True)
    assert (market_hours(first - MICROSECOND).next_open, market_hours(first).next_close) == (first, last)


@pytest.mark.parametrize(
    "day",
    [
        "2026-09-26", "2026-09-27",  # a weekend
        "2026-01-01", "2026-01-19", "2026-02-16", "2026-04-03", "2026-05-25", "2026-06-19", "2026-07-03",
        "2026-09-07", "2026-11-26", "2026-12-25",
        "2025-01-09",  # a day of mourning
    ],
)  # fmt: skip
def test_the_exchange_is_closed_all_day_on_weekends_and_holidays(day: str) -> None:
    for hour in range(24):
        found = market_hours(new_york(f"{day} {hour:02d}:45"))
        assert (found.is_open, found.trading_day) == (False, False)


@pytest.mark.parametrize(
    ("now", "next_open", "next_close"),
    [
        ("2026-09-25 20:00", "2026-09-28 13:30", "2026-09-28 20:00"),  # over a weekend
        ("2026-12-31 21:00", "2027-01-04 14:30", "2027-01-04 21:00"),  # over the turn of the year
        ("2027-01-01 03:00", "2027-01-04 14:30", "2027-01-04 21:00"),  # still the old year in New York
        ("2026-10-30 20:00", "2026-11-02 14:30", "2026-11-02 21:00"),  # over the change of the clock
        ("2026-09-25 13:30", "2026-09-28 13:30", "2026-09-25 20:00"),  # at the open the next one is another day's
    ],
)
def test_the_next_open_and_close_lie_after_now(now: str, next_open: str, next_close: str) -> None:
    found = market_hours(utc(now))
    assert (found.next_open, found.next_close) == (utc(next_open), utc(next_close))


def test_the_day_is_new_yorks_wherever_one_asks_from() -> None:
    late_thursday = utc("2026-09-25 03:00")
    assert market_hours(late_thursday) == market_hours(late_thursday.astimezone(NEW_YORK))
    assert market_hours(utc("2026-09-26 03:00")).trading_day is True  # Friday evening in New York


@settings(max_examples=60)
@given(st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_open_means_that_the_close_comes_before_the_next_open(now: datetime) -> None:
    found = market_hours(now)
    assert found.next_open > now
    assert found.next_close > now
    assert found.is_open is (found.next_close < found.next_open)
    assert found.trading_day or not found.is_open
    assert market_hours(found.next_open).is_open
    assert not market_hours(found.next_close).is_open


def test_sessions_between_are_those_that_overlap_the_span_once_and_in_order() -> None:
    found = sessions_between(utc("2026-09-24 20:00"), utc("2026-09-28 13:30"))
    assert found == [(utc("2026-09-25 13:30"), utc("2026-09-25 20:00"))]
    wider = sessions_between(utc("2026-09-24 19:59"), utc("2026-09-28 13:31"))
    assert [begin.day for begin, _ in wider] == [24, 25, 28]
    turn = sessions_between(utc("2025-12-20 00:00"), utc("2027-01-10 00:00"))
    assert turn == sorted(set(turn))
    assert len([begin for begin, _ in turn if begin.astimezone(NEW_YORK).year == 2026]) == 251


@pytest.mark.parametrize(
    ("now", "today", "before"),
    [
        ("2026-09-25 15:00", "2026-09-25 13:30", "2026-09-24 13:30"),  # within a session
        ("2026-09-25 12:00", "2026-09-25 13:30", "2026-09-24 13:30"),  # before it: nothing of the day has come yet
        ("2026-09-26 03:00", "2026-09-25 13:30", "2026-09-24 13:30"),  # after it, tomorrow in London
        ("2026-09-27 15:00", "2026-09-25 13:30", "2026-09-24 13:30"),  # on a Sunday
        ("2026-09-28 12:00", "2026-09-28 13:30", "2026-09-25 13:30"),  # on Monday morning
        ("2026-01-01 15:00", "2025-12-31 14:30", "2025-12-30 14:30"),  # on a holiday, at the turn of the year
    ],
)
def test_the_day_is_todays_session_and_on_other_days_the_last_one(now: str, today: str, before: str) -> None:
    found = day_and_before(utc(now))
    assert [begin for begin, _ in found] == [utc(today), utc(before)]


@pytest.mark.parametrize(
    ("now", "last", "before"),
    [
        ("2026-09-25 15:00", "2026-09-25 13:30", "2026-09-24 13:30"),  # within a session
        ("2026-09-25 13:30", "2026-09-25 13:30", "2026-09-24 13:30"),  # as it begins
        ("2026-09-25 13:29", "2026-09-24 13:30", "2026-09-23 13:30"),
        ("2026-09-27 15:00", "2026-09-25 13:30", "2026-09-24 13:30"),  # on a Sunday
        ("2026-01-02 14:29", "2025-12-31 14:30", "2025-12-30 14:30"),  # at the turn of the year
    ],
)
def test_the_last_session_is_the_one_that_began_last(now: str, last: str, before: str) -> None:
    assert [begin for begin, _ in last_and_before(utc(now))] == [utc(last), utc(before)]


def test_a_day_that_the_calendar_does_not_know_is_a_named_error_and_known_to_nobody() -> None:
    beyond = utc("2262-06-01 15:00")  # the end of time for nanoseconds in 64 bits
    with pytest.raises(CalendarUnavailable, match="XNYS"):
        market_hours(beyond)
    assert known_hours(beyond) is None
    assert known_hours(utc("2026-09-25 15:00")) == market_hours(utc("2026-09-25 15:00"))
