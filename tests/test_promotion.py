"""A candidate stands for what it was proven to be on unseen days, and luck seldom passes for proof."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from qbot.promotion import ALPHA, DAYS_MIN, RECHECK_DAYS_MIN, Standing, Trial, compare, daily, judge, level, statistic

GOOD = (0.9, 1.1, 1.0, 0.95, 1.05, 1.0, 0.9, 1.1, 1.0, 0.95, 1.05, 1.0)  # gains of a day: clearly above zero
EVEN = (1.0, -1.0, 0.5, -0.6, 0.3, -0.2, 0.9, -0.8, 0.4, -0.5, 0.6, -0.7)
SKILLED, UNPROVEN = Standing("h15-old", skilled=True), Standing("h15-old", skilled=False)


def days(count: int) -> tuple[date, ...]:
    return tuple(date(2025, 3, 3) + timedelta(days=at) for at in range(count))


def trial(over_naive: tuple[float, ...] = GOOD, **more: tuple[float, ...]) -> Trial:
    """Held against `h15-old`, on as many later days as there are gains over it."""
    later = days(len(more.get("over_standing", ())))
    return Trial(days(len(over_naive)), over_naive, "h15-old", later, **more)


# --- the test ---------------------------------------------------------------------------------------------------------


def noise(rng: np.random.Generator, runs: int, count: int, follows: float, tails: float) -> npt.NDArray[np.float64]:
    """Gains without skill, of which each follows the one before by a share; `tails`: of Student's t."""
    steps = rng.standard_t(tails, (runs, count + 20))
    for at in range(1, count + 20):
        steps[:, at] += follows * steps[:, at - 1]
    return steps[:, 20:]


@pytest.mark.parametrize("tails", [4.0, 1e6], ids=["heavy", "normal"])
@pytest.mark.parametrize("follows", [0.0, 0.15, 0.3])
@pytest.mark.parametrize("count", [DAYS_MIN, 12, 17, 30])
def test_a_candidate_without_skill_is_promoted_no_more_often_than_stated(
    count: int, follows: float, tails: float
) -> None:
    runs = 20_000
    t, freedom = statistic(noise(np.random.default_rng(count), runs, count, follows, tails))
    for number in (1, 2, 5):
        alpha = level(number)
        promoted = float(np.mean(t > stats.t.isf(alpha, freedom)))
        chance = 3.0 * np.sqrt(alpha / runs)  # of so few runs
        assert promoted <= alpha * 1.1 + chance, f"{promoted:.4f} where {alpha:.4f} is stated"


def test_all_trials_together_spend_no_more_than_is_stated() -> None:
    spent = np.cumsum([level(number) for number in range(1, 100_001)])
    assert spent[-1] <= ALPHA and spent[-1] > 0.9 * ALPHA
    assert level(1) == pytest.approx(0.018, abs=0.001) and level(10) == pytest.approx(0.0005, abs=0.0001)


def test_twenty_trials_of_noise_seldom_give_a_single_promotion() -> None:
    rng, lives = np.random.default_rng(5), 4_000
    ever = np.zeros(lives, dtype=bool)
    for number in range(1, 21):
        t, freedom = statistic(noise(rng, lives, 12, 0.2, 5.0))
        ever |= t > stats.t.isf(level(number), freedom)
    assert np.mean(ever) <= ALPHA


def test_the_variance_is_that_of_statsmodels() -> None:
    """`OLS(gains, ones).fit(cov_type="HAC", cov_kwds={"maxlags": 3}).bse` of statsmodels 0.15."""
    gains = np.array([0.2, -0.1, 0.4, 0.3, -0.2, 0.1, 0.5, 0.0, 0.3, -0.3, 0.2, 0.4])
    t, freedom = statistic(gains)
    hac = gains.mean() / STATSMODELS_BSE
    assert float(t) == pytest.approx(hac * np.sqrt((12 + 1 - 8 + 4 * 3 / 12) / 12), rel=1e-5)
    assert freedom == pytest.approx(1.5 * 12 / 4)


STATSMODELS_BSE = 0.03254271


def test_days_that_follow_each_other_prove_less() -> None:
    apart = compare((2.0, -1.0) * 6)
    together = compare((2.0,) * 6 + (-1.0,) * 6)
    assert apart.gain == together.gain and apart.p is not None and together.p is not None
    assert apart.p < together.p


@given(st.lists(st.floats(-1e6, 1e6), max_size=40))
def test_any_gains_give_a_probability_or_none(gains: list[float]) -> None:
    found = compare(gains)
    assert found.days == len(gains) and (found.p is None) == (found.t is None)
    assert found.p is None or 0.0 <= found.p <= 1.0


