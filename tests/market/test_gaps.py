"""Which bars are missing, in how few requests they come, and what is a split."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from qbot.market import gaps
from qbot.market.calendar import Session, sessions_between
from qbot.market.gaps import DAY_BARS_MAX, OVERLAP, Gap, Reach

NOW = datetime(2026, 3, 2, 21, 30, tzinfo=UTC)  # half an hour after a Monday's close
CALENDAR = sessions_between(datetime(2026, 1, 20, tzinfo=UTC), NOW)
SESSIONS = CALENDAR[-10:]
LAST = SESSIONS[-1]
ANYONE = Reach(200, 366)


def key(symbol: str, session: Session) -> tuple[str, datetime]:
    return symbol, session[0]


def all_of(symbols: tuple[str, ...], sessions: list[Session] = SESSIONS) -> list[Gap]:
    return gaps.missing(symbols, sessions, {}, {}, NOW)


# --- what is missing --------------------------------------------------------------------------------------------------


def test_a_session_with_too_few_bars_is_a_gap_and_the_newest_comes_first() -> None:
    have = {key("A", session): 78 for session in SESSIONS} | {key("A", SESSIONS[3]): 40, key("A", SESSIONS[7]): 0}
    found = gaps.missing(("A",), SESSIONS, have, {}, NOW)
    assert [(gap.session, gap.have, gap.expected) for gap in found] == [(SESSIONS[7], 0, 78), (SESSIONS[3], 40, 78)]


def test_a_half_day_is_whole_with_fewer_bars() -> None:
    half = sessions_between(datetime(2025, 11, 28, tzinfo=UTC), datetime(2025, 11, 29, tzinfo=UTC))
    assert gaps.expected(half[0], NOW) == 42
    assert gaps.missing(("A",), half, {key("A", half[0]): 42}, {}, NOW) == []


def test_of_a_running_session_only_complete_bars_are_expected() -> None:
    begin = LAST[0]
    assert [gaps.expected(LAST, begin + timedelta(minutes=m)) for m in (-5, 4, 5, 14)] == [0, 0, 1, 2]
    assert gaps.missing(("A",), [LAST], {}, {}, begin + timedelta(minutes=4)) == []
    assert [gap.expected for gap in gaps.missing(("A",), [LAST], {}, {}, begin + timedelta(minutes=14))] == [2]


def test_holes_that_a_source_has_answered_for_are_no_gap_any_more_and_no_answer_at_all_stays_one() -> None:
    have = {key("A", LAST): 60, key("B", LAST): 60}
    told = {key("A", LAST): {"alpaca": 60}, key("C", LAST): {"alpaca": 0}}
    found = gaps.missing(("A", "B", "C"), [LAST], have, told, NOW)
    assert [gap.symbol for gap in found] == ["B", "C"]


def test_a_session_is_settled_an_hour_after_its_close() -> None:
    assert not gaps.settled(LAST, NOW)
    assert gaps.settled(LAST, NOW + timedelta(minutes=30))


# --- requests ---------------------------------------------------------------------------------------------------------


def test_what_a_request_may_span_is_filled_and_each_begins_in_bars_that_are_known() -> None:
    found = gaps.asks(all_of(("A", "B")), CALENDAR, ANYONE, NOW)
    assert len(found) == 1
    before = CALENDAR[CALENDAR.index(SESSIONS[0]) - 1]
    assert (found[0].symbols, found[0].start, found[0].end) == (("A", "B"), before[1] - OVERLAP, LAST[1])


def test_nothing_missing_is_no_request() -> None:
    assert gaps.asks([], CALENDAR, ANYONE, NOW) == []


def test_a_source_that_goes_back_some_days_is_asked_for_no_more() -> None:
    reach = Reach(1, 59, back_days=5)
    found = gaps.asks(all_of(("A",)), CALENDAR, reach, NOW)
    assert [len(ask.gaps) for ask in found] == [
        3
    ]  # Monday, Friday, Thursday; Wednesday began earlier than five days ago
    assert all(ask.start >= NOW - timedelta(days=5) for ask in found)


@given(
    st.dictionaries(st.sampled_from("ABCDEFGH"), st.sets(st.integers(0, len(CALENDAR) - 2), min_size=1), min_size=1),
    st.integers(1, 5), st.integers(4, 60), st.none() | st.integers(DAY_BARS_MAX, 20 * DAY_BARS_MAX),
)  # fmt: skip
def test_every_gap_is_asked_for_once_within_what_the_source_takes(
    lacking: dict[str, set[int]], symbols: int, days: int, bars: int | None
) -> None:
    wanted = [Gap(s, CALENDAR[n + 1], 0, 78) for s, places in lacking.items() for n in places]
    reach = Reach(symbols, days, bars)
    found = gaps.asks(wanted, CALENDAR, reach, NOW)
    asked = [gap.key for ask in found for gap in ask.gaps]
    assert sorted(asked) == sorted(gap.key for gap in wanted)
    assert [ask.end for ask in found] == sorted((ask.end for ask in found), reverse=True) or symbols < len(lacking)
    for ask in found:
        assert 1 <= len(ask.symbols) <= symbols
        assert ask.end - ask.start <= timedelta(days=days) or len({gap.session for gap in ask.gaps}) == 1
        assert all(ask.start < gap.session[0] and gap.session[1] <= ask.end for gap in ask.gaps)
        last = max(gap.session for gap in ask.gaps)
        if last != CALENDAR[-1]:
            assert ask.end == min(NOW, CALENDAR[CALENDAR.index(last) + 1][0] + OVERLAP), "the first bars after it"
        spanned = [one for one in CALENDAR if one[0] >= ask.start and one[1] <= ask.end]
        if bars is not None and len({gap.session for gap in ask.gaps}) > 1:
            around = DAY_BARS_MAX  # the evening before and the morning after, an hour of each session with them
            assert (len(spanned) * DAY_BARS_MAX + around) * len(ask.symbols) <= bars
