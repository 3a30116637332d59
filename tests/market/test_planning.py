"""Who is asked for what: never over a quota, nobody for nothing, the held first; and a whole day of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot.market.pacing import Rate, Rules, Source, open_s
from qbot.market.planning import Pass, Wanted, plan
from qbot.market.plans import ALPACA, COUNTED, FINNHUB, FMP, FREE, MARKETSTACK, ORDER, TWELVEDATA, YFINANCE, Need, Span
from qbot.market.reachable import advice, reachable
from tests.support.market_day import DAY, HELD, TICKERS, Simulated, Vendor, report, sessions_around, simulate, waste

OPEN = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)  # half an hour into a session
NIGHT = datetime(2026, 3, 4, 22, 0, tzinfo=UTC)
SESSIONS = sessions_around(DAY)
SESSION = next(session for session in SESSIONS if session[0].date() == DAY.date())
ALL = tuple(Source(each) for each in FREE.values())


def prices(*wanted: Wanted) -> dict[Need, list[Wanted]]:
    return {Need.PRICE: list(wanted)}


def asked(found: Pass, need: Need = Need.PRICE) -> dict[str, list[str]]:
    """Which symbols each source is asked for."""
    by_source: dict[str, list[str]] = {}
    for ask in found.asks:
        if ask.need is need:
            by_source.setdefault(ask.source, []).extend(ask.symbols)
    return by_source


def many(count: int, minutes_old: float = 5.0, now: datetime = OPEN) -> list[Wanted]:
    return [Wanted(f"T{number:03d}", got_at=now - timedelta(minutes=minutes_old)) for number in range(count)]


# --- a pass -----------------------------------------------------------------------------------------------------------


def test_one_request_asks_the_first_source_for_all_and_a_second_confirms() -> None:
    found = plan(prices(*many(3)), ALL, OPEN, SESSIONS)
    assert asked(found) == {"alpaca": ["T000", "T001", "T002"], "finnhub": ["T000", "T001", "T002"]}
    assert [len(ask.symbols) for ask in found.asks] == [3, 1, 1, 1]
    assert found.unmet == ()


def test_the_order_is_what_the_owner_says() -> None:
    found = plan(prices(*many(2)), ALL, OPEN, SESSIONS, Rules(order=("yfinance", "alpaca"), opinions=1))
    assert asked(found) == {"yfinance": ["T000", "T001"]}


def test_a_source_of_closing_prices_is_never_asked_for_a_live_one() -> None:
    wanted = many(3)
    found = plan(prices(*wanted), (Source(MARKETSTACK),), OPEN, SESSIONS)
    assert found.asks == ()
    assert {(one.symbol, one.why) for one in found.unmet} == {
        (one.symbol, "no source at hand has it") for one in wanted
    }


def test_out_of_hours_nobody_is_asked_for_a_price_and_the_close_is_asked_for_once() -> None:
    old = Wanted("AAPL", got_at=SESSION[1] - timedelta(minutes=1))
    everything = {need: [old] for need in Need}
    found = plan(everything, ALL, NIGHT, SESSIONS)
    assert {ask.need for ask in found.asks} == {Need.CLOSE, Need.BARS, Need.NEWS}
    since = replace(old, got_at=SESSION[1] + timedelta(minutes=1))
    assert {ask.need for ask in plan({need: [since] for need in Need}, ALL, NIGHT, SESSIONS).asks} == {Need.NEWS}


def test_the_held_come_first_and_then_the_oldest() -> None:
    few = (Source(TWELVEDATA),)
    wanted = [
        *many(30),
        Wanted("OLD", got_at=OPEN - timedelta(hours=1)),
        Wanted("HELD", True, OPEN - timedelta(minutes=5)),
    ]
    assert asked(plan(prices(*wanted), few, OPEN, SESSIONS))["twelvedata"][:2] == ["HELD", "OLD"]


def test_a_ticker_just_asked_for_is_not_asked_for_again() -> None:
    fresh = Wanted("AAPL", got_at=OPEN - timedelta(seconds=30))
    assert plan(prices(fresh), ALL, OPEN, SESSIONS).asks == ()


def test_within_a_pass_others_are_asked_for_what_did_not_come_and_nobody_twice() -> None:
    wanted = many(2)
    first = plan(prices(*wanted), ALL, OPEN, SESSIONS, Rules(opinions=1))
    later = OPEN + timedelta(minutes=3)
    came = replace(wanted[0], got_at=OPEN + timedelta(seconds=2))
    second = plan(prices(came, wanted[1]), ALL, later, SESSIONS, Rules(opinions=1), first)
    assert (asked(first), asked(second)) == ({"alpaca": ["T000", "T001"]}, {"finnhub": ["T001"]})


def test_a_dispute_is_settled_by_a_third_source_also_when_its_calls_are_counted() -> None:
    sources = tuple(Source(each) for each in (ALPACA, FINNHUB, FMP))
    wanted = many(2)
    first = plan(prices(*wanted), sources, OPEN, SESSIONS)
    got = [replace(one, got_at=OPEN + timedelta(seconds=5)) for one in wanted]
    second = plan(prices(replace(got[0], disputed=True), got[1]), sources, OPEN, SESSIONS, earlier=first)
    assert asked(second) == {"fmp": ["T000"]}


def test_few_second_opinions_go_to_a_dispute_and_then_to_what_was_compared_longest_ago() -> None:
    """FMP's 250 calls are three or four a pass."""
    wanted = [replace(one, confirmed_at=OPEN - timedelta(minutes=n)) for n, one in enumerate(many(20))]
    wanted[5] = replace(wanted[5], disputed=True)
    second = asked(plan(prices(*wanted), (Source(ALPACA), Source(FMP)), OPEN, SESSIONS))["fmp"]
    assert 2 <= len(second) <= 4
    assert second == ["T005", "T019", "T018", "T017"][: len(second)]


