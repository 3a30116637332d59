"""Twelve Data as it answers on the free plan: numbers are strings, errors come under HTTP 200 as well.

Facts of the wire: twelvedata.com/docs, and recorded answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from qbot.clock import NEW_YORK
from qbot.market.calendar import market_hours
from qbot.standin import addresses, company
from qbot.standin.market import Bar, Snapshot
from qbot.standin.refusals import ANY
from qbot.standin.troubles import Trouble
from qbot.standin.vendor import Ask, Market, Said, Vendor, change, listed, said

Body = dict[str, Any]
INTERVAL = "5min"  # the one that QBot asks for
WITHOUT_START = timedelta(days=10)  # far enough back for the newest bars, however few are asked for
PRICING = "https://twelvedata.com/pricing"


def _error(code: int, message: str) -> Body:
    return {"code": code, "message": message, "status": "error"}


NO_KEY = _error(
    401, "**apikey** parameter is incorrect or not specified. You can get your free API key instantly following this "
    f"link: {PRICING}. If you believe that everything is correct, you can contact us at "
    "https://twelvedata.com/contact/customer",
)  # fmt: skip
NOT_THERE = _error(
    404, "**symbol** or **figi** parameter is missing or invalid. Please provide a valid symbol according to API "
    "documentation: https://twelvedata.com/docs#reference-data",
)  # fmt: skip
NO_BARS = _error(400, "No data is available on the specified dates. Try setting different start/end dates.")
MINUTE = _error(
    429, "You have run out of API credits for the current minute. 9 API credits were used, with the current limit "
    f"being 8. Wait for the next minute or consider switching to a higher tier plan at {PRICING}",
)  # fmt: skip
DAY = _error(
    429, "You have run out of API credits for the day. 801 API credits were used, with the current limit being 800. "
    f"Wait for the next day or consider switching to a higher tier plan at {PRICING}",
)  # fmt: skip
PLAN = _error(
    403, f"/statistics is available exclusively with pro plans. Consider upgrading your API Key now at {PRICING}"
)
PLAN_SYMBOL = _error(
    404, f"This symbol is available starting with the Grow or Venture plan. Consider upgrading now at {PRICING}"
)


def _without_key(ask: Ask) -> Said | None:
    kind, _space, key = ask.headers.get("authorization", "").partition(" ")
    known = (kind == "apikey" and key) or ask.query.get("apikey")
    return None if known else said(NO_KEY, 401)


def _answer(ask: Ask, market: Market) -> Said:
    if ask.path == "/quote":
        return _each(ask, lambda symbol: _quote(symbol, market))
    if ask.path == "/time_series":
        if ask.query.get("interval") != INTERVAL:
            return said(_error(400, f"**interval** is not supported here: {INTERVAL}"), 400)
        return _all_series(ask, market)
    return said(PLAN, 403)


def _each(ask: Ask, one: Callable[[str], Body]) -> Said:
    """Several are keyed by their symbol, each with its own errors; a single one is not, and its error is HTTP's too."""
    symbols = listed(ask)
    if not symbols:
        return said(NOT_THERE, 400)
    if len(symbols) > 1:
        return said({symbol: one(symbol) for symbol in symbols})
    body = one(symbols[0])
    return said(body, body["code"] if body.get("status") == "error" else 200)


def _quote(symbol: str, market: Market) -> Body:
    found = market.snapshot(symbol)
    if found is None:
        return NOT_THERE
    usd, percent = change(found.price, found.previous_close)
    one = company.company(symbol)
    return {
        "symbol": symbol, "name": one.name, "exchange": one.exchange, "mic_code": "XNGS", "currency": "USD",
        "datetime": f"{found.begin.astimezone(NEW_YORK):%Y-%m-%d}", "timestamp": int(found.begin.timestamp()),
        "last_quote_at": int(found.at.timestamp()), "open": _text(found.open), "high": _text(found.high),
        "low": _text(found.low), "close": _text(found.price), "volume": str(found.volume),
        "previous_close": _text(found.previous_close), "change": _text(usd), "percent_change": _text(percent),
        "average_volume": str(found.volume), "is_market_open": market_hours(market.now).is_open,
        "fifty_two_week": _year(found),
    }  # fmt: skip


def _year(found: Snapshot) -> Body:
    return {"low": _text(found.low), "high": _text(found.high), "range": f"{found.low:.6f} - {found.high:.6f}"}


def _all_series(ask: Ask, market: Market) -> Said:
    try:
        zone, start, end, count = _span(ask, market.now)
    except (ValueError, ZoneInfoNotFoundError):
        wrong = _error(400, "Invalid **start_date**, **end_date**, **timezone** or **outputsize**.")
        return _each(ask, lambda _symbol: wrong)
    known = list(market.prices.snapshots(listed(ask), market.now))
    found = market.bars(known, start, end)
    ascending = ask.query.get("order", "desc").lower() == "asc"
    return _each(
        ask, lambda symbol: _series(symbol, found[symbol][-count:], zone, ascending) if symbol in found else NOT_THERE
    )


def _series(symbol: str, found: Sequence[Bar], zone: ZoneInfo, ascending: bool) -> Body:
    if not found:
        return NO_BARS
    one = company.company(symbol)
    values = [_row(bar, f"{bar.at.astimezone(zone):%Y-%m-%d %H:%M:%S}") for bar in found]
    meta = {
        "symbol": symbol, "interval": INTERVAL, "currency": "USD", "exchange_timezone": "America/New_York",
        "exchange": one.exchange, "mic_code": "XNGS", "type": "Common Stock",
    }  # fmt: skip
    return {"meta": meta, "values": values if ascending else values[::-1], "status": "ok"}


def _span(ask: Ask, now: datetime) -> tuple[ZoneInfo, datetime, datetime, int]:
    """The zone of the times told, what is asked for in UTC, and how many at most. Naive times are of that zone."""
    named = ask.query.get("timezone", "Exchange")
    zone = NEW_YORK if named == "Exchange" else ZoneInfo(named)

    def moment(name: str, default: datetime) -> datetime:
        told = ask.query.get(name)
        return datetime.fromisoformat(told).replace(tzinfo=zone).astimezone(UTC) if told else default

    end = moment("end_date", now)
    start = moment("start_date", end - WITHOUT_START)
    count = int(ask.query.get("outputsize", "5000" if "start_date" in ask.query else "30"))
    if not 0 < count <= 5000:
        raise ValueError(count)
    return zone, start, end, count


def _row(bar: Bar, when: str) -> Body:
    prices = {name: _text(getattr(bar, name)) for name in ("open", "high", "low", "close")}
    return {"datetime": when, **prices, "volume": str(bar.volume)}


def _text(value: float | None) -> str | None:
    return None if value is None else f"{value:.5f}"


VENDOR = Vendor(
    name="twelvedata",
    prefix=addresses.TWELVEDATA,
    without_key=_without_key,
    answer=_answer,
    symbols_of=listed,
    refusals=ANY
    | {
        Trouble.MINUTE_LIMIT: said(MINUTE, 429),
        Trouble.QUOTA: said(DAY, 429),
        Trouble.ERROR_IN_200: said(MINUTE),
        Trouble.PLAN: said(PLAN, 403),
        Trouble.PLAN_SYMBOL: said(PLAN_SYMBOL, 404),
        Trouble.AUTH: said(NO_KEY, 401),
        Trouble.SERVER_ERROR: said(_error(500, "Internal server error"), 500),
    },
)
