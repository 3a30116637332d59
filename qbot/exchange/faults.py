"""Faults that tests switch on: what a broker's network really does to its clients.

`latency` waits before the request is handled. `rate_limited`, `server_error` answer 429, 500 without handling it.
`timeout_after_accept` handles it and answers 504; `drop_after_accept` handles it and closes the socket.
`silent_stream` keeps websockets open and sends no update; `hold_cancels` leaves cancels in `pending_cancel`.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_KINDS = frozenset({"latency", "rate_limited", "server_error", "timeout_after_accept", "drop_after_accept"})
STATE_KINDS = frozenset({"silent_stream", "hold_cancels"})
OWN_PATHS = ("/faults", "/healthz")
BODIES = {
    429: {"code": 42910000, "message": "rate limit exceeded"},
    500: {"code": 50010000, "message": "internal server error occurred"},
    504: {"message": "upstream request timeout"},
}


@dataclass(slots=True)
class Fault:
    """A fault of requests of `method` (all if empty) whose path begins with `path`, `times` often (None: always)."""

    kind: str
    method: str = ""
    path: str = "/v2"
    times: int | None = None
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in REQUEST_KINDS | STATE_KINDS:
            raise ValueError(f"unknown fault {self.kind!r}")


@dataclass(slots=True)
class Faults:
    """The faults that are on."""

    on: list[Fault] = field(default_factory=list)

    def active(self, kind: str) -> bool:
        """Whether a fault of this kind is on."""
        return any(fault.kind == kind for fault in self.on)

    def take(self, method: str, path: str) -> list[Fault]:
        """The faults that befall this request; each is used up by one."""
        hit = [f for f in self.on if f.kind in REQUEST_KINDS and f.method in {"", method} and path.startswith(f.path)]
        for fault in hit:
            if fault.times is not None:
                fault.times -= 1
        self.on = [f for f in self.on if f.times is None or f.times > 0]
        return hit

    def add(self, body: dict[str, Any]) -> None:
        """Switch one on. Raises ValueError or TypeError if the body is no fault."""
        self.on.append(Fault(**body))

    def clear(self) -> None:
        """Switch all off."""
        self.on.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """What is on."""
        return [asdict(fault) for fault in self.on]


class FaultMiddleware:
    """Lets the faults befall HTTP requests, outside of everything else."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"].startswith(OWN_PATHS):
            await self._app(scope, receive, send)
            return
        hit = {fault.kind: fault for fault in self._faults.take(scope["method"], scope["path"])}
        if "latency" in hit:
            await asyncio.sleep(hit["latency"].seconds)
        if "rate_limited" in hit:
            await _answer(send, 429)
        elif "server_error" in hit:
            await _answer(send, 500)
        elif "timeout_after_accept" in hit:
            await self._app(scope, receive, _swallow)
            await _answer(send, 504)
        elif "drop_after_accept" in hit:
            await self._app(scope, receive, _swallow)
            await _drop(send)
        else:
            await self._app(scope, receive, send)


async def _swallow(_message: Message) -> None:
    """An answer that never gets out."""


async def _answer(send: Send, status: int) -> None:
    body = json.dumps(BODIES[status]).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 429:
        headers += [(b"x-ratelimit-remaining", b"0")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _drop(send: Send) -> None:
    """Close the socket. ASGI has no word for it, so the transport is taken from uvicorn's own `send`."""
    send.__self__.transport.abort()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
