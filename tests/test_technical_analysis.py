"""Bars to the indicators that technical analysis votes by: from when on they are read, and what they come to."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from qbot import trading
from qbot.features import build_features, latest_rows
from tests.support.made_up_market import made_up_bars

BARS = made_up_bars(("AAPL", "MSFT"), 3, seed=7, first_day="2025-03-05")  # Wednesday to Friday


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "since"),
    [
        ("2025-03-07 19:00", "2025-03-07 16:00"),  # four and a half hours into the session
        ("2025-03-07 17:30", "2025-03-07 14:30"),  # three: all of it
        ("2025-03-07 15:00", "2025-03-06 18:30"),  # half an hour, and the last two and a half of the day before
        ("2025-03-07 14:30", "2025-03-06 18:00"),  # the open
        ("2025-03-07 12:00", "2025-03-06 18:00"),  # before it
        ("2025-03-07 23:00", "2025-03-07 18:00"),  # after the close
        ("2025-03-08 15:00", "2025-03-07 18:00"),  # a Saturday
        ("2025-03-10 14:30", "2025-03-07 19:00"),  # a Monday an hour in, New York by now on summer time
    ],
)
def test_indicators_look_back_over_three_hours_of_sessions(now: str, since: str) -> None:
    assert trading.indicators_since(at(now)) == at(since)


def test_in_a_young_session_the_indicators_are_known_from_the_end_of_the_last_one() -> None:
    now = at("2025-03-07 14:41")  # eleven minutes in, two bars are complete
    recent = BARS[(BARS["ts"] >= trading.indicators_since(now)) & (BARS["ts"] < now - timedelta(minutes=5))]
    found = trading.technicals_of(recent)
    assert set(found) == {"AAPL", "MSFT"}
    for view in found.values():
        assert view.at == at("2025-03-07 14:40")
        assert all(map(math.isfinite, (view.rsi, view.macd, view.macd_signal_gap, view.sma_distance, view.bollinger)))
        assert 0 <= view.rsi <= 100


def test_each_indicator_is_the_feature_of_its_name_at_the_newest_bar() -> None:
    found = trading.technicals_of(BARS)["MSFT"]
    row = latest_rows(build_features(BARS)).set_index("symbol").loc["MSFT"]
    assert (found.at, found.rsi) == (row["known_at"], pytest.approx(100 * row["rsi_14"]))
    assert (found.macd, found.macd_signal_gap) == (row["macd"], row["macd_signal_gap"])
    assert (found.sma_distance, found.bollinger) == (row["sma_distance_12"], row["bollinger_20"])


def test_without_bars_there_are_none_and_with_few_they_are_not_known() -> None:
    assert trading.technicals_of(BARS.iloc[:0]) == {}
    few: pd.DataFrame = BARS[BARS["ts"] < BARS["ts"].min() + timedelta(minutes=15)]
    assert math.isnan(trading.technicals_of(few)["AAPL"].rsi)
