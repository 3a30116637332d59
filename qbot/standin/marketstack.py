"""Marketstack, version 2, as it answers on the free plan: ends of days, the key in the query.

Facts of the wire: docs.apilayer.com/marketstack, and recorded answers.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from qbot.clock import NEW_YORK
from qbot.market.calendar import last_and_before
from qbot.standin import addresses, company, hours
from qbot.standin.market import Bar
from qbot.standin.refusals import ANY
from qbot.standin.troubles import LIES, Trouble
from qbot.standin.vendor import Ask, Market, Said, Vendor, listed, said

SYMBOLS_MAX, LIMIT_MAX, LIMIT = 100, 1000, 100
WITHOUT_START = timedelta(days=365)
ENDS = {"/eod": "", "/eod/latest": "latest"}


def _error(code: str, message: str, status: int) -> Said:
    return said({"error": {"code": code, "message": message}}, status)


NO_FUNCTION = _error(
    "function_access_restricted", "Your current subscription plan does not support this API function.", 403
)
USED_UP = "Your monthly usage limit has been reached. Please upgrade your subscription plan."


def _without_key(ask: Ask) -> Said | None:
    if ask.query.get("access_key"):
        return None
    return _error("missing_access_key", "You have not supplied an API Access Key.", 401)


def _answer(ask: Ask, market: Market) -> Said:
    if ask.path not in ENDS:
        return NO_FUNCTION
    symbols = listed(ask)
    try:
        limit, offset = int(ask.query.get("limit", LIMIT)), int(ask.query.get("offset", 0))
        first, last = _span(ask, market)
    except ValueError:
        return _error("validation_error", "Request failed with validation error", 422)
    if not 0 < len(symbols) <= SYMBOLS_MAX or not 0 < limit <= LIMIT_MAX or offset < 0:
        return _error("validation_error", "Request failed with validation error", 422)
    known = list(market.prices.snapshots(symbols, market.now))
    if not known:
        return _error("no_valid_symbols_provided", "At least one valid symbol must be provided", 422)
    days = market.prices.days(known, first, last, market.now)
    rows = [_row(symbol, bar) for symbol, bars in days.items() for bar in bars]
    if ENDS[ask.path]:
        rows = list({row["symbol"]: row for row in rows}.values())
    rows.sort(key=lambda row: str(row["date"]), reverse=ask.query.get("sort", "DESC").upper() != "ASC")
    page = rows[offset : offset + limit]
    told = {"limit": limit, "offset": offset, "count": len(page), "total": len(rows)}
    return said({"pagination": told, "data": page})


def _span(ask: Ask, market: Market) -> tuple[date, date]:
    """The days asked for. The latest is the last session that is over: two are looked at, for a vendor that lags."""
    today = market.now.astimezone(NEW_YORK).date()
    if ENDS[ask.path]:
        last = hours.last_ended(market.now)
        return hours.day_of(last_and_before(last[0])[1]), hours.day_of(last)
    last_day = date.fromisoformat(ask.query.get("date_to", today.isoformat()))
    return date.fromisoformat(ask.query.get("date_from", (last_day - WITHOUT_START).isoformat())), last_day


def _row(symbol: str, bar: Bar) -> dict[str, Any]:
    return {
        "open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close, "volume": float(bar.volume),
        "adj_high": bar.high, "adj_low": bar.low, "adj_close": bar.close, "adj_open": bar.open,
        "adj_volume": float(bar.volume), "split_factor": 1.0, "dividend": 0.0,
        "name": company.company(symbol).name, "exchange_code": "NASDAQ", "asset_type": "Stock",
        "price_currency": "usd", "symbol": symbol, "exchange": "XNAS",
        "date": f"{bar.at.astimezone(NEW_YORK):%Y-%m-%d}T00:00:00+0000",
    }  # fmt: skip


VENDOR = Vendor(
    name="marketstack",
    prefix=addresses.MARKETSTACK,
    without_key=_without_key,
    answer=_answer,
    symbols_of=listed,
    lies=LIES - {Trouble.WRONG_TIME_ZONE},  # it tells no time of day
    refusals=ANY
    | {
        Trouble.MINUTE_LIMIT: _error("rate_limit_reached", "You have exceeded the rate limit per second.", 429),
        Trouble.QUOTA: _error("too_many_requests", USED_UP, 429),
        Trouble.ERROR_IN_200: _error("too_many_requests", USED_UP, 200),
        Trouble.PLAN: NO_FUNCTION,
        Trouble.AUTH: _error("invalid_access_key", "You have not supplied a valid API Access Key.", 401),
        Trouble.SERVER_ERROR: _error("internal_error", "Internal server error", 500),
    },
)
