"""From forecasts to wishes: which horizon decides, what the thresholds do, and how the sources combine."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qbot import limits
from qbot.signals import decide, signals, why
from qbot.types import Action, Forecast, Quote, Signal, Source, Strategy, TradingConfig
from qbot.votes import THRESHOLD_FACTOR, GrokView, Stance, Technical, Vote, expires_at, repriced_return
from tests.support.values import CONFIG, NOW, forecast, quote

MODERATE = replace(CONFIG, strategy=Strategy.MODERATE, buy_threshold_pct=0.02, sell_threshold_pct=0.03)
NAN = float("nan")
MINUTE = timedelta(minutes=1)
Picks = Mapping[str, GrokView] | None


def indicators(rsi: float = 50.0, at: datetime = NOW, **more: float) -> Technical:
    """Known, fresh and without an opinion."""
    return Technical(at, rsi, **more)


def pick(
    score: float = 0.9, sentiment: float = 0.5, as_of: datetime = NOW, symbol: str = "AAPL"
) -> dict[str, GrokView]:
    """An answer of Grok's that names one symbol."""
    return {symbol: GrokView(symbol, score, sentiment, as_of)}


CALM = indicators()
OVERBOUGHT = indicators(99.0)


def all_of(
    *forecasts: Forecast,
    config: TradingConfig = MODERATE,
    at: Quote | None = None,
    technical: Technical | None = CALM,
    allow_unskilled: bool = False,
    grok: Picks = None,
    trained: bool = True,
) -> list[Signal]:
    technicals = {"AAPL": technical} if technical else {}
    made = forecasts if trained else None
    quotes = {"AAPL": at or quote()}
    return signals(made, quotes, technicals, config, NOW, allow_unskilled=allow_unskilled, grok=grok)


def only(*forecasts: Forecast, **more: Any) -> Signal:
    (found,) = all_of(*forecasts, **more)
    return found


# --- ML: which horizon decides, and what the thresholds do ----------------------------------------------------------


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.25, 2.0])
def test_a_forecast_of_bars_on_another_scale_than_the_price_starts_nothing(scale: float) -> None:
    odd = forecast(return_pct=0.0, current_price_usd=100.0 / scale)
    found = only(odd)
    assert (found.action, "far from the price" in found.why) == (Action.HOLD, True)


def test_of_forecasts_those_that_are_of_the_price_decide() -> None:
    odd, right = forecast(horizon=30, current_price_usd=50.0, confidence=0.99), forecast(horizon=60)
    assert (only(odd, right).action, only(odd, right).forecast_id) == (Action.BUY, right.forecast_id)


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
    assert (
        found.why
        == "ML 30 min: forecast +1.000% lies between the thresholds -3.000% and +2.000%, confidence 0.90"
        == found.reasons[0]
    )


def test_of_equal_confidences_the_longer_horizon_decides() -> None:
    found = only(forecast(horizon=60, return_pct=0.03), forecast(horizon=15, return_pct=0.03))
    assert found.horizon_minutes == 60


@pytest.mark.parametrize(("confidence", "action"), [(0.6, Action.BUY), (0.5999, Action.HOLD)])
def test_the_confidence_threshold_is_the_least_confidence(confidence: float, action: Action) -> None:
    found = only(forecast(confidence=confidence))
    assert found.action is action
    assert ("neutral (confidence 0.600 is under the threshold 0.600)" in found.why) == (action is Action.HOLD)


def test_a_forecast_expires_after_half_its_horizon() -> None:
    assert expires_at(forecast(horizon=30)) == NOW + 15 * MINUTE
    old = forecast(horizon=30, issued_at=NOW - 15 * MINUTE)
    assert only(replace(old, issued_at=old.issued_at + timedelta(seconds=1))).action is Action.BUY
    found = only(old)
    assert (found.action, found.why) == (Action.HOLD, "ML 30 min: stale (the forecast has expired)")


