"""The market data API. Bars are served when they have ended, and not a moment before."""

from __future__ import annotations

import base64
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qbot.clock import NEW_YORK
from qbot.exchange import bars, quotes
from qbot.exchange.assets import tape
from qbot.exchange.book import Book
from qbot.exchange.refusals import Refused
from qbot.exchange.sessions import moment
from qbot.exchange.trading_api import moment_of, whole_number
from qbot.exchange.venue import Venue
from qbot.exchange.wire import stamp

SYMBOL = re.compile(r"[A-Z]{1,6}(\.[A-Z]{1,2})?|[A-Z]{1,6}[0-9]{1,4}")  # the latter: synthetic copies of a ticker
LIMIT_DEFAULT, LIMIT_MAX = 1000, 10_000


async def get_bars(venue: Venue, request: Request) -> Response:
    """GET /v2/stocks/bars: pages go through the symbols in order; the limit counts bars of all of them"""
    symbols = _symbols(request)
    page, token = _page(venue.sync(), symbols, request)
    return JSONResponse({"bars": page, "next_page_token": token})


async def get_bars_of(venue: Venue, request: Request) -> Response:
    """GET /v2/stocks/{symbol}/bars"""
    symbol = _symbols(request)[0]
    page, token = _page(venue.sync(), [symbol], request)
    return JSONResponse({"bars": page.get(symbol, []), "symbol": symbol, "next_page_token": token})


async def get_latest(venue: Venue, request: Request) -> Response:
    """GET /v2/stocks/{bars,quotes,trades}/latest, for many symbols or one"""
    kind = str(request.path_params["kind"])
    make = {"bars": _latest_bar, "quotes": _quote, "trades": _trade}[kind]
    book, symbols = venue.sync(), _symbols(request)
    found = {symbol: body for symbol in symbols if (body := make(book, symbol))}
    if "symbol" not in request.path_params:
        return JSONResponse({kind: found})
    if not found:
        raise Refused(404, "no data found", None)
    return JSONResponse({"symbol": symbols[0], kind.removesuffix("s"): found[symbols[0]]})


async def get_snapshots(venue: Venue, request: Request) -> Response:
    """GET /v2/stocks/snapshots and /v2/stocks/{symbol}/snapshot"""
    book, symbols = venue.sync(), _symbols(request)
    found = {symbol: body for symbol in symbols if (body := _snapshot(book, symbol))}
    if "symbol" not in request.path_params:
        return JSONResponse(found)
    if not found:
        raise Refused(404, "no data found", None)
    return JSONResponse({"symbol": symbols[0], **found[symbols[0]]})


def _symbols(request: Request) -> list[str]:
    """What is asked for, sorted. One bad symbol fails them all, as with the vendor. Raises Refused (400)."""
    text = request.path_params.get("symbol") or request.query_params.get("symbols", "")
    symbols = sorted(set(filter(None, text.split(","))))
    if not symbols:
        raise Refused(400, "symbols is required", None)
    for symbol in symbols:
        if not SYMBOL.fullmatch(symbol):
            raise Refused(400, f"invalid symbol: {symbol}", None)
    return symbols


def _page(book: Book, symbols: list[str], request: Request) -> tuple[dict[str, list[bars.Bar]], str | None]:
    query = request.query_params
    frame, sort = query.get("timeframe", "1Min"), query.get("sort", "asc")
    if frame not in bars.FRAMES:
        raise Refused(400, f"invalid timeframe: {frame}: this exchange has {', '.join(bars.FRAMES)}", None)
    limit = min(whole_number(query.get("limit"), "limit", LIMIT_DEFAULT), LIMIT_MAX)
    start, end = moment_of(query.get("start"), "start"), moment_of(query.get("end"), "end")
    midnight = book.now.astimezone(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
    span = ((start or midnight).timestamp(), end.timestamp() if end else book.time_s)
    from_symbol, offset = _read_token(query.get("page_token"))
    page: dict[str, list[bars.Bar]] = {}
    room = limit
    for symbol in symbols:
        if symbol < from_symbol or symbol not in book.market.series:
            continue
        found = bars.between(book.market.series[symbol], book.sessions, frame, *span, book.time_s)
        if sort == "desc":
            found.reverse()
        skip = offset if symbol == from_symbol else 0
        taken = found[skip : skip + room]
        if taken:
            page[symbol] = taken
        room -= len(taken)
        if skip + len(taken) < len(found):
            return page, _token(symbol, skip + len(taken))
    return page, None


def _token(symbol: str, offset: int) -> str:
    return base64.urlsafe_b64encode(f"{symbol}|{offset}".encode()).decode()


def _read_token(token: str | None) -> tuple[str, int]:
    if not token:
        return "", 0
    try:
        symbol, offset = base64.urlsafe_b64decode(token).decode().split("|")
        return symbol, int(offset)
    except ValueError:
        raise Refused(400, "invalid page token", None) from None


def _latest_bar(book: Book, symbol: str) -> bars.Bar | None:
    series = book.market.series.get(symbol)
    count = series.known(book.time_s) if series else 0
    return bars.bar(series, count - 1, count) if series and count else None


def _seen_at(book: Book) -> str | None:
    """When the last trade was: now while the market is open, at the close afterwards."""
    t = book.time_s
    close = book.sessions.last_close(t)
    return stamp(book.now if book.sessions.is_open(t) or close is None else moment(close))


def _trade(book: Book, symbol: str) -> dict[str, Any] | None:
    price = book.price(symbol) if symbol in book.market.series else None
    if price is None:
        return None
    return {"t": _seen_at(book), "x": "V", "p": float(price), "s": quotes.QUOTE_SIZE_SHARES, "c": ["@"],
            "i": int(book.time_s * 1000), "z": tape(symbol)}  # fmt: skip


def _quote(book: Book, symbol: str) -> dict[str, Any] | None:
    price = book.price(symbol) if symbol in book.market.series else None
    if price is None:
        return None
    size = quotes.QUOTE_SIZE_SHARES
    return {"t": _seen_at(book), "ax": "V", "ap": float(quotes.ask(price)), "as": size, "bx": "V",
            "bp": float(quotes.bid(price)), "bs": size, "c": ["R"], "z": tape(symbol)}  # fmt: skip


def _snapshot(book: Book, symbol: str) -> dict[str, Any] | None:
    trade = _trade(book, symbol)
    if trade is None:
        return None
    series, t = book.market.series[symbol], book.time_s
    today, before = bars.days(series, book.sessions, t)
    return {"latestTrade": trade, "latestQuote": _quote(book, symbol),
            **{name: body for name, body in (("minuteBar", _latest_bar(book, symbol)), ("dailyBar", today),
                                             ("prevDailyBar", before)) if body}}  # fmt: skip