def test_calls_that_are_used_up_for_the_day_are_kept_while_others_can_confirm() -> None:
    found = plan(prices(*many(5)), tuple(Source(each) for each in (ALPACA, TWELVEDATA, FMP, YFINANCE)), OPEN, SESSIONS)
    assert set(asked(found)) == {"alpaca", "yfinance"}


@pytest.mark.parametrize("need", Need)
@pytest.mark.parametrize("now", [OPEN, NIGHT])
def test_what_a_clock_noted_that_ran_ahead_is_as_if_it_had_never_come(need: Need, now: datetime) -> None:
    def asks(ahead: timedelta | None) -> list[tuple[str, Need, tuple[str, ...]]]:
        at = None if ahead is None else now + ahead
        wanted = {need: [Wanted("A", got_at=at, confirmed_at=at)]}
        return [(ask.source, ask.need, ask.symbols) for ask in plan(wanted, ALL, now, SESSIONS).asks]

    assert asks(timedelta(days=1)) == asks(timedelta(seconds=61)) == asks(None)
    assert asks(timedelta(seconds=60)) == []  # clocks differ


def test_who_seems_to_be_compared_in_a_time_to_come_is_not_the_last_to_be_compared() -> None:
    rules, sources = Rules(opinions=2), tuple(Source(each) for each in (ALPACA, FMP))
    ahead = Wanted("Z", got_at=OPEN - timedelta(minutes=5), confirmed_at=OPEN + timedelta(days=1))
    others = [replace(one, confirmed_at=one.got_at) for one in many(3)]
    assert asked(plan(prices(*others, ahead), sources, OPEN, SESSIONS, rules))["fmp"][0] == "Z"


def test_a_request_for_bars_brings_the_price_with_it() -> None:
    wanted = many(4)
    found = plan({Need.PRICE: wanted, Need.BARS: wanted}, (Source(YFINANCE),), OPEN, SESSIONS)
    assert asked(found) == {}
    assert [(ask.symbols, ask.brings) for ask in found.asks] == [((one.symbol,), {Need.PRICE}) for one in wanted]


