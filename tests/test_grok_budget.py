"""Grok is asked when that is due, by one at a time, and never for more than the day's budget."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot import limits
from qbot.grok_budget import ANSWERED, UNUSABLE, Call, Refusal, day_of, pause_s, refusal, spent_usd

NOW = datetime(2026, 9, 25, 14, 0, tzinfo=UTC)
USD = Decimal("0.05")
BUDGET = Decimal("1.00")


def call(ago_s: float, outcome: str | None = ANSWERED, cost: str | None = "0.0001", retry: float | None = None) -> Call:
    """One that was made so long ago."""
    asked = NOW - timedelta(seconds=ago_s)
    return Call(asked, USD, Decimal(cost) if cost is not None else None, outcome, retry)


def why_not(*calls: Call, budget: Decimal = BUDGET, forced: bool = False) -> Refusal | None:
    return refusal(calls, budget, USD, NOW, forced=forced)


def test_a_first_call_may_be_made() -> None:
    assert why_not() is None


@pytest.mark.parametrize(
    ("ago_s", "refused"),
    [(0, True), (limits.GROK_REFRESH_S - 1, True), (limits.GROK_REFRESH_S, False), (-limits.CLOCK_SKEW_S - 1, False)],
)
def test_an_answer_is_fresh_until_the_next_one_is_due(ago_s: float, refused: bool) -> None:
    assert why_not(call(ago_s)) is (Refusal.FRESH if refused else None)
    assert why_not(call(ago_s), forced=True) is None


@pytest.mark.parametrize(
    ("ago_s", "refused"), [(0, True), (limits.GROK_LEASE_S - 1, True), (limits.GROK_LEASE_S, False)]
)
def test_while_somebody_asks_nobody_else_does_not_even_by_force(ago_s: float, refused: bool) -> None:
    out = call(ago_s, outcome=None, cost=None)
    assert why_not(out, forced=True) is (Refusal.BUSY if refused else None)
    assert why_not(out, call(0), forced=True) is (Refusal.BUSY if refused else None)


@pytest.mark.parametrize(
    ("outcomes", "expected_s"),
    [
        (["transient"], 300), (["transient"] * 2, 600), (["transient"] * 3, 1_200), (["transient"] * 9, 3_600),
        ([ANSWERED, "transient"], 300), ([UNUSABLE], 300), ([UNUSABLE, "transient"], 600), (["no_data"], 300),
        (["auth"], 3_600), (["plan"], 3_600), (["quota"], 3_600), ([None], 300), (["transient"] * 5_000, 3_600),
    ],
)  # fmt: skip
def test_after_failures_it_is_left_alone_ever_longer(outcomes: list[str | None], expected_s: float) -> None:
    calls = [call(limits.GROK_LEASE_S, outcome) for outcome in outcomes]
    assert pause_s(calls) == expected_s
    last = call(expected_s - 1, outcomes[-1])
    assert why_not(*calls[:-1], last) is Refusal.PAUSE
    assert why_not(*calls[:-1], last, forced=True) is None
    assert why_not(*calls[:-1], call(expected_s, outcomes[-1])) is None


def test_it_waits_as_long_as_xai_said_but_not_for_ever() -> None:
    assert pause_s([call(0, "minute_limit", retry=700.0)]) == 700
    assert pause_s([call(0, "minute_limit", retry=1.0)]) == 300
    assert pause_s([call(0, "minute_limit", retry=1e9)]) == limits.GROK_AGAIN_MAX_S


def test_another_call_is_made_only_if_its_worst_case_fits_what_is_left() -> None:
    old = limits.GROK_REFRESH_S
    assert why_not(call(old, cost="0.95")) is None
    assert why_not(call(old, cost="0.9500000001")) is Refusal.BUDGET
    assert why_not(call(old, cost="0.9500000001"), forced=True) is Refusal.BUDGET
    assert why_not(budget=Decimal("0.0499")) is Refusal.BUDGET


def test_a_cost_that_is_not_known_counts_as_its_worst_case() -> None:
    calls = [call(limits.GROK_REFRESH_S, cost=None), call(limits.GROK_REFRESH_S, cost="0.01")]
    assert spent_usd(calls, day_of(NOW)) == Decimal("0.06")


def test_a_new_day_is_a_utc_day_and_has_a_new_budget() -> None:
    midnight = datetime(2026, 9, 26, tzinfo=UTC)
    calls = [Call(midnight - timedelta(hours=1), USD, Decimal(1), ANSWERED)]
    assert refusal(calls, BUDGET, USD, midnight - timedelta(seconds=1)) is Refusal.BUDGET
    assert refusal(calls, BUDGET, USD, midnight) is None


STEP = st.tuples(
    st.integers(0, 4_000), st.sampled_from([ANSWERED, UNUSABLE, "transient", "auth", None]),
    st.none() | st.decimals("0", "0.05", places=10), st.booleans(),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(STEP, max_size=30), st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("0.12"), Decimal("0.3")]))
def test_whatever_the_calls_cost_and_however_they_end_no_day_costs_more_than_its_budget(
    steps: list[tuple[int, str | None, Decimal | None, bool]], budget: Decimal
) -> None:
    now, calls = NOW, list[Call]()
    for wait_s, outcome, cost, forced in steps:
        now += timedelta(seconds=wait_s)
        if refusal(calls, budget, USD, now, forced=forced) is None:
            calls.append(Call(now, USD, cost, outcome))
        assert spent_usd(calls, day_of(now)) <= budget
