"""Yahoo Finance as yfinance asks it: all of its hosts under one prefix, with their cookies and crumbs.

Recorded from v8 charts; quoteSummary, quote, timeseries and news as yfinance 1.7 reads them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from qbot.clock import NEW_YORK
from qbot.market.calendar import Session, last_and_before, sessions_between
from qbot.standin import addresses, company, hours
from qbot.standin.market import Bar, Snapshot
from qbot.standin.refusals import ANY
from qbot.standin.troubles import Trouble
from qbot.standin.vendor import PAGE, Ask, Market, Said, Vendor, change, ours, said, text, theirs

CHART, SUMMARY = "/v8/finance/chart/", "/v10/finance/quoteSummary/"
QUOTE, SERIES, NEWS = "/v7/finance/quote", "/ws/fundamentals-timeseries/", "/xhr/ncp"
ROOT, ASIDE = ("", "/"), ("/v1/", "/consent", "/v2/", "/copyConsent")  # of cookies, consent and crumbs
INTRADAY_DAYS = 60  # five-minute bars go back so far
RANGES = {"1d": 1, "5d": 5, "1mo": 31, "3mo": 93, "6mo": 186, "1y": 366}
CONSENT = (
    '<html><body><form method="post"><input type="hidden" name="csrfToken" value="made-up">'
    '<input type="hidden" name="sessionId" value="made-up"></form></body></html>'
)
Body = dict[str, Any]


def _error(part: str, code: str, description: str, status: int) -> Said:
    return said({part: {"result": None, "error": {"code": code, "description": description}}}, status)


def _symbols_of(ask: Ask) -> tuple[str, ...]:
    """In the path, the query, or what is posted."""
    if ask.path.startswith((CHART, SUMMARY)):
        return (ours(ask.path.rsplit("/", 1)[1]),)
    if ask.path.startswith(NEWS):
        try:
            return tuple(ours(symbol) for symbol in json.loads(ask.body)["serviceConfig"]["s"])
        except (ValueError, LookupError, TypeError):
            return ()
    named = ask.query.get("symbols") or ask.query.get("symbol") or ""
    return tuple(ours(symbol) for symbol in named.split(",") if symbol)


def _answer(ask: Ask, market: Market) -> Said:
    if ask.path.startswith(CHART):
        return _chart(ask, market)
    if ask.path.startswith((SUMMARY, QUOTE)):
        if not ask.query.get("crumb"):
            return _error("finance", "Unauthorized", "Invalid Crumb", 401)
        return _summary(ask, market) if ask.path.startswith(SUMMARY) else _quotes(ask, market)
    if ask.path.startswith(SERIES):
        return _series(ask, market)
    if ask.path.startswith(NEWS):
        return _news(ask, market)
    return _aside(ask)


def _aside(ask: Ask) -> Said:
    """The hosts of cookies, consent and crumbs."""
    if ask.path in ROOT:
        return Said(b"", 404, PAGE, {"Set-Cookie": "A3=made-up; Max-Age=31557600; Path=/; HttpOnly"})
    if ask.path == "/v1/test/getcrumb":
        return text("made.up.crumb")
    if ask.path == "/consent":
        return text(CONSENT, 200, PAGE)
    return text("", 200, PAGE) if "onsent" in ask.path else text("<html>Not Found</html>", 404, PAGE)


# --- charts ----------------------------------------------------------------------------------------------------------


def _chart(ask: Ask, market: Market) -> Said:
    (symbol,) = _symbols_of(ask)
    found, interval = market.snapshot(symbol), ask.query.get("interval", "1d")
    if found is None:
        return _error("chart", "Not Found", "No data found, symbol may be delisted", 404)
    if interval not in ("1d", "5m"):
        return _error("chart", "Bad Request", f"Invalid input - interval={interval} is not supported.", 400)
    try:
        start, end = _span(ask, market.now)
    except ValueError:
        return _error("chart", "Bad Request", "Invalid input - period1, period2 or range", 400)
    if interval == "5m" and start < market.now - timedelta(days=INTRADAY_DAYS):
        told = f"startTime={start.timestamp():.0f} and endTime={end.timestamp():.0f}"
        words = f"5m data not available for {told}. The requested range must be within the last 60 days."
        return _error("chart", "Unprocessable Entity", words, 422)
    bars = _days(found, start, end, market) if interval == "1d" else market.bars([symbol], start, end)[symbol]
    return said({"chart": {"result": [_result(found, bars, interval, ask, start, end)], "error": None}})


def _span(ask: Ask, now: datetime) -> tuple[datetime, datetime]:
    """Raises ValueError."""
    if "period1" in ask.query:
        first, last = (datetime.fromtimestamp(int(ask.query[name]), UTC) for name in ("period1", "period2"))
        return first, last
    named = ask.query.get("range", "1d")
    if named not in RANGES:
        raise ValueError(named)
    begin = last_and_before(now)[0][0]
    return begin - timedelta(days=RANGES[named] - 1), now + timedelta(seconds=1)


def _days(found: Snapshot, start: datetime, end: datetime, market: Market) -> list[Bar]:
    """The sessions that begin in the span; the last one as it stands now."""
    newest = last_and_before(market.now)[0]
    first, last = start.astimezone(NEW_YORK).date(), min(end.astimezone(NEW_YORK).date(), _before(newest))
    days = market.prices.days([found.symbol], first, last, market.now)[found.symbol]
    bars = [bar for bar in days if start <= bar.at < end]
    now = Bar(newest[0], found.open, found.high, found.low, found.price, found.volume)
    return [*bars, now] if start <= newest[0] < end else bars


def _before(session: Session) -> date:
    return hours.day_of(session) - timedelta(days=1)


def _result(found: Snapshot, bars: Sequence[Bar], interval: str, ask: Ask, start: datetime, end: datetime) -> Body:
    meta = _meta(found) | {"dataGranularity": interval, "range": ask.query.get("range", "")}
    if interval == "5m":
        meta["tradingPeriods"] = [[_period(session)] for session in sessions_between(start, end)]
    columns = {name: [getattr(bar, name) for bar in bars] for name in ("close", "open", "high", "low", "volume")}
    if not bars:
        return {"meta": meta, "indicators": {"quote": [{}], "adjclose": [{}]}}
    indicators: Body = {"quote": [columns]}
    if interval == "1d":
        indicators["adjclose"] = [{"adjclose": columns["close"]}]
    return {"meta": meta, "timestamp": [int(bar.at.timestamp()) for bar in bars], "indicators": indicators}


def _meta(found: Snapshot) -> Body:
    one, regular = company.company(found.symbol), last_and_before(found.begin)[0]
    early, late = (regular[0] - timedelta(hours=5.5), regular[0]), (regular[1], regular[1] + timedelta(hours=4))
    return {
        "currency": "USD", "symbol": theirs(found.symbol), "exchangeName": "NMS", "fullExchangeName": "NasdaqGS",
        "instrumentType": "EQUITY", "firstTradeDate": 345479400, "regularMarketTime": int(found.at.timestamp()),
        "hasPrePostMarketData": True, "gmtoffset": _offset_s(found.begin), "timezone": _zone(found.begin),
        "exchangeTimezoneName": "America/New_York", "regularMarketPrice": found.price, "fiftyTwoWeekHigh": found.high,
        "fiftyTwoWeekLow": found.low, "regularMarketDayHigh": found.high, "regularMarketDayLow": found.low,
        "regularMarketVolume": found.volume, "longName": one.name, "shortName": one.name,
        "chartPreviousClose": found.previous_close, "priceHint": 2,
        "currentTradingPeriod": {"pre": _period(early), "regular": _period(regular), "post": _period(late)},
        "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
    }  # fmt: skip


def _period(session: Session) -> Body:
    begin, end = session
    return {
        "timezone": _zone(begin), "start": int(begin.timestamp()), "end": int(end.timestamp()),
        "gmtoffset": _offset_s(begin),
    }  # fmt: skip


def _zone(at: datetime) -> str:
    return f"{at.astimezone(NEW_YORK):%Z}"


def _offset_s(at: datetime) -> int:
    return int((at.astimezone(NEW_YORK).utcoffset() or timedelta(0)).total_seconds())


# --- companies -------------------------------------------------------------------------------------------------------


def _summary(ask: Ask, market: Market) -> Said:
    (symbol,) = _symbols_of(ask)
    found = market.snapshot(symbol)
    if found is None:
        return _error("quoteSummary", "Not Found", f"Quote not found for symbol: {theirs(symbol)}", 404)
    one, price = company.company(symbol), found.previous_close
    modules: dict[str, Body] = {
        "assetProfile": {"sector": one.sector, "industry": one.industry, "country": "United States", "maxAge": 86400},
        "summaryDetail": {
            "maxAge": 1, "previousClose": price, "open": found.open, "dayLow": found.low, "dayHigh": found.high,
            "dividendRate": one.dividend_usd, "dividendYield": round(one.dividend_usd / price, 4), "beta": one.beta,
            "trailingPE": one.pe_ratio, "volume": found.volume, "marketCap": int(one.shares * price),
            "currency": "USD",
        },
        "defaultKeyStatistics": {"maxAge": 1, "priceToBook": one.price_to_book, "sharesOutstanding": one.shares},
        "financialData": {"maxAge": 86400, "currentPrice": found.price, "debtToEquity": 100 * one.debt_to_equity},
        "quoteType": {"exchange": "NMS", "quoteType": "EQUITY", "symbol": theirs(symbol), "longName": one.name},
    }  # fmt: skip
    wanted = ask.query.get("modules", ",".join(modules)).split(",")
    result = {name: body for name, body in modules.items() if name in wanted}
    return said({"quoteSummary": {"result": [result], "error": None}})


def _quotes(ask: Ask, market: Market) -> Said:
    known = market.prices.snapshots(_symbols_of(ask), market.now)
    rows = []
    for symbol, found in known.items():
        one, (usd, percent) = company.company(symbol), change(found.price, found.previous_close)
        rows.append({
            "language": "en-US", "region": "US", "quoteType": "EQUITY", "shortName": one.name, "longName": one.name,
            "regularMarketChangePercent": percent, "regularMarketPrice": found.price, "currency": "USD",
            "exchange": "NMS", "exchangeTimezoneName": "America/New_York", "regularMarketChange": usd,
            "regularMarketTime": int(found.at.timestamp()), "regularMarketDayHigh": found.high,
            "regularMarketDayLow": found.low, "regularMarketVolume": found.volume, "bid": found.bid, "ask": found.ask,
            "regularMarketPreviousClose": found.previous_close, "regularMarketOpen": found.open,
            "trailingPE": one.pe_ratio, "dividendRate": one.dividend_usd, "priceToBook": one.price_to_book,
            "marketCap": int(one.shares * found.previous_close), "symbol": theirs(symbol),
        })  # fmt: skip
    return said({"quoteResponse": {"result": rows, "error": None}})


def _series(ask: Ask, market: Market) -> Said:
    """The one series that yfinance asks for beside `info`."""
    (symbol,) = _symbols_of(ask)[:1] or ("",)
    today = market.now.astimezone(NEW_YORK).date()
    row = {"asOfDate": today.isoformat(), "periodType": "TTM", "reportedValue": {"raw": _peg(symbol), "fmt": ""}}
    meta = {"symbol": [theirs(symbol)], "type": ["trailingPegRatio"]}
    return said({"timeseries": {"result": [{"meta": meta, "trailingPegRatio": [row]}], "error": None}})


def _peg(symbol: str) -> float:
    return company.company(symbol).peg_ratio


def _news(ask: Ask, market: Market) -> Said:
    last = market.now.date()
    first: date = last - timedelta(days=7)
    stream = [
        {"id": f"{symbol}-{one.at:%F}", "content": {
            "contentType": "STORY", "title": one.title, "pubDate": f"{one.at:%Y-%m-%dT%H:%M:%SZ}",
            "provider": {"displayName": one.publisher, "url": ""}, "summary": ""}}
        for symbol in market.prices.snapshots(_symbols_of(ask), market.now)
        for one in company.headlines(symbol, first, last, market.now)
    ]  # fmt: skip
    return said({"data": {"tickerStream": {"stream": stream}}, "status": "OK"})


VENDOR = Vendor(
    name="yfinance",
    prefix=addresses.YAHOO,
    without_key=lambda _ask: None,
    answer=_answer,
    symbols_of=_symbols_of,
    aside=lambda path: path in ROOT or path.startswith(ASIDE),
    refusals=ANY
    | {
        Trouble.MINUTE_LIMIT: text("Too Many Requests\r\n", 429),
        Trouble.ERROR_IN_200: _error("finance", "Internal Server Error", "An internal error occurred", 200),
        Trouble.SERVER_ERROR: _error("chart", "Internal Server Error", "Server error", 500),
    },
)
