"""What an adapter asks, what it makes of the answers, and what one symbol may cost the others: nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import pytest

from qbot.market.asking import in_batches
from qbot.market.finnhub import Finnhub
from qbot.market.fmp import Fmp
from qbot.market.marketstack import Marketstack
from qbot.market.provider import Answer, Fault, ProviderError
from qbot.market.reply import Reply, retry_after_s
from qbot.market.twelvedata import TwelveData
from tests.market.fakes import NOW, OVER_HTTP, Source, reply, sample
from tests.market.test_classify import (
    FINNHUB_LIMIT,
    FMP_PREMIUM,
    FMP_RESTRICTED,
    TWELVE_DAY,
    TWELVE_EMPTY,
    TWELVE_MINUTE,
    TWELVE_PLAN,
    TWELVE_SYMBOL,
    stack,
    twelve,
)  # fmt: skip

UNIX = 1_764_255_000
START, END = datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 15, 0, tzinfo=UTC)
AUTH, PLAN, MINUTE, QUOTA = Fault.AUTH, Fault.PLAN, Fault.MINUTE_LIMIT, Fault.QUOTA
UNKNOWN, NO_DATA, TRANSIENT = Fault.UNKNOWN_SYMBOL, Fault.NO_DATA, Fault.TRANSIENT


def finnhub_row(price: object = 100.5) -> dict[str, Any]:
    return {"c": price, "d": 1, "dp": 1, "h": 101, "l": 99, "o": 100, "pc": 99.5, "t": UNIX}


def twelve_row(symbol: str, price: object = "100.50") -> dict[str, Any]:
    return {"symbol": symbol, "currency": "USD", "close": price, "timestamp": UNIX, "last_quote_at": UNIX}


def fmp_row(symbol: str, price: object = 100.5) -> list[dict[str, Any]]:
    return [{"symbol": symbol, "price": price, "timestamp": UNIX}]


def stack_row(symbol: str, price: object = 100.5) -> dict[str, Any]:
    return {"symbol": symbol, "close": price, "date": "2026-11-26T00:00:00+0000"}


def by_symbol(answers: Mapping[str, Reply]) -> Source:
    """A source that is asked for one symbol at a time."""
    return Source(lambda _path, query: answers[query["symbol"]])


def twelve_data(bodies: Mapping[str, Any], **headers: str) -> Source:
    """Twelve Data: a batch is keyed, a single symbol is not."""

    def answer(_path: str, query: Mapping[str, str]) -> Reply:
        symbols = query["symbol"].split(",")
        if len(symbols) == 1:
            return reply(bodies[symbols[0]], **headers)
        return reply({symbol: bodies[symbol] for symbol in symbols if symbol in bodies}, **headers)

    return Source(answer)


# --- how many requests -----------------------------------------------------------------------------------------------


def test_twelve_data_is_asked_for_eight_symbols_at_a_time_and_a_symbol_is_a_credit() -> None:
    symbols = [f"S{number}" for number in range(20)]
    source = twelve_data({symbol: twelve_row(symbol) for symbol in symbols})
    answer = TwelveData(source).quotes(symbols, NOW)
    assert [len(asked.split(",")) for asked in source.symbols()] == [8, 8, 4]
    assert (set(answer.quotes), answer.missing, answer.failed) == (set(symbols), {}, None)
    assert (answer.credits, source.cost) == (20, 20)


def test_marketstack_is_asked_for_a_hundred_symbols_at_a_time_and_each_counts() -> None:
    symbols = [f"S{number}" for number in range(130)]

    def answer(_path: str, query: Mapping[str, str]) -> Reply:
        return reply({"data": [stack_row(symbol) for symbol in query["symbols"].split(",")]})

    source = Source(answer)
    found = Marketstack(source).quotes(symbols, NOW)
    assert [len(asked.split(",")) for asked in source.symbols()] == [100, 30]
    assert source.asked[0][0] == "/eod/latest"
    assert (len(found.quotes), found.credits) == (130, 130)


@pytest.mark.parametrize(("make", "row"), [(Finnhub, lambda _symbol: finnhub_row()), (Fmp, fmp_row)])
def test_who_has_no_batches_is_asked_once_a_symbol(make: Callable[[Source], Any], row: Callable[[str], Any]) -> None:
    source = by_symbol({symbol: reply(row(symbol)) for symbol in "ABC"})
    answer = make(source).quotes(["A", "B", "A", "C"], NOW)
    assert source.symbols() == ["A", "B", "C"]
    assert (set(answer.quotes), answer.missing, answer.credits) == (set("ABC"), {}, 3)


@pytest.mark.parametrize("name", OVER_HTTP)
def test_nothing_is_asked_for_no_symbol_and_for_none_that_cannot_be_one(name: str) -> None:
    source = Source(reply({}))
    adapter = OVER_HTTP[name](source)
    assert adapter.quotes([], NOW) == Answer({}, credits=0)
    for symbol in ("A,B", "a", "", "A&token=1", "../A", "A B", "A" * 13, "1A"):
        assert adapter.quotes([symbol], NOW) == Answer({}, {symbol: UNKNOWN}, credits=0)
    assert source.asked == []


# --- one bad symbol costs no other -----------------------------------------------------------------------------------

BAD: list[tuple[str, str, Any, Fault]] = [
    ("finnhub", "unknown", reply(sample("finnhub_quote_unknown_symbol_HTTP200")), UNKNOWN),
    ("finnhub", "premium", reply(sample("finnhub_error_403")["body"], 403), PLAN),
    ("finnhub", "NaN", reply('{"c": NaN, "pc": 1, "t": 1764255000}'), NO_DATA),
    ("finnhub", "zero", reply(finnhub_row(0)), NO_DATA),
    ("finnhub", "no time", reply({"c": 5, "pc": 5, "t": 0}), NO_DATA),
    ("finnhub", "garbage", reply("\x00\x01"), TRANSIENT),
    ("finnhub", "a list", reply([1]), NO_DATA),
    ("fmp", "unknown", reply([]), UNKNOWN),
    ("fmp", "premium", reply(FMP_PREMIUM, 402), PLAN),
    ("fmp", "negative", reply(fmp_row("BAD", -1)), NO_DATA),
    ("fmp", "another symbol", reply(fmp_row("OTHER")), NO_DATA),
    ("fmp", "a page", reply("<html></html>", 502), TRANSIENT),
    ("twelvedata", "unknown", twelve(404, TWELVE_SYMBOL), UNKNOWN),
    ("twelvedata", "premium", twelve(404, TWELVE_PLAN), PLAN),
    ("twelvedata", "null", twelve_row("BAD", None), NO_DATA),
    ("twelvedata", "NaN as text", twelve_row("BAD", "NaN"), NO_DATA),
    ("twelvedata", "euros", twelve_row("BAD") | {"currency": "EUR"}, NO_DATA),
    ("twelvedata", "no object", 5, NO_DATA),
    ("marketstack", "null", stack_row("BAD", None), NO_DATA),
    ("marketstack", "no date", {"symbol": "BAD", "close": 5}, NO_DATA),
    ("marketstack", "unknown", None, UNKNOWN),
]


@pytest.mark.parametrize(
    ("name", "body", "fault"),
    [pytest.param(name, body, fault, id=f"{name}: {case}") for name, case, body, fault in BAD],
)
def test_one_bad_symbol_costs_no_other(name: str, body: Any, fault: Fault) -> None:
    if name == "marketstack":
        rows = [stack_row("A"), *([body] if body else []), stack_row("Z")]
        source = Source(reply({"data": rows}))
    elif name == "twelvedata":
        source = twelve_data({"A": twelve_row("A"), "BAD": body, "Z": twelve_row("Z")})
    else:
        row: Callable[[str], Any] = fmp_row if name == "fmp" else lambda _symbol: finnhub_row()
        source = by_symbol({"A": reply(row("A")), "BAD": body, "Z": reply(row("Z"))})
    answer = OVER_HTTP[name](source).quotes(["A", "BAD", "Z"], NOW)
    assert set(answer.quotes) == {"A", "Z"}
    assert answer.missing == {"BAD": fault}
    assert answer.failed is None
    assert (answer.credits, source.cost) == (3, 3)


def test_a_batch_that_twelve_data_refuses_as_a_whole_is_asked_for_one_by_one() -> None:
    def answer(_path: str, query: Mapping[str, str]) -> Reply:
        symbols = query["symbol"].split(",")
        return reply(twelve(404, TWELVE_SYMBOL), 404) if "BAD" in symbols else reply(twelve_row(symbols[0]))

    source = Source(answer)
    found = TwelveData(source).quotes(["A", "BAD", "C"], NOW)
    assert source.symbols() == ["A,BAD,C", "A", "BAD", "C"]
    assert (set(found.quotes), found.missing) == ({"A", "C"}, {"BAD": UNKNOWN})
    assert found.credits == 3  # what it refuses as a whole is not charged


@pytest.mark.parametrize("name", OVER_HTTP)
def test_a_source_that_knows_none_of_the_symbols_is_well(name: str) -> None:
    none = {
        "finnhub": sample("finnhub_quote_unknown_symbol_HTTP200"), "fmp": [], "marketstack": {"data": []},
        "twelvedata": twelve(404, TWELVE_SYMBOL),
    }  # fmt: skip
    answer = OVER_HTTP[name](Source(reply(none[name]))).quotes(["ZZZZ"], NOW)
    assert (answer.quotes, answer.missing, answer.failed) == ({}, {"ZZZZ": UNKNOWN}, None)
    assert answer.credits == 1


# --- when the source itself fails ------------------------------------------------------------------------------------

ILL: list[tuple[str, Any, int, Fault]] = [
    ("finnhub", {"error": "Invalid API key."}, 401, AUTH),
    ("finnhub", {"error": FINNHUB_LIMIT}, 429, MINUTE),
    ("twelvedata", twelve(401, "**apikey** parameter is incorrect"), 200, AUTH),
    ("twelvedata", twelve(429, TWELVE_MINUTE), 200, MINUTE),
    ("twelvedata", twelve(429, TWELVE_DAY), 429, QUOTA),
    ("fmp", {"Error Message": "Invalid API KEY."}, 401, AUTH),
    ("fmp", {"Error Message": "Limit Reach . Please upgrade"}, 429, QUOTA),
    ("fmp", FMP_RESTRICTED, 402, PLAN),
    ("marketstack", stack("invalid_access_key"), 401, AUTH),
    ("marketstack", stack("too_many_requests"), 429, QUOTA),
    ("marketstack", stack("function_access_restricted"), 403, PLAN),
]


@pytest.mark.parametrize(("name", "body", "status", "fault"), ILL)
def test_a_source_that_refuses_is_asked_no_second_time(name: str, body: Any, status: int, fault: Fault) -> None:
    source = Source(reply(body, status))
    with pytest.raises(ProviderError) as raised:
        OVER_HTTP[name](source).quotes([f"S{number}" for number in range(250)], NOW)
    assert (raised.value.fault, raised.value.provider) == (fault, name)
    assert len(source.asked) == 1


def test_what_came_before_a_limit_is_kept_and_the_rest_is_told_of() -> None:
    source = by_symbol({"A": reply(finnhub_row()), "B": reply({"error": FINNHUB_LIMIT}, 429, retry_after="17")})
    answer = Finnhub(source).quotes(["A", "B", "C"], NOW)
    assert source.symbols() == ["A", "B"]
    assert set(answer.quotes) == {"A"}
    assert answer.missing == {"B": MINUTE, "C": MINUTE}
    assert answer.failed is not None
    assert (answer.failed.fault, answer.failed.retry_after_s) == (MINUTE, 17.0)
    assert answer.credits == 2


def test_a_limit_that_comes_up_within_a_batch_ends_it() -> None:
    bodies = {symbol: twelve_row(symbol) for symbol in "ABCDEFGHIJ"} | {"C": twelve(429, TWELVE_MINUTE)}
    source = twelve_data(bodies)
    answer = TwelveData(source).quotes(list("ABCDEFGHIJ"), NOW)
    assert len(source.asked) == 1
    assert set(answer.quotes) == set("ABDEFGH")
    assert answer.missing == {"C": MINUTE, "I": MINUTE, "J": MINUTE}
    assert answer.failed is not None
    assert answer.failed.fault is MINUTE


def test_two_requests_in_a_row_without_a_usable_answer_are_enough() -> None:
    page = reply("<html>", 502)
    source = by_symbol({"A": reply(finnhub_row()), "B": page, "C": reply(finnhub_row()), "D": page, "E": page})
    answer = Finnhub(source).quotes(list("ABCDEF"), NOW)
    assert source.symbols() == list("ABCDE")
    assert set(answer.quotes) == {"A", "C"}
    assert answer.missing == dict.fromkeys("BDEF", TRANSIENT)
    assert answer.failed is not None
    silent = Source(page)
    with pytest.raises(ProviderError, match="HTTP 502: a web page"):
        Finnhub(silent).quotes(list("ABCDEF"), NOW)
    assert len(silent.asked) == 2


def test_an_answer_that_cannot_be_read_is_transient_and_names_no_content() -> None:
    def ask(_batch: Sequence[str]) -> Answer:
        raise KeyError("secret")

    with pytest.raises(ProviderError) as raised:
        in_batches("x", ["A"], 1, ask)
    assert (raised.value.fault, raised.value.credits) == (TRANSIENT, 1)
    assert "secret" not in str(raised.value)


def test_an_answer_about_other_symbols_is_not_taken() -> None:
    quote = Finnhub(by_symbol({"A": reply(finnhub_row())})).quotes(["A"], NOW).quotes["A"]
    answer = in_batches("x", ["B"], 1, lambda _batch: Answer({"A": quote}))
    assert (answer.quotes, answer.missing) == ({}, {"B": NO_DATA})


# --- how long to wait ------------------------------------------------------------------------------------------------

DATE = "Fri, 27 Nov 2026 15:00:42 GMT"


@pytest.mark.parametrize(("headers", "seconds"), [
    ({"retry_after": "30"}, 30.0), ({"retry_after": "Fri, 27 Nov 2026 15:01:00 GMT", "date": DATE}, 18.0),
    ({"x_ratelimit_reset": "1795791660", "date": DATE}, 18.0), ({"x_ratelimit_reset": "1795791660"}, None),
    ({"retry_after": "-5"}, None), ({"retry_after": "soon"}, None), ({"retry_after": "1e9"}, None), ({}, None),
    ({"retry_after": "Fri, 99 Nov 2026 15:01:00 GMT", "date": DATE}, None), ({"retry_after": "NaN"}, None),
])  # fmt: skip
def test_the_wait_is_what_the_source_says_by_its_own_clock(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(reply({"error": FINNHUB_LIMIT}, 429, **headers)) == seconds


@pytest.mark.parametrize(("headers", "seconds"), [({"date": DATE}, 18.0), ({}, 60.0), ({"retry_after": "5"}, 5.0)])
def test_twelve_data_s_minute_ends_by_its_own_clock(headers: dict[str, str], seconds: float) -> None:
    with pytest.raises(ProviderError) as raised:
        TwelveData(Source(reply(twelve(429, TWELVE_MINUTE), 200, **headers))).quotes(["A"], NOW)
    assert raised.value.retry_after_s == seconds


def test_a_quota_has_no_wait_of_its_own() -> None:
    with pytest.raises(ProviderError) as raised:
        TwelveData(Source(reply(twelve(429, TWELVE_DAY), 200, date=DATE))).quotes(["A"], NOW)
    assert raised.value.retry_after_s is None


# --- bars ------------------------------------------------------------------------------------------------------------


def series(*times: str) -> dict[str, Any]:
    values = [{"datetime": f"2026-11-27 {time}:00", "open": "1", "high": "2", "low": "0.5", "close": "1.5",
               "volume": "7"} for time in times]  # fmt: skip
    return {"meta": {"currency": "USD", "exchange_timezone": "America/New_York"}, "values": values, "status": "ok"}


def test_bars_are_asked_for_in_utc_and_split_adjusted() -> None:
    source = twelve_data({"A": series("14:55", "14:30", "14:25"), "B": series("14:35")})
    frame = TwelveData(source).bars(["A", "B"], START, END)
    (path, query), *others = source.asked
    assert (path, others) == ("/time_series", [])
    assert query == {
        "symbol": "A,B", "interval": "5min", "timezone": "UTC", "order": "asc", "outputsize": "5000",
        "adjust": "splits", "start_date": "2026-11-27 14:30:00", "end_date": "2026-11-27 15:00:00",
    }  # fmt: skip
    assert [(row.symbol, f"{row.ts:%H:%M}") for row in frame.itertuples()] == [
        ("A", "14:30"), ("A", "14:55"), ("B", "14:35"),
    ]  # fmt: skip


def test_a_symbol_without_bars_costs_no_other_its_bars() -> None:
    source = twelve_data({"A": series("14:30"), "BAD": twelve(404, TWELVE_SYMBOL), "C": twelve(400, TWELVE_EMPTY)})
    assert TwelveData(source).bars(["A", "BAD", "C"], START, END)["symbol"].tolist() == ["A"]
    alone = TwelveData(twelve_data({"C": twelve(400, TWELVE_EMPTY)})).bars(["C"], START, END)
    assert (len(alone), list(alone.columns)) == (0, ["symbol", "ts", "open", "high", "low", "close", "volume"])
    assert str(alone["ts"].dtype) == "datetime64[ns, UTC]"


def test_a_limit_leaves_nobody_without_a_word_and_the_bars_that_came_before_go_with_it() -> None:
    symbols = [f"S{number}" for number in range(20)]
    limit = reply(twelve(429, TWELVE_MINUTE))
    first = reply({symbol: series("14:30") for symbol in symbols[:8]})
    source = Source(lambda _path, query: first if query["symbol"].startswith("S0,") else limit)
    with pytest.raises(ProviderError) as raised:
        TwelveData(source).bars(symbols, START, END)
    error = raised.value
    assert error.bars is not None
    assert (error.fault, error.bars["symbol"].tolist(), error.credits) == (MINUTE, symbols[:8], 8)
    assert len(source.asked) == 2
    refusing = Source(limit)
    with pytest.raises(ProviderError) as raised:
        TwelveData(refusing).bars(symbols, START, END)
    assert (raised.value.fault, len(refusing.asked)) == (MINUTE, 1)


@pytest.mark.parametrize(("ill", "fault"), [
    (twelve(429, TWELVE_MINUTE), MINUTE), (twelve(429, TWELVE_DAY), QUOTA), (twelve(500, "?"), TRANSIENT),
    (twelve(401, "?"), AUTH), ({}, TRANSIENT), ({"status": "ok"}, TRANSIENT), (None, TRANSIENT),
])  # fmt: skip
def test_what_one_symbol_of_a_batch_has_against_the_source_is_not_that_it_has_no_bars(ill: Any, fault: Fault) -> None:
    source = twelve_data({"A": series("14:30"), "ILL": ill, "BAD": twelve(404, TWELVE_SYMBOL), "C": series("14:35")})
    with pytest.raises(ProviderError) as raised:
        TwelveData(source).bars(["A", "ILL", "BAD", "C"], START, END)
    error = raised.value
    assert error.bars is not None
    assert (error.fault, error.bars["symbol"].tolist(), error.credits) == (fault, ["A", "C"], 4)
    assert len(source.asked) == 1


def test_a_symbol_that_a_batch_does_not_tell_of_is_not_one_without_bars() -> None:
    with pytest.raises(ProviderError) as raised:
        TwelveData(twelve_data({"A": series("14:30")})).bars(["A", "B"], START, END)
    assert raised.value.fault is TRANSIENT


def test_bars_asked_for_one_by_one_after_a_refusal_of_all_are_kept_until_the_source_fails() -> None:
    def answer(_path: str, query: Mapping[str, str]) -> Reply:
        bodies = {"A": series("14:30"), "BAD": twelve(404, TWELVE_SYMBOL), "C": twelve(429, TWELVE_MINUTE)}
        return reply(bodies.get(query["symbol"], twelve(404, TWELVE_SYMBOL)))

    source = Source(answer)
    with pytest.raises(ProviderError) as raised:
        TwelveData(source).bars(["A", "BAD", "C", "D"], START, END)
    assert raised.value.bars is not None
    assert (raised.value.fault, raised.value.bars["symbol"].tolist()) == (MINUTE, ["A"])
    assert source.symbols() == ["A,BAD,C,D", "A", "BAD", "C"]


def test_no_bars_are_asked_for_of_no_time_or_no_symbol() -> None:
    source = Source(reply({}))
    assert len(TwelveData(source).bars(["A"], END, START)) == len(TwelveData(source).bars([], START, END)) == 0
    assert source.asked == []


def test_a_long_time_of_bars_takes_several_requests() -> None:
    source = twelve_data({"A": series("14:30")})
    assert len(TwelveData(source).bars(["A"], datetime(2026, 8, 1, tzinfo=UTC), END)) == 1
    assert [query["start_date"] for _path, query in source.asked] == ["2026-08-01 00:00:00", "2026-09-30 00:00:00"]


# --- companies -------------------------------------------------------------------------------------------------------


def test_headlines_are_asked_for_by_day() -> None:
    source = Source(reply([{"headline": "Apple", "datetime": UNIX, "source": "Reuters"}]))
    found = Finnhub(source).news("AAPL", date(2025, 11, 20), date(2025, 11, 27))
    assert source.asked == [("/company-news", {"symbol": "AAPL", "from": "2025-11-20", "to": "2025-11-27"})]
    assert [news.title for news in found] == ["Apple"]
    assert Finnhub(Source(reply([]))).news("AAPL", date(2025, 11, 20), date(2025, 11, 27)) == ()


@pytest.mark.parametrize(("name", "body", "status", "fault"), [
    ("finnhub", {"metric": {}}, 200, NO_DATA), ("finnhub", sample("finnhub_error_403")["body"], 403, PLAN),
    ("finnhub", {"error": FINNHUB_LIMIT}, 429, MINUTE), ("fmp", [], 200, UNKNOWN), ("fmp", FMP_PREMIUM, 402, PLAN),
    ("fmp", [{"symbol": "AAPL"}], 200, NO_DATA), ("fmp", "<html>", 200, TRANSIENT),
])  # fmt: skip
def test_a_company_nobody_tells_of_is_an_error_that_says_why(name: str, body: Any, status: int, fault: Fault) -> None:
    source = Source(reply(body, status))
    adapter: Any = OVER_HTTP[name](source)
    with pytest.raises(ProviderError) as raised:
        adapter.fundamentals("AAPL", NOW)
    assert (raised.value.fault, len(source.asked)) == (fault, 1)
