"""The HTTP and websocket server around a venue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from qbot.exchange import data_api, history, trading_api, wire
from qbot.exchange.activities import book_it
from qbot.exchange.activities import wire as wire_activity
from qbot.exchange.faults import FaultMiddleware
from qbot.exchange.gate import RateLimit, authorize
from qbot.exchange.refusals import Refused
from qbot.exchange.venue import Venue

log = logging.getLogger(__name__)
TICK_S = 0.1  # wall: 6 market seconds at 60 times speed, well inside the 100 seconds of one leg of a bar
LOOPBACK = frozenset({"127.0.0.1", "::1"})

Handler = Callable[[Venue, Request], Awaitable[Response]]

TRADING: list[tuple[str, str, Handler]] = [
    ("GET", "/v2/account", trading_api.get_account),
    ("GET", "/v2/account/configurations", trading_api.get_configurations),
    ("GET", "/v2/account/portfolio/history", history.get_portfolio_history),
    ("GET", "/v2/account/activities", history.get_activities),
    ("GET", "/v2/account/activities/{activity_type}", history.get_activities),
    ("POST", "/v2/orders", trading_api.post_order),
    ("GET", "/v2/orders", trading_api.get_orders),
    ("DELETE", "/v2/orders", trading_api.delete_orders),
    ("GET", "/v2/orders:by_client_order_id", trading_api.get_order_by_client_id),
    ("GET", "/v2/orders/{order_id}", trading_api.get_order),
    ("PATCH", "/v2/orders/{order_id}", trading_api.patch_order),
    ("DELETE", "/v2/orders/{order_id}", trading_api.delete_order),
    ("GET", "/v2/positions", trading_api.get_positions),
    ("DELETE", "/v2/positions", trading_api.delete_positions),
    ("GET", "/v2/positions/{symbol}", trading_api.get_position),
    ("DELETE", "/v2/positions/{symbol}", trading_api.delete_position),
    ("GET", "/v2/assets", trading_api.get_assets),
    ("GET", "/v2/assets/{symbol}", trading_api.get_asset),
    ("GET", "/v2/clock", trading_api.get_clock),
    ("GET", "/v2/calendar", trading_api.get_calendar),
]
DATA: list[tuple[str, str, Handler]] = [
    ("GET", "/v2/stocks/bars", data_api.get_bars),
    ("GET", "/v2/stocks/snapshots", data_api.get_snapshots),
    ("GET", "/v2/stocks/{kind:str}/latest", data_api.get_latest),
    ("GET", "/v2/stocks/{symbol}/bars", data_api.get_bars_of),
    ("GET", "/v2/stocks/{symbol}/{kind:str}/latest", data_api.get_latest),
    ("GET", "/v2/stocks/{symbol}/snapshot", data_api.get_snapshots),
]


def create_app(venue: Venue, keys: dict[str, str], rate_limit_per_minute: int = 200) -> ASGIApp:
    """The application. `keys`: secret by key id. The trading and the data API have a limit each, as they have there."""
    limits = {"trading": RateLimit(rate_limit_per_minute), "data": RateLimit(rate_limit_per_minute)}
    wake = asyncio.Event()

    def endpoint(api: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def call(request: Request) -> Response:
            headers: dict[str, str] = {}
            try:
                headers = limits[api].count(authorize(request, keys))
                response = await handler(venue, request)
            except Refused as refused:
                response = JSONResponse(refused.body, refused.status, refused.headers)
            except ClientDisconnect:  # while its body was read, so nothing was begun, and nobody waits for an answer
                response = Response(status_code=400)
            except Exception:
                venue.fail()
                raise
            response.headers.update(headers)
            if request.method != "GET":
                wake.set()
            return response

        return call

    async def stream(socket: WebSocket) -> None:
        await venue.hub.serve(socket, keys)

    routes: list[BaseRoute] = [Route(p, endpoint("trading", h), methods=[m]) for m, p, h in TRADING]
    routes += [Route(p, endpoint("data", h), methods=[m]) for m, p, h in DATA]
    routes += [WebSocketRoute("/stream", stream), *_own_routes(venue)]

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        ticker = asyncio.create_task(_tick_for_ever(venue, wake))
        yield
        ticker.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):  # a failure was logged where it happened
            await ticker
        venue.journal.close()

    # Around all of Starlette, not among its middleware: a dropped connection needs the server's own `send`.
    return FaultMiddleware(Starlette(routes=routes, lifespan=lifespan), venue.faults)


async def _tick_for_ever(venue: Venue, wake: asyncio.Event) -> None:
    """Let the market move. If that fails the process ends: a restart goes on from the journal."""
    while True:
        wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), TICK_S)
        try:
            venue.sync()
        except Exception:
            log.exception("the market cannot move on")
            venue.fail()
            raise


def _own_routes(venue: Venue) -> list[BaseRoute]:
    """What is not Alpaca's: health, and, from this machine only, the faults and what else changes the account."""

    async def healthz(request: Request) -> Response:
        book = venue.book
        return JSONResponse({"status": "ok", "market_time": wire.stamp(book.now), "open_orders": len(book.open),
                             "orders": len(book.orders), "realized_usd": str(book.ledger.realized_usd)})  # fmt: skip

    async def faults(request: Request) -> Response:
        if request.client is None or request.client.host not in LOOPBACK:
            return JSONResponse({"message": "forbidden."}, 403)
        if request.method == "DELETE":
            venue.faults.clear()
        elif request.method == "POST":
            try:
                venue.faults.add(await request.json())
            except (ValueError, TypeError) as error:
                return JSONResponse({"message": str(error)}, 422)
        return JSONResponse(venue.faults.as_json())

    async def activities(request: Request) -> Response:
        if request.client is None or request.client.host not in LOOPBACK:
            return JSONResponse({"message": "forbidden."}, 403)
        try:
            made = book_it(venue.sync(), await request.json())
        except (ValueError, TypeError, AttributeError) as error:
            return JSONResponse({"message": str(error)}, 422)
        venue.note()
        return JSONResponse(wire_activity(made))

    return [
        Route("/healthz", healthz),
        Route("/activities", activities, methods=["POST"]),
        Route("/faults", faults, methods=["GET", "POST", "DELETE"]),
    ]
