"""The server: every vendor under its prefix, `/control` to break and heal them, `/healthz`.

Nothing here waits for anything else: a slow vendor sleeps in the event loop, and answers are made in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from qbot.errors import DataUnavailable
from qbot.standin import alpaca, finnhub, fmp, marketstack, twelvedata, xai, yahoo
from qbot.standin.desk import Desk, Load
from qbot.standin.market import Prices
from qbot.standin.troubles import Lying, Switch, Trouble
from qbot.standin.vendor import Ask, Market, Said, Vendor, said

VENDORS = tuple(module.VENDOR for module in (alpaca, finnhub, twelvedata, fmp, marketstack, yahoo, xai))
EVERY = "all"


class StandIn:
    """The ASGI application. `now`: market time."""

    def __init__(self, prices: Prices, now: Callable[[], datetime]) -> None:
        self._prices = prices
        self._now = now
        self._load = Load()
        self.desks = {vendor.name: Desk(vendor) for vendor in VENDORS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = str(scope["path"])
        if path == "/healthz":
            await _send(send, said({"status": "ok", "market_time": self._now().isoformat()}))
            return
        ask = await _ask(scope, receive)
        if path == "/control" or path.startswith("/control/"):
            await _send(send, self._control(scope["method"], path.removeprefix("/control").strip("/"), ask.body))
            return
        desk = next((desk for desk in self.desks.values() if _is_under(path, desk.vendor.prefix)), None)
        if desk is None:
            await _send(send, said({"message": "no vendor is here", "vendors": self._prefixes()}, 404))
            return
        await self._serve(desk, _below(ask, desk.vendor.prefix), send)

    async def _serve(self, desk: Desk, ask: Ask, send: Send) -> None:
        with self._load.one_more(), desk.load.one_more():
            switch = desk.befalls(ask)
            if switch.wait_s:
                await asyncio.sleep(switch.wait_s)
            if switch.fault is Trouble.DEAD:
                await _drop(send)
                return
            await _send(send, await self._said(desk.vendor, switch, ask))

    async def _said(self, vendor: Vendor, switch: Switch, ask: Ask) -> Said:
        refusal = None if switch.fault is None else vendor.refusals.get(switch.fault)
        if refusal is not None:
            return refusal
        keyless = vendor.without_key(ask)
        if keyless is not None:
            return keyless
        prices: Prices = Lying(self._prices, switch) if switch.fault in vendor.lies else self._prices
        hidden = (switch.symbols or vendor.symbols_of(ask)) if switch.fault is Trouble.UNKNOWN_SYMBOL else ()
        try:
            return await run_in_threadpool(vendor.answer, ask, Market(prices, self._now(), frozenset(hidden)))
        except DataUnavailable:  # the market itself cannot be asked: as if the vendor were out of order
            return vendor.refusals[Trouble.SERVER_ERROR]

    def _control(self, method: str, name: str, body: bytes) -> Said:
        """GET shows, PUT switches, DELETE heals; at the vendor named, or at all. `counters` can be deleted as well."""
        if name == "counters" and method == "DELETE":
            self._load.forget()
            for desk in self.desks.values():
                desk.forget()
            return said(self._state())
        chosen = list(self.desks.values()) if name in ("", EVERY) else [self.desks[name]] if name in self.desks else []
        if not chosen:
            return said({"message": f"no vendor is named {name}; there are {', '.join(self.desks)}"}, 404)
        if method == "PUT":
            try:
                _put(chosen, Switch.model_validate_json(body or b"{}"))
            except ValueError as error:
                return said({"message": _words(error)}, 422)
        elif method == "DELETE":
            _put(chosen, Switch())
        elif method != "GET":
            return said({"message": f"no {method} here"}, 405)
        return said(self._state())

    def _state(self) -> Mapping[str, Any]:
        vendors = {name: desk.as_json() for name, desk in self.desks.items()}
        return {"vendors": vendors, "in_flight_max": self._load.most, "market_time": self._now().isoformat()}

    def _prefixes(self) -> Mapping[str, str]:
        return {name: desk.vendor.prefix for name, desk in self.desks.items()}


def _put(chosen: list[Desk], switch: Switch) -> None:
    """At one: raises ValueError for a trouble that it cannot have. At several: at those that can."""
    able = [desk for desk in chosen if switch.fault is None or switch.fault in desk.vendor.troubles]
    for desk in able or chosen:
        desk.put(switch)


def _words(error: ValueError) -> str:
    found = getattr(error, "errors", None)
    if found is None:
        return str(error)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in found())


def _is_under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _below(ask: Ask, prefix: str) -> Ask:
    return Ask(ask.path.removeprefix(prefix), ask.query, ask.headers, ask.body)


async def _ask(scope: Scope, receive: Receive) -> Ask:
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return Ask(str(scope["path"]), query, headers, body)


async def _send(send: Send, answer: Said) -> None:
    kind = {"content-type": answer.kind, "content-length": str(len(answer.body))}
    pairs = {name.lower(): value for name, value in answer.headers.items()} | kind
    headers = [(name.encode(), value.encode()) for name, value in pairs.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _drop(send: Send) -> None:
    """Close the socket. ASGI has no word for it, so the transport is taken from uvicorn's own `send`."""
    send.__self__.transport.abort()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
