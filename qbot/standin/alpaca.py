"""Alpaca's market data API as it answers for the free feed. Facts of the wire: docs.alpaca.markets."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, time, timedelta
from typing import Any

from qbot.clock import NEW_YORK
from qbot.exchange.assets import tape
from qbot.exchange.data_api import SYMBOL
from qbot.market.calendar import last_and_before
from qbot.standin import addresses
from qbot.standin.market import Bar, Snapshot
from qbot.standin.refusals import ANY
from qbot.standin.troubles import Trouble
from qbot.standin.vendor import Ask, Market, Said, Vendor, listed, said

FRAME = "5Min"  # the one that QBot asks for
LIMIT, LIMIT_MAX = 1000, 10_000
Row = dict[str, Any]


def _without_key(ask: Ask) -> Said | None:
    known = ask.headers.get("apca-api-key-id") and ask.headers.get("apca-api-secret-key")
    return None if known else said({"message": "unauthorized."}, 401)


def _answer(ask: Ask, market: Market) -> Said:
    """One bad symbol fails them all; of those it knows nothing of, it says nothing."""
    symbols = sorted(set(listed(ask)))
    if not symbols:
        return said({"code": 40010001, "message": "symbols is required"}, 400)
    bad = next((symbol for symbol in symbols if symbol in market.unknown or not SYMBOL.fullmatch(symbol)), None)
    if bad is not None:
        return said({"code": 40010001, "message": f"invalid symbol: {bad}"}, 400)
    if ask.path == "/v2/stocks/snapshots":
        return said({symbol: _snapshot(one) for symbol, one in market.prices.snapshots(symbols, market.now).items()})
    if ask.path == "/v2/stocks/bars":
        return _bars(symbols, ask, market)
    return said({"message": "Not Found"}, 404)


def _snapshot(one: Snapshot) -> Row:
    at, z = _stamp(one.at), tape(one.symbol)
    book = {"t": at, "ax": "V", "ap": one.ask, "as": 1, "bx": "V", "bp": one.bid, "bs": 1, "c": ["R"], "z": z}
    day = Bar(_midnight(one.begin), one.open, one.high, one.low, one.price, one.volume)
    before = Bar(_midnight(last_and_before(one.begin)[1][0]), *(one.previous_close,) * 4, 0)
    return {
        "latestTrade": {"t": at, "x": "V", "p": one.price, "s": 100, "c": ["@"], "i": 1, "z": z},
        "latestQuote": book, "dailyBar": _row(day), "prevDailyBar": _row(before),
    }  # fmt: skip


def _bars(symbols: list[str], ask: Ask, market: Market) -> Said:
    """Pages go through the symbols in order; the limit counts bars of all of them."""
    query = ask.query
    try:
        limit = min(int(query.get("limit") or LIMIT), LIMIT_MAX)
        start, end = _moment(query.get("start"), _midnight(market.now)), _moment(query.get("end"), market.now)
        after, skipped = _read_token(query.get("page_token"))
    except ValueError:
        return said({"message": "invalid limit, start, end or page token"}, 400)
    if query.get("timeframe") != FRAME:
        return said({"message": f"invalid timeframe: {query.get('timeframe')}"}, 400)
    page: dict[str, list[Row]] = {}
    room = limit
    left = [symbol for symbol in symbols if symbol >= after]
    for symbol, found in market.bars(left, start, end + timedelta(microseconds=1)).items():  # the end counts as well
        skip = skipped if symbol == after else 0
        taken = found[skip : skip + room]
        if taken:
            page[symbol] = [_row(bar) for bar in taken]
        room -= len(taken)
        if skip + len(taken) < len(found):
            return said({"bars": page, "next_page_token": _token(symbol, skip + len(taken))})
    return said({"bars": page, "next_page_token": None})


def _row(bar: Bar) -> Row:
    return {
        "t": f"{bar.at:%Y-%m-%dT%H:%M:%SZ}", "o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close,
        "v": bar.volume, "n": bar.volume // 100, "vw": bar.close,
    }  # fmt: skip


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"


def _midnight(at: datetime) -> datetime:
    return datetime.combine(at.astimezone(NEW_YORK).date(), time(), NEW_YORK).astimezone(UTC)


def _moment(told: str | None, default: datetime) -> datetime:
    """Raises ValueError."""
    found = datetime.fromisoformat(told) if told else default
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _token(symbol: str, skip: int) -> str:
    return base64.urlsafe_b64encode(f"{symbol}|{skip}".encode()).decode()


def _read_token(token: str | None) -> tuple[str, int]:
    if not token:
        return "", 0
    symbol, skip = base64.urlsafe_b64decode(token).decode().split("|")
    return symbol, int(skip)


VENDOR = Vendor(
    name="alpaca",
    prefix=addresses.ALPACA,
    without_key=_without_key,
    answer=_answer,
    symbols_of=listed,
    refusals=ANY
    | {
        Trouble.MINUTE_LIMIT: said({"message": "too many requests."}, 429, **{"X-RateLimit-Remaining": "0"}),
        Trouble.PLAN: said({"message": "subscription does not permit querying recent SIP data"}, 403),
        Trouble.AUTH: said({"message": "forbidden."}, 403),
        Trouble.SERVER_ERROR: said({"message": "internal server error occurred"}, 500),
    },
)
