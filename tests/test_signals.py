"""From forecasts to wishes: which horizon decides, what the thresholds do, and what stands against a trade."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot.signals import THRESHOLD_FACTOR, Technical, expires_at, repriced_return, signals
from qbot.types import Action, Forecast, Quote, Signal, Strategy, TradingConfig
from tests.support.values import CONFIG, NOW, forecast, quote

MODERATE = replace(CONFIG, strategy=Strategy.MODERATE, buy_threshold_pct=0.02, sell_threshold_pct=0.03)
NAN = float("nan")


def only(
    *forecasts: Forecast,
    config: TradingConfig = MODERATE,
    at: Quote | None = None,
    technical: Technical | None = None,
    allow_unskilled: bool = False,
) -> Signal:
    technicals = {"AAPL": technical} if technical else {}
    quotes = {"AAPL": at or quote()}
    found = signals(forecasts, quotes, technicals, config, NOW, allow_unskilled=allow_unskilled)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("return_pct", "action"),
    [
        (0.03126, Action.BUY),
        (0.03125, Action.HOLD),
        (0.0, Action.HOLD),
        (-0.0625, Action.HOLD),
        (-0.06251, Action.SELL),
    ],
)
def test_a_forecast_must_exceed_its_threshold(return_pct: float, action: Action) -> None:
    exact = replace(MODERATE, buy_threshold_pct=0.03125, sell_threshold_pct=0.0625)  # powers of two
    found = only(forecast(return_pct=return_pct, current_price_usd=128.0), config=exact, at=quote(price="128"))
    assert found.action is action


@pytest.mark.parametrize(("strategy", "factor"), [("AGGRESSIVE", 0.7), ("MODERATE", 1.0), ("CONSERVATIVE", 1.5)])
def test_the_strategy_bends_both_thresholds(strategy: str, factor: float) -> None:
    config = replace(MODERATE, strategy=Strategy[strategy])
    assert THRESHOLD_FACTOR[Strategy[strategy]] == factor
    for threshold, sign, action in ((0.02, 1, Action.BUY), (0.03, -1, Action.SELL)):
        assert only(forecast(return_pct=sign * threshold * factor * 1.01), config=config).action is action
        assert only(forecast(return_pct=sign * threshold * factor * 0.99), config=config).action is Action.HOLD


def test_the_target_is_judged_against_the_latest_price_not_the_one_it_was_made_at() -> None:
    made_at_100 = forecast(return_pct=0.05)
    assert only(made_at_100).action is Action.BUY
    moved = only(made_at_100, at=quote(price="105"))
    assert moved.action is Action.HOLD
    assert moved.predicted_return_pct == pytest.approx(0.0)
    assert only(made_at_100, at=quote(price="110")).action is Action.SELL
    assert moved.current_price_usd == 105.0


def test_the_most_confident_horizon_that_moves_decides() -> None:
    still = forecast(horizon=15, return_pct=0.001, confidence=0.95)
    rising = forecast(horizon=30, return_pct=0.03, confidence=0.8)
    falling = forecast(horizon=60, return_pct=-0.05, confidence=0.7)
    found = only(still, rising, falling)
    assert (found.action, found.horizon_minutes, found.confidence) == (Action.BUY, 30, 0.8)
    found = only(still, rising, replace(falling, confidence=0.85))
    assert (found.action, found.horizon_minutes) == (Action.SELL, 60)


def test_a_horizon_that_moves_does_not_decide_without_its_confidence() -> None:
    still = forecast(horizon=15, return_pct=0.001, confidence=0.95)
    doubtful = forecast(horizon=60, return_pct=0.05, confidence=0.59)
    found = only(still, doubtful)
    assert (found.action, found.horizon_minutes) == (Action.HOLD, 15)


def test_when_none_moves_the_most_confident_is_reported_with_its_reason() -> None:
    found = only(
        forecast(horizon=15, return_pct=0.001, confidence=0.7), forecast(horizon=30, return_pct=0.01, confidence=0.9)
    )
    assert (found.action, found.horizon_minutes) == (Action.HOLD, 30)
    assert found.reasons == ("30 min: forecast +1.000% lies between the thresholds -3.000% and +2.000%",)


def test_of_equal_confidences_the_longer_horizon_decides() -> None:
    found = only(forecast(horizon=60, return_pct=0.03), forecast(horizon=15, return_pct=0.03))
    assert found.horizon_minutes == 60


@pytest.mark.parametrize(("confidence", "action"), [(0.6, Action.BUY), (0.5999, Action.HOLD)])
def test_the_confidence_threshold_is_the_least_confidence(confidence: float, action: Action) -> None:
    found = only(forecast(confidence=confidence))
    assert found.action is action
    assert ("under the threshold 0.600" in found.reasons[0]) == (action is Action.HOLD)


def test_a_forecast_expires_after_half_its_horizon() -> None:
    assert expires_at(forecast(horizon=30)) == NOW + timedelta(minutes=15)
    old = forecast(horizon=30, issued_at=NOW - timedelta(minutes=15))
    assert only(replace(old, issued_at=old.issued_at + timedelta(seconds=1))).action is Action.BUY
    found = only(old)
    assert (found.action, found.reasons) == (Action.HOLD, ("30 min: the forecast has expired",))


def test_an_expired_horizon_leaves_the_decision_to_those_that_live() -> None:
    expired = forecast(horizon=15, confidence=0.99, issued_at=NOW - timedelta(minutes=10))
    living = forecast(horizon=60, return_pct=-0.05, confidence=0.7, issued_at=NOW - timedelta(minutes=10))
    assert (only(expired, living).action, only(expired, living).horizon_minutes) == (Action.SELL, 60)


def test_an_unproven_artifact_gives_no_signal_but_on_the_embedded_exchange_where_it_is_labelled() -> None:
    unproven = forecast(skilled=False)
    refused = only(unproven)
    assert refused.action is Action.HOLD
    assert "no skill" in refused.reasons[0]
    allowed = only(unproven, allow_unskilled=True)
    assert (allowed.action, allowed.reasons[-1]) == (Action.BUY, "no skill")
    proven = only(forecast(), allow_unskilled=True)
    assert "no skill" not in proven.reasons


def test_an_unproven_horizon_never_decides_for_a_proven_one() -> None:
    found = only(forecast(horizon=60, skilled=False, confidence=0.99), forecast(horizon=15, return_pct=-0.05))
    assert (found.action, found.horizon_minutes) == (Action.SELL, 15)


def test_ml_signals_can_be_switched_off() -> None:
    found = only(forecast(), config=replace(MODERATE, use_ml=False))
    assert (found.action, found.reasons) == (Action.HOLD, ("60 min: ML signals are switched off",))


@pytest.mark.parametrize(
    ("rsi", "return_pct", "action"),
    [
        (79.9, 0.05, Action.BUY),
        (80.0, 0.05, Action.HOLD),
        (80.0, -0.05, Action.SELL),
        (20.1, -0.05, Action.SELL),
        (20.0, -0.05, Action.HOLD),
        (20.0, 0.05, Action.BUY),
        (50.0, 0.0, Action.HOLD),
        (NAN, 0.05, Action.BUY),  # a young session has no RSI yet, and so no vote
    ],
)
def test_the_rsi_only_speaks_against_a_trade(rsi: float, return_pct: float, action: Action) -> None:
    assert only(forecast(return_pct=return_pct), technical=Technical(rsi)).action is action


def test_the_rsi_is_not_asked_when_technical_analysis_is_off() -> None:
    config = replace(MODERATE, use_technical_analysis=False)
    assert only(forecast(), config=config, technical=Technical(99.0)).action is Action.BUY
    vetoed = only(forecast(), technical=Technical(99.0))
    assert vetoed.reasons == (
        "60 min: forecast +10.000% is over the buy threshold +2.000%, but the RSI of 99 is against",
    )


def test_a_signal_says_all_that_an_order_needs_to_know() -> None:
    found = only(forecast(return_pct=0.05), at=quote(price="98"))
    assert found.signal_id == "ml_AAPL_60_20260925T140000_BUY"
    assert found.target_price_usd == pytest.approx(105.0)
    assert found.predicted_return_pct == pytest.approx(105 / 98 - 1)
    assert found.stop_loss_usd == pytest.approx(98 * 0.95)
    assert (found.issued_at, found.expires_at) == (NOW, NOW + timedelta(minutes=30))
    assert found.forecast_id == "AAPL:60"
    assert found.strength == pytest.approx(0.8)
    assert only(forecast(return_pct=-0.05)).stop_loss_usd is None


def test_every_symbol_with_a_price_gets_one_signal_in_order_and_no_other_does() -> None:
    made = [forecast(symbol, horizon) for symbol in ("SPY", "AAPL", "MSFT") for horizon in (15, 30, 60)]
    quotes = {symbol: quote(symbol) for symbol in ("AAPL", "SPY", "QQQ")}
    found = signals(made, quotes, {}, MODERATE, NOW, allow_unskilled=False)
    assert [one.symbol for one in found] == ["AAPL", "SPY"]
    assert signals([], quotes, {}, MODERATE, NOW, allow_unskilled=True) == []


@pytest.mark.parametrize("price", ["NaN", "sNaN", "Infinity", "-Infinity", "0", "-1", "1E-400", "1E+400"])
def test_a_price_that_is_none_gives_no_signal(price: str) -> None:
    assert signals([forecast()], {"AAPL": quote(price=price)}, {}, MODERATE, NOW, allow_unskilled=True) == []


BROKEN_FORECASTS: list[dict[str, Any]] = [
    {"confidence": NAN},
    {"confidence": math.inf},
    {"confidence": -0.1},
    {"confidence": 1.1},
    {"return_pct": NAN},
    {"return_pct": math.inf},
    {"return_pct": -1.0},
    {"current_price_usd": NAN},
    {"current_price_usd": math.inf},
    {"current_price_usd": 0.0},
]


@pytest.mark.parametrize("broken", BROKEN_FORECASTS, ids=str)
def test_a_forecast_without_proper_numbers_counts_as_none(broken: dict[str, Any]) -> None:
    bad = replace(forecast(horizon=60), **broken)
    assert signals([bad], {"AAPL": quote()}, {}, MODERATE, NOW, allow_unskilled=True) == []
    good = forecast(horizon=15, return_pct=-0.05)
    assert only(bad, good) == only(good)


@pytest.mark.parametrize("name", ["buy_threshold_pct", "sell_threshold_pct", "ml_confidence_threshold"])
@pytest.mark.parametrize("value", [NAN, math.inf])
def test_a_threshold_that_is_no_number_is_never_passed(name: str, value: float) -> None:
    broken: dict[str, Any] = {name: value}
    config = replace(MODERATE, **broken)
    return_pct = -0.5 if name == "sell_threshold_pct" else 0.5
    assert only(forecast(return_pct=return_pct), config=config).action is Action.HOLD


ANY_FORECAST = st.builds(
    forecast,
    horizon=st.sampled_from([15, 30, 60]),
    return_pct=st.floats(-0.2, 0.2),
    confidence=st.floats(0, 1),
    skilled=st.booleans(),
    issued_at=st.integers(0, 40).map(lambda minutes: NOW - timedelta(minutes=minutes)),
)


@settings(deadline=None)
@given(
    st.lists(ANY_FORECAST, min_size=1, max_size=4),
    st.decimals(80, 120, places=2),
    st.floats(0, 0.1),
    st.floats(0, 0.1),
    st.floats(0, 1),
    st.sampled_from(list(Strategy)),
    st.none() | st.builds(Technical, st.floats(0, 100)),
    st.booleans(),
)
def test_whoever_trades_has_a_living_proven_confident_forecast_beyond_the_threshold(
    group: list[Forecast],
    price: Decimal,
    buy: float,
    sell: float,
    least: float,
    strategy: Strategy,
    technical: Technical | None,
    allow_unskilled: bool,
) -> None:
    config = replace(
        MODERATE, buy_threshold_pct=buy, sell_threshold_pct=sell, ml_confidence_threshold=least, strategy=strategy
    )
    at = quote(price=str(price))
    found = only(*group, config=config, at=at, technical=technical, allow_unskilled=allow_unskilled)
    factor = THRESHOLD_FACTOR[strategy]

    def moves(one: Forecast) -> bool:
        change = repriced_return(one, at)
        return change > buy * factor or change < -sell * factor

    able = [
        one
        for one in group
        if expires_at(one) > NOW and (one.skilled or allow_unskilled) and one.confidence >= least and moves(one)
    ]
    assert (found.action is Action.HOLD) or able
    if able:
        assert found.confidence == max(one.confidence for one in able)
        if technical is None or 20 < technical.rsi < 80:
            assert found.action is (Action.BUY if found.predicted_return_pct > 0 else Action.SELL)
    assert 0 <= found.strength <= 1
    assert found.reasons
