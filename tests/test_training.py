"""Training finds planted skill, claims none on a random walk, and leaves nothing behind when it fails."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot.errors import TrainingFailed
from qbot.skill import direction_auc, measure
from qbot.splits import SESSIONS_MIN, parts, split_sessions
from qbot.training import EXPECTED_MODELS, prepare, require_models, sane_bars, train
from qbot.training_types import RESULT, TrainingProgress, TrainingRequest, TrainingResult
from tests.support.made_up_market import made_up_bars

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")
NOW = datetime(2025, 4, 1, 20, 0, tzinfo=UTC)


def request_in(folder: Path, horizons: tuple[int, ...] = (15,)) -> TrainingRequest:
    return TrainingRequest(SYMBOLS, folder, NOW, "manual", seconds_per_horizon=60, min_rows=150, horizons=horizons)


def trained(
    bars: pd.DataFrame, folder: Path, horizons: tuple[int, ...] = (15,)
) -> tuple[TrainingResult, list[TrainingProgress]]:
    events: list[TrainingProgress] = []
    return train(bars, request_in(folder, horizons), events.append), events


def test_planted_skill_is_found_and_told_step_by_step(tmp_path: Path) -> None:
    bars = made_up_bars((*SYMBOLS, "UNASKED"), sessions=32, seed=5, momentum=0.6)
    few = (bars["symbol"] == "DDD") & (bars.groupby("symbol").cumcount() >= 149)
    broken = bars[~few].copy()
    broken.loc[0, "high"] = broken.loc[0, "low"] * 0.5
    result, events = trained(broken, tmp_path, (15, 30))
    first = result.horizons[15].record
    assert first.skilled and first.metrics.mae < first.metrics.naive_mae and first.metrics.r2 > 0.02
    assert first.metrics.auc is not None and first.metrics.auc > 0.6
    assert first.calibration.slope > 0.05
    assert first.autoregression is not None and first.autoregression.mae < first.metrics.naive_mae
    assert first.autoregression.rows == first.metrics.rows and first.autoregression_coefficients[0] > 0.3
    assert first.warnings and "looks like leakage" in first.warnings[0], "a market as easy as that is none"
    assert "autoregression" in events[-1].detail and "suspicious" in events[-1].detail
    assert set(EXPECTED_MODELS) <= set(first.models)
    days = first.reference_days
    assert len(days) >= 10 and [each.day for each in days][-len(first.test_days) :] == list(first.test_days)
    assert {each.times for each in days} == {25}  # a quarter of an hour apart, from 09:45 to 15:45
    assert np.mean([each.outside for each in days]) == pytest.approx(0.2, abs=0.1)
    assert result.tickers_included == ("AAA", "BBB", "CCC") and result.tickers_excluded == ("DDD",)
    assert (result.raw_rows, result.filtered_rows) == (len(broken), 3 * 32 * 78 + 149 - 1)
    assert result.clean_rows == 3 * 32 * (78 - 3) - 1 and not result.degraded_mode
    assert RESULT.validate_json(RESULT.dump_json(result)) == result
    assert [(event.event, event.stage) for event in events] == [
        ("start", "query_data"),
        ("start", "training_horizon_15"),
        ("horizon_trained", "training_horizon_15"),
        ("start", "training_horizon_30"),
        ("horizon_trained", "training_horizon_30"),
        ("finished", "complete"),
    ]
    progress = [event.progress for event in events]
    assert progress == sorted(progress) and progress[0] == 0.0 and progress[-1] == 1.0 and max(progress[:-1]) < 1.0
    assert [event.active for event in events] == [True] * 5 + [False]
    assert [path.name for path in tmp_path.iterdir()] == ["20250401T200000"]


def test_a_random_walk_gives_an_artifact_that_says_it_has_no_skill(tmp_path: Path) -> None:
    result, _ = trained(made_up_bars(SYMBOLS, sessions=24, seed=7), tmp_path)
    record = result.horizons[15].record
    assert not record.skilled and record.warnings == ()
    assert record.metrics.auc is not None and abs(record.metrics.auc - 0.5) < 0.04
    assert record.calibration.confidence(np.array([0.01]))[0] < 0.6


@pytest.mark.parametrize(("sessions", "message"), [(0, "no usable bars"), (SESSIONS_MIN - 1, f"{SESSIONS_MIN} needed")])
def test_too_few_bars_fail_and_leave_nothing_behind(tmp_path: Path, sessions: int, message: str) -> None:
    events: list[TrainingProgress] = []
    bars = made_up_bars(SYMBOLS, sessions=max(sessions, 1), seed=1)
    bars = bars if sessions else bars.head(0)
    with pytest.raises(TrainingFailed, match=message):
        train(bars, request_in(tmp_path), events.append)
    assert events[-1].event == "failed" and not events[-1].active and message in events[-1].detail
    assert list(tmp_path.iterdir()) == []


def test_a_failure_after_the_first_horizon_removes_what_was_trained(tmp_path: Path) -> None:
    events: list[TrainingProgress] = []
    with pytest.raises(ValueError, match="multiple"):
        train(made_up_bars(SYMBOLS, 10, seed=1), request_in(tmp_path, (15, 17)), events.append)
    assert "horizon_trained" in [event.event for event in events] and events[-1].event == "failed"
    assert list(tmp_path.iterdir()) == []


def test_a_row_is_trained_on_the_sentiment_that_was_known_at_its_time(tmp_path: Path) -> None:
    bars = made_up_bars(SYMBOLS, sessions=10, seed=1)
    known = sorted(bars["ts"].unique())[100].to_pydatetime() + timedelta(minutes=7)
    rows = prepare(bars, replace(request_in(tmp_path), sentiment=(("AAA", known, 0.25),))).rows
    told = rows[rows["grok_sentiment"].notna()]
    assert set(told["symbol"]) == {"AAA"} and set(told["grok_sentiment"]) == {0.25}
    assert known <= told["known_at"].min() < known + timedelta(minutes=5)
    assert prepare(bars, request_in(tmp_path)).rows["grok_sentiment"].isna().all()


def test_a_model_that_autogluon_skipped_is_an_error() -> None:
    require_models([*EXPECTED_MODELS, "Another"])
    with pytest.raises(TrainingFailed, match=EXPECTED_MODELS[0]):
        require_models(["Another"])


def test_when_no_ticker_has_enough_rows_all_are_taken_and_the_artifact_is_degraded(tmp_path: Path) -> None:
    bars = made_up_bars(SYMBOLS, sessions=10, seed=1)
    prepared = prepare(bars, replace(request_in(tmp_path), min_rows=10_000))
    assert prepared.degraded and prepared.included == SYMBOLS and prepared.excluded == ()


@pytest.mark.parametrize("change", [{"close": np.nan}, {"open": -1.0}, {"high": 0.01}, {"low": 1e9}, {"volume": -1}])
def test_insane_bars_are_not_trained_on(change: dict[str, float]) -> None:
    bars = made_up_bars(("AAA",), sessions=1, seed=1).astype({"volume": float})
    for column, value in change.items():
        bars.loc[3, column] = value
    assert sane_bars(bars).tolist() == [row != 3 for row in range(78)]


def days_from(count: int) -> list[date]:
    return [date(2025, 1, 1) + timedelta(days=day) for day in range(count)]


@given(st.integers(SESSIONS_MIN, 400))
def test_the_parts_follow_each_other_with_an_embargo_before_what_is_unseen(count: int) -> None:
    days = days_from(count)
    split = split_sessions(days[::-1])
    assert split is not None
    assert min(map(len, (split.fit, split.tune, split.calibrate, split.test))) >= 1
    assert split.fit[-1] < split.tune[0]
    assert split.calibrate[0] - split.tune[-1] == split.test[0] - split.calibrate[-1] == timedelta(days=2)
    assert split.fit[0] == days[0] and split.test[-1] == days[-1]


def test_under_the_fewest_sessions_there_is_no_split() -> None:
    assert split_sessions(days_from(SESSIONS_MIN - 1)) is None


@given(st.integers(1, 5_000))
def test_no_label_of_a_part_is_known_later_than_the_next_part_begins(horizon_minutes: int) -> None:
    days = days_from(12)
    split = split_sessions(days)
    assert split is not None
    known = pd.DatetimeIndex(
        [pd.Timestamp(day, tz="UTC") + pd.Timedelta(hours=h) for day in days for h in range(15, 21)]
    )
    matures = known + pd.Timedelta(minutes=horizon_minutes)
    found = parts(pd.DataFrame({"session": known.date, "known_at": known, "matures_at": matures}), split)
    for earlier, later in pairwise(found):
        start = known[known.date >= later["session"].min()].min() if len(later) else None
        assert start is None or earlier.empty or earlier["matures_at"].max() <= start
    assert set(found[3]["session"]) == set(split.test)


def test_errors_are_in_dollars_and_percent_and_compared_with_no_change() -> None:
    close, sessions = np.array([100.0, 200.0]), np.array(["a", "b"], dtype=object)
    metrics = measure(close, np.array([0.01, 0.0]), np.array([0.02, -0.01]), sessions)
    assert metrics.mae == pytest.approx((1.0 + 2.0) / 2) and metrics.naive_mae == pytest.approx(2.0)
    assert metrics.rmse == pytest.approx(np.sqrt((1.0 + 4.0) / 2))
    assert metrics.mape == pytest.approx((1 / 102 + 2 / 198) / 2 * 100)
    assert metrics.r2 == pytest.approx(1 - 5 / 8) and metrics.rows == 2
    assert not metrics.skilled, "two days prove nothing"


def test_skill_is_counted_in_days_not_in_rows() -> None:
    random = np.random.default_rng(3)
    days = np.repeat(np.arange(8).astype(str).astype(object), 500)
    lucky_day = np.where(days == "0", 0.01, 0.0) * random.normal(size=4_000)
    actual = lucky_day + random.normal(0.0, 0.0001, 4_000)
    one_day = measure(np.full(4_000, 50.0), lucky_day, actual, days)
    assert one_day.mae < one_day.naive_mae and not one_day.skilled
    signal = random.normal(0.0, 0.001, 4_000)
    every_day = measure(np.full(4_000, 50.0), signal, signal + random.normal(0.0, 0.001, 4_000), days)
    assert every_day.skilled


def test_the_naive_forecast_itself_has_no_skill() -> None:
    days = np.repeat(np.arange(8).astype(str).astype(object), 10)
    actual = np.random.default_rng(1).normal(0.0, 0.001, 80)
    metrics = measure(np.full(80, 50.0), np.zeros(80), actual, days)
    assert not metrics.skilled and metrics.t_statistic is None and metrics.r2 == 0.0 and metrics.auc == 0.5


def test_direction_auc_is_one_for_the_right_order_and_unknown_without_both_directions() -> None:
    actual = np.array([-0.2, -0.1, 0.1, 0.2])
    assert direction_auc(actual, actual) == 1.0 and direction_auc(-actual, actual) == 0.0
    assert direction_auc(actual, np.abs(actual)) is None
