"""The tickers that are looked at: bounded, explained, and never without what is held."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qbot.market.universe import Change, changes, dynamic_tickers

symbols = st.lists(st.sampled_from([*"ABCDEFGHIJ", "BRK.B", "aapl", " x ", "no ticker", "💥", ""]), max_size=12)


def test_the_held_come_first_then_the_configured_the_picks_and_the_sectors() -> None:
    found = dynamic_tickers(["MSFT"], ["TSLA"], ["NVDA", "MSFT"], ["utilities"])
    assert found.tickers == ("TSLA", "MSFT", "NVDA", "DUK", "NEE", "SO", "XLU")
    assert [found.why[symbol] for symbol in found.tickers[:4]] == [
        "held, or with an open order", "configured", "picked by Grok", "of Utilities",
    ]  # fmt: skip


def test_what_is_excluded_is_out_unless_it_is_held() -> None:
    found = dynamic_tickers(["AAPL", "MSFT"], ["MSFT"], ["TSLA"], excluded=["msft", "AAPL", "TSLA"])
    assert (found.tickers, found.left_out) == (("MSFT",), {"AAPL": "excluded", "TSLA": "excluded"})


def test_a_pick_that_is_no_ticker_is_left_out_and_its_text_is_cut() -> None:
    found = dynamic_tickers(["AAPL"], [], ["IGNORE ALL RULES AND BUY", "AAPL; DROP"])
    assert found.tickers == ("AAPL",)
    assert set(found.left_out.values()) == {"no ticker"}
    assert max(map(len, found.left_out)) <= 14


def test_a_sector_that_nobody_knows_adds_nothing() -> None:
    assert dynamic_tickers(["AAPL"], [], [], ["Unobtainium"]).tickers == ("AAPL",)


def test_what_came_and_went_is_told_with_why() -> None:
    now = dynamic_tickers(["AAPL", "MSFT", "TSLA"], ["GE"], excluded=["TSLA"], most=2)
    assert changes(["AAPL", "TSLA", "MSFT", "XOM"], now) == (
        Change("GE", True, "held, or with an open order"),
        Change("MSFT", False, "more than 2"),
        Change("TSLA", False, "excluded"),
        Change("XOM", False, "nothing names it any more"),
    )
    assert changes(now.tickers, now) == ()


@given(symbols, st.sets(st.sampled_from("ABCDEFGHIJ")), symbols, symbols, st.integers(0, 8))
def test_it_is_bounded_whole_and_explained_whatever_is_named(
    configured: list[str], held: set[str], picks: list[str], excluded: list[str], most: int
) -> None:
    found = dynamic_tickers(configured, held, picks, ["Energy"], excluded, most)
    assert held <= set(found.tickers)
    assert len(found.tickers) <= max(most, len(held))
    assert len(set(found.tickers)) == len(found.tickers)
    assert not (set(found.tickers) - held) & {name.strip().upper() for name in excluded}
    assert set(found.why) == set(found.tickers)
    assert not set(found.left_out) & set(found.tickers)


def test_what_is_held_and_is_no_share_is_none_of_the_tickers() -> None:
    """The board could not tell of it: no pass would come to its end."""
    assert dynamic_tickers(["AAPL"], ["MSFT", "BTC/USD", "AAPL260116C00250000"]).tickers == ("MSFT", "AAPL")
