"""The portfolio's figures: weights, sectors, spread and risk."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot import limits, portfolio, sectors
from qbot.contract import keys
from qbot.contract.payloads_backend import LargestPosition, Level, PortfolioSummary
from qbot.portfolio import RiskLevel, diversification, risk_level, sector_allocation, summary
from qbot.types import Account, Position

NOW = datetime(2026, 9, 25, 14, 0, tzinfo=UTC)
AMOUNTS = st.lists(st.floats(0.01, 1e7), min_size=1, max_size=20)


def _position(symbol: str, value: str) -> Position:
    return Position(symbol, Decimal(1), Decimal(1), Decimal(value), Decimal(0), Decimal(value))


def _account(equity: str, cash: str, last: str) -> Account:
    return Account(Decimal(equity), Decimal(last), Decimal(cash), Decimal(cash))


def test_a_summary_adds_up() -> None:
    held = [_position("AAPL", "30000"), _position("UNH", "20000"), _position("ZZZ", "10000")]
    found = summary(_account("100000", "40000", "98000"), held, NOW)
    assert (found.total_value, found.cash_balance, found.invested_amount) == (100_000, 40_000, 60_000)
    assert (found.day_change, found.day_change_pct) == (2_000, pytest.approx(2_000 / 98_000, abs=1e-6))
    assert found.largest_position is not None
    assert asdict(found.largest_position) == {"symbol": "AAPL", "value": 30_000, "weight": 0.3}
    assert found.sector_allocation == {
        "Technology": 0.5,
        "Healthcare": pytest.approx(1 / 3),
        "Unknown": pytest.approx(1 / 6),
    }
    assert (found.positions_count, found.risk_level) == (3, RiskLevel.MEDIUM)


def test_an_empty_portfolio_has_no_largest_position_no_sectors_and_low_risk() -> None:
    found = summary(_account("100000", "100000", "0"), [], NOW)
    assert (found.largest_position, found.sector_allocation, found.diversification_score) == (None, {}, 0.0)
    assert (found.risk_level, found.day_change, found.day_change_pct) == (RiskLevel.LOW, 0.0, 0.0)


def test_every_default_ticker_has_a_sector() -> None:
    assert set(limits.DEFAULT_TICKERS) <= set(sectors.OF_SYMBOL)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("Technology", "AAPL"), ("information technology", "NVDA"), (" Health-Care ", "LLY"), ("FINANCIALS", "JPM"),
     ("Financial Services", "BRK.B"), ("consumer cyclical", "TSLA"), ("Finance", "XLF")],
)  # fmt: skip
def test_a_preferred_sector_may_be_called_by_any_common_name(name: str, symbol: str) -> None:
    assert portfolio.preferred(symbol, {name})
    assert portfolio.unheard_of({name}) == []
    assert not portfolio.preferred("SPY", {name})


@pytest.mark.parametrize("name", ["Gardening", "", "Unknown", "tech and more"])
def test_what_is_no_sectors_name_prefers_nothing_and_is_told(name: str) -> None:
    assert not any(portfolio.preferred(symbol, {name}) for symbol in (*sectors.OF_SYMBOL, "ZZZ"))
    assert portfolio.unheard_of({name}) == [name]


@given(st.dictionaries(st.sampled_from([*sectors.OF_SYMBOL, "ZZZ"]), st.floats(0.01, 1e7), min_size=1))
def test_sectors_add_up_to_one(values: dict[str, float]) -> None:
    assert sum(sector_allocation(values).values()) == pytest.approx(1.0)


@pytest.mark.parametrize(("parts", "score"), [(1, 0.0), (2, 0.625), (5, 1.0), (20, 1.0)])
def test_equal_parts_reach_full_diversification_at_the_target(parts: int, score: float) -> None:
    assert diversification([1.0] * parts, target_positions=5) == score


@given(AMOUNTS, st.integers(0, 50))
def test_diversification_is_a_fraction_and_concentration_lowers_it(values: list[float], target: int) -> None:
    score = diversification(values, target)
    assert 0 <= score <= 1
    assert diversification([*values, sum(values) * 1_000], target) <= max(score, 0.01)


@pytest.mark.parametrize(
    ("weight", "exposure", "level"),
    [(0.20, 0.50, "LOW"), (0.21, 0.50, "MEDIUM"), (0.20, 0.51, "MEDIUM"), (0.36, 0.40, "HIGH"), (0.10, 0.96, "HIGH")],
)
def test_the_risk_level_follows_the_largest_weight_and_the_exposure(weight: float, exposure: float, level: str) -> None:
    assert risk_level(weight, exposure) == level


@given(AMOUNTS, st.integers(-(10**6), 10**7), st.integers(0, 10**6))
def test_every_outcome_is_a_valid_payload(values: list[float], equity: int, last: int) -> None:
    held = [_position(f"T{chr(65 + n)}", f"{value:.2f}") for n, value in enumerate(values)]
    found = asdict(summary(_account(str(equity), "-5", str(last)), held, NOW))
    largest = found.pop("largest_position")
    level = Level(found.pop("risk_level"))
    payload = PortfolioSummary(largest_position=LargestPosition(**largest), risk_level=level, **found)
    assert keys.PORTFOLIO_SUMMARY.encode(payload)