def test_an_expired_horizon_leaves_the_decision_to_those_that_live() -> None:
    expired = forecast(horizon=15, confidence=0.99, issued_at=NOW - 10 * MINUTE)
    living = forecast(horizon=60, return_pct=-0.05, confidence=0.7, issued_at=NOW - 10 * MINUTE)
    assert (only(expired, living).action, only(expired, living).horizon_minutes) == (Action.SELL, 60)


def test_a_forecast_of_a_time_to_come_is_not_believed_beyond_the_skew_of_clocks() -> None:
    skew = timedelta(seconds=limits.CLOCK_SKEW_S)
    assert only(forecast(issued_at=NOW + skew)).action is Action.BUY
    assert only(forecast(issued_at=NOW + skew * 1.01)).action is Action.HOLD


def test_an_unproven_artifact_has_no_vote_but_on_the_embedded_exchange_where_it_is_labelled() -> None:
    unproven = forecast(skilled=False)
    refused = only(unproven)
    assert refused.action is Action.HOLD
    assert refused.why == "ML 60 min, no skill: off (the artifact is not better than no change)"
    allowed = only(unproven, allow_unskilled=True)
    assert allowed.action is Action.BUY
    assert allowed.why.startswith("ML 60 min, no skill: forecast +10.000% is over")
    assert "no skill" not in only(forecast(), allow_unskilled=True).why


def test_an_unproven_horizon_never_decides_for_a_proven_one() -> None:
    found = only(forecast(horizon=60, skilled=False, confidence=0.99), forecast(horizon=15, return_pct=-0.05))
    assert (found.action, found.horizon_minutes) == (Action.SELL, 15)


def test_ml_signals_can_be_switched_off() -> None:
    found = only(forecast(), config=replace(MODERATE, use_ml=False))
    assert (found.action, found.reasons[0]) == (Action.HOLD, "ML 60 min: off (switched off)")
    assert only(forecast(return_pct=-0.5), config=replace(MODERATE, use_ml=False)).action is Action.HOLD


# --- Grok ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "sentiment", "action", "said"),
    [
        (0.85, 0.0, Action.BUY, "Grok: for (score 0.85, sentiment +0.00, threshold 0.85)"),
        (0.8499, 1.0, Action.HOLD, "Grok: neutral (score 0.85, sentiment +1.00, threshold 0.85)"),
        (0.95, -0.01, Action.HOLD, "Grok: against (score 0.95, sentiment -0.01)"),
        (0.0, -1.0, Action.HOLD, "Grok: against (score 0.00, sentiment -1.00)"),
        (1.01, 0.5, Action.HOLD, "Grok: stale (its numbers are none)"),
        (0.9, 1.01, Action.HOLD, "Grok: stale (its numbers are none)"),
        (NAN, 0.5, Action.HOLD, "Grok: stale (its numbers are none)"),
        (0.9, NAN, Action.HOLD, "Grok: stale (its numbers are none)"),
        (-0.1, 0.5, Action.HOLD, "Grok: stale (its numbers are none)"),
        (0.9, -1.01, Action.HOLD, "Grok: stale (its numbers are none)"),
    ],
)
def test_grok_starts_a_purchase_over_its_threshold_and_a_bad_sentiment_stands_against_it(
    score: float, sentiment: float, action: Action, said: str
) -> None:
    found = only(forecast(return_pct=0.0), grok=pick(score, sentiment))
    assert (found.action, found.reasons[1]) == (action, said)


def test_the_threshold_of_grok_is_a_setting() -> None:
    config = replace(MODERATE, grok_score_threshold=0.5)
    assert only(forecast(return_pct=0.0), grok=pick(0.6), config=config).action is Action.BUY
    assert only(forecast(return_pct=0.0), grok=pick(0.6)).action is Action.HOLD


