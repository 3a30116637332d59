"""The replayed market: prices move inside a bar along its open, high, low and close, and never ahead of time."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.errors import ConfigError
from qbot.exchange.market import Market, in_regular_hours, read_bars, to_price
from tests.exchange.world import CLOSE, NEXT_OPEN, OPEN, Ohlc, frame, market, sessions


def at(minutes: float, start: datetime = OPEN) -> float:
    return (start + timedelta(minutes=minutes)).timestamp()


@st.composite
def bars(draw: st.DrawFn) -> Ohlc:
    low = draw(st.integers(100, 20_000))
    high = low + draw(st.integers(0, 500))
    inside = st.integers(low, high)
    return draw(inside) / 100, high / 100, low / 100, draw(inside) / 100


def test_a_rising_bar_goes_down_first_and_a_falling_bar_up_first() -> None:
    rising = market(AAA=[(10, 14, 8, 12)])
    falling = market(AAA=[(12, 14, 8, 10)])
    corners = (0, 5 / 3, 10 / 3, 4.999999)
    assert [rising.price_at("AAA", at(m)) for m in corners] == [Decimal(p) for p in (10, 8, 14, 12)]
    assert [falling.price_at("AAA", at(m)) for m in corners] == [Decimal(p) for p in (12, 14, 8, 10)]


def test_between_two_corners_the_price_is_linear_in_time() -> None:
    assert market(AAA=[(10, 14, 8, 12)]).price_at("AAA", at(5 / 6)) == Decimal("9.00")


def test_where_bars_are_missing_the_last_price_stands() -> None:
    made = Market(frame("AAA", [(10, 11, 9, 10.5)] * 5, gaps=frozenset({1, 2, 3})))
    assert {made.price_at("AAA", at(m)) for m in (5, 10, 19.99)} == {Decimal("10.50")}
    assert made.price_at("AAA", at(20)) == Decimal("10.00")


def test_before_its_first_bar_a_symbol_has_no_price() -> None:
    assert market(AAA=[(10, 11, 9, 10)]).price_at("AAA", at(-0.01)) is None


@settings(max_examples=40)
@given(st.lists(bars(), min_size=2, max_size=8), st.data())
def test_cutting_the_file_after_a_bar_changes_nothing_until_it_ends(rows: list[Ohlc], data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, len(rows)))
    minute = data.draw(st.integers(0, 300_000 * kept - 1)) / 60_000
    whole, cut = market(AAA=rows), market(AAA=rows[:kept])
    t = at(minute)
    assert whole.price_at("AAA", t) == cut.price_at("AAA", t)
    assert list(whole.path("AAA", at(0), t)) == list(cut.path("AAA", at(0), t))
    assert whole.series["AAA"].known(t) == cut.series["AAA"].known(t)


@settings(max_examples=40)
@given(st.lists(bars(), min_size=1, max_size=5), st.floats(0, 24.9), st.floats(0, 24.9))
def test_a_path_has_no_holes_and_shows_every_bar_its_extremes(rows: list[Ohlc], one: float, two: float) -> None:
    made, (a, b) = market(AAA=rows), sorted((at(one), at(two)))
    legs = list(made.path("AAA", a, b))
    assert legs[0].begin_s == a and legs[-1].end_s == b
    assert all(left.end_s == right.begin_s for left, right in itertools.pairwise(legs))
    whole = list(made.path("AAA", at(0), at(5 * len(rows))))
    prices = [to_price(usd) for leg in whole for usd in (leg.from_usd, leg.to_usd)]
    assert max(prices) == to_price(max(h for _, h, _, _ in rows))
    assert min(prices) == to_price(min(low for _, _, low, _ in rows))


@settings(max_examples=40)
@given(st.lists(bars(), min_size=1, max_size=4), st.floats(0, 19.9))
def test_the_price_stays_inside_the_bar(rows: list[Ohlc], minute: float) -> None:
    index = min(int(minute // 5), len(rows) - 1)
    _, high, low, _ = rows[index]
    price = market(AAA=rows).price_at("AAA", at(minute))
    assert price is not None and to_price(low) <= price <= to_price(high)


def test_a_bar_is_known_when_it_has_ended() -> None:
    series = market(AAA=[(10, 11, 9, 10)] * 3).series["AAA"]
    assert [series.known(at(m)) for m in (0, 4.999, 5, 9.999, 10)] == [0, 0, 1, 1, 2]


def test_prices_under_a_dollar_have_four_decimals() -> None:
    assert (to_price(0.98765), to_price(1.98765)) == (Decimal("0.9877"), Decimal("1.99"))


def test_the_shipped_sample_is_complete_and_keeps_to_regular_hours() -> None:
    bars_ = read_bars(None)
    days = bars_["ts"].dt.tz_convert("America/New_York").dt.date
    counts = bars_.groupby([bars_["symbol"], days]).size().unstack()
    assert counts.shape == (13, 47)
    assert set(counts.drop(columns=[pd.Timestamp("2025-07-03").date()]).to_numpy().ravel()) == {78}
    assert set(counts[pd.Timestamp("2025-07-03").date()]) == {42}
    assert len(in_regular_hours(bars_, sessions())) == int((days >= pd.Timestamp("2025-06-02").date()).sum())


def test_a_bar_that_starts_at_the_close_is_left_out() -> None:
    late = frame("AAA", [(10, 10, 10, 10)] * 2, start=CLOSE - timedelta(minutes=5))
    assert list(in_regular_hours(late, sessions())["ts"]) == [CLOSE - timedelta(minutes=5)]


def test_a_file_that_holds_no_bars_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(ConfigError):
        read_bars(path)
    pd.DataFrame({"symbol": ["A"], "price": [1.0]}).to_parquet(path)
    with pytest.raises(ConfigError, match="columns missing"):
        read_bars(path)
    one_minute = frame("A", [(1, 1, 1, 1)] * 3)
    one_minute["ts"] = pd.date_range(OPEN, periods=3, freq="1min")
    one_minute.to_parquet(path)
    with pytest.raises(ConfigError, match="shorter than"):
        read_bars(path)


def test_windows_of_trading_are_the_sessions_parts() -> None:
    known = sessions()
    day = list(known.windows(at(-60), at(60, NEXT_OPEN), extended=False))
    assert day == [(OPEN.timestamp(), CLOSE.timestamp()), (NEXT_OPEN.timestamp(), at(60, NEXT_OPEN))]
    assert list(known.windows(CLOSE.timestamp(), CLOSE.timestamp(), extended=False)) == []
    assert list(known.windows(CLOSE.timestamp(), CLOSE.timestamp(), extended=True)) == [(CLOSE.timestamp(),) * 2]
    half_day = datetime.fromisoformat("2025-07-03T17:00:00+00:00").timestamp()
    assert known.is_open(half_day - 1) and not known.is_open(half_day)
