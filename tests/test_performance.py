"""Round trips first in, first out, and figures that agree with the equity."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot.contract import keys
from qbot.contract.payloads_backend import TradingPerformance
from qbot.performance import EquityPoint, daily_values, match, max_drawdown, performance, round_trips, sharpe, trades_of
from qbot.types import Account, Fill, Position, Side

START = datetime(2026, 9, 21, 14, 0, tzinfo=UTC)  # a Monday, 10:00 in New York
CASH = Decimal(100_000)


def _fill(number: int, side: Side, qty: int, price: str, symbol: str = "AAPL", order: str | None = None) -> Fill:
    at = START + timedelta(minutes=number)
    return Fill(f"x{number}", order or f"o{number}", symbol, side, Decimal(qty), Decimal(price), at)


def _account(equity: str, last: str = "100000") -> Account:
    return Account(Decimal(equity), Decimal(last), cash_usd=Decimal(5_000), buying_power_usd=Decimal(4_000))


def _point(days: float, equity: float) -> EquityPoint:
    return START + timedelta(days=days), Decimal(str(equity))


FILLS = st.lists(
    st.tuples(
        st.sampled_from(["AAPL", "MSFT"]),
        st.sampled_from(list(Side)),
        st.integers(1, 50),
        st.decimals(1, 500, places=2),
    ),
    max_size=30,
)


@given(FILLS, st.decimals(1, 500, places=2), st.decimals(1, 500, places=2))
def test_realised_and_unrealised_profit_add_up_to_the_change_of_the_equity(
    drawn: list[tuple[str, Side, int, Decimal]], apple: Decimal, microsoft: Decimal
) -> None:
    fills = [_fill(n, side, qty, str(price), symbol) for n, (symbol, side, qty, price) in enumerate(drawn)]
    prices = {"AAPL": apple, "MSFT": microsoft}
    trips, lots = match(fills)
    signed = [(fill, fill.qty if fill.side is Side.BUY else -fill.qty) for fill in fills]
    cash = -sum(qty * fill.price_usd for fill, qty in signed)
    held = sum(qty * prices[fill.symbol] for fill, qty in signed)
    profit = sum(trip.pnl_usd for trip in trips) + sum(lot.worth_usd(prices[lot.symbol]) for lot in lots)
    assert profit == cash + held
    assert 2 * sum(trip.qty for trip in trips) + sum(lot.qty for lot in lots) == sum(fill.qty for fill in fills)
    assert all(trip.qty > 0 and trip.opened_at < trip.closed_at for trip in trips)


def test_the_first_share_bought_is_the_first_sold() -> None:
    fills = [_fill(0, Side.BUY, 10, "100"), _fill(1, Side.BUY, 10, "110"), _fill(5, Side.SELL, 15, "120")]
    trips, lots = match(fills)
    assert [(trip.qty, trip.entry_price_usd, trip.pnl_usd, trip.minutes) for trip in trips] == [
        (10, 100, 200, 5.0),
        (5, 110, 50, 4.0),
    ]
    assert [(lot.qty, lot.price_usd) for lot in lots] == [(5, 110)]


def test_the_rest_of_a_lot_is_sold_before_the_next_one() -> None:
    buys = [_fill(0, Side.BUY, 10, "100"), _fill(1, Side.BUY, 10, "110")]
    trips = round_trips([*buys, _fill(2, Side.SELL, 4, "120"), _fill(3, Side.SELL, 7, "120")])
    assert [(trip.qty, trip.entry_price_usd) for trip in trips] == [(4, 100), (6, 100), (1, 110)]


def test_a_sale_of_what_was_not_held_is_a_short_trade_that_a_buy_closes() -> None:
    trips, lots = match([_fill(0, Side.SELL, 10, "100"), _fill(1, Side.BUY, 15, "90")])
    assert [(trip.side, trip.pnl_usd) for trip in trips] == [(Side.SELL, 100)]
    assert [(lot.side, lot.qty) for lot in lots] == [(Side.BUY, 5)]


def test_symbols_do_not_mix() -> None:
    assert round_trips([_fill(0, Side.BUY, 1, "100"), _fill(1, Side.SELL, 1, "200", "MSFT")]) == []


def test_partial_fills_of_one_order_are_one_trade() -> None:
    fills = [
        _fill(0, Side.BUY, 4, "100", order="in"),
        _fill(1, Side.BUY, 6, "101", order="in"),
        _fill(11, Side.SELL, 10, "102", order="out"),
    ]
    trips = round_trips(fills)
    assert (len(trips), len(trades_of(trips))) == (2, 1)
    figures = performance(trips, [], _account("100014"), [], START + timedelta(hours=1))
    assert (figures.total_trades, figures.winning_trades, figures.avg_win) == (1, 1, 14.0)
    assert figures.avg_trade_duration == pytest.approx((4 * 11 + 6 * 10) / 10)


def test_wins_losses_and_draws_are_counted_apart() -> None:
    trips = []
    for number, exit_price in enumerate(["110", "120", "95", "100"]):
        fills = [_fill(20 * number, Side.BUY, 1, "100"), _fill(20 * number + 10, Side.SELL, 1, exit_price)]
        trips += round_trips(fills)
    figures = performance(trips, [], _account("100025"), [], START + timedelta(hours=2))
    assert (figures.total_trades, figures.winning_trades, figures.losing_trades) == (4, 2, 1)
    assert (figures.win_rate, figures.avg_win, figures.avg_loss, figures.avg_trade_duration) == (0.5, 15.0, -5.0, 10.0)


def test_profit_is_counted_since_yesterdays_close_monday_the_first_and_the_begin() -> None:
    # The Thursday of the second week; the month began in between.
    curve = [_point(-30, 90_000), _point(-1, 95_000), _point(8, 97_000), _point(9, 98_000), _point(10.1, 99_000)]
    figures = performance([], curve, _account("100000", "98500"), [], START + timedelta(days=10.2))
    assert figures.daily_pnl == 1_500
    assert figures.weekly_pnl == 5_000
    assert figures.monthly_pnl == 2_000
    assert figures.total_pnl == 10_000


def test_points_after_now_do_not_count() -> None:
    curve = [_point(0, 100_000), _point(5, 1)]
    assert performance([], curve, _account("100000"), [], START + timedelta(days=1)).max_drawdown == 0.0


def test_nothing_traded_yet_gives_zeros_and_no_sharpe_ratio() -> None:
    figures = performance([], [], _account("100000"), [], START)
    assert (figures.total_trades, figures.win_rate, figures.avg_loss, figures.total_pnl) == (0, 0.0, 0.0, 0.0)
    assert figures.sharpe_ratio is None


def test_the_sharpe_ratio_is_the_annualised_mean_over_the_deviation_of_daily_returns() -> None:
    returns = (0.01, -0.005, 0.02)
    mean = sum(returns) / 3
    deviation = math.sqrt(sum((r - mean) ** 2 for r in returns) / 2)
    values = [100.0, 101.0, 101.0 * 0.995, 101.0 * 0.995 * 1.02]
    assert sharpe(values) == pytest.approx(mean / deviation * math.sqrt(252), abs=1e-4)


@pytest.mark.parametrize(
    "values", [[], [100.0], [100.0, 101.0], [100.0, 100.0, 100.0], [0.0, 0.0, 0.0], [1e-308, 2.0, 3.0]]
)
def test_without_two_different_returns_there_is_no_sharpe_ratio(values: list[float]) -> None:
    assert sharpe(values) is None


def test_a_day_counts_by_its_last_value_and_a_weekend_not_at_all() -> None:
    points = [_point(0, 100), _point(0.1, 102), _point(1, 103), _point(5, 104), _point(6, 104), _point(7, 105)]
    assert daily_values(points) == [100, 102, 103, 105]


@given(st.lists(st.floats(0.01, 1e9), min_size=1, max_size=40))
def test_no_later_fall_from_an_earlier_value_exceeds_the_drawdown(values: list[float]) -> None:
    worst = max_drawdown(values)
    falls = [(a - b) / a for i, a in enumerate(values) for b in values[i:]]
    assert worst == pytest.approx(max(falls))
    assert 0 <= worst <= 1


@given(FILLS, st.lists(st.floats(-1e6, 1e6), max_size=10))
def test_every_outcome_is_a_valid_payload(drawn: list[tuple[str, Side, int, Decimal]], equities: list[float]) -> None:
    fills = [_fill(n, side, qty, str(price), symbol) for n, (symbol, side, qty, price) in enumerate(drawn)]
    curve = [_point(n / 2, equity) for n, equity in enumerate(equities)]
    held = [Position("AAPL", Decimal(1), Decimal(1), Decimal(1), Decimal(0), Decimal(1))]
    account = replace(_account("0"), last_equity_usd=Decimal(0))
    figures = performance(round_trips(fills), curve, account, held, START + timedelta(days=9))
    assert keys.TRADING_PERFORMANCE.encode(TradingPerformance(**asdict(figures)))
