"""Several quotes into one or none: what cannot be a price never gets through, and a lie never wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qbot import limits
from qbot.market.aggregation import Aggregate, Agreed, Basis, Market, Reason, aggregate
from qbot.market.plans import ORDER
from qbot.types import Quote
from tests.support.market_day import DAY, sessions_around

SESSIONS = sessions_around(DAY)
BEGIN, CLOSE = next(session for session in SESSIONS if session[0].date() == DAY.date())
NOW = BEGIN + timedelta(hours=2)
BAND = 1 + limits.QUOTE_BAND_PCT


def quote(price: str | Decimal, source: str = "alpaca", at: datetime = NOW, symbol: str = "AAPL") -> Quote:
    value = Decimal(price)
    return Quote(symbol, value, value, value, at, NOW, source)


def market(now: datetime = NOW, *, last: str | None = None, close: str | None = None, age_s: float = 300.0) -> Market:
    return Market(
        now,
        SESSIONS,
        {"AAPL": Decimal(close)} if close else {},
        {"AAPL": quote(last, "before", now - timedelta(seconds=age_s))} if last else {},
    )


def join(*quotes: Quote, **how: str) -> Aggregate:
    return aggregate(quotes, market(**how))


def why(found: Aggregate) -> dict[str, Reason]:
    return {one.source: one.reason for one in found.dropped}


# --- one quote --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("NaN", Reason.NOT_A_NUMBER), ("sNaN", Reason.NOT_A_NUMBER), ("Infinity", Reason.NOT_A_NUMBER),
        ("0", Reason.ZERO), ("-0", Reason.ZERO), ("-1", Reason.NEGATIVE), ("1E-999999", Reason.ABSURD),
        ("1E+999999", Reason.ABSURD),
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", ["price_usd", "bid_usd", "ask_usd"])
def test_what_is_no_price_is_rejected_by_name(price: str, reason: Reason, part: str) -> None:
    found = join(replace(quote("100"), **{part: Decimal(price)}), last="100", close="100")
    assert (found.agreed, why(found)) == ({}, {"alpaca": reason})


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (NOW.replace(tzinfo=None), Reason.NO_TIME_ZONE),
        (NOW + timedelta(seconds=limits.CLOCK_SKEW_S + 1), Reason.FUTURE),
        (NOW - timedelta(seconds=limits.QUOTE_MAX_AGE_S + 1), Reason.STALE),
        (BEGIN - timedelta(seconds=1), Reason.OUT_OF_SESSION),
        (CLOSE - timedelta(days=1), Reason.STALE),
        (datetime(1970, 1, 1, tzinfo=UTC), Reason.OUT_OF_SESSION),
    ],
)
def test_a_time_that_is_not_of_now_is_rejected_by_name(at: datetime, reason: Reason) -> None:
    found = join(quote("100", at=at))
    assert (found.agreed, why(found)) == ({}, {"alpaca": reason})


def test_before_the_open_a_price_of_the_night_is_out_of_session_and_the_last_close_is_not() -> None:
    before = market(BEGIN - timedelta(minutes=10))
    yesterday = CLOSE - timedelta(days=1)
    found = aggregate([quote("100", at=before.now), quote("101", "finnhub", yesterday)], before)
    assert (found.agreed["AAPL"].quote.price_usd, why(found)) == (Decimal(101), {"alpaca": Reason.OUT_OF_SESSION})


def test_after_the_close_its_own_print_counts_and_what_was_traded_later_does_not() -> None:
    evening = market(CLOSE + timedelta(hours=3))
    found = aggregate([quote("100", at=CLOSE + timedelta(seconds=2)), quote("103", "finnhub", evening.now)], evening)
    assert (found.agreed["AAPL"].quote.price_usd, why(found)) == (Decimal(100), {"finnhub": Reason.OUT_OF_SESSION})


@pytest.mark.parametrize("price", ["50.4", "25", "10", "66", "201", "298", "149", "1000"])
def test_a_price_beside_the_last_close_as_a_split_leaves_it_is_rejected_whoever_agrees(price: str) -> None:
    found = join(quote(price), quote(price, "finnhub"), quote(price, "fmp"), close="100")
    assert (found.agreed, set(why(found).values())) == ({}, {Reason.SPLIT})


@pytest.mark.parametrize("price", ["71", "80", "120", "140", "170"])
def test_a_wild_day_is_no_split(price: str) -> None:
    assert join(quote(price), close="100").agreed["AAPL"].quote.price_usd == Decimal(price)


# --- several sources --------------------------------------------------------------------------------------------------


def test_sources_that_agree_give_the_most_trusted_price_with_its_own_time() -> None:
    at = NOW - timedelta(seconds=20)
    found = join(quote("100.4", "finnhub"), quote("100", "alpaca", at), quote("100.2", "fmp"))
    assert found.agreed["AAPL"] == Agreed(quote("100", "alpaca", at), ("alpaca", "finnhub", "fmp"), Basis.MAJORITY)
    assert found.dropped == ()


def test_of_those_that_agree_a_much_fresher_one_gives_the_price() -> None:
    found = join(quote("100", "alpaca", NOW - timedelta(minutes=10)), quote("100.5", "finnhub"))
    assert found.agreed["AAPL"].quote.source == "finnhub"


def test_an_outlier_is_dropped_with_a_reason() -> None:
    found = join(quote("100"), quote("107", "finnhub"), quote("100.1", "fmp"))
    assert (found.agreed["AAPL"].sources, why(found)) == (("alpaca", "fmp"), {"finnhub": Reason.OUTLIER})
    assert "107 is more than 1% from the 100 of 2 sources" in found.dropped[0].words


def test_the_most_trusted_source_does_not_win_against_two_others() -> None:
    found = join(quote("120"), quote("100", "finnhub"), quote("100.1", "yfinance"))
    assert found.agreed["AAPL"].quote.price_usd == 100


def test_two_that_disagree_give_the_preferred_one_only_near_the_last_price() -> None:
    pair = (quote("100"), quote("104", "finnhub"))
    one = join(*pair, last="100.5").agreed["AAPL"]
    assert (one.quote.price_usd, one.basis) == (100, Basis.LAST)
    assert join(*pair, last="104").agreed == {}  # near the other: nobody can tell
    assert join(*pair).agreed == {}
    assert join(*pair).disputed == {"AAPL"}
    assert why(join(*pair)) == {"alpaca": Reason.DISPUTED, "finnhub": Reason.DISPUTED}


def test_a_last_price_of_long_ago_settles_nothing() -> None:
    pair = (quote("100"), quote("104", "finnhub"))
    assert aggregate(pair, market(last="100", age_s=limits.QUOTE_MAX_AGE_S + 1)).agreed == {}


def test_two_against_two_is_no_majority() -> None:
    found = join(quote("100"), quote("100", "finnhub"), quote("110", "fmp"), quote("110", "yfinance"))
    assert (found.agreed, found.disputed) == ({}, {"AAPL"})


def test_one_alone_is_believed_unless_it_jumps() -> None:
    assert join(quote("100")).agreed["AAPL"].basis is Basis.ALONE
    assert join(quote("109"), last="100").agreed["AAPL"].quote.price_usd == 109
    jumped = join(quote("112"), last="100")
    assert (jumped.agreed, jumped.disputed, why(jumped)) == ({}, {"AAPL"}, {"alpaca": Reason.JUMP})
    assert join(quote("112"), quote("112", "finnhub"), last="100").agreed["AAPL"].basis is Basis.MAJORITY


def test_a_source_has_one_voice_however_often_it_speaks() -> None:
    found = join(quote("100"), quote("120", "finnhub", NOW - timedelta(seconds=1)), quote("120.1", "finnhub"))
    assert (found.agreed, sorted(why(found).values())) == ({}, [Reason.DISPUTED, Reason.DISPUTED])
    assert [one.reason for one in found.dropped].count(Reason.OLDER) == 1


def test_one_bad_ticker_does_its_neighbours_no_harm() -> None:
    found = join(quote("NaN"), quote("5", symbol="MSFT"))
    assert set(found.agreed) == {"MSFT"}


def test_without_a_calendar_nothing_is_a_price() -> None:
    assert aggregate([quote("100")], Market(NOW, [])).agreed == {}


# --- whatever comes ---------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.decimals(allow_nan=True, allow_infinity=True),
    st.decimals(90, 110, places=2),
    st.sampled_from(["100", "100.5", "101", "50", "200"]).map(Decimal),
)
times = st.one_of(
    st.integers(-2_000, 200).map(lambda s: NOW + timedelta(seconds=s)),
    st.integers(-60, 60).map(lambda h: NOW + timedelta(hours=h)),
    st.just(NOW.replace(tzinfo=None)),
)


def any_quote(price: Decimal, bid: Decimal | None, source: str, at: datetime) -> Quote:
    return replace(quote("1", source, at), price_usd=price, bid_usd=price if bid is None else bid, ask_usd=price)


sources = st.sampled_from([*ORDER, "stranger"])
quotes = st.lists(st.builds(any_quote, numbers, st.none() | numbers, sources, times), max_size=8)
markets = st.builds(
    market,
    st.sampled_from([NOW, BEGIN - timedelta(hours=1), CLOSE + timedelta(hours=1), NOW + timedelta(days=3)]),
    last=st.none() | st.sampled_from(["100", "101", "95"]),
    close=st.none() | st.sampled_from(["100", "200"]),
)


REFUSED = (Reason.OUTLIER, Reason.DISPUTED, Reason.JUMP)


def near(one: Decimal, other: Decimal) -> bool:
    return max(one, other) <= min(one, other) * BAND


@settings(max_examples=200)
@given(quotes, markets)
def test_an_accepted_price_is_within_the_band_of_a_majority_or_the_only_sound_one_or_near_the_last(
    told: list[Quote], around: Market
) -> None:
    found = aggregate(told, around)
    for one in found.agreed.values():
        price, last = one.quote.price_usd, around.last.get("AAPL")
        sound = {dropped.source for dropped in found.dropped if dropped.reason in REFUSED} | set(one.sources)
        if one.basis is Basis.MAJORITY:
            assert 2 * len(one.sources) > len(sound)
            for source in one.sources:
                mine = [each.price_usd for each in told if each.source == source and each.price_usd.is_finite()]
                assert any(near(each, price) for each in mine)
        elif one.basis is Basis.ALONE:
            assert len(sound) == 1
        else:
            assert last is not None
            assert near(price, last.price_usd)


@settings(max_examples=200)
@given(quotes, markets)
def test_nothing_that_cannot_be_a_price_of_now_gets_through_and_every_quote_is_accounted_for(
    told: list[Quote], around: Market
) -> None:
    found = aggregate(told, around)
    for one in found.agreed.values():
        for value in (one.quote.price_usd, one.quote.bid_usd, one.quote.ask_usd):
            assert value.is_finite()
            assert value > 0
        at = one.quote.at
        assert at.tzinfo is not None
        assert at <= around.now + timedelta(seconds=limits.CLOCK_SKEW_S)
        assert any(begin <= at <= close + timedelta(seconds=limits.CLOSING_PRINT_S) for begin, close in SESSIONS)
        assert any(one.quote is each for each in told)
    used = sum(len(one.sources) for one in found.agreed.values())
    assert used + len(found.dropped) == len(told)


@given(st.permutations(["alpaca", "finnhub", "fmp"]), st.decimals(100, 105, places=1), st.decimals(100, 105, places=1))
def test_the_order_in_which_they_answer_changes_nothing(order: list[str], first: Decimal, second: Decimal) -> None:
    told = {"alpaca": quote("100"), "finnhub": quote(first, "finnhub"), "fmp": quote(second, "fmp")}
    assume(len({Decimal(100), first, second}) == 3)
    one = aggregate([told[source] for source in order], market())
    other = aggregate(told.values(), market())
    assert one.agreed == other.agreed