def test_a_day_weighs_the_same_however_many_rows_it_has() -> None:
    one, two = date(2025, 3, 3), date(2025, 3, 4)
    sessions = np.array([two, one, two, two, one], dtype=object)
    found = daily(np.array([1.0, 4.0, 2.0, np.nan, 6.0]), sessions)
    assert found == ((one, two), (5.0, 1.5))
    assert daily(np.array([np.nan]), np.array([one], dtype=object)) == ((), ())


# --- the verdict ------------------------------------------------------------------------------------------------------


def test_the_first_artifact_stands_proven_or_not() -> None:
    proven = judge(trial(), 1, degraded=False, standing=None)
    assert (proven.outcome, proven.stands, proven.skilled) == ("promoted", True, True)
    assert proven.why.startswith("better than no change (p = ")
    other = judge(trial(EVEN), 1, degraded=False, standing=None)
    assert (other.outcome, other.stands, other.skilled) == ("refused", True, False)
    assert "not better than no change (p = 0." in other.why and "12 days" in other.why
    assert other.why.endswith("stands unproven, since nothing proven does")


def test_the_more_trials_there_were_the_more_is_asked() -> None:
    fair = tuple(0.6 * gain + each for gain, each in zip(GOOD, EVEN, strict=True))
    assert judge(trial(fair), 1, degraded=False, standing=None).skilled
    late = judge(trial(fair), 200, degraded=False, standing=None)
    assert not late.skilled and "trial 200 asks for p < " in late.why


@pytest.mark.parametrize(
    ("change", "degraded", "why"),
    [({"over_naive": GOOD[: DAYS_MIN - 1]}, False, "only 7 unseen days, 8 needed"), ({}, True, "too few rows")],
)
def test_too_little_data_proves_nothing(change: dict[str, tuple[float, ...]], degraded: bool, why: str) -> None:
    found = judge(replace(trial(), **change), 1, degraded=degraded, standing=None)
    assert not found.skilled and why in found.why


def test_a_skilled_artifact_gives_way_to_one_that_is_better_than_it_and_than_no_change() -> None:
    better = trial(over_standing=GOOD, standing_over_naive=GOOD)
    found = judge(better, 2, degraded=False, standing=SKILLED)
    assert found.stands and found.skilled and "and than the standing one" in found.why


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (trial(EVEN, over_standing=GOOD, standing_over_naive=GOOD), "not better than no change"),
        (trial(over_standing=EVEN, standing_over_naive=GOOD), "not better than the standing one"),
        (trial(over_standing=GOOD[:5], standing_over_naive=GOOD[:5]), "only 5 days that the standing one has not seen"),
        (replace(trial(), problem="it is gone"), "it is gone"),
        (replace(trial(), standing_id="h15-older"), "another stands meanwhile"),
    ],
)
def test_else_it_stays_and_keeps_its_label(held: Trial, why: str) -> None:
    found = judge(held, 2, degraded=False, standing=SKILLED)
    assert (found.outcome, found.stands, found.skilled, found.demoted) == ("refused", False, False, False)
    assert why in found.why


def test_a_skilled_artifact_that_is_no_better_than_no_change_on_later_days_loses_its_label() -> None:
    bad = tuple(-gain for gain in GOOD)
    replaced = judge(trial(EVEN, over_standing=EVEN, standing_over_naive=bad), 2, degraded=False, standing=SKILLED)
    assert replaced.demoted and replaced.stands and not replaced.skilled
    few = bad[: RECHECK_DAYS_MIN - 1]
    kept = judge(trial(EVEN, over_standing=few, standing_over_naive=few), 2, degraded=False, standing=SKILLED)
    assert not kept.demoted and not kept.stands


def test_an_unproven_artifact_gives_way_to_a_fresher_one_that_is_not_worse() -> None:
    assert judge(trial(EVEN, over_standing=EVEN), 2, degraded=False, standing=UNPROVEN).stands
    assert judge(trial(EVEN), 2, degraded=False, standing=UNPROVEN).stands, "also where they cannot be compared"
    worse = judge(trial(EVEN, over_standing=tuple(-gain for gain in GOOD)), 2, degraded=False, standing=UNPROVEN)
    assert not worse.stands and "worse than the standing one" in worse.why
    assert not judge(trial(), 2, degraded=True, standing=UNPROVEN).stands
    assert judge(trial(), 2, degraded=True, standing=replace(UNPROVEN, degraded=True)).stands


def test_one_that_cannot_be_loaded_gives_way_to_any() -> None:
    found = judge(trial(EVEN), 2, degraded=False, standing=replace(SKILLED, usable=False))
    assert found.stands and not found.skilled and not found.demoted
