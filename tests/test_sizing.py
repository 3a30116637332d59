"""How many shares an entry asks for: never more than the limits, never a fraction, nothing out of no number."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot.sizing import shares
from qbot.types import SizingMethod, TradingConfig
from tests.support.values import CONFIG, account

D = Decimal
FIXED = replace(CONFIG, max_position_per_trade=10, max_position_size=100)
BY_EQUITY = replace(FIXED, max_position_per_trade=100, position_sizing=SizingMethod.PERCENTAGE)
BY_VOLATILITY = replace(BY_EQUITY, position_sizing=SizingMethod.VOLATILITY_BASED)


@pytest.mark.parametrize(
    ("aggressiveness", "risk_level", "expected"),
    [(3, 3, 10), (1, 3, 6), (3, 1, 6), (1, 1, 3), (2, 3, 8), (5, 5, 10), (5, 1, 8)],
)
def test_fixed_takes_the_limit_less_what_caution_takes_off(aggressiveness: int, risk_level: int, expected: int) -> None:
    config = replace(FIXED, aggressiveness=aggressiveness, risk_level=risk_level)
    assert shares(config, account(), D(50), None, D(1)) == expected


def test_the_stricter_share_limit_holds() -> None:
    assert shares(replace(FIXED, max_position_size=4), account(), D(50), None, D(1)) == 4
    assert shares(replace(BY_EQUITY, max_position_per_trade=4), account(), D(50), None, D(1)) == 4


def test_caution_never_rounds_one_share_down_to_none_but_zero_stays_zero() -> None:
    cautious = replace(FIXED, aggressiveness=1, risk_level=1)
    assert shares(replace(cautious, max_position_per_trade=1), account(), D(50), None, D(1)) == 1
    assert shares(replace(cautious, max_position_per_trade=0), account(), D(50), None, D(1)) == 0
    assert shares(replace(cautious, max_position_size=0), account(), D(50), None, D(1)) == 0


@pytest.mark.parametrize(("price", "expected"), [("100", 50), ("99.99", 50), ("100.01", 49), ("5000.01", 0)])
def test_percentage_takes_a_twentieth_of_the_equity_in_whole_shares(price: str, expected: int) -> None:
    assert shares(BY_EQUITY, account("100000"), D(price), None, D(1)) == expected


@pytest.mark.parametrize(("volatility", "expected"), [(0.0025, 25), (0.005, 12), (0.00125, 50), (0.0001, 50)])
def test_a_wilder_share_is_bought_less_and_a_calm_one_at_most_twice_as_much(volatility: float, expected: int) -> None:
    assert shares(BY_VOLATILITY, account("100000"), D(200), volatility, D(1)) == expected


@pytest.mark.parametrize("volatility", [None, 0.0, -0.1, math.nan, math.inf])
def test_without_a_volatility_nothing_is_bought_by_it(volatility: float | None) -> None:
    assert shares(BY_VOLATILITY, account(), D(100), volatility, D(1)) == 0


@pytest.mark.parametrize("config", [FIXED, BY_EQUITY, BY_VOLATILITY], ids=lambda config: config.position_sizing)
@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "-Infinity", "0", "-1"])
def test_without_a_price_or_an_equity_nothing_is_bought(config: TradingConfig, number: str) -> None:
    assert shares(config, account(), D(number), 0.0025, D(1)) == 0
    assert shares(config, replace(account(), equity_usd=D(number)), D(100), 0.0025, D(1)) == 0


@pytest.mark.parametrize(
    ("limit", "factor", "expected"),
    [
        (10, "1", 10), (10, "0.8", 8), (10, "0.5", 5), (10, "0.1", 1), (10, "0.05", 0), (3, "0.5", 1), (3, "0.1", 0),
        (2, "0.3", 1), (1, "1", 1), (1, "0.8", 1), (1, "0.51", 1), (1, "0.5", 0), (1, "0.1", 0), (10, "1.5", 10),
    ],
)  # fmt: skip
def test_the_risk_factor_shrinks_and_takes_a_single_share_away_where_half_of_it_or_less_is_left(
    limit: int, factor: str, expected: int
) -> None:
    config = replace(FIXED, max_position_per_trade=limit)
    assert shares(config, account(), D(50), None, D(factor)) == expected


def test_levels_and_risk_factor_multiply() -> None:
    cautious = {"aggressiveness": 2, "risk_level": 2}  # 0.8 × 0.8
    assert shares(replace(FIXED, max_position_per_trade=100, **cautious), account(), D(50), None, D("0.5")) == 32
    assert shares(replace(BY_EQUITY, **cautious), account("100000"), D(100), None, D("0.5")) == 16
    assert shares(replace(BY_VOLATILITY, **cautious), account("100000"), D(100), 0.005, D("0.5")) == 8
    assert shares(replace(BY_EQUITY, **cautious), account("100000"), D(100), None, D("1.5")) == 32  # never above one


@pytest.mark.parametrize("config", [FIXED, BY_EQUITY, BY_VOLATILITY], ids=lambda config: config.position_sizing)
@pytest.mark.parametrize("factor", ["NaN", "sNaN", "Infinity", "-Infinity", "0", "-1"])
def test_without_a_risk_factor_nothing_is_bought(config: TradingConfig, factor: str) -> None:
    assert shares(config, account(), D(50), 0.0025, D(factor)) == 0


@given(
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(1, 5),
    st.integers(1, 5),
    st.sampled_from(list(SizingMethod)),
    st.decimals("0.0001", 100_000, places=4),
    st.decimals(-1_000, 1_000_000, places=2),
    st.none() | st.floats(),
    st.decimals(0, 1, places=2),
)
def test_every_size_is_whole_and_within_both_limits(
    per_trade: int,
    size: int,
    aggressiveness: int,
    risk_level: int,
    method: SizingMethod,
    price: Decimal,
    equity: Decimal,
    volatility: float | None,
    factor: Decimal,
) -> None:
    config = replace(
        CONFIG,
        max_position_per_trade=per_trade,
        max_position_size=size,
        aggressiveness=aggressiveness,
        risk_level=risk_level,
        position_sizing=method,
    )
    found = shares(config, account(str(equity)), price, volatility, factor)
    assert found == found.to_integral_value()
    assert 0 <= found <= min(per_trade, size)
    bolder = replace(config, risk_level=5, aggressiveness=5)
    assert shares(bolder, account(str(equity)), price, volatility, factor) >= found
    assert shares(config, account(str(equity)), price, volatility, D(1)) >= found