def test_a_price_that_is_on_its_way_is_not_brought_a_second_time_with_the_bars() -> None:
    wanted, rules = many(2), Rules(opinions=1)
    first = plan({Need.PRICE: wanted[:1]}, (Source(YFINANCE),), OPEN, SESSIONS, rules)
    then = plan({Need.BARS: wanted}, (Source(YFINANCE),), OPEN, SESSIONS, rules, first)
    assert asked(first) == {"yfinance": ["T000"]}
    assert [(ask.symbols, ask.brings) for ask in then.asks] == [(("T000",), set()), (("T001",), {Need.PRICE})]


def test_a_source_that_is_closed_or_refuses_a_symbol_is_left_out() -> None:
    sources = (Source(ALPACA, closed="its key is refused"), Source(FINNHUB, refuses=frozenset({"T000"})))
    found = plan(prices(*many(2)), sources, OPEN, SESSIONS)
    assert asked(found) == {"finnhub": ["T001"]}
    assert [(one.symbol, one.why) for one in found.unmet] == [("T000", "no source that can be asked knows it")]
    closed = plan(prices(*many(1)), sources[:1], OPEN, SESSIONS)
    assert (closed.asks, closed.unmet[0].why) == ((), "alpaca: its key is refused")


def test_a_used_up_quota_is_not_asked_and_the_next_source_is() -> None:
    used = Source(TWELVEDATA, {Span.DAY: 800})
    found = plan(prices(*many(5)), (used, Source(FMP)), OPEN, SESSIONS)
    assert set(asked(found)) == {"fmp"}


def test_news_leave_the_day_s_quota_to_the_prices_of_the_session_to_come() -> None:
    before = datetime(2026, 3, 4, 5, 0, tzinfo=UTC)
    found = plan({Need.CLOSE: [Wanted(one) for one in TICKERS]}, (Source(TWELVEDATA),), before, SESSIONS)
    assert sum(len(ask.symbols) for ask in found.asks) <= 800 * 0.1 / ((24 - 5) * 12) + 1


def test_a_full_pass_over_many_tickers_takes_as_few_requests_as_it_can() -> None:
    found = plan(prices(*many(500)), (Source(ALPACA),), OPEN, SESSIONS)
    assert [len(ask.symbols) for ask in found.asks] == [200, 200, 100]


# --- pacing -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 2_000), st.integers(1, 300))
def test_what_passes_take_one_by_one_adds_up_to_what_is_left(left: int, passes: int) -> None:
    taken = sum(Rate(left / passes, number, left).now for number in range(passes))
    assert left - 1 <= taken <= left


def test_open_hours_are_counted_over_weekends() -> None:
    friday_noon = datetime(2026, 3, 6, 17, tzinfo=UTC)
    assert open_s(SESSIONS, friday_noon, friday_noon + timedelta(days=3)) == (4 + 2.5 + 1) * 3_600  # summer time begins


# --- whatever the state -----------------------------------------------------------------------------------------------

wanted_lists = st.lists(
    st.builds(
        Wanted,
        symbol=st.sampled_from([f"S{number}" for number in range(40)]),
        urgent=st.booleans(),
        got_at=st.none() | st.integers(0, 400).map(lambda m: OPEN - timedelta(minutes=m)),
        confirmed_at=st.none() | st.integers(0, 400).map(lambda m: OPEN - timedelta(minutes=m)),
        disputed=st.booleans(),
    ),
    unique_by=lambda one: one.symbol,
    max_size=40,
)
sources_at_hand = st.lists(
    st.builds(
        lambda each, share, closed, refuses: Source(
            each,
            {limit.span: round(limit.amount * share) for limit in each.limits if limit.span in COUNTED},
            "closed" if closed else None,
            refuses,
        ),
        st.sampled_from(list(FREE.values())),
        st.floats(0, 1.1),
        st.integers(0, 9).map(lambda n: n == 0),
        st.frozensets(st.sampled_from([f"S{number}" for number in range(40)]), max_size=5),
    ),
    unique_by=lambda source: source.plan.source,
    max_size=6,
)
moments = st.integers(0, 7 * 24 * 60).map(lambda m: DAY + timedelta(minutes=m))


