"""What is read of the recorded bodies, and what is not taken for a price or a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pandas as pd
import pytest

from qbot.market import aggregation, finnhub, fmp, marketstack, reading, twelvedata, yahoo
from qbot.market.bars import frame_of, spans
from qbot.market.calendar import sessions_around
from qbot.market.company import News, newest
from qbot.types import Day, Quote
from tests.market.fakes import NOW, reply, sample


def quote(source: str, symbol: str, price: str, at: str, bid: str = "", ask: str = "") -> Quote:
    stamp = datetime.fromisoformat(at).replace(tzinfo=UTC)
    return Quote(symbol, Decimal(price), Decimal(bid or price), Decimal(ask or price), stamp, NOW, source)


# --- quotes ----------------------------------------------------------------------------------------------------------


def test_finnhub_tells_the_price_and_the_session() -> None:
    body = sample("finnhub_quote_AAPL_2021-11")
    assert finnhub.parse_quote("AAPL", body, NOW) == quote("finnhub", "AAPL", "175.43", "2021-11-07T22:00:00")
    assert finnhub.parse_day(body) == Day(173.32, 175.77, 173.11, None, 172.99)


def test_zeros_of_an_unknown_symbol_are_no_price() -> None:
    assert finnhub.parse_quote("ZZZZ", sample("finnhub_quote_unknown_symbol_HTTP200"), NOW) is None


@pytest.mark.parametrize(("name", "price", "at", "day"), [
    ("twelvedata_quote_AAPL_2025-08-06", "213.25", "2025-08-06T13:30:00",
     Day(205.63, 215.38, 205.59, 106498000.0, 202.92)),
    ("twelvedata_quote_AAPL_2025-12-02", "286.19000", "2025-12-02T14:30:00",
     Day(283.0, 287.39999, 282.63, 53615500.0, 283.10001)),
])  # fmt: skip
def test_twelve_data_tells_numbers_as_strings(name: str, price: str, at: str, day: Day) -> None:
    assert twelvedata.parse_quote("AAPL", sample(name), NOW) == quote("twelvedata", "AAPL", price, at)
    assert twelvedata.parse_day(sample(name)) == day


def test_the_time_of_twelve_data_is_that_of_the_last_quote_not_of_the_candle() -> None:
    body = sample("twelvedata_quote_AAPL_2025-12-02") | {"timestamp": 1789738200, "last_quote_at": 1789761540}
    found = twelvedata.parse_quote("AAPL", body, NOW)
    assert found is not None
    assert found.at == datetime(2026, 9, 18, 19, 59, tzinfo=UTC)
    # Without it the candle's begin stands in: it makes a price look older, never fresher.
    del body["last_quote_at"]
    older = twelvedata.parse_quote("AAPL", body, NOW)
    assert older is not None
    assert older.at == datetime(2026, 9, 18, 13, 30, tzinfo=UTC)


def test_a_price_in_another_currency_or_of_another_symbol_is_none_of_ours() -> None:
    body = sample("twelvedata_quote_AAPL_2025-12-02")
    assert twelvedata.parse_quote("AAPL", body | {"currency": "EUR"}, NOW) is None
    assert twelvedata.parse_quote("MSFT", body, NOW) is None
    meta = sample("yahoo_chart_AAPL_2020-01")["body"]["chart"]["result"][0]["meta"]
    assert yahoo.parse_quote("AAPL", meta | {"currency": "GBp"}, NOW) is None
    assert yahoo.parse_quote("MSFT", meta, NOW) is None
    assert fmp.parse_quote("MSFT", [{"symbol": "AAPL", "price": 1, "timestamp": 1758571201}], NOW) is None


@pytest.mark.parametrize("name", ["twelvedata_price", "twelvedata_eod_VXX"])
def test_an_answer_of_another_endpoint_without_a_time_is_no_quote(name: str) -> None:
    assert twelvedata.parse_quote("VXX", sample(name), NOW) is None


def test_fmp_tells_the_price_and_the_session() -> None:
    body = [{
        "symbol": "AAPL", "price": 256.08, "changePercentage": 4.30957, "change": 10.58, "volume": 101865199,
        "dayLow": 248.12, "dayHigh": 256.63, "marketCap": 3800327071200, "open": 248.3, "previousClose": 245.5,
        "timestamp": 1758571201,
    }]  # fmt: skip
    assert fmp.parse_quote("AAPL", body, NOW) == quote("fmp", "AAPL", "256.08", "2025-09-22T20:00:01")
    assert fmp.parse_day("AAPL", body) == Day(248.3, 256.63, 248.12, 101865199.0, 245.5)


def test_class_shares_have_a_dash_at_fmp_and_yahoo_and_come_back_under_our_name() -> None:
    body = [{"symbol": "BRK-B", "price": 450.5, "timestamp": 1758571201}]
    assert fmp.their_symbol("BRK.B") == yahoo.their_symbol("BRK.B") == "BRK-B"
    assert fmp.parse_quote("BRK.B", body, NOW) == quote("fmp", "BRK.B", "450.5", "2025-09-22T20:00:01")
    meta = {"symbol": "BRK-B", "currency": "USD", "regularMarketPrice": 450.5, "regularMarketTime": 1758571201}
    assert yahoo.parse_quote("BRK.B", meta, NOW) == quote("yfinance", "BRK.B", "450.5", "2025-09-22T20:00:01")


def test_marketstack_tells_the_close_of_a_day_by_its_midnight() -> None:
    row = marketstack.by_symbol(sample("marketstack_eod_AAPL_2021-12-01"))["AAPL"]
    then = datetime(2021, 12, 2, 9, 0, tzinfo=UTC)
    told = replace(quote("marketstack", "AAPL", "164.77", "2021-12-01T21:00:00"), received_at=then)
    assert marketstack.parse_quote("AAPL", row, then) == told
    assert marketstack.parse_day(row) == Day(167.48, 170.295, 164.53, 145135682.0, None)


@pytest.mark.parametrize(("day", "at"), [
    ("2026-07-01", "2026-07-01T20:00:00"),  # summer time
    ("2025-11-28", "2025-11-28T18:00:00"),  # half a day
    ("2026-11-26", "2026-11-26T00:00:00"),  # Thanksgiving: no session
    ("2026-11-27", "2026-11-27T00:00:00"),  # its session is not over
    ("2021-12-01", "2021-12-01T00:00:00"),  # long ago
    ("2026-11-27T13:00:00", "2026-11-27T13:00:00"),  # no midnight: it means what it says
])  # fmt: skip
def test_the_end_of_a_day_is_dated_at_the_close_of_its_session_once_that_is_over(day: str, at: str) -> None:
    row = {"symbol": "AAPL", "close": 100.5, "date": f"{day if 'T' in day else day + 'T00:00:00'}+0000"}
    assert marketstack.parse_quote("AAPL", row, NOW) == quote("marketstack", "AAPL", "100.5", at)


def test_the_end_of_a_day_is_the_close_of_the_session_that_is_over() -> None:
    row = {"symbol": "AAPL", "close": 100.5, "date": "2026-07-01T00:00:00+0000"}
    evening = datetime(2026, 7, 1, 21, 0, tzinfo=UTC)
    found = marketstack.parse_quote("AAPL", row, evening)
    assert found is not None
    assert aggregation.unsound(found, aggregation.Market(evening, sessions_around(evening))) is None


def test_of_several_days_the_newest_counts() -> None:
    days = [{"symbol": "A", "close": day, "date": f"2026-11-{day}T00:00:00+0000"} for day in (24, 26, 25)]
    assert marketstack.by_symbol({"data": days})["A"]["close"] == 26


@pytest.mark.parametrize("name", ["yahoo_chart_AAPL_2020-01", "yahoo_chart_AAPL_2025-02_empty"])
def test_yahoo_tells_the_price_in_the_metadata_of_any_chart(name: str) -> None:
    meta = sample(name)["body"]["chart"]["result"][0]["meta"]
    assert yahoo.parse_quote("AAPL", meta, NOW) == quote("yfinance", "AAPL", "244.87", "2025-02-19T21:00:01")
    stamped = meta | {"regularMarketTime": pd.Timestamp(1739998801, unit="s", tz="America/New_York")}
    assert yahoo.parse_quote("AAPL", stamped, NOW) == yahoo.parse_quote("AAPL", meta, NOW)
    assert yahoo.parse_day(pd.DataFrame(), meta).high == 246.01


def test_a_naive_time_of_yahoo_is_none() -> None:
    meta = sample("yahoo_chart_TSLA_1h_edited")["body"]["chart"]["result"][0]["meta"]
    assert yahoo.parse_quote("TSLA", meta, NOW) is not None
    assert yahoo.parse_quote("TSLA", meta | {"regularMarketTime": pd.Timestamp("2025-02-19 21:00")}, NOW) is None


# --- bars ------------------------------------------------------------------------------------------------------------


def test_bars_of_twelve_data_are_in_utc_as_they_were_asked_for() -> None:
    body = sample("twelvedata_time_series_DJI_5min_2022-05-04_head6")
    start = datetime(2022, 5, 4, 15, 35, tzinfo=UTC)
    frame = frame_of(twelvedata.parse_bars("DJI", body), start, datetime(2022, 5, 4, 16, 0, tzinfo=UTC))
    assert [stamp.isoformat() for stamp in frame["ts"]] == [
        f"2022-05-04T15:{minute}:00+00:00" for minute in (35, 40, 45, 50, 55)
    ]
    assert frame.iloc[-1].drop("ts").tolist() == [
        "DJI", 34066.32812, 34080.26953, 34023.98828, 34056.53906, 21762703.0,
    ]  # fmt: skip
    assert twelvedata.parse_bars("DJI", {"meta": {"currency": "JPY"}, "values": body["values"]}) == []


def test_a_bar_that_was_not_complete_or_is_not_sound_is_left_out() -> None:
    def bar(minute: int, *values: object, second: int = 0) -> tuple[Any, ...]:
        return ("A", datetime(2026, 11, 27, 15, minute, second, tzinfo=UTC), *(values or (2, 3, 1, 2, 100)))

    rows = [
        bar(0), bar(0, 2, 3, 1, 2.5, 7), bar(5, 2, 3, 1, None, 1), bar(10, 2, 3, 1, "NaN", 1), bar(15, 0, 3, 1, 2, 1),
        bar(20, -2, 3, 1, 2, 1), bar(25, 2, 1.5, 1, 2, 1), bar(30, 2, 3, 2.5, 2, 1), bar(33), bar(35, second=7),
        ("A", None, 2, 3, 1, 2, 1), bar(40, 2, 3, 1, 2, None), bar(45, 2, 3, 1, 2, -5), bar(50), bar(55),
    ]  # fmt: skip
    frame = frame_of(rows, datetime(2026, 11, 27, 15, 0, tzinfo=UTC), datetime(2026, 11, 27, 15, 59, tzinfo=UTC))
    assert [(stamp.minute, volume) for stamp, volume in zip(frame["ts"], frame["volume"], strict=True)] == [
        (0, 7.0), (40, 0.0), (45, 0.0), (50, 100.0),
    ]  # fmt: skip
    assert str(frame["ts"].dtype) == "datetime64[ns, UTC]"


def test_a_long_time_is_asked_for_in_pieces_that_leave_nothing_out() -> None:
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, 7, tzinfo=UTC)
    pieces = spans(start, end, 60)
    assert (pieces[0][0], pieces[-1][1]) == (start, end)
    assert all(first[1] == second[0] for first, second in pairwise(pieces))
    assert max(b - a for a, b in pieces) == timedelta(days=60)
    assert spans(end, start, 60) == []


def test_days_of_yahoo_are_the_exchange_s_with_a_zone_or_without() -> None:
    for zone in (None, "America/New_York"):
        index = pd.DatetimeIndex(["2026-11-25", "2026-11-27"], tz=zone)
        frame = pd.DataFrame({"Open": [1.0, 2], "High": [2.0, 3], "Low": [1.0, 2], "Close": [1.5, 2.5],
                              "Volume": [10, 20]}, index=index)  # fmt: skip
        found = yahoo.parse_days("AAPL", frame)
        assert found["day"].tolist() == [date(2026, 11, 25), date(2026, 11, 27)]
        assert found["close"].tolist() == [1.5, 2.5]
    assert len(yahoo.parse_days("AAPL", frame.assign(Close=[float("nan"), 2.5]))) == 1


# --- companies -------------------------------------------------------------------------------------------------------


def test_finnhub_s_units_become_ours() -> None:
    body = {"metric": {
        "marketCapitalization": 3800327.07, "peTTM": 33.1, "beta": 1.29, "pbQuarterly": 51.2,
        "totalDebt/totalEquityQuarterly": 1.54, "currentDividendYieldTTM": 0.41,
    }}  # fmt: skip
    found = finnhub.parse_fundamentals("AAPL", body, NOW)
    assert (found.market_cap_usd, found.pe_ratio, found.debt_to_equity) == (3_800_327_070_000.0, 33.1, 1.54)
    assert found.dividend_yield == pytest.approx(0.0041)
    assert finnhub.parse_fundamentals("AAPL", {"metric": {}}, NOW).empty


def test_fmp_s_yearly_dividend_becomes_a_yield() -> None:
    body = [{"symbol": "AAPL", "price": 250, "marketCap": 3800327071200, "beta": 1.29, "lastDividend": 1.0,
             "sector": "Technology", "industry": "Consumer Electronics"}]  # fmt: skip
    found = fmp.parse_fundamentals("AAPL", body, NOW)
    assert (found.dividend_yield, found.sector, found.industry) == (0.004, "Technology", "Consumer Electronics")


@pytest.mark.parametrize("told", [0.4, 0.004, None])
def test_yahoo_s_yield_is_reckoned_since_it_is_told_in_two_units(told: float | None) -> None:
    info = {"currentPrice": 250.0, "dividendRate": 1.0, "dividendYield": told, "debtToEquity": 154.486,
            "trailingPegRatio": 2.1, "trailingPE": 33.0, "marketCap": 3.8e12}  # fmt: skip
    found = yahoo.parse_fundamentals("AAPL", info, NOW)
    assert found.dividend_yield == 0.004
    assert found.debt_to_equity == pytest.approx(1.54486)
    assert (found.peg_ratio, found.pe_ratio, found.market_cap_usd) == (2.1, 33.0, 3.8e12)


def test_a_yield_that_no_number_of_the_contract_holds_is_none() -> None:
    body = [{"symbol": "AAPL", "price": 0.000001, "lastDividend": 1e12}]
    assert fmp.parse_fundamentals("AAPL", body, NOW).dividend_yield is None
    info = {"currentPrice": 0.000001, "dividendRate": 1e12}
    assert yahoo.parse_fundamentals("AAPL", info, NOW).dividend_yield is None


def test_headlines_come_newest_first_each_once_and_only_of_the_days_asked_for() -> None:
    body = [
        {"headline": "Old", "datetime": 1_763_900_000, "source": "Reuters"},
        {"headline": "Apple rises", "datetime": 1_764_150_000, "source": "Reuters"},
        {"headline": "Between them", "datetime": 1_764_155_000, "source": None},
        {"headline": "Apple rises", "datetime": 1_764_160_000, "source": "Yahoo"},
        {"headline": "Two\n\nlines\u202e \x00", "datetime": 1_764_170_000, "source": None},
        {"headline": "", "datetime": 1_764_170_000}, {"headline": "No time"}, {"headline": 5, "datetime": 1}, None,
    ]  # fmt: skip
    found = newest(finnhub.parse_news("AAPL", body), date(2025, 11, 25), date(2025, 11, 27), 10)
    assert [(news.title, news.publisher) for news in found] == [
        ("Two lines", None), ("Apple rises", "Yahoo"), ("Between them", None),
    ]  # fmt: skip
    assert newest(list(found), date(2025, 11, 25), date(2025, 11, 27), 1) == found[:1]


def test_yahoo_s_headlines_lie_in_their_content() -> None:
    content = {"title": "Apple", "pubDate": "2026-11-27T14:00:00Z", "provider": {"displayName": "Reuters"}}
    rows = [{"id": "1", "content": content}, {"content": {"title": "No time"}}, {"title": "Older form"}, "text"]
    at = datetime(2026, 11, 27, 14, tzinfo=UTC)
    assert yahoo.parse_news("AAPL", rows) == [News("AAPL", "Apple", at, "yfinance", "Reuters")]


# --- single values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [
    None, True, 0, -1, "0", "-5", "NaN", "Infinity", "1_000", "١٢", "", " ", "1,5", "0x10", [], {}, float("nan"),
    float("inf"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1E+999999999"), 1e30, 1e-12, 10**400,
    "1" * 500, "9e99",
])  # fmt: skip
def test_what_cannot_be_a_price_is_none(value: Any) -> None:
    assert reading.price(value) is None


@pytest.mark.parametrize(("value", "price"), [
    (1, "1"), ("153.39999", "153.39999"), (0.1, "0.1"), (" 7.50 ", "7.50"), (Decimal("0.0001"), "0.0001"),
    ("1e2", "1E+2"),
])  # fmt: skip
def test_a_price_keeps_its_digits(value: Any, price: str) -> None:
    assert str(reading.price(value)) == price


@pytest.mark.parametrize("value", [None, 0, "0", -1, True, 1758571201000, "now", [], float("nan"), Decimal("1E+99999")])
def test_what_cannot_be_a_time_is_none(value: Any) -> None:
    assert reading.unix_time(value) is None


@pytest.mark.parametrize("value", [
    None, "", "2024-09-27T00:00:00", "yesterday", 5, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00",
])  # fmt: skip
def test_a_time_without_a_zone_could_be_any_and_is_none(value: Any) -> None:
    assert reading.iso_time(value) is None


@pytest.mark.parametrize(
    "value", ["2024-09-27T00:00:00+0000", "2024-09-27T02:00:00+02:00", "2024-09-27T00:00:00.123456789Z"]
)
def test_a_time_with_a_zone_becomes_utc(value: str) -> None:
    found = reading.iso_time(value)
    assert found is not None
    assert (found.replace(microsecond=0), found.tzinfo) == (datetime(2024, 9, 27, tzinfo=UTC), UTC)


def test_nan_in_json_is_null_and_costs_nothing_else() -> None:
    assert reply('{"a": NaN, "b": -Infinity, "c": 1.10, "d": 1e99999999999999999999}').body == {
        "a": None, "b": None, "c": Decimal("1.10"), "d": None,
    }  # fmt: skip


def test_json_too_deep_or_too_long_is_none() -> None:
    assert reply("[" * 200_000).body is None
    assert reply("1" * 5_000).body is None