@pytest.mark.parametrize("symbol", ["AAPL", "MSFT"])
@pytest.mark.parametrize(
    ("age", "stale"),
    [
        (timedelta(0), False),
        (timedelta(seconds=limits.GROK_MAX_AGE_S), False),
        (timedelta(seconds=limits.GROK_MAX_AGE_S + 1), True),
        (-timedelta(seconds=limits.CLOCK_SKEW_S + 1), True),
    ],
)
def test_an_old_answer_of_groks_stands_against_entries_whether_it_names_the_symbol_or_not(
    symbol: str, age: timedelta, stale: bool
) -> None:
    buy = next(one for one in all_of(forecast(), grok=pick(as_of=NOW - age, symbol=symbol)) if one.symbol == "AAPL")
    assert (buy.action is Action.HOLD) == stale
    assert ("Grok: stale (its answer is" in buy.why) == stale
    sale = next(one for one in all_of(forecast(return_pct=-0.5), grok=pick(as_of=NOW - age, symbol=symbol)))
    assert sale.action is Action.SELL


def test_of_several_picks_the_newest_tells_when_grok_answered() -> None:
    old, new = pick(as_of=NOW - timedelta(days=1), symbol="MSFT"), pick(symbol="SPY")
    assert only(forecast(), grok={**old, **new}).action is Action.BUY


def test_grok_before_its_first_answer_stands_against_entries() -> None:
    found = only(forecast(), grok={})
    assert (found.action, found.reasons[1]) == (Action.HOLD, "Grok: stale (it has not answered)")


def test_what_grok_does_not_name_it_has_no_opinion_of() -> None:
    found = only(forecast(), grok=pick(symbol="MSFT"))
    assert (found.action, found.reasons[1]) == (Action.BUY, "Grok: neutral (not among its picks)")


def test_without_a_key_or_switched_off_grok_is_off_and_shown_so() -> None:
    off = replace(MODERATE, use_grok=False)
    assert only(forecast()).reasons[1] == "Grok: off (no key)"
    for answer in (None, {}, pick(), pick(sentiment=-1.0), pick(as_of=NOW - timedelta(days=1))):
        found = only(forecast(), config=off, grok=answer)
        assert (found.action, found.reasons[1]) == (Action.BUY, "Grok: off (switched off)")
    assert all_of(config=off, grok=pick()) == []


def test_a_purchase_that_grok_alone_starts_promises_nothing() -> None:
    found = only(forecast(return_pct=0.01), grok=pick(0.9, as_of=NOW - 20 * MINUTE))
    assert (found.action, found.source, found.forecast_id) == (Action.BUY, Source.GROK, None)
    assert found.signal_id == "grok_AAPL_20260925T134000_BUY"
    assert (found.predicted_return_pct, found.target_price_usd, found.current_price_usd) == (0.0, 100.0, 100.0)
    assert (found.confidence, found.strength) == (0.9, 0.9)
    assert found.expires_at == NOW + 40 * MINUTE
    assert found.stop_loss_usd == pytest.approx(95.0)
    assert found.horizon_minutes == 60
    assert found.why == "Grok: for (score 0.90, sentiment +0.50, threshold 0.85)"


def test_what_both_start_is_a_signal_of_the_forecast() -> None:
    found = only(forecast(), grok=pick())
    assert (found.action, found.source, found.forecast_id) == (Action.BUY, Source.ML, "AAPL:60")


def test_grok_buys_what_no_forecast_is_of_where_ml_is_off_or_untrained_and_nothing_where_it_is_silent() -> None:
    untrained = only(grok=pick(), trained=False)
    assert (untrained.action, untrained.source) == (Action.BUY, Source.GROK)
    assert untrained.reasons[0] == "ML: off (no artifact)"
    switched_off = only(grok=pick(), config=replace(MODERATE, use_ml=False))
    assert (switched_off.action, switched_off.reasons[0]) == (Action.BUY, "ML: off (switched off)")
    silent = only(grok=pick())
    assert (silent.action, silent.reasons[0]) == (Action.HOLD, "ML: stale (there is no forecast)")
    assert silent.why == "Grok: for (score 0.90, sentiment +0.50, threshold 0.85), but ML: stale (there is no forecast)"
    expired = only(forecast(issued_at=NOW - 30 * MINUTE), grok=pick())
    assert (expired.action, expired.source) == (Action.HOLD, Source.ML)