@given(st.fixed_dictionaries(dict.fromkeys(Need, wanted_lists)), sources_at_hand, moments, st.integers(1, 4))
def test_no_pass_goes_over_a_quota_or_asks_for_nothing(
    wanted: dict[Need, list[Wanted]], sources: list[Source], now: datetime, opinions: int
) -> None:
    rules = Rules(opinions=opinions)
    found = plan(wanted, sources, now, SESSIONS, rules)
    for source in sources:
        mine = [ask for ask in found.asks if ask.source == source.plan.source]
        assert not (mine and source.closed)
        assert not source.refuses & {symbol for ask in mine for symbol in ask.symbols}
        for limit in source.plan.limits:
            if limit.span in COUNTED:
                assert found.units(source.plan, limit) <= max(0, limit.amount - source.used[limit.span])
            else:
                busy = {Span.SECOND: 240, Span.MINUTE: 4}[limit.span]
                assert found.units(source.plan, limit) <= limit.amount * busy
    disputed = {one.symbol for one in wanted[Need.PRICE] if one.disputed}
    vendors = {source.plan.source: Vendor(source.plan) for source in sources}
    said = waste(found, vendors, now, SESSIONS, replace(rules, opinions=opinions + 1) if disputed else rules)
    assert said == []


@given(wanted_lists, sources_at_hand)
def test_no_ticker_is_served_while_a_held_one_goes_without_that_the_same_source_has(
    wanted: list[Wanted], sources: list[Source]
) -> None:
    found = plan({Need.PRICE: wanted}, sources, OPEN, SESSIONS)
    urgent = {one.symbol for one in wanted if one.urgent}
    for one in (each for each in found.unmet if each.symbol in urgent):
        for source in sources:
            served = asked(found).get(source.plan.source, [])
            assert one.symbol in source.refuses or set(served) <= urgent


@given(wanted_lists, sources_at_hand, st.integers(0, 240))
def test_a_second_plan_of_a_pass_asks_nobody_again(wanted: list[Wanted], sources: list[Source], after_s: int) -> None:
    first = plan({Need.PRICE: wanted}, sources, OPEN, SESSIONS)
    second = plan({Need.PRICE: wanted}, sources, OPEN + timedelta(seconds=after_s), SESSIONS, earlier=first)
    both = Counter((ask.source, symbol) for ask in (*first.asks, *second.asks) for symbol in ask.symbols)
    assert not both or max(both.values()) == 1


# --- a trading day ----------------------------------------------------------------------------------------------------

CASES = {"all keys": ORDER} | {f"without {gone}": tuple(name for name in ORDER if name != gone) for gone in ORDER}
START = DAY + timedelta(hours=14)


def sound(day: Simulated) -> None:
    assert {name: vendor.refused for name, vendor in day.vendors.items() if vendor.refused} == {}
    assert day.wasted == []
    assert day.late == []


