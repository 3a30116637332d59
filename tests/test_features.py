"""Features know only what was known; labels never cross the night."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.features import (
    FEATURES,
    HISTORY_SESSIONS,
    SENTIMENT_MAX_AGE,
    build_features,
    feature_names,
    label_returns,
    latest_rows,
    sentiment_as_of,
)
from qbot.limits import TICKER_COLUMNS_MAX
from tests.support.leakage import columns_that_know_the_future
from tests.support.made_up_market import SLOTS, made_up_bars

SYMBOLS = ("AAA", "AAPL", "MSFT", "SPY")  # two of them in one sector
BARS = made_up_bars(SYMBOLS, sessions=10, seed=1)
SENTIMENT = pd.DataFrame(
    {
        "symbol": ["AAA", "AAA", "AAPL"],
        "time": pd.to_datetime(["2025-03-05 15:02", "2025-03-10 16:00", "2025-03-11 14:31"], utc=True),
        "sentiment": [0.4, -0.2, 0.9],
    }
)


def build(bars: pd.DataFrame) -> pd.DataFrame:
    return build_features(bars, SYMBOLS, SENTIMENT)


@settings(max_examples=20)
@given(st.integers(0, 10 * SLOTS - 1), st.integers(0, 2**32 - 1))
def test_every_feature_of_a_row_is_the_same_when_the_future_is_cut_off(bar: int, seed: int) -> None:
    ragged = BARS.sample(frac=0.9, random_state=seed).sort_index()
    times = sorted(ragged["ts"].unique())
    known_at = times[min(bar, len(times) - 1)] + pd.Timedelta(minutes=5)
    assert columns_that_know_the_future(build, ragged, known_at, feature_names(SYMBOLS)) == set()


@pytest.mark.parametrize("name", FEATURES)
def test_a_planted_look_ahead_in_any_feature_is_caught(name: str) -> None:
    def leaking(bars: pd.DataFrame) -> pd.DataFrame:
        rows = build(bars)
        rows[name] = rows.groupby("symbol")["close"].shift(-1)
        return rows

    assert columns_that_know_the_future(leaking, BARS, BARS["ts"].iloc[400], FEATURES) == {name}


def test_a_planted_scaling_by_the_whole_sample_is_caught() -> None:
    def leaking(bars: pd.DataFrame) -> pd.DataFrame:
        rows = build(bars)
        return rows.assign(rsi_14=rows["rsi_14"] / rows["rsi_14"].mean())

    assert columns_that_know_the_future(leaking, BARS, BARS["ts"].iloc[400], FEATURES) == {"rsi_14"}


def test_a_few_sessions_of_history_give_the_same_last_row_as_all_of_it() -> None:
    days = sorted(BARS["ts"].dt.date.unique())
    short = BARS[BARS["ts"].dt.date >= days[-HISTORY_SESSIONS]]
    whole, few = latest_rows(build(BARS)), latest_rows(build(short))
    pd.testing.assert_frame_equal(whole, few, rtol=1e-7, atol=1e-10)
    known = [name for name in FEATURES if name != "grok_sentiment" and not name.startswith("sector_")]
    assert whole[known].notna().all(axis=None)
    assert whole["sector_return_3"].notna().tolist() == [False, True, True, False], "alone, or without a sector"


def test_neither_a_price_level_nor_a_vendors_way_to_count_volume_changes_a_feature() -> None:
    other = BARS.copy()
    other[["open", "high", "low", "close"]] *= 7.0
    other["volume"] *= 3
    pd.testing.assert_frame_equal(
        build(BARS)[list(FEATURES)], build(other)[list(FEATURES)], check_exact=False, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_another_vendors_count_or_a_split_of_one_ticker_changes_no_feature_of_any(symbol: str) -> None:
    other = BARS.astype({"volume": float})
    of_it = other["symbol"] == symbol
    other.loc[of_it, "volume"] *= 1.7
    other.loc[of_it, ["open", "high", "low", "close"]] /= 20.0
    pd.testing.assert_frame_equal(build(BARS)[list(FEATURES)], build(other)[list(FEATURES)], rtol=1e-9, atol=1e-9)


def test_no_volume_is_compared_across_sources() -> None:
    day, count = 6, 30.0
    aaa = np.flatnonzero(BARS["symbol"] == "AAA")
    changed = aaa[day * SLOTS + 20 :]  # another source from the middle of a session on
    other = BARS.astype({"volume": float}).assign(source="one")
    other.loc[changed, "source"] = "two"
    other.loc[changed, "volume"] *= count
    rows, before = build(other), build(BARS.assign(source="one"))
    pd.testing.assert_frame_equal(before, build(BARS))
    others = [name for name in rows if name not in ("volume", "vwap_distance")]
    pd.testing.assert_frame_equal(rows[others], before[others])
    mine, same = (frame.query("symbol == 'AAA'").reset_index(drop=True) for frame in (rows, before))
    first, next_day = day * SLOTS + 20, (day + 1) * SLOTS
    pd.testing.assert_series_equal(mine["volume"][:first], same["volume"][:first])
    assert mine["volume"][first : next_day + SLOTS].isna().all(), "the other source's first session has nothing before"
    own = other.loc[aaa, "volume"].to_numpy()
    usual = np.median(own[next_day : next_day + SLOTS])
    assert mine["volume"][next_day + SLOTS] == pytest.approx(np.log(own[next_day + SLOTS] / usual))
    assert mine["vwap_distance"][next_day:].to_numpy() == pytest.approx(same["vwap_distance"][next_day:].to_numpy())
    assert mine["vwap_distance"].notna().all()


def test_which_source_a_session_has_is_known_with_its_first_bar() -> None:
    mixed = BARS.assign(source=np.where(np.arange(len(BARS)) % 7 < 3, "one", "two"))
    assert columns_that_know_the_future(build, mixed, BARS["ts"].iloc[433], feature_names(SYMBOLS)) == set()


@pytest.mark.parametrize("missed", [False, True])
@pytest.mark.parametrize("ratio", [20.0, 2.0, 1.5, 0.1])
def test_nothing_looks_back_across_the_night_of_a_split(ratio: float, missed: bool) -> None:
    day = 6
    aaa = np.flatnonzero(BARS["symbol"] == "AAA")
    split = BARS.astype({"volume": float})
    split.loc[aaa[day * SLOTS :], ["open", "high", "low", "close"]] /= ratio
    split.loc[aaa[day * SLOTS :], "volume"] *= ratio
    split = split.drop(index=aaa[(day - 1) * SLOTS : day * SLOTS]) if missed else split
    rows = build(split).query("symbol == 'AAA'").reset_index(drop=True)
    first = (day - missed) * SLOTS
    on_the_day = rows[first : first + SLOTS]
    assert on_the_day[["prev_close", "overnight_return", "volume"]].isna().all(axis=None)
    untouched = build(BARS).query("symbol == 'AAA'").reset_index(drop=True)
    names = [name for name in FEATURES if name not in ("prev_close", "overnight_return", "volume")]
    expected = untouched.loc[day * SLOTS : day * SLOTS + SLOTS - 1, names].reset_index(drop=True)
    if not missed:
        pd.testing.assert_frame_equal(on_the_day[names].reset_index(drop=True), expected, rtol=1e-9, atol=1e-9)
    later = rows["volume"][first + SLOTS]
    own = split.loc[aaa[day * SLOTS :], "volume"].to_numpy()
    assert later == pytest.approx(np.log(own[SLOTS] / np.median(own[:SLOTS])))


def test_no_return_reaches_across_the_night_but_the_one_named_so() -> None:
    rows = build(BARS)
    first = rows[rows["time_of_day"] == 1 / SLOTS]
    assert len(first) == 40
    assert first[[f"return_{lag}" for lag in (1, 2, 3, 6, 12)]].isna().all(axis=None)
    aaa = BARS[BARS["symbol"] == "AAA"].reset_index(drop=True)
    gap = aaa["open"][SLOTS] / aaa["close"][SLOTS - 1] - 1.0
    second_day = rows[rows["symbol"] == "AAA"].iloc[SLOTS]
    assert second_day["overnight_return"] == pytest.approx(gap)
    assert second_day["prev_close"] == pytest.approx(aaa["close"][SLOTS - 1] / aaa["close"][SLOTS] - 1.0)


def test_a_bar_is_known_when_it_ends_and_its_shape_is_relative_to_its_close() -> None:
    aaa = BARS[BARS["symbol"] == "AAA"].reset_index(drop=True)
    row = build(BARS).query("symbol == 'AAA'").iloc[20]
    assert row["known_at"] == row["ts"] + pd.Timedelta(minutes=5) == aaa["ts"][20] + pd.Timedelta(minutes=5)
    for name in ("open", "high", "low"):
        assert row[name] == pytest.approx(aaa[name][20] / aaa["close"][20] - 1.0)
    assert row["return_3"] == pytest.approx(aaa["close"][20] / aaa["close"][17] - 1.0)
    seen = aaa[:21]
    vwap = ((seen["high"] + seen["low"] + seen["close"]) / 3 * seen["volume"]).sum() / seen["volume"].sum()
    assert row["vwap_distance"] == pytest.approx(aaa["close"][20] / vwap - 1.0)
    assert row["ticker_AAA"] == 1 and row["ticker_AAPL"] == 0


def test_volume_is_measured_against_the_tickers_own_earlier_sessions() -> None:
    aaa = BARS[BARS["symbol"] == "AAA"].reset_index(drop=True)
    medians = [aaa["volume"][day * SLOTS : (day + 1) * SLOTS].median() for day in range(5)]
    row = build(BARS).query("symbol == 'AAA'").iloc[5 * SLOTS]
    assert row["volume"] == pytest.approx(np.log(aaa["volume"][5 * SLOTS] / np.median(medians)))


def test_the_market_is_spy_or_else_the_mean_of_the_tickers() -> None:
    rows = build(BARS)
    spy = rows[rows["symbol"] == "SPY"].set_index("ts")["return_3"]
    aaa = rows[rows["symbol"] == "AAA"].set_index("ts")
    pd.testing.assert_series_equal(aaa["market_return_3"], spy, check_names=False)
    without = build_features(BARS[BARS["symbol"] != "SPY"])
    mean = without.groupby("ts")["return_3"].mean()
    seen = without[without["symbol"] == "AAA"].set_index("ts")["market_return_3"]
    pd.testing.assert_series_equal(seen, mean, check_names=False)


def test_the_sectors_return_is_that_of_the_other_tickers_in_it() -> None:
    symbols = ("AAPL", "MSFT", "NVDA", "XOM", "ZZZ")
    bars = made_up_bars(symbols, sessions=2, seed=4).drop(index=30)
    rows = build_features(bars).set_index(["symbol", "ts"])
    others = (rows.loc["MSFT", "return_3"] + rows.loc["NVDA", "return_3"]) / 2
    seen = rows.loc["AAPL", "sector_return_3"]
    pd.testing.assert_series_equal(seen, others[seen.index], check_names=False, check_freq=False)
    assert rows.loc[["XOM", "ZZZ"], ["sector_return_3", "sector_return_12"]].isna().all(axis=None)


BEGIN = pd.Timestamp("2025-03-05 14:30", tz="UTC")
MINUTE = st.integers(0, 3 * 24 * 60).map(lambda minutes: BEGIN + pd.Timedelta(minutes=minutes))
TOLD = st.tuples(st.sampled_from(["AAA", "BBB"]), MINUTE, st.floats(-1, 1))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(["AAA", "BBB", "CCC"]), MINUTE), min_size=1, max_size=8),
    st.lists(TOLD, max_size=8),
)
def test_a_row_has_the_newest_sentiment_of_its_ticker_that_was_known_by_then_and_no_later_one(
    asked: list[tuple[str, pd.Timestamp]], told: list[tuple[str, pd.Timestamp, float]]
) -> None:
    told = list({(symbol, at): (symbol, at, value) for symbol, at, value in told}.values())  # one a ticker and moment
    rows = pd.DataFrame(asked, columns=["symbol", "known_at"]).sort_values("known_at").reset_index(drop=True)
    sentiment = pd.DataFrame(told, columns=["symbol", "time", "sentiment"])
    found = sentiment_as_of(rows, sentiment)
    for row, value in zip(rows.itertuples(), found, strict=True):
        known = {
            at: each for symbol, at, each in told
            if symbol == row.symbol and at <= row.known_at and row.known_at - at <= SENTIMENT_MAX_AGE
        }  # fmt: skip
        assert (np.isnan(value) and not known) or value == known[max(known)]
    cut = rows["known_at"].iloc[len(rows) // 2]
    before = sentiment_as_of(rows[rows["known_at"] <= cut], sentiment[sentiment["time"] <= cut])
    assert np.array_equal(before, found[: len(before)], equal_nan=True)


def test_ticker_columns_are_bounded() -> None:
    many = [f"T{number}" for number in range(TICKER_COLUMNS_MAX + 3)]
    names = [name for name in build_features(BARS, many) if name.startswith("ticker_")]
    assert names == feature_names(many)[:TICKER_COLUMNS_MAX] == [f"ticker_{name}" for name in many[:TICKER_COLUMNS_MAX]]


def test_sentiment_counts_from_its_time_on_and_for_a_day() -> None:
    rows = build(BARS).query("symbol == 'AAA'").set_index("known_at")["grok_sentiment"]
    assert np.isnan(rows[pd.Timestamp("2025-03-05 15:00", tz="UTC")])
    assert rows[pd.Timestamp("2025-03-05 15:05", tz="UTC")] == 0.4
    assert rows[pd.Timestamp("2025-03-06 15:00", tz="UTC")] == 0.4
    assert np.isnan(rows[pd.Timestamp("2025-03-06 15:05", tz="UTC")])
    assert build_features(BARS)["grok_sentiment"].isna().all()


def test_the_session_is_new_yorks_on_both_sides_of_the_clock_change() -> None:
    rows = build(BARS)
    days = rows["ts"].dt.tz_convert("America/New_York").dt.date
    assert rows.groupby(days)["ts"].min().dt.hour.nunique() == 2
    assert rows.groupby(days)["time_of_day"].agg(["min", "max"]).drop_duplicates().values.tolist() == [[1 / 78, 1]]


def test_where_all_bars_lie_outside_the_regular_session_there_are_no_features() -> None:
    night = BARS.head(1).assign(ts=BARS["ts"].min() - pd.Timedelta(hours=5))
    assert build_features(night).empty


def test_bars_outside_the_regular_session_are_left_out() -> None:
    early = BARS.head(1).assign(ts=BARS["ts"].min() - pd.Timedelta(minutes=5))
    pd.testing.assert_frame_equal(build(pd.concat([BARS, early])), build(BARS))


def test_naive_times_and_double_bars_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        build_features(BARS.assign(ts=BARS["ts"].dt.tz_localize(None)))
    with pytest.raises(ValueError, match="two bars"):
        build_features(pd.concat([BARS, BARS.head(1)]))


def test_a_label_is_the_return_to_the_close_of_the_bar_that_ends_at_the_horizon() -> None:
    aaa = BARS[BARS["symbol"] == "AAA"].reset_index(drop=True)
    labels = label_returns(BARS, 30).query("symbol == 'AAA'").reset_index(drop=True)
    assert labels["label_return"][10] == pytest.approx(aaa["close"][16] / aaa["close"][10] - 1.0)
    assert labels["matures_at"][10] == aaa["ts"][16] + pd.Timedelta(minutes=5)


@pytest.mark.parametrize("horizon", [15, 30, 60])
def test_no_label_crosses_the_night_or_bridges_a_missing_bar(horizon: int) -> None:
    steps = horizon // 5
    labels = label_returns(BARS, horizon)
    slot = build(BARS)["time_of_day"].mul(SLOTS).round()
    assert (labels["label_return"].isna() == (slot > SLOTS - steps)).all()
    missing = label_returns(BARS.drop(index=20), horizon).query("symbol == 'AAA'").set_index("ts")["label_return"]
    assert np.isnan(missing[BARS["ts"][20 - steps]]) and not np.isnan(missing[BARS["ts"][21 - steps]])


@pytest.mark.parametrize("horizon", [0, -5, 7])
def test_a_horizon_that_is_no_whole_number_of_bars_is_refused(horizon: int) -> None:
    with pytest.raises(ValueError, match="multiple"):
        label_returns(BARS, horizon)


def test_rows_and_labels_stand_in_the_same_order() -> None:
    rows, labels = build(BARS), label_returns(BARS.sample(frac=1.0, random_state=3), 15)
    pd.testing.assert_frame_equal(rows[["symbol", "ts", "known_at"]], labels[["symbol", "ts", "known_at"]])
