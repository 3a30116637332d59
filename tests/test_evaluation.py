"""The measures agree with sklearn, with numbers worked out by hand and with published examples."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score

from qbot import scores
from qbot.costs import Costs
from qbot.evaluation import direction, errors, evaluate, interval
from qbot.evaluation_words import grade, overall, verdict
from tests.support.made_up_forecasts import made_up_forecasts

FREE = Costs(half_spread_bps=0.0, sec_fee_usd_per_million=0.0, taf_usd_per_share=0.0)


def day_names(count: int, days: int) -> np.ndarray:
    return np.array([f"day {each * days // count:03d}" for each in range(count)], dtype=object)


def test_the_auc_is_that_of_sklearn_with_ties_too() -> None:
    random = np.random.default_rng(1)
    score, up = random.integers(0, 20, 400).astype(float), random.random(400) < 0.4
    found = scores.auc(score, up, day_names(400, 20))
    assert found is not None and found.value == pytest.approx(roc_auc_score(up, score))


def test_with_one_row_a_day_the_interval_of_the_auc_is_delongs() -> None:
    random = np.random.default_rng(2)
    score, up = random.normal(size=300), random.random(300) < 0.5
    found = scores.auc(score, up, np.arange(300).astype(str).astype(object))
    above = (score[up][:, None] > score[~up][None, :]).astype(float)
    variance = above.mean(axis=1).var(ddof=1) / up.sum() + above.mean(axis=0).var(ddof=1) / (~up).sum()
    assert found is not None and found.high is not None
    assert found.high - found.value == pytest.approx(1.96 * np.sqrt(variance), rel=0.01)


def test_rows_of_one_day_that_say_the_same_widen_the_interval_of_the_auc() -> None:
    random = np.random.default_rng(3)
    score, up = np.repeat(random.normal(size=40), 10), np.repeat(random.random(40) < 0.5, 10)
    by_day = scores.auc(score, up, np.repeat(np.arange(40).astype(str), 10).astype(object))
    by_row = scores.auc(score, up, np.arange(400).astype(str).astype(object))
    assert by_day is not None and by_row is not None and by_day.high is not None and by_row.high is not None
    assert by_day.high - by_day.value > 2.5 * (by_row.high - by_row.value)


def test_the_auc_is_unknown_without_both_directions_and_its_interval_without_two_days() -> None:
    assert scores.auc(np.ones(3), np.ones(3, dtype=bool), day_names(3, 3)) is None
    found = scores.auc(np.array([1.0, 2.0]), np.array([False, True]), day_names(2, 1))
    assert found == scores.Estimate(1.0, None, None)


def test_the_rank_ic_is_spearmans_correlation_by_time_and_its_t_counts_days() -> None:
    random = np.random.default_rng(4)
    times = pd.date_range("2025-03-03 15:00", periods=6, freq="D", tz="UTC")
    frame = pd.DataFrame(
        {
            "known_at": np.repeat(times, 5),
            "session": np.repeat(times.date, 5),
            "predicted": random.normal(size=30),
            "actual": random.normal(size=30),
        }
    )
    by_hand = [stats.spearmanr(each["predicted"], each["actual"])[0] for _, each in frame.groupby("known_at")]
    found, t = scores.rank_ic(frame)
    assert found is not None and found.value == pytest.approx(np.mean(by_hand))
    assert t == pytest.approx(stats.ttest_1samp(by_hand, 0.0)[0])
    assert scores.rank_ic(frame[frame.index % 5 < scores.IC_TICKERS_MIN - 1]) == (None, None)


def test_bins_hold_equally_many_and_the_ece_is_the_mean_distance() -> None:
    probability = np.array([0.1, 0.1, 0.9, 0.9])
    curve = scores.reliability(probability, np.array([False, True, True, True]), bins=2)
    assert [each.count for each in curve] == [2, 2]
    assert scores.ece(curve) == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    many = scores.reliability(np.random.default_rng(1).random(1_000), np.ones(1_000, dtype=bool))
    assert [each.count for each in many] == [100] * scores.CALIBRATION_BINS
    one = scores.reliability(np.full(50, 0.5), np.arange(50) < 25)
    assert one == (scores.Bin(0.5, 0.5, 50),) and scores.ece(one) == 0.0


def test_two_promises_that_many_share_are_judged_apart() -> None:
    """Together they would be right on average, and each is wrong."""
    promised = np.repeat([0.4, 0.6], [45, 55])
    curve = scores.reliability(promised, promised < 0.5)
    assert [(each.promised, each.happened, each.count) for each in curve] == [
        (pytest.approx(0.4), 1.0, 45), (pytest.approx(0.6), 0.0, 55),
    ]  # fmt: skip
    assert scores.ece(curve) == pytest.approx(0.6)


def test_the_brier_score_is_that_of_sklearn_and_the_constant_has_no_skill_against_itself() -> None:
    random = np.random.default_rng(5)
    probability, up = random.random(100), random.random(100) < 0.5
    assert scores.brier(probability, up) == pytest.approx(brier_score_loss(up, probability))
    days = day_names(100, 10)
    assert scores.brier_skill(np.full(100, 0.5), np.full(100, 0.5), up, days) == (0.0, None)
    skill, t = scores.brier_skill(np.where(up, 0.7, 0.3), np.full(100, 0.5), up, days)
    assert skill == pytest.approx(1 - 0.09 / 0.25) and t is None  # each day gains the same: nothing to compare with


def test_the_interval_score_fines_a_miss_by_its_distance() -> None:
    low, high = np.full(3, -1.0), np.full(3, 1.0)
    found = scores.interval_score(low, high, np.array([0.0, 1.5, -2.0]), 0.8)
    assert found == pytest.approx([2.0, 2.0 + 10 * 0.5, 2.0 + 10 * 1.0])


def test_the_deflated_sharpe_ratio_is_that_of_its_authors_example() -> None:
    """Bailey and López de Prado (2014): an annual ratio of 2.5 over five years of days, 100 trials of variance 1/2."""
    variance = 0.5 / 250
    assert scores.expected_maximum_sharpe(100, variance) == pytest.approx(0.1132, abs=5e-5)
    found = scores.deflated_sharpe(2.5 / np.sqrt(250), 1250, -3.0, 10.0, 100, variance)
    assert found == pytest.approx(0.9004, abs=5e-4)


def test_more_trials_leave_less_of_a_sharpe_ratio_and_one_trial_is_not_deflated() -> None:
    one, ten, many = (scores.deflated_sharpe(0.1, 500, 0.0, 3.0, trials, 0.002) for trials in (1, 10, 1_000))
    assert one > ten > many
    assert one == pytest.approx(stats.norm.cdf(0.1 * np.sqrt(499) / np.sqrt(1 + 0.1**2 / 2)))


def test_errors_are_in_dollars_and_percent() -> None:
    rows = pd.DataFrame({"close": [100.0, 200.0], "predicted": [0.01, 0.0], "actual": [0.02, -0.01]})
    found = errors(rows, "predicted")
    assert found.mae_usd == pytest.approx(1.5) and found.rmse_usd == pytest.approx(np.sqrt(2.5))
    assert found.mape_percent == pytest.approx((1 / 102 + 2 / 198) / 2 * 100)
    assert errors(rows, None).mae_usd == pytest.approx(2.0)


def test_intervals_of_the_right_width_hold_what_they_should_in_every_part() -> None:
    found = interval(made_up_forecasts(days=60, seed=3), 0.80)
    assert set(found.parts) >= {"calm", "usual", "wild", "09:30–10:30", "15:00–16:00"}
    assert found.worst_gap < 0.03 and found.covered.value == pytest.approx(0.8, abs=0.015)
    assert found.plain_width_pct == pytest.approx(found.width_pct, rel=0.01)


def test_each_part_counts_its_own_rows_only() -> None:
    rows = made_up_forecasts(days=10)
    early = rows["time_of_day"] * 390 <= 60
    rows.loc[early, "low_80"], rows.loc[early, "high_80"] = 1.0, 2.0
    found = interval(rows, 0.80)
    assert found.parts["09:30–10:30"].value == 0.0 and found.parts["10:30–12:00"].value > 0.7
    assert found.worst_gap == pytest.approx(0.8)


def test_moves_of_zero_count_in_no_measure_of_direction() -> None:
    rows = made_up_forecasts(days=10, skill=0.3)
    still = rows.assign(actual=0.0, known_at=rows["known_at"] + pd.Timedelta(minutes=5))
    assert direction(pd.concat([rows, still])).rows == len(rows)


def test_planted_skill_is_seen_in_every_measure_and_noise_in_none() -> None:
    good, noise = (evaluate(made_up_forecasts(days=40, skill=skill, seed=7), FREE) for skill in (0.4, 0.0))
    found = good.horizons[0]
    assert found.skilled and grade(found) == "skill"
    assert found.direction.brier_skill is not None and found.direction.brier_skill > 0.03
    assert found.direction.up_ece < 0.04 and (found.direction.rank_ic_t or 0.0) > 5
    best = max(each.deflated_sharpe or 0.0 for each in found.trading)
    assert best > 0.95 and found.every_rise.total_pct > 0
    assert overall(good) == "Skill at 15 minutes, and trading it looks profitable after costs."
    chance = noise.horizons[0]
    assert not chance.skilled and grade(chance) == "none"
    assert (chance.direction.brier_skill or 0.0) < 0.005
    assert overall(noise).startswith("No skill at any horizon")


def test_no_skill_is_said_first_and_with_what_trading_would_have_cost() -> None:
    told = verdict(evaluate(made_up_forecasts(days=40, seed=8)).horizons[0])
    assert told.headline.startswith(
        "No skill at 15 minutes: the forecast is not better than “the price stays as it is”"
    )
    assert "(p = " in told.headline
    said = " ".join(told.sentences)
    assert "no better than a coin: AUC 0." in said and "would have lost" in said and "after costs" in said
    assert "thresholds (confidence 0.80, return 5 %) would have bought nothing" in said


def test_figures_come_by_ticker_fold_and_day() -> None:
    found = evaluate(made_up_forecasts(days=20))
    horizon = found.horizons[0]
    assert [each.symbol for each in horizon.tickers] == list(found.symbols) and len(horizon.folds) == 2
    assert sum(each.rows for each in horizon.tickers) == sum(each.rows for each in horizon.folds) == horizon.rows
    assert len(found.days) == 20 and found.days[0] == date(2025, 3, 3)
    assert all(len(each.outcome.daily) == 20 for each in horizon.trading)
    assert found.trials == sum(each.outcome.trades > 0 for each in horizon.trading)