def test_an_unproven_artifact_does_not_stand_in_groks_way() -> None:
    found = only(forecast(return_pct=-0.5, skilled=False), grok=pick())
    assert (found.action, found.source) == (Action.BUY, Source.GROK)


def test_ml_sells_whatever_the_others_say() -> None:
    falls = forecast(return_pct=-0.5)
    for technical in (None, CALM, OVERBOUGHT, indicators(1.0), indicators(NAN)):
        for answer in (None, {}, pick(), pick(sentiment=-1.0), pick(NAN), pick(as_of=NOW - timedelta(days=1))):
            found = only(falls, technical=technical, grok=answer)
            assert (found.action, found.source) == (Action.SELL, Source.ML)
            assert found.why == found.reasons[0]


# --- technical analysis ----------------------------------------------------------------------------------------------

RISEN = {"bollinger": 1.0, "macd": 0.01, "sma_distance": 0.01}
FALLEN = {name: -value for name, value in RISEN.items()}


@pytest.mark.parametrize(
    ("view", "stance"),
    [
        (indicators(79.9), Stance.NEUTRAL),
        (indicators(80.0), Stance.AGAINST),
        (indicators(20.1), Stance.NEUTRAL),
        (indicators(20.0), Stance.FOR),
        (indicators(20.0, **RISEN, macd_signal_gap=-0.01), Stance.FOR),  # the RSI comes first
        (indicators(80.0, **FALLEN, macd_signal_gap=0.01), Stance.AGAINST),
        (indicators(**RISEN, macd_signal_gap=-0.01), Stance.AGAINST),
        (indicators(**RISEN, macd_signal_gap=0.01), Stance.FOR),
        (indicators(**RISEN), Stance.NEUTRAL),
        (indicators(**{**RISEN, "bollinger": 0.99}, macd_signal_gap=-0.01), Stance.NEUTRAL),
        (indicators(**{**RISEN, "macd": -0.01}, macd_signal_gap=0.01), Stance.NEUTRAL),
        (indicators(**{**RISEN, "sma_distance": -0.01}, macd_signal_gap=0.01), Stance.NEUTRAL),
        (indicators(**FALLEN, macd_signal_gap=0.01), Stance.FOR),
        (indicators(**FALLEN, macd_signal_gap=-0.01), Stance.AGAINST),
        (indicators(**FALLEN), Stance.NEUTRAL),
        (indicators(**{**FALLEN, "bollinger": -0.99}, macd_signal_gap=-0.01), Stance.NEUTRAL),
        (indicators(**{**FALLEN, "macd": 0.01}, macd_signal_gap=-0.01), Stance.NEUTRAL),
        (indicators(**{**FALLEN, "sma_distance": 0.01}, macd_signal_gap=-0.01), Stance.NEUTRAL),
    ],
)
def test_indicators_take_a_stance_at_extremes_alone(view: Technical, stance: Stance) -> None:
    found = only(forecast(), technical=view)
    assert found.reasons[2].startswith(f"technical: {stance} (")
    assert found.action is (Action.HOLD if stance is Stance.AGAINST else Action.BUY)


def test_indicators_start_no_trade() -> None:
    for view in (indicators(1.0), indicators(**RISEN, macd_signal_gap=0.01), indicators(**FALLEN, macd_signal_gap=0.1)):
        found = only(forecast(return_pct=0.0), technical=view)
        assert (found.action, found.reasons[2][:15]) == (Action.HOLD, "technical: for ")
    assert only(forecast(return_pct=0.0), technical=OVERBOUGHT).action is Action.HOLD


