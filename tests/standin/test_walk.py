"""Made-up prices: one market, however it is looked at."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from qbot.market.calendar import last_and_before, sessions_between
from qbot.standin import hours
from qbot.standin.market import Bar
from qbot.standin.walk import Walk
from tests.standin.conftest import NOW

SYMBOLS = st.sampled_from(["AAPL", "BRK.B", "Z", "S4999"])
# A summer's and a winter's day, a half day and a weekend lie in it.
MOMENTS = st.integers(0, 70 * 86_400).map(lambda s: datetime(2026, 10, 20, tzinfo=UTC) + timedelta(seconds=s))
WALK = Walk(7)
BAR = timedelta(minutes=5)


def bars_of(symbol: str, start: datetime, end: datetime, now: datetime, walk: Walk = WALK) -> list[Bar]:
    return walk.bars([symbol], start, end, now)[symbol]


def days_of(symbol: str, first: date, last: date, now: datetime) -> list[Bar]:
    return WALK.days([symbol], first, last, now)[symbol]


@given(SYMBOLS, MOMENTS)
def test_a_price_lies_within_its_day_and_its_bar(symbol: str, now: datetime) -> None:
    found = WALK.snapshots([symbol], now)[symbol]
    assert found.price is not None
    assert found.low <= found.price <= found.high
    assert found.low <= found.open <= found.high
    assert found.begin <= found.at <= now
    later = bars_of(symbol, found.begin, found.at + BAR, found.at + BAR)
    around = [bar for bar in later if bar.at <= found.at <= bar.at + BAR]
    assert around
    assert all(bar.low <= found.price <= bar.high for bar in around if bar.low and bar.high)


@given(SYMBOLS, MOMENTS)
def test_bars_join_and_add_up_to_the_day(symbol: str, now: datetime) -> None:
    session = hours.last_ended(now)
    bars = bars_of(symbol, session[0], session[1], now)
    (day,) = days_of(symbol, hours.day_of(session), hours.day_of(session), now)
    assert len(bars) == (session[1] - session[0]) // BAR
    assert [bar.close for bar in bars[:-1]] == [bar.open for bar in bars[1:]]
    assert (day.open, day.close) == (bars[0].open, bars[-1].close)
    assert day.high == max(bar.high for bar in bars if bar.high is not None)
    assert day.low == min(bar.low for bar in bars if bar.low is not None)
    assert day.volume == sum(bar.volume for bar in bars)
    assert all(bar.volume > 0 for bar in bars)


@given(SYMBOLS, MOMENTS)
def test_nothing_is_known_ahead_of_time(symbol: str, now: datetime) -> None:
    assert all(bar.at + BAR <= now for bar in bars_of(symbol, now - timedelta(days=3), now + BAR, now))
    today = now.date()
    ended = days_of(symbol, today - timedelta(days=5), today + timedelta(days=5), now)
    assert [day.at for day in ended] == [
        session[0]
        for session in hours.of_days(today - timedelta(days=5), today + timedelta(days=5))
        if session[1] <= now
    ]


def test_the_last_close_is_that_of_the_session_before() -> None:
    yesterday = last_and_before(NOW)[1]
    (day,) = days_of("AAPL", hours.day_of(yesterday), hours.day_of(yesterday), NOW)
    assert WALK.snapshots(["AAPL"], NOW)["AAPL"].previous_close == day.close


def test_out_of_hours_the_last_session_stands_as_it_ended() -> None:
    saturday = datetime(2026, 11, 28, 12, tzinfo=UTC)
    found = WALK.snapshots(["AAPL"], saturday)["AAPL"]
    half_day = sessions_between(saturday - timedelta(days=2), saturday)[-1]
    assert (found.begin, found.at) == half_day == hours.last_ended(saturday)
    (day,) = days_of("AAPL", date(2026, 11, 27), date(2026, 11, 27), saturday)
    assert (found.price, found.high, found.low, found.volume) == (day.close, day.high, day.low, day.volume)


def test_it_is_the_same_market_for_ever_and_another_one_with_another_seed() -> None:
    def told(seed: int) -> object:
        return Walk(seed).snapshots(["AAPL", "MSFT"], NOW), bars_of(
            "AAPL", NOW - timedelta(days=1), NOW, NOW, Walk(seed)
        )

    assert told(3) == told(3) != told(4)


def test_no_move_looks_like_a_mistake() -> None:
    """Neither from bar to bar nor over a night: else the checks of quotes would refuse a sound vendor."""
    for number in range(12):
        closes = [bar.close for bar in bars_of(f"S{number}", NOW - timedelta(days=30), NOW, NOW) if bar.close]
        moves = [abs(later / earlier - 1) for earlier, later in pairwise(closes)]
        assert max(moves) < 0.05
        assert sum(moves) / len(moves) > 1e-5


def test_only_the_named_symbols_are_known_if_any_are_named() -> None:
    walk = Walk(symbols=["AAPL"])
    assert set(walk.snapshots(["AAPL", "MSFT"], NOW)) == {"AAPL"}
    bars = walk.bars(["AAPL", "MSFT"], NOW - timedelta(days=7), NOW, NOW)
    assert (bool(bars["AAPL"]), bars["MSFT"]) == (True, [])
    assert walk.days(["MSFT"], NOW.date() - timedelta(days=7), NOW.date(), NOW) == {"MSFT": []}
    assert set(Walk().snapshots(["AAPL", "no ticker"], NOW)) == {"AAPL"}
