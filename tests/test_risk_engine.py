"""The risk engine's factor and breakers from values, and the page about them."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot import limits, risk_engine, volatility
from qbot.risk_engine import BREAKERS, REASONS, Equity, Seen, believable, confirmed, report, trips
from qbot.settings import ROOT
from qbot.types import Account, Position

D = Decimal
NOW = datetime(2025, 7, 8, 15, 0, tzinfo=UTC)
NAN = float("nan")


def stand(now: str = "100", begin: str = "100", peak: str = "100") -> Equity:
    return Equity(D(now), D(begin), D(peak))


WELL = Seen(
    NOW, market_open=True, equity=stand(), confidence=0.9, volatility_ratio=1.0, model_age_days=1.0, fresh_share=1.0
)


# --- the factor -------------------------------------------------------------------------------------------------------


def test_when_all_is_well_positions_are_whole() -> None:
    said = report(WELL)
    assert (said.factor, said.reasons, said.tripped) == (1, (), ())


@pytest.mark.parametrize(
    ("seen", "factor", "reason"),
    [
        ({"confidence": 0.59}, "0.8", "low_confidence"),
        ({"equity": stand("94.9", "95", "100")}, "0.5", "drawdown"),
        ({"volatility_ratio": 2.01}, "0.6", "high_volatility"),
        ({"model_age_days": 10.1}, "0.8", "model_stale"),
        ({"fresh_share": 0.89}, "0.5", "data_gap"),
        ({"confidence": None}, "0.8", "confidence_unknown"),
        ({"confidence": NAN}, "0.8", "confidence_unknown"),
        ({"equity": None}, "0.5", "equity_unknown"),
        ({"volatility_ratio": None}, "0.6", "volatility_unknown"),
        ({"volatility_ratio": math.inf}, "0.6", "volatility_unknown"),
        ({"model_age_days": None}, "0.8", "model_unknown"),
        ({"fresh_share": None}, "0.5", "data_unknown"),
    ],
)
def test_each_reason_lowers_the_factor_by_its_own(seen: dict[str, Any], factor: str, reason: str) -> None:
    said = report(replace(WELL, **seen))
    assert (said.factor, said.reasons, said.tripped) == (D(factor), (reason,), ())


@pytest.mark.parametrize(
    "seen",
    [{"confidence": 0.6}, {"equity": stand("95", "95", "100")}, {"volatility_ratio": 2.0}, {"model_age_days": 10.0},
     {"fresh_share": 0.9}, {"fresh_share": 0.0, "market_open": False}],
)  # fmt: skip
def test_at_its_threshold_nothing_is_lowered_nor_by_old_data_of_a_closed_market(seen: dict[str, Any]) -> None:
    assert report(replace(WELL, **seen)).factor == 1


def test_reasons_multiply_and_a_floor_remains() -> None:
    two = report(replace(WELL, confidence=0.5, volatility_ratio=3.0))
    assert (two.factor, two.reasons) == (D("0.48"), ("low_confidence", "high_volatility"))
    nothing_known = report(Seen(NOW, market_open=True))
    assert (nothing_known.factor, len(nothing_known.reasons)) == (limits.RISK_FACTOR_MIN, len(REASONS))


# --- breakers ---------------------------------------------------------------------------------------------------------

AT_LIMIT: dict[str, dict[str, Any]] = {
    "rolling_loss": {"equity": stand("90", "100", "100")},
    "drawdown": {"equity": stand("85", "90", "100")},
    "rejected_orders": {"rejected_in_a_row": 5},
    "losing_trades": {"lost_in_a_row": 12},
    "ledger_drift": {"drift_minutes": 15.0},
    "data_gap": {"gap_minutes": 30.0},
}
UNDER: dict[str, dict[str, Any]] = {
    "rolling_loss": {"equity": stand("90.01", "100", "100")},
    "drawdown": {"equity": stand("85.01", "90", "100")},
    "rejected_orders": {"rejected_in_a_row": 4},
    "losing_trades": {"lost_in_a_row": 11},
    "ledger_drift": {"drift_minutes": 14.9},
    "data_gap": {"gap_minutes": 29.9},
}


@pytest.mark.parametrize("breaker", BREAKERS, ids=lambda breaker: breaker.name)
def test_a_breaker_trips_at_its_limit_and_not_before_it(breaker: risk_engine.Breaker) -> None:
    seen = replace(WELL, **AT_LIMIT[breaker.name])
    (trip,) = trips(seen)
    assert (trip.name, trip.advice) == (breaker.name, breaker.advice)
    assert trip.numbers["limit"] == str(breaker.limit)
    said = report(seen)
    assert (said.factor, said.tripped) == (0, (breaker.name,))
    assert said.reasons[0] == f"breaker_{breaker.name}"
    before = replace(WELL, **UNDER[breaker.name])
    assert trips(before) == ()
    assert report(before).tripped == ()


def test_a_breaker_that_stands_holds_though_all_is_well_and_is_not_tripped_again() -> None:
    standing = replace(WELL, standing=("drawdown",))
    assert (report(standing).factor, report(standing).tripped, trips(standing)) == (0, ("drawdown",), ())
    worse = replace(standing, **AT_LIMIT["drawdown"], lost_in_a_row=20)
    assert [trip.name for trip in trips(worse)] == ["losing_trades"]
    assert report(worse).tripped == ("drawdown", "losing_trades")


def test_the_report_tells_the_losses_as_positive_fractions() -> None:
    said = report(replace(WELL, equity=stand("92", "96", "100")))
    assert (said.rolling_loss_pct.quantize(D("0.0001")), said.drawdown_pct) == (D("0.0417"), D("0.08"))
    gain = report(replace(WELL, equity=stand("110", "100", "110")))
    assert (gain.rolling_loss_pct, gain.drawdown_pct) == (0, 0)


# --- worse is never bolder --------------------------------------------------------------------------------------------

PRICES = st.decimals(1, 1000, places=2)
SHARE = st.none() | st.floats(0, 1)
POSITIVE = st.none() | st.floats(0, 50)


@st.composite
def seens(draw: st.DrawFn) -> Seen:
    peak = draw(PRICES)
    equity = draw(st.none() | st.builds(Equity, PRICES, PRICES, st.just(peak)))
    return Seen(
        NOW, draw(st.booleans()), equity, draw(SHARE), draw(POSITIVE), draw(POSITIVE), draw(SHARE), (),
        draw(st.integers(0, 10)), draw(st.integers(0, 20)), draw(st.floats(0, 60)), draw(st.floats(0, 60)),
    )  # fmt: skip


def worse(seen: Seen, by: dict[str, float]) -> Seen:
    """Every measure at least as bad; the unknown stays."""
    equity = seen.equity and replace(seen.equity, now_usd=seen.equity.now_usd * D(1 - by["equity"]))
    return replace(
        seen,
        equity=equity,
        confidence=None if seen.confidence is None else seen.confidence * (1 - by["confidence"]),
        volatility_ratio=None if seen.volatility_ratio is None else seen.volatility_ratio * (1 + by["volatility"]),
        model_age_days=None if seen.model_age_days is None else seen.model_age_days + 20 * by["age"],
        fresh_share=None if seen.fresh_share is None else seen.fresh_share * (1 - by["fresh"]),
        rejected_in_a_row=seen.rejected_in_a_row + round(5 * by["rejected"]),
        lost_in_a_row=seen.lost_in_a_row + round(10 * by["lost"]),
        drift_minutes=seen.drift_minutes + 20 * by["drift"],
        gap_minutes=seen.gap_minutes + 40 * by["gap"],
    )


BY = ("equity", "confidence", "volatility", "age", "fresh", "rejected", "lost", "drift", "gap")
AMOUNTS = st.fixed_dictionaries({name: st.floats(0, 1, exclude_max=True) for name in BY})


@given(seens(), AMOUNTS)
def test_worse_inputs_never_raise_the_factor_nor_free_a_breaker(seen: Seen, by: dict[str, float]) -> None:
    before, after = report(seen), report(worse(seen, by))
    assert after.factor <= before.factor
    assert set(before.tripped) <= set(after.tripped)


@given(seens(), st.sets(st.sampled_from(["confidence", "volatility_ratio", "model_age_days", "fresh_share"])))
def test_what_is_not_known_is_never_better_than_what_is(seen: Seen, gone: set[str]) -> None:
    assert report(replace(seen, **dict.fromkeys(gone))).factor <= report(seen).factor


@given(seens())
def test_the_factor_is_between_its_floor_and_one_and_nought_only_with_a_breaker(seen: Seen) -> None:
    said = report(seen)
    assert limits.RISK_FACTOR_MIN <= said.factor <= 1 if not said.tripped else said.factor == 0
    assert said.tripped == tuple(trip.name for trip in sorted(trips(seen), key=lambda trip: trip.name))


# --- which equity is believed -----------------------------------------------------------------------------------------


def readings(*values: str) -> list[tuple[datetime, Decimal]]:
    """One a minute."""
    return [(NOW + timedelta(minutes=i), D(value)) for i, value in enumerate(values)]


@pytest.mark.parametrize("bad", ["1", "0", "-5", "NaN", "50000", "1000000"])
def test_one_bad_reading_is_neither_a_loss_nor_a_peak(bad: str) -> None:
    for at in range(6):
        values = ["100000"] * 6
        values[at] = bad
        assert risk_engine.equity(readings(*values), None) == stand("100000", "100000", "100000")


def test_a_crash_is_believed_once_a_second_minute_confirms_it() -> None:
    first = readings("100000", "100000", "100000", "70000")
    assert risk_engine.equity(first, None) == stand("100000", "100000", "100000")
    second = readings("100000", "100000", "100000", "70000", "69000")
    assert risk_engine.equity(second, None) == stand("70000", "100000", "100000")


def test_many_bad_readings_within_one_minute_are_one() -> None:
    good = readings("100000", "100000", "100000", "100000")
    burst = [(NOW + timedelta(minutes=4, seconds=s), D(1)) for s in range(0, 50, 5)]
    found = risk_engine.equity(good + burst, None)
    assert found is not None and found.drawdown_pct == 0


def test_a_peak_known_from_before_counts_though_the_window_does_not_reach_back() -> None:
    found = risk_engine.equity(readings("90", "90", "90"), D(100))
    assert found is not None and (found.drawdown_pct, found.rolling_loss_pct) == (D("0.1"), 0)


def test_with_a_peak_and_nothing_confirmed_the_equity_is_unknown_and_without_one_it_begins() -> None:
    assert risk_engine.equity(readings("90", "90"), D(100)) is None
    assert risk_engine.equity(readings("90", "91"), None) == stand("91", "91", "91")
    assert risk_engine.equity([], None) is None
    assert risk_engine.equity(readings("0", "NaN"), None) is None


@given(st.lists(st.decimals(1, 10**6, places=2), min_size=3, max_size=30))
def test_what_is_confirmed_lies_between_what_was_read(values: list[Decimal]) -> None:
    curve = [(NOW + timedelta(minutes=i), value) for i, value in enumerate(values)]
    sure = confirmed(curve)
    assert len(sure) == len(values) - 2
    for i, (at, value) in enumerate(sure):
        assert at == curve[i + 2][0]
        assert min(values[i : i + 3]) <= value <= max(values[i : i + 3])


def position(value: str) -> Position:
    return Position("AAPL", D(1), D(1), D(value), D(0), D(1))


@pytest.mark.parametrize(
    ("equity", "cash", "held", "believed"),
    [
        ("100000", "60000", ["40000"], True),
        ("100000", "60000", ["41999", "-1000"], True),
        ("100000", "60000", ["35000"], False),
        ("50000", "60000", ["40000"], False),
        ("0", "0", [], False),
        ("-5", "-5", [], False),
        ("NaN", "60000", ["40000"], False),
        ("100000", "NaN", ["40000"], False),
        ("100000", "60000", ["Infinity"], False),
    ],
)
def test_an_equity_that_cash_and_positions_contradict_is_doubted(
    equity: str, cash: str, held: list[str], believed: bool
) -> None:
    account = Account(D(equity), D(100000), D(cash), D(0))
    assert believable(account, [position(value) for value in held]) is believed


# --- what is measured -------------------------------------------------------------------------------------------------


def test_the_confidence_is_the_median_of_each_symbols_surest_forecast() -> None:
    assert risk_engine.confidence([0.9, 0.5, NAN]) == 0.5
    assert risk_engine.confidence([]) is None


def test_a_streak_counts_from_the_end() -> None:
    assert [risk_engine.streak(each) for each in ([], [True], [True, False], [False, True, True])] == [0, 1, 0, 2]


def test_the_age_is_that_of_the_oldest_artifact() -> None:
    assert risk_engine.age_days([NOW - timedelta(days=3), NOW - timedelta(days=12)], NOW) == 12
    assert risk_engine.age_days([], NOW) is None


def bars(wild_today: float = 1.0, days: int = 8, symbol: str = "SPY") -> pd.DataFrame:
    """An hour and a half of bars a day, three times as wild in its first half; today's moves scaled."""
    rows = []
    for day in range(days):
        begin = datetime(2025, 7, 1, 13, 30, tzinfo=UTC) + timedelta(days=day)
        price, scale = 100.0, wild_today if day == days - 1 else 1.0
        for bar in range(18):
            price *= math.exp((1 if bar % 2 else -1) * scale * (0.003 if bar < 9 else 0.001))
            rows.append((symbol, begin + timedelta(minutes=5 * bar), price))
    frame = pd.DataFrame(rows, columns=["symbol", "ts", "close"])
    frame["ts"] = pd.to_datetime(frame["ts"], utc=True)
    return frame


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_volatility_is_compared_with_the_same_hour_of_earlier_days(scale: float) -> None:
    assert volatility.ratio(bars(scale)) == pytest.approx(scale)
    opening = bars(scale)[lambda frame: frame["ts"] <= frame["ts"].max() - timedelta(minutes=25)]
    assert volatility.ratio(opening) == pytest.approx(scale)