def test_the_indicators_are_not_asked_when_technical_analysis_is_off() -> None:
    config = replace(MODERATE, use_technical_analysis=False)
    for view in (OVERBOUGHT, None, indicators(NAN), indicators(at=NOW - timedelta(days=1))):
        found = only(forecast(), config=config, technical=view)
        assert (found.action, found.reasons[2]) == (Action.BUY, "technical: off (switched off)")


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (None, "there are no bars"),
        (indicators(at=NOW - timedelta(seconds=limits.BAR_MAX_AGE_S + 1)), "the newest bar is 20 min old, at most 20"),
        (indicators(at=NOW + timedelta(seconds=limits.CLOCK_SKEW_S + 1)), "the newest bar is of a time to come"),
        *((view, "too few bars for its indicators") for value in (NAN, math.inf, -math.inf) for view in (
            indicators(value), indicators(macd=value), indicators(macd_signal_gap=value),
            indicators(sma_distance=value), indicators(bollinger=value),
        )),
    ],
)  # fmt: skip
def test_without_indicators_of_now_there_is_no_entry_but_an_exit(view: Technical | None, said: str) -> None:
    found = only(forecast(), technical=view)
    assert (found.action, found.reasons[2]) == (Action.HOLD, f"technical: stale ({said})")
    assert only(forecast(return_pct=-0.5), technical=view).action is Action.SELL


def test_the_newest_bar_may_be_as_old_as_a_forecast_allows() -> None:
    assert only(forecast(), technical=indicators(at=NOW - timedelta(seconds=limits.BAR_MAX_AGE_S))).action is Action.BUY


# --- the rule --------------------------------------------------------------------------------------------------------

FOR, AGAINST, NEUTRAL, OFF, STALE = (Vote(stance, f"it is {stance}") for stance in Stance)
STARTS, SELLS = replace(FOR, starts=True), replace(AGAINST, starts=True)


@pytest.mark.parametrize(
    ("cast", "action", "said"),
    [
        ((STARTS, NEUTRAL, OFF), Action.BUY, "it is for"),
        ((NEUTRAL, STARTS, FOR), Action.BUY, "it is for"),
        ((FOR, NEUTRAL, FOR), Action.HOLD, "it is for"),
        ((STARTS, AGAINST, FOR), Action.HOLD, "it is for, but it is against"),
        ((STARTS, STALE, AGAINST), Action.HOLD, "it is for, but it is stale, but it is against"),
        ((STALE, STARTS, NEUTRAL), Action.HOLD, "it is for, but it is stale"),
        ((AGAINST, STARTS, NEUTRAL), Action.HOLD, "it is for, but it is against"),
        ((SELLS, STARTS, STALE), Action.SELL, "it is against"),
        ((STARTS, SELLS, FOR), Action.SELL, "it is against"),
        ((OFF, NEUTRAL, AGAINST), Action.HOLD, "it is neutral"),
        ((OFF, OFF, AGAINST), Action.HOLD, "it is off"),
        ((), Action.HOLD, None),
    ],
)
def test_a_purchase_needs_one_that_starts_it_and_none_against_a_sale_nobodys_consent(
    cast: Sequence[Vote], action: Action, said: str | None
) -> None:
    assert decide(cast) is action
    assert said is None or why(cast) == said


VOTES = st.lists(st.builds(Vote, st.sampled_from(Stance), st.just("it"), starts=st.booleans()), max_size=5)


@given(VOTES, st.sampled_from([NEUTRAL, OFF]), st.integers(0, 5))
def test_a_source_that_is_neutral_or_off_changes_nothing(cast: list[Vote], more: Vote, place: int) -> None:
    assert decide([*cast[:place], more, *cast[place:]]) is decide(cast)


@given(VOTES, st.booleans())
def test_one_source_against_or_stale_ends_every_purchase_and_no_sale(cast: list[Vote], stale: bool) -> None:
    after = decide([*cast, STALE if stale else AGAINST])
    assert after is not Action.BUY
    assert (after is Action.SELL) == (decide(cast) is Action.SELL)


