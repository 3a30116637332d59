"""Financial Modeling Prep, the `stable` API, as it answers on the free plan.

Several symbols in one request give `[]`, and a refusal by plan is 402 with plain text under a JSON content type. Facts
of the wire: site.financialmodelingprep.com/developer/docs, and recorded answers.
"""

from __future__ import annotations

from qbot.standin import addresses, company
from qbot.standin.refusals import ANY
from qbot.standin.troubles import Trouble
from qbot.standin.vendor import JSON, Ask, Market, Said, Vendor, change, said, text, theirs, with_dots

BAD_KEY = {
    "Error Message": "Invalid API KEY. Feel free to create a Free API Key or visit "
    "https://site.financialmodelingprep.com/faqs?search=why-is-my-api-key-invalid for more information."
}
USED_UP = {
    "Error Message": "Limit Reach . Please upgrade your plan or visit our documentation for more details at "
    "https://site.financialmodelingprep.com/"
}
PREMIUM = (
    "Premium Query Parameter: 'Special Endpoint : This value set for 'symbol' is not available under your current "
    "subscription please visit our subscription page to upgrade your plan at https://site.financialmodelingprep.com/"
)
RESTRICTED = (
    "Restricted Endpoint: This endpoint is not available under your current subscription please visit our "
    "subscription page to upgrade your plan at https://site.financialmodelingprep.com/"
)


def _without_key(ask: Ask) -> Said | None:
    known = ask.headers.get("apikey") or ask.query.get("apikey")
    return None if known else said(BAD_KEY, 401)


def _answer(ask: Ask, market: Market) -> Said:
    if ask.path not in ("/quote", "/profile"):
        return text(RESTRICTED, 402, JSON)
    symbols = with_dots(ask)
    if len(symbols) != 1:
        return said([])
    return _quote(symbols[0], market) if ask.path == "/quote" else _profile(symbols[0], market)


def _quote(symbol: str, market: Market) -> Said:
    found = market.snapshot(symbol)
    if found is None:
        return said([])
    usd, percent = change(found.price, found.previous_close)
    one = company.company(symbol)
    return said([{
        "symbol": theirs(symbol), "name": one.name, "price": found.price, "changePercentage": percent, "change": usd,
        "volume": found.volume, "dayLow": found.low, "dayHigh": found.high, "yearHigh": found.high,
        "yearLow": found.low, "marketCap": int(one.shares * found.previous_close), "priceAvg50": found.previous_close,
        "priceAvg200": found.previous_close, "exchange": one.exchange, "open": found.open,
        "previousClose": found.previous_close, "timestamp": int(found.at.timestamp()),
    }])  # fmt: skip


def _profile(symbol: str, market: Market) -> Said:
    found = market.snapshot(symbol)
    if found is None:
        return said([])
    one, (usd, percent) = company.company(symbol), change(found.price, found.previous_close)
    return said([{
        "symbol": theirs(symbol), "price": found.price, "marketCap": int(one.shares * found.previous_close),
        "beta": one.beta, "lastDividend": one.dividend_usd, "range": f"{found.low}-{found.high}", "change": usd,
        "changePercentage": percent, "volume": found.volume, "averageVolume": found.volume, "companyName": one.name,
        "currency": "USD", "cik": None, "isin": None, "cusip": None, "exchangeFullName": one.exchange,
        "exchange": one.exchange, "industry": one.industry, "website": "", "description": "", "ceo": "",
        "sector": one.sector, "country": "US", "fullTimeEmployees": "1000", "ipoDate": "1990-01-02",
        "defaultImage": True, "isEtf": False, "isActivelyTrading": True, "isAdr": False, "isFund": False,
    }])  # fmt: skip


VENDOR = Vendor(
    name="fmp",
    prefix=addresses.FMP,
    without_key=_without_key,
    answer=_answer,
    symbols_of=with_dots,
    refusals=ANY
    | {
        Trouble.MINUTE_LIMIT: text("Too Many Requests", 429),
        Trouble.QUOTA: said(USED_UP, 429),
        Trouble.ERROR_IN_200: said(USED_UP),
        Trouble.PLAN: text(RESTRICTED, 402, JSON),
        Trouble.PLAN_SYMBOL: text(PREMIUM, 402, JSON),
        Trouble.AUTH: said(BAD_KEY, 401),
        Trouble.SERVER_ERROR: said([], 500),
    },
)