def test_without_a_history_or_with_frozen_prices_the_volatility_is_unknown() -> None:
    assert volatility.ratio(bars(days=5)) is None
    assert volatility.ratio(bars().iloc[:0]) is None
    assert volatility.ratio(bars().assign(close=100.0)) is None
    assert volatility.ratio(bars().assign(close=np.nan)) is None


def test_one_wild_symbol_of_three_is_not_the_market() -> None:
    three = pd.concat([bars(9.0, symbol="A"), bars(1.0, symbol="B"), bars(1.0, symbol="C")])
    assert volatility.ratio(three) == pytest.approx(1.0)


def test_a_gap_in_the_bars_is_no_move() -> None:
    frame = bars()
    doubled = frame.assign(close=frame["close"].where(frame["ts"].dt.day % 2 == 0, frame["close"] * 2))
    assert volatility.ratio(doubled) == pytest.approx(1.0)


def test_funds_stand_for_the_market_first() -> None:
    assert volatility.market_symbols(["AAPL", "QQQ", "MA", "SPY"], 3) == ["SPY", "QQQ", "AAPL"]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_reason_and_breaker_with_its_numbers() -> None:
    page = (ROOT / "docs" / "risk-engine.md").read_text()
    for reason in REASONS:
        row = f"| `{reason.name}` | {reason.meaning} | {reason.threshold} | × {reason.factor} | `{reason.unknown}` |"
        assert row in page
    for breaker in BREAKERS:
        assert f"| `{breaker.name}` | {breaker.meaning} | {breaker.limit} | {breaker.advice} |" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == len(REASONS) + len(BREAKERS)


def test_every_measure_of_what_is_seen_is_judged() -> None:
    """A field that nothing looks at would be a check that cannot fail."""
    untouched = {"now", "standing", "market_open"}
    judged = set()
    for field in fields(Seen):
        awful: Any = {"equity": stand("1", "100", "100"), "confidence": 0.0, "fresh_share": 0.0}.get(field.name, 10**6)
        if field.name not in untouched and report(replace(WELL, **{field.name: awful})) != report(WELL):
            judged.add(field.name)
    assert judged == {field.name for field in fields(Seen)} - untouched