# --- what a signal says ----------------------------------------------------------------------------------------------


def test_every_source_gives_its_reason_in_a_fixed_order_and_one_sentence_says_what_settled_it() -> None:
    made = forecast(horizon=15, return_pct=0.05)
    numbers = "Bollinger +0.00, MACD +0.000% and +0.000% from its signal, price +0.000% from its mean"
    assert only(made).reasons == (
        "ML 15 min: forecast +5.000% is over the buy threshold +2.000%, confidence 0.90",
        "Grok: off (no key)",
        f"technical: neutral (RSI 50, {numbers})",
    )
    assert only(made).why == only(made).reasons[0]
    vetoed = only(made, technical=OVERBOUGHT)
    assert vetoed.why == (
        "ML 15 min: forecast +5.000% is over the buy threshold +2.000%, confidence 0.90, "
        f"but technical: against (overbought: RSI 99, {numbers})"
    )


def test_a_signal_says_all_that_an_order_needs_to_know() -> None:
    found = only(forecast(return_pct=0.05), at=quote(price="98"))
    assert found.signal_id == "ml_AAPL_60_20260925T140000_BUY"
    assert found.target_price_usd == pytest.approx(105.0)
    assert found.predicted_return_pct == pytest.approx(105 / 98 - 1)
    assert found.stop_loss_usd == pytest.approx(98 * 0.95)
    assert (found.issued_at, found.expires_at) == (NOW, NOW + 30 * MINUTE)
    assert (found.forecast_id, found.source) == ("AAPL:60", Source.ML)
    assert found.strength == pytest.approx(0.8)
    sale = only(forecast(return_pct=-0.05))
    assert (sale.stop_loss_usd, sale.strength) == (None, pytest.approx(0.8))


def test_a_hold_has_no_strength_however_sure_the_forecast_was() -> None:
    found = only(forecast(), technical=OVERBOUGHT)
    assert (found.action, found.strength, found.confidence, found.stop_loss_usd) == (Action.HOLD, 0.0, 0.9, None)
    assert only(forecast(confidence=0.4), config=replace(MODERATE, ml_confidence_threshold=0.3)).strength == 0.0


def test_every_symbol_with_a_price_gets_one_signal_in_order_and_no_other_does() -> None:
    made = [forecast(symbol, horizon) for symbol in ("SPY", "AAPL", "MSFT") for horizon in (15, 30, 60)]
    quotes = {symbol: quote(symbol) for symbol in ("AAPL", "SPY", "QQQ", "PEP")}
    found = signals(made, quotes, {}, MODERATE, NOW, allow_unskilled=False)
    assert [one.symbol for one in found] == ["AAPL", "SPY"]
    found = signals(made, quotes, {}, MODERATE, NOW, allow_unskilled=False, grok=pick(symbol="PEP"))
    assert [(one.symbol, one.source) for one in found] == [
        ("AAPL", Source.ML), ("PEP", Source.GROK), ("SPY", Source.ML),
    ]  # fmt: skip
    assert signals([], quotes, {}, MODERATE, NOW, allow_unskilled=True) == []
    assert signals(None, quotes, {}, MODERATE, NOW, allow_unskilled=True) == []


# --- numbers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", ["NaN", "sNaN", "Infinity", "-Infinity", "0", "-1", "1E-400", "1E+400"])
def test_a_price_that_is_none_gives_no_signal(price: str) -> None:
    assert all_of(forecast(), at=quote(price=price), allow_unskilled=True, grok=pick()) == []


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
    assert all_of(bad, allow_unskilled=True) == []
    assert only(bad, allow_unskilled=True, grok=pick()).action is Action.HOLD  # ML has fallen silent
    good = forecast(horizon=15, return_pct=-0.05)
    assert only(bad, good) == only(good)


