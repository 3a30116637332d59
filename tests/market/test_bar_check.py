"""Bars are written where they fit those there are and the prices of now; a split is one where somebody else says so."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot import limits
from qbot.market.bar_check import Heard, Judged, Outcome, Overlap, judge, listed

WALK = 100.0 + np.cumsum(np.sin(np.arange(12)))
NOW_USD = float(WALK[-1])
NOBODY = Heard()


def judged(known: Any, came: Any, heard: Heard = NOBODY, *, to_newest: bool = True, **more: Any) -> Judged:
    came = np.asarray(came, float)
    usd = more.pop("newest_usd", float(came[-1]) if len(came) else NOW_USD)
    return judge(Overlap(np.asarray(known, float), came, to_newest), usd, heard, **{"of_now": True, **more})


def split_of(ratio: float, heard: Heard, count: int = 12, **more: Any) -> Judged:
    return judged(WALK[-count:], np.round(WALK[-count:] / ratio, 2), heard, **more)


# --- another scale ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 12])
@pytest.mark.parametrize(
    ("ratio", "told"), [(4.0, "4"), (0.1, "0.1"), (1.5, "1.5"), (1.25, "1.25"), (150.0, "150"), (1 / 35, "0.0285714")]
)
def test_another_scale_is_a_split_where_another_source_tells_a_price_on_it(ratio: float, told: str, count: int) -> None:
    found = split_of(ratio, Heard(None, [NOW_USD / ratio * 1.02]), count)
    assert found.outcome is Outcome.SPLIT
    assert found.ratio == pytest.approx(Decimal(told), rel=Decimal("1e-5"))


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (NOBODY, "nobody else"),
        (Heard(NOW_USD / 4), "nobody else"),  # who agreed on it tell it themselves
        (Heard(None, [NOW_USD]), "others tell prices on the old scale"),
        (Heard(None, [NOW_USD, NOW_USD / 4]), "others tell prices on the old scale"),
        (Heard(None, [NOW_USD / 3]), "nobody else"),
    ],
)
def test_nobody_is_believed_alone_and_nobody_who_is_contradicted(heard: Heard, words: str) -> None:
    found = split_of(4.0, heard)
    assert (found.outcome, found.ratio) == (Outcome.DOUBTFUL, Decimal(4))
    assert words in found.words


def test_nothing_is_put_on_another_scale_while_newer_bars_are_there_of_which_nobody_knows() -> None:
    found = split_of(4.0, Heard(None, [NOW_USD / 4]), to_newest=False)
    assert (found.outcome, "the newest of them did not come" in found.words) == (Outcome.DOUBTFUL, True)


@pytest.mark.parametrize("ratio", [1.07, 0.93, 1.15, 2.2])
def test_a_scale_that_no_split_has_is_in_doubt_whoever_agrees(ratio: float) -> None:
    found = split_of(ratio, Heard(NOW_USD / ratio, [NOW_USD / ratio]))
    assert (found.outcome, "no split that is known" in found.words) == (Outcome.DOUBTFUL, True)


def test_one_bad_bar_does_not_hide_a_split() -> None:
    came = WALK / 4
    came[5] = 999.0
    assert judged(WALK, came, Heard(None, [NOW_USD / 4])).outcome is Outcome.SPLIT


@given(
    st.floats(0.02, 50.0).filter(lambda ratio: abs(ratio - 1) > 0.04),
    st.integers(1, 12),
    st.lists(st.floats(1.0, 10_000.0), max_size=3),
    st.none() | st.floats(1.0, 10_000.0),
)
def test_no_scale_is_changed_without_a_voice_for_it_and_none_with_one_against_it(
    ratio: float, count: int, others: list[float], accepted: float | None
) -> None:
    found = split_of(ratio, Heard(accepted, others), count)
    new_usd = round(NOW_USD / ratio, 2)
    nearer = [price for price in others if abs(np.log(price / new_usd)) < abs(np.log(price / NOW_USD))]
    if found.outcome is Outcome.SPLIT:
        assert nearer and len(nearer) == len(others)
        assert listed(ratio, 0.03) is not None
    if found.outcome is Outcome.FIT:  # bars that do not come as they are known, and a price that says so
        assert any(abs(np.log(price / new_usd)) < 0.031 for price in [*others, *([accepted] if accepted else [])])


# --- the same scale ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fall", [0.7, 0.5, 0.25, 3.0])
def test_a_price_that_falls_is_no_split_however_far_where_known_bars_come_as_they_are(fall: float) -> None:
    assert judged(WALK, WALK, newest_usd=NOW_USD * fall).outcome is Outcome.FIT
    assert judged(WALK, WALK * 1.01, newest_usd=NOW_USD * fall).outcome is Outcome.FIT, "another vendor"


def test_a_correction_of_bars_before_the_newest_ones_is_taken_over() -> None:
    known = WALK.copy()
    known[:4] *= 10.0
    assert judged(known, WALK).outcome is Outcome.FIT
    assert judged(known, WALK, Heard(NOW_USD)).outcome is Outcome.FIT


def test_newest_bars_that_come_at_other_prices_are_taken_over_where_the_price_of_now_says_so() -> None:
    known = WALK.copy()
    known[-2:] *= 1.4
    assert judged(known, WALK).outcome is Outcome.DOUBTFUL
    assert judged(known, WALK, Heard(NOW_USD * 1.4)).outcome is Outcome.DOUBTFUL
    assert judged(known, WALK, Heard(NOW_USD * 0.99)).outcome is Outcome.FIT
    assert judged(known, WALK, Heard(None, [NOW_USD])).outcome is Outcome.FIT


# --- the price of now -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "fits"),
    [
        (Heard(NOW_USD * 1.02), True),
        (Heard(NOW_USD * 1.07), False),
        (Heard(NOW_USD * 1.07, [NOW_USD]), False),  # what was accepted counts for more than one who was not
        (Heard(None, [NOW_USD * 1.07]), False),
        (Heard(None, [NOW_USD * 1.07, NOW_USD * 0.99]), True),
        (NOBODY, True),
    ],
)
def test_bars_that_end_far_from_the_price_of_now_are_in_doubt(heard: Heard, fits: bool) -> None:
    for known in (WALK, []):
        found = judged(known, known, heard, newest_usd=NOW_USD)
        assert (found.outcome is Outcome.FIT) is fits
    assert judged(WALK, WALK, heard, of_now=False).outcome is Outcome.FIT, "a bar of an hour ago tells no price of now"


def test_where_no_known_bar_came_a_price_as_after_a_split_is_in_doubt_whoever_tells_it() -> None:
    for heard in (NOBODY, Heard(25.1, [25.1])):  # whether it was a split or a crash, no bar shows
        found = judged([], [], heard, newest_usd=25.0, before_usd=100.0)
        assert (found.outcome, found.ratio) == (Outcome.DOUBTFUL, Decimal(4))
    for usd in (60.0, 83.0):
        assert judged([], [], newest_usd=usd, before_usd=100.0).outcome is Outcome.FIT
    assert judged([], [], newest_usd=25.0).outcome is Outcome.FIT, "the first bars of a ticker"


def test_the_drift_that_is_let_pass_is_less_than_any_split() -> None:
    assert float(limits.BARS_DRIFT_PCT) < 0.18
    assert listed(1.18, 0.02) == Decimal("1.2")
    assert listed(1 + float(limits.BARS_DRIFT_PCT), 0.02) is None
