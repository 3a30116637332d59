"""Finnhub as it answers on the free plan. Facts of the wire: finnhub.io/docs/api, and recorded answers."""

from __future__ import annotations

from datetime import date

from qbot.standin import addresses, company
from qbot.standin.refusals import ANY
from qbot.standin.troubles import Trouble
from qbot.standin.vendor import Ask, Market, Said, Vendor, change, listed, said

LIMIT = {"error": "API limit reached. Please try again later. Remaining Limit: 0"}
NO_ACCESS = {"error": "You don't have access to this resource."}
NOT_THERE = {"c": 0, "d": None, "dp": None, "h": 0, "l": 0, "o": 0, "pc": 0, "t": 0}  # HTTP 200
PREMIUM = ("/stock/candle", "/stock/dividend", "/news-sentiment")


def _without_key(ask: Ask) -> Said | None:
    key = ask.headers.get("x-finnhub-token") or ask.query.get("token")
    return None if key else said({"error": "Please use an API key."}, 401)


def _answer(ask: Ask, market: Market) -> Said:
    (symbol,) = listed(ask)[:1] or ("",)
    if ask.path == "/quote":
        return _quote(symbol, market)
    if ask.path == "/stock/metric":
        return _metric(symbol, market)
    if ask.path == "/stock/profile2":
        return _profile(symbol, market)
    if ask.path == "/company-news":
        return _news(symbol, ask, market)
    return said(NO_ACCESS, 403) if ask.path in PREMIUM else said({"error": "Page not found"}, 404)


def _quote(symbol: str, market: Market) -> Said:
    found = market.snapshot(symbol)
    if found is None:
        return said(NOT_THERE)
    usd, percent = change(found.price, found.previous_close)
    return said({
        "c": found.price, "d": usd, "dp": percent, "h": found.high, "l": found.low, "o": found.open,
        "pc": found.previous_close, "t": int(found.at.timestamp()),
    })  # fmt: skip


def _metric(symbol: str, market: Market) -> Said:
    found = market.snapshot(symbol)
    if found is None:
        return said({"metric": {}, "metricType": "all", "series": {}, "symbol": symbol})
    one, price = company.company(symbol), found.previous_close
    metric = {
        "beta": one.beta, "currentDividendYieldTTM": round(100 * one.dividend_usd / price, 4),
        "marketCapitalization": round(one.shares * price / 1e6, 3), "pb": one.price_to_book, "peTTM": one.pe_ratio,
        "pegTTM": one.peg_ratio, "totalDebt/totalEquityQuarterly": one.debt_to_equity,
    }  # fmt: skip
    return said({"metric": metric, "metricType": "all", "series": {}, "symbol": symbol})


def _profile(symbol: str, market: Market) -> Said:
    found = market.snapshot(symbol)
    if found is None:
        return said({})
    one = company.company(symbol)
    return said({
        "country": "US", "currency": "USD", "estimateCurrency": "USD", "exchange": f"{one.exchange} NMS",
        "finnhubIndustry": one.sector, "ipo": "1990-01-02", "logo": "",
        "marketCapitalization": round(one.shares * found.previous_close / 1e6, 3), "name": one.name, "phone": "",
        "shareOutstanding": one.shares / 1e6, "ticker": symbol, "weburl": "",
    })  # fmt: skip


def _news(symbol: str, ask: Ask, market: Market) -> Said:
    try:
        first, last = (date.fromisoformat(ask.query[name]) for name in ("from", "to"))
    except (KeyError, ValueError):
        return said({"error": "Wrong format. Please use YYYY-MM-DD"}, 422)
    if market.snapshot(symbol) is None:
        return said([])
    return said([
        {"category": "company", "datetime": int(one.at.timestamp()), "headline": one.title, "id": number + 1,
         "image": "", "related": symbol, "source": one.publisher, "summary": "", "url": ""}
        for number, one in enumerate(company.headlines(symbol, first, last, market.now))
    ])  # fmt: skip


VENDOR = Vendor(
    name="finnhub",
    prefix=addresses.FINNHUB,
    without_key=_without_key,
    answer=_answer,
    symbols_of=listed,
    refusals=ANY
    | {
        Trouble.MINUTE_LIMIT: said(LIMIT, 429),
        Trouble.ERROR_IN_200: said(LIMIT),
        Trouble.PLAN: said(NO_ACCESS, 403),
        Trouble.PLAN_SYMBOL: said(NO_ACCESS, 403),
        Trouble.AUTH: said({"error": "Invalid API key."}, 401),
        Trouble.SERVER_ERROR: said({"error": "Internal server error"}, 502),
    },
)
