"""The account's past: fills as activities, and the course of its equity."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qbot.clock import NEW_YORK
from qbot.exchange import activities, wire
from qbot.exchange.orders import Booking, Fill
from qbot.exchange.refusals import bad_form
from qbot.exchange.trading_api import moment_of, whole_number
from qbot.exchange.venue import Venue

PAGE_MAX = 100
FRAMES_S = {"1Min": 300, "5Min": 300, "15Min": 900, "1H": 3600, "1D": 86_400}  # equity is recorded every 5 minutes
PERIOD = re.compile(r"(\d+)([DWMA])")
PERIOD_DAYS = {"D": 1, "W": 7, "M": 30, "A": 365}


async def get_activities(venue: Venue, request: Request) -> Response:
    """GET /v2/account/activities and /v2/account/activities/{activity_type}"""
    query, book = request.query_params, venue.sync()
    named = request.path_params.get("activity_type")
    types = [named] if named else [t for t in query.get("activity_types", "").split(",") if t]
    for kind in types:
        if kind != "FILL" and kind not in activities.KINDS:
            raise bad_form(f"invalid activity type: {kind}")
    category = query.get("category")
    wanted = ("FILL" in types or not types) and category != "non_trade_activity"
    trades = [(fill.at, wire.activity(fill)) for fill in book.fills if _in_range(fill, request)] if wanted else []
    others = [] if category == "trade_activity" or query.get("order_id") else [
        (one.at, activities.wire(one)) for one in book.bookings
        if (not types or one.kind in types) and _in_range(one, request)
    ]  # fmt: skip
    found = [body for _at, body in sorted(trades + others, key=lambda each: each[0])]
    if query.get("direction", "desc") == "desc":
        found.reverse()
    size = min(whole_number(query.get("page_size"), "page_size", PAGE_MAX), PAGE_MAX)
    begin = _after_token(found, query.get("page_token"))
    return JSONResponse(found[begin : begin + size])


def _in_range(fill: Fill | Booking, request: Request) -> bool:
    query = request.query_params
    after, until = moment_of(query.get("after"), "after"), moment_of(query.get("until"), "until")
    day = moment_of(query.get("date"), "date")
    return (
        (after is None or fill.at > after)
        and (until is None or fill.at < until)
        and (day is None or fill.at.astimezone(NEW_YORK).date() == day.date())
        and query.get("order_id") in {None, "", getattr(fill, "order_id", None)}
    )


def _after_token(found: list[dict[str, Any]], token: str | None) -> int:
    """A page begins after the activity whose id is the token."""
    if not token:
        return 0
    for index, body in enumerate(found):
        if body["id"] == token:
            return index + 1
    raise bad_form(f"invalid page_token: {token}")


async def get_portfolio_history(venue: Venue, request: Request) -> Response:
    """GET /v2/account/portfolio/history: the last value of each time window, labelled with the window's start"""
    query, book = request.query_params, venue.sync()
    frame = query.get("timeframe") or ("1D" if query.get("period", "1M")[-1:] in {"M", "A"} else "15Min")
    if frame not in FRAMES_S:
        raise bad_form(f"invalid timeframe: {frame}")
    start, end = _range(book.now, request)
    first, last = start.timestamp(), end.timestamp()
    chosen: dict[int, Decimal] = {}
    base: Decimal | None = None
    for at, usd in book.equity:
        if at < first:
            base = usd
        elif at <= last:
            chosen[_window(at, FRAMES_S[frame])] = usd
    return JSONResponse(_history(chosen, base, frame))


def _window(at: int, step: int) -> int:
    """The start of the window that ends with, or holds, the sample. Daily windows are New York days."""
    if step == FRAMES_S["1D"]:
        local = datetime.fromtimestamp(at, NEW_YORK)
        return int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    return (at - 1) // step * step


def _history(chosen: dict[int, Decimal], base: Decimal | None, frame: str) -> dict[str, Any]:
    values = [float(usd) for usd in chosen.values()]
    start = float(base) if base is not None else values[0] if values else None
    gains = [round(value - start, 6) for value in values] if start is not None else []
    return {
        "timestamp": list(chosen), "equity": values, "profit_loss": gains,
        "profit_loss_pct": [round(gain / start, 10) if start else None for gain in gains],
        "base_value": start, "timeframe": frame,
    }  # fmt: skip


def _range(now: datetime, request: Request) -> tuple[datetime, datetime]:
    query = request.query_params
    end = moment_of(query.get("end") or query.get("date_end"), "end") or now
    start = moment_of(query.get("start"), "start")
    if start is None:
        match = PERIOD.fullmatch(query.get("period") or "1M")
        if not match:
            raise bad_form(f"invalid period: {query.get('period')}")
        start = end - timedelta(days=int(match[1]) * PERIOD_DAYS[match[2]])
    return start, end