@pytest.mark.parametrize(
    "name", ["buy_threshold_pct", "sell_threshold_pct", "ml_confidence_threshold", "grok_score_threshold"]
)
@pytest.mark.parametrize("value", [NAN, math.inf])
def test_a_threshold_that_is_no_number_is_never_passed(name: str, value: float) -> None:
    broken: dict[str, Any] = {name: value}
    config = replace(MODERATE, **broken)
    grok = pick() if name.startswith("grok") else None
    return_pct = {"sell_threshold_pct": -0.5, "grok_score_threshold": 0.0}.get(name, 0.5)
    assert only(forecast(return_pct=return_pct), config=config, grok=grok).action is Action.HOLD


# --- whatever comes --------------------------------------------------------------------------------------------------

TIMES = st.integers(-90, 5).map(lambda minutes: NOW + minutes * MINUTE)
ANY_FORECAST = st.builds(
    forecast,
    horizon=st.sampled_from([15, 30, 60]),
    return_pct=st.floats(-0.2, 0.2),
    confidence=st.floats(0, 1),
    skilled=st.booleans(),
    issued_at=TIMES,
)
ANY_TECHNICAL = st.builds(
    Technical,
    TIMES,
    st.floats(0, 100),
    *(st.floats(-0.05, 0.05) for _ in range(3)),
    st.floats(-2, 2),
)
ANY_PICK = st.builds(pick, st.floats(0, 1), st.floats(-1, 1), TIMES)
ANY_CONFIG = st.builds(
    replace,
    st.just(MODERATE),
    buy_threshold_pct=st.floats(0, 0.1),
    sell_threshold_pct=st.floats(0, 0.1),
    ml_confidence_threshold=st.floats(0, 1),
    grok_score_threshold=st.floats(0, 1),
    strategy=st.sampled_from(list(Strategy)),
    use_ml=st.booleans(),
    use_grok=st.booleans(),
    use_technical_analysis=st.booleans(),
)
PRICES = st.decimals(80, 120, places=2)


def able(group: Sequence[Forecast], price_usd: float, config: TradingConfig, allow_unskilled: bool) -> list[Forecast]:
    """Written down a second time: the living, proven and confident forecasts of this price, beyond a threshold."""
    factor = THRESHOLD_FACTOR[config.strategy]
    return [
        one
        for one in group
        if max(one.current_price_usd / price_usd, price_usd / one.current_price_usd) <= 1.1
        and one.issued_at <= NOW + timedelta(seconds=60) < one.issued_at + MINUTE * one.horizon_minutes / 2 + MINUTE
        and (one.skilled or allow_unskilled)
        and one.confidence >= config.ml_confidence_threshold
        and not -config.sell_threshold_pct * factor
        <= one.current_price_usd * (1 + one.return_pct) / price_usd - 1
        <= config.buy_threshold_pct * factor
    ]


@given(
    st.lists(ANY_FORECAST, min_size=1, max_size=4), PRICES, ANY_CONFIG, st.none() | ANY_TECHNICAL,
    st.none() | ANY_PICK, st.booleans(),
)  # fmt: skip
def test_whoever_trades_has_a_source_beyond_its_threshold_and_whoever_buys_has_none_against_it(
    group: list[Forecast],
    price: Decimal,
    config: TradingConfig,
    technical: Technical | None,
    grok: Picks,
    allow_unskilled: bool,
) -> None:
    at = quote(price=str(price))
    found = only(*group, config=config, at=at, technical=technical, grok=grok, allow_unskilled=allow_unskilled)
    moving = able(group, float(price), config, allow_unskilled) if config.use_ml else []
    decisive = max(moving, key=lambda one: (one.confidence, one.horizon_minutes), default=None)
    rises = decisive is not None and repriced_return(decisive, float(price)) > 0
    picked = grok is not None and config.use_grok and grok["AAPL"].score >= config.grok_score_threshold
    if decisive is not None and not rises:
        assert found.action is Action.SELL
    if found.action is Action.SELL:
        assert decisive is not None and not rises
        assert found.predicted_return_pct == repriced_return(decisive, float(price))
    if found.action is Action.BUY:
        assert rises or picked
        assert not [one for one in found.reasons if ": against" in one or ": stale" in one]
    elif found.action is Action.HOLD and (rises or picked):
        assert [one for one in found.reasons if ": against" in one or ": stale" in one]
    assert 0 <= found.strength <= 1
    assert len(found.reasons) == 3
    assert found.why


