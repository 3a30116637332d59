"""The `trade_updates` websocket: binary frames that hold JSON, as the vendor's paper account sends them.

`?frames=text` gets text frames instead. What a client sends may be either.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from qbot.exchange import wire
from qbot.exchange.faults import Faults
from qbot.exchange.orders import Event

QUEUE_MAX = 10_000  # a client this far behind is not reading: it is cut off and has to reconcile over REST


# What is to be sent; None ends the connection.
Outbox = asyncio.Queue[dict[str, Any] | None]


class Hub:
    """Everyone who listens to `trade_updates`."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._listeners: set[Outbox] = set()

    @property
    def listeners(self) -> int:
        """How many connections listen."""
        return len(self._listeners)

    def publish(self, events: list[Event]) -> None:
        """Queue the events for every listener. What happens while the stream is silent is lost to it for good."""
        if not self._listeners or self._faults.active("silent_stream"):
            return
        for message in map(wire.trade_update, events):
            for queue in list(self._listeners):
                if queue.qsize() >= QUEUE_MAX:
                    self._listeners.discard(queue)
                    queue.put_nowait(None)
                else:
                    queue.put_nowait(message)

    async def serve(self, socket: WebSocket, keys: dict[str, str]) -> None:
        """One connection, from its handshake to its end."""
        await socket.accept()
        queue: Outbox = asyncio.Queue()
        sender = asyncio.create_task(_send_all(socket, queue))
        try:
            await self._listen(socket, queue, keys)
        except WebSocketDisconnect:
            return
        finally:
            self._listeners.discard(queue)
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sender

    async def _listen(self, socket: WebSocket, queue: Outbox, keys: dict[str, str]) -> None:
        authorized = False
        while True:
            message = await _receive(socket)
            action, data = message.get("action"), message.get("data") or {}
            if action in {"authenticate", "auth"}:
                key = data.get("key_id") or message.get("key")
                authorized = key in keys and keys[key] == (data.get("secret_key") or message.get("secret"))
                status = "authorized" if authorized else "unauthorized"
                queue.put_nowait({"stream": "authorization", "data": {"status": status, "action": "authenticate"}})
            elif action == "listen" and authorized:
                wanted = [name for name in data.get("streams", []) if name == "trade_updates"]
                queue.put_nowait({"stream": "listening", "data": {"streams": wanted}})
                (self._listeners.add if wanted else self._listeners.discard)(queue)
            else:
                queue.put_nowait({"stream": "error", "data": {"message": "not authorized, or unknown action"}})


async def _receive(socket: WebSocket) -> dict[str, Any]:
    frame = await socket.receive()
    if frame["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(frame.get("code", 1000))
    try:
        message = json.loads(frame.get("text") or frame.get("bytes") or b"")
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


async def _send_all(socket: WebSocket, queue: Outbox) -> None:
    as_text = socket.query_params.get("frames") == "text"
    while (message := await queue.get()) is not None:
        text = json.dumps(message)
        await (socket.send_text(text) if as_text else socket.send_bytes(text.encode()))
    await socket.close(1008)
