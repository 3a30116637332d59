"""The drift alarm: how often it is false, how soon it comes, and what does not set it off. Everything is seeded."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from qbot import drift, limits
from qbot.drift import ALPHA, Array, DayError, alarms, daily, evidence, judge, may_train, p_values, whole

REFERENCE = 20  # days: what 48 sessions of bars leave to calibrate and to test
SPREAD = 0.2  # of the log of a day's scaled error; on the real bars 0.14 to 0.26
NOW = datetime(2025, 7, 7, 15, tzinfo=UTC)


def days(count: int, sequences: int, seed: int, *, follow: float = 0.0, spread: float = SPREAD) -> Array:
    """Scaled errors of made-up days, log-normal; `follow` is the correlation of a day with the one before."""
    random = np.random.default_rng(seed)
    steps = random.normal(size=(sequences, count + 30))
    for at in range(1, count + 30):
        steps[:, at] = follow * steps[:, at - 1] + np.sqrt(1.0 - follow**2) * steps[:, at]
    return np.asarray(np.exp(spread * steps[:, 30:]))


def ties(errors: Array, seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(size=(len(errors), errors.shape[1] - REFERENCE))


def ever(errors: Array) -> float:
    """The share of sequences that alarm at all."""
    return float(alarms(errors, REFERENCE, ties(errors)).any(axis=1).mean())


def delays(after: int, factor: float, sequences: int = 1_000) -> Array:
    """Days from a change of the errors to the alarm; 99 where 40 days bring none."""
    errors = days(REFERENCE + after + 40, sequences, seed=after + 1)
    errors[:, REFERENCE + after :] *= factor
    found = alarms(errors, REFERENCE, ties(errors))
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1.0 - after, 99.0)


# --- how often it is false --------------------------------------------------------------------------------------------


def test_p_values_of_exchangeable_days_are_uniform_with_ties_and_without() -> None:
    plain = days(REFERENCE + 20, 3_000, seed=1)
    for errors in (plain, np.round(plain, 1), np.ones_like(plain)):
        p = p_values(errors, REFERENCE, ties(errors)).ravel()
        assert ((p > 0) & (p <= 1)).all()
        for level in (0.05, 0.25, 0.5, 0.9):
            assert (p <= level).mean() == pytest.approx(level, abs=0.01)


def test_every_bet_is_fair_and_the_evidence_is_seldom_ever_large() -> None:
    u = (np.arange(20_000) + 0.5) / 20_000
    bets = evidence((u**20)[:, None])[:, 0]  # one day, at p-values so dense near zero that the tail is summed up too
    assert float(np.mean(bets * 20.0 * u**19)) == pytest.approx(1.0, abs=1e-3)
    path = evidence(np.random.default_rng(3).uniform(size=(4_000, 60)))
    assert (path.max(axis=1) >= 1 / ALPHA).mean() <= ALPHA
    assert (path.max(axis=1) >= 20).mean() <= 1 / 20


@pytest.mark.parametrize("spread", [0.14, 0.26, 0.6])
def test_of_a_hundred_models_that_do_as_ever_one_is_falsely_alarmed_about_at_most(spread: float) -> None:
    assert ever(days(REFERENCE + 90, 3_000, seed=4, spread=spread)) <= ALPHA


@pytest.mark.parametrize(("follow", "spread"), [(-0.3, 0.26), (-0.1, 0.2), (0.3, 0.2), (0.3, 0.26)])
def test_that_holds_where_days_depend_on_each_other_as_real_ones_do_and_more(follow: float, spread: float) -> None:
    """On real bars the correlation of a day's scaled error with the day before is -0.30 to -0.08."""
    assert ever(days(REFERENCE + 60, 3_000, seed=5, follow=follow, spread=spread)) <= ALPHA


def clustered(sequences: int, count: int, seed: int) -> Array:
    """The volatility of days, GARCH(1, 1) as equities have it: 0.08, 0.90, with fat tails."""
    random = np.random.default_rng(seed)
    squared, vol = np.ones(sequences), np.empty((sequences, count))
    for at in range(count):
        vol[:, at] = np.sqrt(squared)
        squared = 0.02 + 0.90 * squared + 0.08 * squared * random.standard_t(6, sequences) ** 2 / 1.5
    return vol


def scaled_by_the_day_before(vol: Array, seed: int) -> Array:
    """Daily mean absolute errors in units of an interval that follows the last session's volatility, as QBot's does."""
    random = np.random.default_rng(seed)
    noise = np.exp(random.normal(0.0, 0.15, size=vol.shape))
    return np.asarray((vol * noise)[:, 1:] / vol[:, :-1])


def test_clusters_of_wild_days_are_no_drift() -> None:
    vol = clustered(3_000, REFERENCE + 61, seed=6)
    assert vol.std() > 0.2  # wild enough to matter
    assert ever(scaled_by_the_day_before(vol, seed=7)) <= ALPHA


