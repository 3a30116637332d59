"""What every known answer of every source means, by its body first and its status then: one row a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qbot.market import alpaca_data, finnhub, fmp, marketstack, twelvedata, yahoo
from qbot.market.provider import Fault, ProviderError
from qbot.market.reply import Reply
from tests.market.fakes import SAMPLES, reply, sample

AUTH, PLAN, MINUTE, QUOTA = Fault.AUTH, Fault.PLAN, Fault.MINUTE_LIMIT, Fault.QUOTA
UNKNOWN, NO_DATA, TRANSIENT, WELL = Fault.UNKNOWN_SYMBOL, Fault.NO_DATA, Fault.TRANSIENT, None
CLASSIFY: dict[str, Callable[[Reply], Fault | None]] = {
    "finnhub": finnhub.classify, "twelvedata": twelvedata.classify, "fmp": fmp.classify,
    "marketstack": marketstack.classify, "yfinance": yahoo.classify, "alpaca": alpaca_data.classify,
}  # fmt: skip
PAGE = "<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
FINNHUB_LIMIT = "API limit reached. Please try again later. Remaining Limit: 0"
TWELVE_KEY = "**apikey** parameter is incorrect or not specified. You can get your free API key instantly"
TWELVE_MINUTE = (
    "You have run out of API credits for the current minute. 9 API credits were used, with the current "
    "limit being 8. Wait for the next minute or consider switching to a higher tier plan at "
    "https://twelvedata.com/pricing"
)
TWELVE_DAY = (
    "You have run out of API credits for the day. 801 API credits were used, with the current limit being "
    "800. Wait for the next day or consider switching to a higher tier plan at "
    "https://twelvedata.com/pricing"
)
TWELVE_SYMBOL = (
    "**symbol** or **figi** parameter is missing or invalid. Please provide a valid symbol according to "
    "API documentation: https://twelvedata.com/docs#reference-data"
)
TWELVE_PLAN = (
    "This symbol is available starting with the Grow or Venture plan. Consider upgrading now at "
    "https://twelvedata.com/pricing"
)
TWELVE_EMPTY = "No data is available on the specified dates. Try setting different start/end dates."
FMP_KEY = "Invalid API KEY. Feel free to create a Free API Key or visit https://site.financialmodelingprep.com/faqs"
FMP_PREMIUM = (
    "Premium Query Parameter: 'Special Endpoint : This value set for 'symbol' is not available under your "
    "current subscription please visit our subscription page to upgrade your plan"
)
FMP_RESTRICTED = (
    "Restricted Endpoint: This endpoint is not available under your current subscription please visit our "
    "subscription page"
)
LIMIT_APILAYER = (
    "You have exceeded your daily\\/monthly API rate limit. Please review and upgrade your subscription plan"
)


def twelve(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "status": "error"}


def stack(code: str, message: str = "…", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


def chart(description: str, code: str = "Not Found") -> dict[str, Any]:
    return {"chart": {"result": None, "error": {"code": code, "description": description}}}


TABLE: list[tuple[str, str, int, Any, Fault | None]] = [
    # Finnhub
    ("finnhub", "a quote", 200, sample("finnhub_quote_AAPL_2021-11"), WELL),
    ("finnhub", "a quote of a currency", 200, sample("finnhub_quote_fx_EURUSD"), WELL),
    ("finnhub", "zeros for an unknown symbol", 200, sample("finnhub_quote_unknown_symbol_HTTP200"), UNKNOWN),
    ("finnhub", "a wrong key", 401, {"error": "Invalid API key."}, AUTH),
    ("finnhub", "no key", 401, {"error": "Please use an API key."}, AUTH),
    ("finnhub", "a premium symbol", 403, sample("finnhub_error_403")["body"], PLAN),
    ("finnhub", "the minute's limit", 429, sample("finnhub_error_429")["body"], MINUTE),
    ("finnhub", "the minute's limit under HTTP 200", 200, {"error": FINNHUB_LIMIT}, MINUTE),
    ("finnhub", "an error nobody has seen", 200, {"error": "Something new."}, TRANSIENT),
    ("finnhub", "an error nobody has seen, by its status", 401, {"error": "Something new."}, AUTH),
    ("finnhub", "no news", 200, [], WELL),
    ("finnhub", "a page", 200, PAGE, TRANSIENT),
    ("finnhub", "a page of a wall before it", 403, PAGE, TRANSIENT),
    ("finnhub", "a page that says 429", 429, PAGE, MINUTE),
    ("finnhub", "a failing server", 503, {}, TRANSIENT),
    ("finnhub", "nothing", 200, "", TRANSIENT),
    ("finnhub", "garbage", 200, "\x00{{", TRANSIENT),
    # Twelve Data
    ("twelvedata", "a quote", 200, sample("twelvedata_quote_AAPL_2025-12-02"), WELL),
    ("twelvedata", "bars", 200, sample("twelvedata_time_series_DJI_5min_2022-05-04_head6"), WELL),
    ("twelvedata", "a wrong key under HTTP 200", 200, twelve(401, TWELVE_KEY), AUTH),
    ("twelvedata", "a wrong key", 401, twelve(401, TWELVE_KEY), AUTH),
    ("twelvedata", "a wrong key told as a bad parameter", 400, twelve(400, TWELVE_KEY), AUTH),
    ("twelvedata", "an endpoint of another plan", 403, twelve(403, "/x is available exclusively with pro plans"), PLAN),
    ("twelvedata", "a symbol of another plan, as if unknown", 404, twelve(404, TWELVE_PLAN), PLAN),
    ("twelvedata", "an unknown symbol", 404, twelve(404, TWELVE_SYMBOL), UNKNOWN),
    ("twelvedata", "an unknown symbol under HTTP 200", 200, twelve(400, TWELVE_SYMBOL), UNKNOWN),
    ("twelvedata", "an unknown symbol, older", 400, twelve(400, "**symbol** not found: ZZZZ."), UNKNOWN),
    ("twelvedata", "no bars then", 400, twelve(400, TWELVE_EMPTY), NO_DATA),
    ("twelvedata", "the recorded minute's limit", 200, sample("twelvedata_errors")[0]["body"], MINUTE),
    ("twelvedata", "the minute's limit", 429, twelve(429, TWELVE_MINUTE), MINUTE),
    ("twelvedata", "the minute's limit, older", 429, twelve(429, "You have reached the API calls limit."), MINUTE),
    ("twelvedata", "the day's quota under HTTP 200", 200, twelve(429, TWELVE_DAY), QUOTA),
    ("twelvedata", "the day's quota", 429, twelve(429, TWELVE_DAY), QUOTA),
    ("twelvedata", "a bad parameter", 400, twelve(400, "**interval** is invalid"), TRANSIENT),
    ("twelvedata", "its own fault", 500, twelve(500, "Internal server error"), TRANSIENT),
    ("twelvedata", "a code that is no number", 200, {"code": {}, "message": "x", "status": "error"}, TRANSIENT),
    ("twelvedata", "an empty object", 200, {}, TRANSIENT),
    ("twelvedata", "a list", 200, [1], TRANSIENT),
    ("twelvedata", "a page", 502, PAGE, TRANSIENT),
    # Financial Modeling Prep
    ("fmp", "a quote", 200, [{"symbol": "AAPL", "price": 256.08, "timestamp": 1758571201}], WELL),
    ("fmp", "nobody's symbol", 200, [], UNKNOWN),
    ("fmp", "a wrong key", 401, {"Error Message": FMP_KEY}, AUTH),
    ("fmp", "a wrong key under HTTP 200", 200, {"Error Message": FMP_KEY}, AUTH),
    *(("fmp", f"recorded {row['status']}", row["status"], row.get("body") or row["body_text"], fault)
      for row, fault in zip(sample("fmp_errors"), (PLAN, QUOTA, PLAN), strict=True)),
    ("fmp", "the day's quota under HTTP 200", 200, {"Error Message": "Limit Reach . Please upgrade your plan"}, QUOTA),
    ("fmp", "a symbol of another plan, as plain text", 402, FMP_PREMIUM, PLAN),
    ("fmp", "an endpoint of another plan, as plain text", 402, FMP_RESTRICTED, PLAN),
    ("fmp", "an endpoint of another plan, as JSON", 402, {"Error Message": FMP_RESTRICTED}, PLAN),
    ("fmp", "a plain text nobody has seen", 402, "Please pay.", PLAN),
    ("fmp", "too many at once", 429, "Too Many Requests", MINUTE),
    ("fmp", "plain text that is no error", 200, "api key", TRANSIENT),
    ("fmp", "an object", 200, {"price": 1}, TRANSIENT),
    ("fmp", "a page", 403, PAGE, TRANSIENT),
    ("fmp", "a failing server", 500, [], TRANSIENT),
    # Marketstack
    ("marketstack", "ends of days", 200, sample("marketstack_eod_AAPL_2021-12-01"), WELL),
    ("marketstack", "a wrong key", 401, stack("invalid_access_key"), AUTH),
    ("marketstack", "no key", 401, stack("missing_access_key"), AUTH),
    ("marketstack", "not authorized", 401, stack("unauthorized"), AUTH),
    ("marketstack", "a function of another plan", 403, stack("function_access_restricted"), PLAN),
    ("marketstack", "the month's quota", 429, stack("too_many_requests"), QUOTA),
    ("marketstack", "the month's quota under HTTP 200", 200, stack("too_many_requests"), QUOTA),
    ("marketstack", "the second's limit", 429, stack("rate_limit_reached"), MINUTE),
    ("marketstack", "not one known symbol", 422, stack("no_valid_symbols_provided"), UNKNOWN),
    ("marketstack", "nothing there", 404, stack("data_not_available"), NO_DATA),
    ("marketstack", "no such function", 404, stack("invalid_api_function"), PLAN),
    ("marketstack", "a bad parameter", 422, stack("validation_error", context={"limit": []}), TRANSIENT),
    ("marketstack", "its own fault", 500, stack("internal_error"), TRANSIENT),
    ("marketstack", "a quota in the form of its siblings", 200,
     {"error": {"code": 104, "type": "usage_limit_reached"}}, QUOTA),
    ("marketstack", "a wrong key at the newer host", 401, {"message": "Invalid authentication credentials"}, AUTH),
    ("marketstack", "the quota at the newer host", 429, {"message": LIMIT_APILAYER}, QUOTA),
    ("marketstack", "the limit at the newer host", 429, {"message": "API rate limit exceeded"}, MINUTE),
    ("marketstack", "no data at all", 200, {"pagination": {}}, TRANSIENT),
    ("marketstack", "a page", 200, PAGE, TRANSIENT),
    # Yahoo Finance
    ("yfinance", "a chart", 200, sample("yahoo_chart_AAPL_2020-01")["body"], WELL),
    ("yfinance", "a chart without bars", 200, sample("yahoo_chart_AAPL_2025-02_empty")["body"], WELL),
    ("yfinance", "an edited chart", 200, sample("yahoo_chart_TSLA_1h_edited")["body"], WELL),
    ("yfinance", "an unknown symbol", 404, chart("No data found, symbol may be delisted"), UNKNOWN),
    ("yfinance", "an unknown company", 404,
     {"quoteSummary": {"result": None, "error": {"code": "Not Found", "description": "Quote not found for symbol: Z"}}},
     UNKNOWN),
    ("yfinance", "no bars then", 400, chart("Data doesn't exist for startDate = 1, endDate = 2"), NO_DATA),
    ("yfinance", "bars too far back", 422, chart(
        "5m data not available for startTime=1 and endTime=2. The requested range must be within the last 60 days.",
        "Unprocessable Entity"), NO_DATA),
    ("yfinance", "a limit in plain text", 429, "Too Many Requests\r\n", MINUTE),
    ("yfinance", "a limit at the edge", 429, "Edge: Too Many Requests", MINUTE),
    ("yfinance", "a limit as a page", 429, PAGE, MINUTE),
    ("yfinance", "turned away", 999, "Unable to process request at this time", MINUTE),
    ("yfinance", "a stale crumb", 401,
     {"finance": {"result": None, "error": {"code": "Unauthorized", "description": "Invalid Crumb"}}}, TRANSIENT),
    ("yfinance", "its own fault", 500, chart("Server error", "Internal Server Error"), TRANSIENT),
    ("yfinance", "nothing in the chart", 200, {"chart": {"result": [], "error": None}}, NO_DATA),
    ("yfinance", "out of order", 200, "Will be right back", TRANSIENT),
    ("yfinance", "forbidden", 403, "Forbidden", TRANSIENT),
    ("yfinance", "a page", 200, PAGE, TRANSIENT),
    # Alpaca
    ("alpaca", "snapshots", 200, {"AAPL": {}}, WELL),
    ("alpaca", "a wrong key", 401,
     {"code": 40110000, "message": "access key verification failed : verification failure"}, AUTH),
    ("alpaca", "a wrong key, shorter", 401, {"message": "unauthorized."}, AUTH),
    ("alpaca", "a wrong key as a page", 401, PAGE, AUTH),
    ("alpaca", "keys of elsewhere", 403, {"message": "forbidden."}, AUTH),
    ("alpaca", "a feed of another plan", 403,
     {"message": "subscription does not permit querying recent SIP data"}, PLAN),
    ("alpaca", "the minute's limit", 429, {"message": "too many requests."}, MINUTE),
    ("alpaca", "the minute's limit without a body", 429, "", MINUTE),
    ("alpaca", "an unknown symbol", 400, {"code": 40010001, "message": "invalid symbol: ZZZZ1"}, UNKNOWN),
    ("alpaca", "its own fault", 500, {"message": "internal server error occurred"}, TRANSIENT),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "status", "body", "fault"),
    [pytest.param(source, status, body, fault, id=f"{source}: {case}") for source, case, status, body, fault in TABLE],
)
def test_every_known_answer_is_told_for_what_it_is(source: str, status: int, body: Any, fault: Fault | None) -> None:
    assert CLASSIFY[source](reply(body, status)) is fault


def test_no_case_has_two_rows() -> None:
    cases = [(source, case) for source, case, *_rest in TABLE]
    assert len(cases) == len(set(cases))


@pytest.mark.parametrize("number", range(9))
def test_a_client_s_own_test_bodies_are_told_for_what_they_are(number: int) -> None:
    body = sample("twelvedata_soulgarden_core_data_test_bodies")[number]
    assert twelvedata.classify(reply(body)) is (AUTH if body.get("code") == 401 else WELL)


def test_every_sample_is_used() -> None:
    read = " ".join(path.read_text() for path in SAMPLES.parent.glob("*.py"))
    assert [path.stem for path in SAMPLES.glob("*.json") if path.stem not in read] == []


def test_a_refusal_of_one_symbol_is_not_one_of_the_endpoint() -> None:
    assert fmp.of_one_symbol(reply(FMP_PREMIUM, 402))
    assert fmp.of_one_symbol(reply(sample("fmp_errors")[2]["body_text"], 402))
    assert fmp.of_one_symbol(reply({"Error Message": FMP_PREMIUM}, 402))
    assert not fmp.of_one_symbol(reply(FMP_RESTRICTED, 402))
    assert not fmp.of_one_symbol(reply({"Error Message": FMP_RESTRICTED}, 402))


@pytest.mark.parametrize("source", CLASSIFY)
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_server_may_work_next_time(source: str, status: int) -> None:
    for body in ("", PAGE, "{", [], "null"):
        assert CLASSIFY[source](reply(body, status)) is TRANSIENT


# --- a source's own words --------------------------------------------------------------------------------------------

LINKS = ["https://evil.example/pay?x=1", "www.evil.example", "tg://resolve?domain=x", "evil.example/pay", "HTTPS://X"]


@given(
    text=st.text(max_size=2_000), link=st.sampled_from(LINKS), signs=st.text("\x00\n\r\t\u200b\u202e\ud800", max_size=5)
)
def test_of_what_a_source_says_one_printable_line_without_links_is_left(text: str, link: str, signs: str) -> None:
    for said in (text, f"{link} {text}", f"{text[:50]}{signs} {link}{signs}{text}"):
        shown = str(ProviderError("vendor", Fault.AUTH, said))
        assert shown.isprintable()
        assert len(shown) <= len("vendor: ") + 200
        assert not [part for part in ("//", "www.", "evil.example/") if part in shown.lower()]


@pytest.mark.parametrize(
    "kept", ["You have used 8.5 of 800 credits, BRK.B 12/31; see the plan", "prix dépassé (é), 1/2"]
)
def test_words_without_links_are_told_as_they_are(kept: str) -> None:
    assert str(ProviderError("vendor", Fault.AUTH, f" {kept}\n")) == f"vendor: {kept}"
