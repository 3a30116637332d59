"""What each source allows, when its quotas are renewed, and how a paid plan differs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qbot import limits
from qbot.errors import ConfigError
from qbot.market import at_hand
from qbot.market.plans import (
    COUNTED,
    FINNHUB,
    FMP,
    FREE,
    MARKETSTACK,
    ORDER,
    TWELVEDATA,
    Limit,
    Need,
    Plan,
    Renewal,
    Span,
    Unit,
    changed,
    in_order,
    period,
    periods,
)
from qbot.settings import Settings

moments = st.integers(0, 2 * 365 * 86_400).map(lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
counted = st.sampled_from([limit for plan in FREE.values() for limit in plan.limits if limit.span in COUNTED])


def settings(**more: object) -> Settings:
    return Settings(_env_file=None, **more)


@pytest.mark.parametrize("plan", FREE.values(), ids=lambda plan: plan.source)
def test_every_limit_says_where_it_comes_from_and_every_plan_what_a_human_should_know(plan: Plan) -> None:
    assert all(limit.why for limit in plan.limits)
    assert plan.note.endswith(".")


def test_the_free_plans_are_those_that_were_observed() -> None:
    told = {
        (plan.source, str(limit.span)): (limit.amount, str(limit.unit))
        for plan in FREE.values()
        for limit in plan.limits
    }
    assert {key: value for key, value in told.items() if key[0] in ("finnhub", "twelvedata", "marketstack")} == {
        ("finnhub", "second"): (30, "calls"), ("finnhub", "minute"): (60, "calls"),
        ("twelvedata", "minute"): (8, "symbols"), ("twelvedata", "day"): (800, "symbols"),
        ("marketstack", "second"): (1, "calls"), ("marketstack", "month"): (100, "symbols"),
    }  # fmt: skip
    assert (told["fmp", "day"], told["alpaca", "minute"]) == ((250, "calls"), (200, "calls"))
    assert Need.PRICE not in MARKETSTACK.offers


def test_a_plan_whose_request_costs_more_than_a_limit_has_is_refused() -> None:
    with pytest.raises(ValueError, match="one request costs more"):
        Plan("x", (Limit(8, Span.MINUTE, Unit.SYMBOLS, "test"),), 9, frozenset({Need.PRICE}), "note")


# --- renewal ----------------------------------------------------------------------------------------------------------


@given(counted, moments)
def test_every_moment_lies_in_one_period_and_the_next_begins_where_it_ends(limit: Limit, now: datetime) -> None:
    found = period(limit, now)
    assert found.begins_at <= now < found.renews_at
    assert period(limit, found.renews_at).begins_at == found.renews_at
    assert period(limit, found.begins_at) == found


def test_a_day_ends_at_midnight_where_the_vendor_counts_it_also_when_the_clocks_change() -> None:
    summer = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert period(TWELVEDATA.limits[1], summer).renews_at == datetime(2026, 7, 2, tzinfo=UTC)
    assert period(FMP.limits[1], summer).renews_at == datetime(2026, 7, 2, 4, tzinfo=UTC)
    shorter = period(FMP.limits[1], datetime(2026, 3, 8, 12, tzinfo=UTC))
    assert shorter.renews_at - shorter.begins_at == timedelta(hours=23)


def test_a_month_ends_with_the_month() -> None:
    found = period(MARKETSTACK.limits[1], datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    assert (found.begins_at, found.renews_at) == (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@given(counted, st.floats(-limits.RENEWAL_GUARD_S + 1, limits.RENEWAL_GUARD_S - 1))
def test_near_a_renewal_a_call_counts_on_both_sides_of_it(limit: Limit, off_s: float) -> None:
    renews_at = period(limit, datetime(2026, 5, 5, 12, tzinfo=UTC)).renews_at
    found = periods(limit, renews_at + timedelta(seconds=off_s))
    assert found[0].renews_at == renews_at == found[1].begins_at
    assert len(periods(limit, renews_at + timedelta(seconds=limits.RENEWAL_GUARD_S + 1))) == 1


# --- what the environment changes -------------------------------------------------------------------------------------


def test_a_paid_plan_changes_what_is_named_and_nothing_else() -> None:
    paid = changed(FMP, {"per_day": None, "per_minute": 300, "symbols_per_call": 100, "bars": True})
    assert [(limit.span, limit.amount) for limit in paid.limits] == [(Span.SECOND, 5), (Span.MINUTE, 300)]
    assert paid.offers == FMP.offers | {Need.BARS}
    assert (paid.symbols_per_call, paid.metered, FMP.metered) == (100, False, True)


def test_a_changed_limit_keeps_its_unit_and_renewal() -> None:
    found = changed(TWELVEDATA, {"per_day": 5_000}).of(Span.DAY)
    assert found is not None
    assert (found.amount, found.unit, found.renews, found.why) == (5_000, Unit.SYMBOLS, Renewal.UTC, "set by you")


@pytest.mark.parametrize(
    "changes", [{"per_hour": 5}, {"per_day": 0}, {"per_day": True}, {"bars": 1}, {"symbols_per_call": None},
                {"per_minute": 4}],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_set_is_named(changes: dict[str, int | bool | None]) -> None:
    with pytest.raises(ConfigError, match="twelvedata"):
        changed(TWELVEDATA, changes)


def test_the_order_is_what_is_named_first_and_then_the_default() -> None:
    assert in_order(" fmp,Finnhub") == ("fmp", "finnhub", "alpaca", "twelvedata", "marketstack", "yfinance")
    assert in_order("") == ORDER
    with pytest.raises(ConfigError, match="yahoo"):
        in_order("yahoo")


def test_only_sources_with_a_key_are_at_hand_and_yahoo_needs_none() -> None:
    assert [plan.source for plan in at_hand.plans(settings())] == ["yfinance"]
    some = settings(finnhub_api_key="k1", fmp_api_key="k2", yfinance=False, market_order="fmp")
    assert [plan.source for plan in at_hand.plans(some)] == ["fmp", "finnhub"]
    assert at_hand.rules(some).order[0] == "fmp"


def test_a_replay_has_prices_of_its_own_exchange_alone() -> None:
    replay = settings(finnhub_api_key="k1", alpaca_api_key="PAPER", alpaca_secret_key="S", embedded_exchange=True)
    assert [plan.source for plan in at_hand.plans(replay)] == ["alpaca"]
    stood_in_for = replay.model_copy(update={"fake_providers": True})
    assert [plan.source for plan in at_hand.plans(stood_in_for)] == ["alpaca", "finnhub", "yfinance"]


def test_a_paid_plan_does_not_change_the_order() -> None:
    paid = settings(finnhub_api_key="k1", fmp_api_key="k2", market_plans='{"fmp": {"per_day": null}}')
    found = at_hand.plans(paid)
    assert [plan.source for plan in found] == ["finnhub", "fmp", "yfinance"]
    assert (found[0] is FINNHUB, found[1].metered) == (True, False)
    with pytest.raises(ConfigError, match="yahoo"):
        at_hand.plans(settings(market_plans='{"yahoo": {"per_day": 1}}'))


@pytest.mark.parametrize("text", ["{", '{"fmp": 5}', '{"fmp": {"per_day": "many"}}', '{"fmp": {"per_day": 2.5}}'])
def test_plans_that_are_no_plans_are_an_invalid_setting(text: str) -> None:
    with pytest.raises(ValidationError, match="market_plans"):
        settings(market_plans=text)


def test_settings_with_plans_can_be_hashed_since_things_are_cached_by_them() -> None:
    assert len({settings(market_plans='{"fmp": {"per_day": null}}'), settings(), settings()}) == 2