def test_a_market_that_becomes_three_times_as_wild_and_stays_so_is_no_drift() -> None:
    vol = np.ones((2_000, REFERENCE + 61))
    vol[:, REFERENCE + 10 :] = 3.0
    assert ever(scaled_by_the_day_before(vol, seed=8)) <= ALPHA


# --- how soon it comes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "mean", "nine_of_ten"), [(0, 10.0, 20.0), (20, 9.5, 14.0), (60, 7.0, 9.0)])
def test_a_doubling_of_errors_is_found_within_two_weeks(after: int, mean: float, nine_of_ten: float) -> None:
    found = delays(after, 2.0)
    assert (found < 99).mean() > 0.95
    assert (found <= 0).mean() <= ALPHA
    assert found[(found > 0) & (found < 99)].mean() <= mean
    assert np.quantile(found, 0.9) <= nine_of_ten


def test_errors_a_tenth_larger_are_not_worth_an_alarm() -> None:
    assert (delays(0, 1.1) < 99).mean() <= ALPHA


def test_smaller_errors_never_alarm() -> None:
    assert (delays(5, 0.4, 500) < 99).sum() == 0


# --- days -------------------------------------------------------------------------------------------------------------


def day(number: int, scaled: float = 1.0, **more: float) -> DayError:
    fields = {"naive": scaled, "outside": 0.2, "rows": 100, "times": 24} | more
    return DayError(day=date(2025, 5, 1) + timedelta(days=number), scaled=scaled, **fields)  # type: ignore[arg-type]


def test_a_second_look_finds_what_the_first_one_did_and_another_artifact_breaks_ties_otherwise() -> None:
    reference, later = [day(n) for n in range(6)], [day(n) for n in range(6, 9)]
    first = judge(reference, later, "h15-a")
    assert first == judge(reference, later, "h15-a") != judge(reference, later, "h15-b")
    assert first is not None and (first.days, first.ratio, first.alarm) == (3, 1.0, False)


def test_without_days_or_a_reference_nothing_is_said() -> None:
    assert judge([day(n) for n in range(6)], [], "x") is None
    assert judge([day(n) for n in range(drift.REFERENCE_DAYS_MIN - 1)], [day(9)], "x") is None


def test_doubled_errors_alarm_and_the_size_is_told() -> None:
    random = np.random.default_rng(9).normal(0.0, 0.15, 40)
    reference = [day(n, float(np.exp(random[n]))) for n in range(20)]
    later = [day(n, 2.0 * float(np.exp(random[n]))) for n in range(20, 32)]
    found = judge(reference, later, "x")
    assert found is not None and found.alarm and found.ratio == pytest.approx(2.0, abs=0.3)


def test_half_days_and_days_on_which_qbot_was_down_do_not_count() -> None:
    reference = [day(n) for n in range(6)]
    found = whole([day(6, times=16), day(7, times=15), day(8, times=26)], reference)
    assert [each.day.day for each in found] == [7, 9]


def test_the_days_of_a_training_are_measured_in_half_widths_of_the_rows_own_intervals() -> None:
    predicted, actual = np.array([0.01, 0.0, 0.0, 0.0]), np.array([0.03, -0.02, 0.01, 0.5])
    half = np.array([0.02, 0.01, 0.01, 0.0])  # the last has no width
    sessions = np.array([date(2025, 5, 1), date(2025, 5, 1), date(2025, 5, 2), date(2025, 5, 2)], dtype=object)
    first, second = daily(predicted, actual, predicted - half, predicted + half, [NOW, NOW, NOW, NOW], sessions)
    assert (first.scaled, first.naive, first.outside) == (pytest.approx(1.5), pytest.approx(1.75), 0.5)
    assert (first.rows, first.times, second.rows, second.scaled) == (2, 1, 1, pytest.approx(1.0))
    assert drift.DAYS.validate_json(drift.DAYS.dump_json((first, second))) == (first, second)


def test_a_day_much_worse_than_no_change_passes_the_plain_bound_and_a_wild_one_does_not() -> None:
    assert drift.beyond_bound(day(1, 1.5, naive=1.0))
    assert not drift.beyond_bound(day(1, 1.49, naive=1.0))
    assert not drift.beyond_bound(day(1, 9.0, naive=9.0))
    assert not drift.beyond_bound(day(1, 0.0, naive=0.0))


# --- the cool-down ----------------------------------------------------------------------------------------------------

COOLDOWN = timedelta(seconds=limits.DEVIATION_COOLDOWN_S)


def test_a_deviation_waits_for_the_cool_down_after_any_training() -> None:
    assert may_train(NOW, None, [])
    assert not may_train(NOW, NOW - COOLDOWN + timedelta(seconds=1), [])
    assert may_train(NOW, NOW - COOLDOWN, [])


def test_where_retraining_does_not_help_it_is_tried_less_and_less_often() -> None:
    tried: list[datetime] = []
    for hour in range(29 * 24):
        at = NOW + timedelta(hours=hour)
        if may_train(at, tried[-1] if tried else None, tried):
            tried.append(at)
    assert [(at - NOW).days for at in tried] == [0, 2, 6, 14, 28]