@pytest.mark.parametrize("name", CASES)
def test_a_day_of_100_tickers_on_free_plans(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    day = simulate(CASES[name], start=START, hours=8)
    with capsys.disabled():
        print(f"\n{name}\n{report(day, SESSION)}")
    sound(day)
    for symbol in TICKERS:
        assert (day.minutes(Need.PRICE, symbol, SESSION) or 99) <= 5.5
        assert (day.minutes(Need.BARS, symbol, SESSION) or 99) <= 9  # early in one pass and late in the next
        assert day.compared[symbol] >= day.live_passes - 1  # a second source agreed each time


def test_without_any_key_yahoo_alone_keeps_100_tickers_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    day = simulate(("yfinance",), start=START, hours=8)
    with capsys.disabled():
        print(f"\nyfinance alone\n{report(day, SESSION)}")
    sound(day)
    assert max(day.minutes(Need.PRICE, symbol, SESSION) or 99 for symbol in TICKERS) <= 5.5


def test_two_days_on_counted_calls_alone_use_them_up_evenly_and_never_more(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be is said beforehand, and is what the days then bring."""
    names = ("twelvedata", "fmp", "marketstack")
    day = simulate(names, hours=48)
    with capsys.disabled():
        print(f"\ncounted calls alone, two days\n{report(day, SESSION)}")
    sound(day)
    twelve, fmp = day.vendors["twelvedata"], day.vendors["fmp"]
    assert all(count >= 780 for (span, _), count in twelve.counted.items() if span is Span.DAY)
    assert max(fmp.counted.values()) >= 240
    held = [day.minutes(Need.PRICE, symbol, SESSION) or 999 for symbol in HELD]
    others = [day.minutes(Need.PRICE, symbol, SESSION) or 999 for symbol in TICKERS if symbol not in HELD]
    said = reachable([Wanted(one, one in HELD) for one in TICKERS], [Source(FREE[one]) for one in names], DAY, SESSIONS)
    assert max(held) <= said[0].minutes + 0.5
    assert said[1].minutes == pytest.approx(median(others), rel=0.1)


def test_the_held_are_fresh_to_the_end_of_the_day_on_250_calls() -> None:
    day = simulate(("fmp",), (Need.PRICE,), held=TICKERS[:3], start=START, hours=7)
    sound(day)
    assert max(day.minutes(Need.PRICE, symbol, SESSION) or 99 for symbol in TICKERS[:3]) <= 10.5


def test_whoever_buys_in_the_afternoon_still_finds_calls_for_it() -> None:
    """The reserve, and the even pace: 40 tickers until 18:00, and then three of them are held."""
    morning = simulate(("fmp",), (Need.PRICE,), tickers=TICKERS[:40], held=(), start=START, hours=4)
    left = 250 - morning.vendors["fmp"].counted.total()
    assert 100 <= left <= 160
    found = plan(
        prices(*(Wanted(one, True, START) for one in TICKERS[:3])), [Source(FMP, {Span.DAY: 250 - left})],
        START + timedelta(hours=4), SESSIONS,
    )  # fmt: skip
    assert asked(found) == {"fmp": list(TICKERS[:3])}


# --- what is said beforehand ------------------------------------------------------------------------------------------


def groups(count: int, *names: str, held: int = 0, now: datetime = OPEN) -> list[tuple[bool, float | None]]:
    wanted = [Wanted(f"T{number}", number < held) for number in range(count)]
    found = reachable(wanted, [Source(FREE[name]) for name in names], now, SESSIONS)
    return [(group.urgent, None if group.minutes is None else round(group.minutes)) for group in found]


def test_where_calls_suffice_every_ticker_has_a_price_each_pass() -> None:
    assert groups(100, *ORDER, held=5) == [(True, 5), (False, 5)]


def test_where_they_do_not_the_held_have_theirs_and_the_others_wait() -> None:
    assert groups(100, "twelvedata", held=5, now=DAY) == [(True, 5), (False, 144)]


def test_a_source_of_closing_prices_reaches_nothing() -> None:
    assert groups(10, "marketstack") == [(False, None)]


def test_at_night_the_quota_of_the_next_day_is_what_counts() -> None:
    sources = [Source(TWELVEDATA, {Span.DAY: 800})]
    wanted = [Wanted(f"T{number}") for number in range(8)]
    assert reachable(wanted, sources, OPEN, SESSIONS)[0].minutes is None
    assert reachable(wanted, sources, NIGHT, SESSIONS)[0].minutes == pytest.approx(5)


def test_it_is_said_plainly_what_is_not_possible_and_what_would_help() -> None:
    wanted, sources = [Wanted(f"T{number}") for number in range(100)], [Source(TWELVEDATA), Source(MARKETSTACK)]
    found = reachable(wanted, sources, DAY, SESSIONS)
    said = "\n".join(advice(found, wanted, sources, DAY, SESSIONS))
    for words in (
        "marketstack: End of day only",
        "Only twelvedata has live prices here: nobody contradicts it",
        "The 100 tickers cannot stay fresh: twelvedata allows 8.3 of them a pass",
        "Up to 24 of them would stay fresh",
        "With a free key of finnhub every ticker would have a price every 5 minutes.",
    ):
        assert words in said
    assert "free key of fmp" not in said  # it would not suffice
    assert advice(reachable(wanted, ALL[:2], DAY, SESSIONS), wanted, ALL[:2], DAY, SESSIONS) == []
