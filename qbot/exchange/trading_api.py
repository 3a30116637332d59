"""The trading API: account, orders, positions, assets, clock, calendar. Each handler gets the venue and the request."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qbot.exchange import assets, engine, rules, wire
from qbot.exchange.book import Book
from qbot.exchange.orders import Order
from qbot.exchange.refusals import Refused, asset_not_found, bad_form, order_not_found, position_not_found
from qbot.exchange.venue import Venue

ORDERS_LIMIT_DEFAULT, ORDERS_LIMIT_MAX = 50, 500


async def get_account(venue: Venue, request: Request) -> Response:
    """GET /v2/account"""
    return JSONResponse(wire.account(venue.sync(), venue.created_at))


async def get_configurations(venue: Venue, request: Request) -> Response:
    """GET /v2/account/configurations"""
    return JSONResponse(wire.CONFIGURATIONS)


async def post_order(venue: Venue, request: Request) -> Response:
    """POST /v2/orders: the order is in the journal before it is answered, and trades right after."""
    new = rules.parse(await _json(request))
    book = venue.sync()
    order = engine.submit(book, new, venue.now())
    body = wire.order(order, book.legs_of(order))
    venue.commit()
    return JSONResponse(body)


async def get_orders(venue: Venue, request: Request) -> Response:
    """GET /v2/orders"""
    query, book = request.query_params, venue.sync()
    status, direction = query.get("status", "open"), query.get("direction", "desc")
    if status not in {"open", "closed", "all"}:
        raise bad_form(f"invalid status: {status}")
    limit = min(whole_number(query.get("limit"), "limit", ORDERS_LIMIT_DEFAULT), ORDERS_LIMIT_MAX)
    found = sorted(_selected(book, status, request), key=lambda o: (o.submitted_at, o.seq), reverse=direction != "asc")
    if not flag(request, "nested"):
        return JSONResponse([wire.order(order) for order in found[:limit]])
    ids = {order.id for order in found}
    tops = [order for order in found if order.parent_id not in ids][:limit]
    return JSONResponse([wire.order(order, book.legs_of(order)) for order in tops])


def _selected(book: Book, status: str, request: Request) -> list[Order]:
    query = request.query_params
    after, until = (moment_of(query.get(name), name) for name in ("after", "until"))
    symbols = set(filter(None, query.get("symbols", "").split(",")))
    source = book.open if status == "open" else book.orders
    tests: list[Callable[[Order], bool]] = []
    if status == "closed":
        tests.append(lambda o: not o.open)
    if after:
        tests.append(lambda o: o.submitted_at > after)
    if until:
        tests.append(lambda o: o.submitted_at < until)
    if symbols:
        tests.append(lambda o: o.symbol in symbols)
    if query.get("side"):
        tests.append(lambda o: o.side == query["side"])
    return [order for order in source.values() if all(test(order) for test in tests)]


async def get_order(venue: Venue, request: Request) -> Response:
    """GET /v2/orders/{order_id}"""
    book = venue.sync()
    order = engine.find(book, request.path_params["order_id"])
    legs = book.legs_of(order) if flag(request, "nested") else None
    return JSONResponse(wire.order(order, legs))


async def get_order_by_client_id(venue: Venue, request: Request) -> Response:
    """GET /v2/orders:by_client_order_id"""
    book, client_id = venue.sync(), request.query_params.get("client_order_id", "")
    if client_id not in book.client_ids:
        raise order_not_found(client_id)
    order = book.orders[book.client_ids[client_id]]
    return JSONResponse(wire.order(order, book.legs_of(order)))


async def patch_order(venue: Venue, request: Request) -> Response:
    """PATCH /v2/orders/{order_id}"""
    body, book = await _json(request), venue.sync()
    old = engine.find(book, request.path_params["order_id"])
    if not old.open:
        raise bad_form("only open orders can be replaced")
    order = engine.replace(book, old.id, rules.patch(engine.as_request(old), body), venue.now())
    answer = wire.order(order, book.legs_of(order))
    venue.commit()
    return JSONResponse(answer)


async def delete_order(venue: Venue, request: Request) -> Response:
    """DELETE /v2/orders/{order_id}"""
    engine.cancel(venue.sync(), request.path_params["order_id"], venue.now())
    venue.commit()
    return Response(status_code=204)


async def delete_orders(venue: Venue, request: Request) -> Response:
    """DELETE /v2/orders"""
    orders = engine.cancel_all(venue.sync(), venue.now())
    venue.commit()
    return JSONResponse([{"id": order.id, "status": 200} for order in orders], status_code=207)


async def get_positions(venue: Venue, request: Request) -> Response:
    """GET /v2/positions"""
    book = venue.sync()
    return JSONResponse([wire.position(book, symbol) for symbol in sorted(book.ledger.holdings)])


async def get_position(venue: Venue, request: Request) -> Response:
    """GET /v2/positions/{symbol_or_asset_id}"""
    book, symbol = venue.sync(), _symbol(venue, request)
    if not book.ledger.qty(symbol):
        raise position_not_found()
    return JSONResponse(wire.position(book, symbol))


async def delete_position(venue: Venue, request: Request) -> Response:
    """DELETE /v2/positions/{symbol_or_asset_id}, all of it or `qty` or `percentage` of it"""
    book, symbol = venue.sync(), _symbol(venue, request)
    qty, percentage = (_decimal(request.query_params.get(name), name) for name in ("qty", "percentage"))
    if qty is not None and percentage is not None:
        raise bad_form("only one of qty and percentage may be given")
    if percentage is not None:
        if percentage > 100:
            raise bad_form("percentage must be between 0 and 100")
        qty = (book.ledger.qty(symbol) * percentage / 100).quantize(Decimal("0.000000001"))
    order = engine.close_position(book, symbol, qty, venue.now())
    body = wire.order(order)
    venue.commit()
    return JSONResponse(body)


async def delete_positions(venue: Venue, request: Request) -> Response:
    """DELETE /v2/positions: one answer a position, each with its own status"""
    book = venue.sync()
    if flag(request, "cancel_orders"):
        engine.cancel_all(book, venue.now())
    answers: list[dict[str, Any]] = []
    for symbol in sorted(book.ledger.holdings):
        try:
            order = engine.close_position(book, symbol, None, venue.now())
            answers.append({"symbol": symbol, "status": 200, "body": wire.order(order)})
        except Refused as refused:
            answers.append({"symbol": symbol, "status": refused.status, "body": refused.body})
    venue.commit()
    return JSONResponse(answers, status_code=207)


async def get_assets(venue: Venue, request: Request) -> Response:
    """GET /v2/assets"""
    query = request.query_params
    listed = [assets.asset(symbol) for symbol in venue.book.market.symbols]
    wanted = query.get("status", "active") == "active" and query.get("asset_class", "us_equity") == "us_equity"
    return JSONResponse([a for a in listed if wanted and query.get("exchange") in {None, "", a["exchange"]}])


async def get_asset(venue: Venue, request: Request) -> Response:
    """GET /v2/assets/{symbol_or_asset_id}"""
    symbol = _symbol(venue, request)
    if symbol not in venue.book.market.series:
        raise asset_not_found(symbol)
    return JSONResponse(assets.asset(symbol))


async def get_clock(venue: Venue, request: Request) -> Response:
    """GET /v2/clock"""
    return JSONResponse(wire.clock(venue.sync()))


async def get_calendar(venue: Venue, request: Request) -> Response:
    """GET /v2/calendar, over the days the exchange knows"""
    sessions = venue.book.sessions
    first, last = (moment_of(request.query_params.get(name), name) for name in ("start", "end"))
    days = sessions.all
    wanted = sessions.between(first.date() if first else date.min, last.date() if last else date.max)
    position = {session.day: index for index, session in enumerate(days)}
    pairs = ((day, days[min(position[day.day] + 1, len(days) - 1)]) for day in wanted)
    return JSONResponse([wire.calendar_day(day, settles) for day, settles in pairs])


def _symbol(venue: Venue, request: Request) -> str:
    """The symbol a path names, by itself or by its asset id."""
    named = str(request.path_params["symbol"])
    return next((s for s in venue.book.market.symbols if assets.asset_id(s) == named), named)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body(), parse_float=Decimal)
    except ValueError:
        raise Refused(400, "request body format is invalid", 40010000) from None


def flag(request: Request, name: str) -> bool:
    """A yes of a query. alpaca-py writes it `True`."""
    return request.query_params.get(name, "").lower() in {"true", "1", "t"}


def moment_of(text: str | None, name: str) -> datetime | None:
    """A time or a day as a query gives it; without a zone it is UTC. Raises Refused."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise bad_form(f"invalid {name}: {text}") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def whole_number(text: str | None, name: str, default: int) -> int:
    """A positive whole number of a query. Raises Refused."""
    if not text:
        return default
    if not text.isdigit() or int(text) < 1:
        raise bad_form(f"invalid {name}: {text}")
    return int(text)


def _decimal(text: str | None, name: str) -> Decimal | None:
    if not text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise bad_form(f"invalid {name}: {text}") from None
    if not number.is_finite() or number <= 0:
        raise bad_form(f"{name} must be > 0")
    return number