@given(st.lists(ANY_FORECAST, min_size=1, max_size=4), PRICES, ANY_CONFIG)
def test_where_the_price_has_run_past_every_target_nothing_is_bought(
    group: list[Forecast], price: Decimal, config: TradingConfig
) -> None:
    assume(all(one.target_price_usd <= price for one in group))
    assert only(*group, config=config, at=quote(price=str(price)), allow_unskilled=True).action is not Action.BUY


@given(st.lists(ANY_FORECAST, min_size=1, max_size=4), ANY_CONFIG)
def test_unproven_forecasts_make_no_difference_elsewhere_than_on_the_embedded_exchange(
    group: list[Forecast], config: TradingConfig
) -> None:
    unproven = [replace(one, skilled=False) for one in group]
    assert only(*unproven, config=config).action is Action.HOLD
    alone = [one for one in group if one.skilled]
    if alone and any(one.issued_at <= NOW < expires_at(one) for one in alone):
        assert only(*group, config=config).action is only(*alone, config=config).action


@given(st.lists(ANY_FORECAST, min_size=1, max_size=4), ANY_CONFIG, ANY_TECHNICAL)
def test_expired_forecasts_trade_nothing(group: list[Forecast], config: TradingConfig, technical: Technical) -> None:
    old = [replace(one, issued_at=NOW - MINUTE * one.horizon_minutes / 2) for one in group]
    assert only(*old, config=config, technical=technical, allow_unskilled=True).action is Action.HOLD


WILD = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.builds(forecast, return_pct=WILD, confidence=WILD, current_price_usd=WILD),
    st.builds(Technical, st.just(NOW), WILD, WILD, WILD, WILD, WILD),
    st.none() | st.builds(pick, WILD, WILD),
    st.builds(replace, st.just(MODERATE), buy_threshold_pct=WILD, sell_threshold_pct=WILD, grok_score_threshold=WILD,
              ml_confidence_threshold=WILD),
    st.decimals(allow_nan=True, allow_infinity=True),
)  # fmt: skip
def test_no_number_raises_and_what_is_none_buys_nothing(
    made: Forecast, technical: Technical, grok: Picks, config: TradingConfig, price: Decimal
) -> None:
    for found in all_of(made, config=config, technical=technical, grok=grok, at=quote(price=str(price))):
        figures = [
            technical.rsi,
            technical.macd,
            technical.macd_signal_gap,
            technical.sma_distance,
            technical.bollinger,
        ]
        figures += [] if grok is None else [grok["AAPL"].score, grok["AAPL"].sentiment]
        if not all(math.isfinite(one) for one in figures):
            assert found.action is not Action.BUY
        if found.source is Source.ML and found.action is not Action.HOLD:
            assert math.isfinite(made.return_pct) and math.isfinite(made.confidence)


def test_five_thousand_symbols_take_no_time_to_speak_of() -> None:
    symbols = [f"S{number}" for number in range(5_000)]
    made = [forecast(symbol, horizon) for symbol in symbols for horizon in (15, 30, 60)]
    quotes, technicals = {symbol: quote(symbol) for symbol in symbols}, dict.fromkeys(symbols, CALM)
    picks = {symbol: GrokView(symbol, 0.9, 0.5, NOW) for symbol in symbols}
    begun = time.process_time()
    found = signals(made, quotes, technicals, MODERATE, NOW, allow_unskilled=False, grok=picks)
    took = time.process_time() - begun
    assert len(found) == 5_000
    assert {one.action for one in found} == {Action.BUY}
    assert took < 5.0  # of a cycle's ten minutes; it is a fifth of a second on an idle core
