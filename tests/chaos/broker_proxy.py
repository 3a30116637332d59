"""The line to the broker: it knows an order when it sees one, and may hold it up, lose its answer, or bring it late.

It keeps account of every order that was posted, which is how a blind repetition is noticed that the venue would hide.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.frames import Frames, without_compression
from tests.chaos.proxy import DOWN, HOST, UP, Line, Proxy

ORDER = b"POST /v2/orders HTTP/1.1\r\n"
LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
GATEWAY_TIMEOUT = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
NOTICED_S = 0.1  # until the end of a killed client is seen here
HELD_AT_MOST_S = 8.0  # under the client's own time-out: a forgotten hold must not look like a fault


class Hold(StrEnum):
    """Where the next order is held: before it reaches the broker, or with its answer on the way back."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(slots=True)
class Post:
    """One order on the wire. `status` of its answer: None where none came by."""

    client_order_id: str
    at_wall_s: float
    status: int | None = None
    reached: bool = True  # the broker


class BrokerProxy(Proxy):
    """A proxy that understands just enough of HTTP and of websockets."""

    def __init__(self, server_port: int, seed: int = 0) -> None:
        super().__init__(server_port, seed)
        self.posts: list[Post] = []
        self.caught = threading.Event()
        self._hold: Hold | None = None
        self._released = asyncio.Event()
        self._late_s = 0.0
        self._late: set[asyncio.Task[None]] = set()
        self.stream_doubled = self.stream_reordered = False

    # --- what a test asks for ---

    def hold_next(self, where: Hold) -> None:
        """The next order stops there until `release`; `caught` tells that it did."""
        self.caught.clear()
        self._loop.call_soon_threadsafe(self._released.clear)
        self._hold = where

    def release(self) -> None:
        """What is held goes on: to whoever is still there."""
        self._hold = None
        self._loop.call_soon_threadsafe(self._released.set)

    def accept_late(self, seconds: float) -> None:
        """From now on an order is answered with 504 at once, and reaches the broker after `seconds`. 0: no more."""
        self._late_s = seconds

    @property
    def on_their_way(self) -> int:
        """Orders that will reach the broker late."""
        return len(self._late)

    # --- what passes ---

    async def passing(self, line: Line, way: str, data: bytes) -> AsyncIterator[bytes]:
        if "frames" in line.memory and way == DOWN:
            for part in line.memory["frames"].feed(data, self.stream_doubled, self.stream_reordered):
                yield part
        elif way == UP:
            async for part in self._request(line, data):
                yield part
        else:
            yield await self._answer(line, data)

    async def _request(self, line: Line, data: bytes) -> AsyncIterator[bytes]:
        data = line.memory.pop("begun", b"") + data
        if data.startswith(b"GET /stream"):
            line.memory["frames"] = Frames()
            yield without_compression(data)
        elif data.startswith(ORDER):
            if not _whole(data):
                line.memory["begun"] = data
                return
            async for part in self._order(line, data):
                yield part
        else:
            yield data

    async def _order(self, line: Line, data: bytes) -> AsyncIterator[bytes]:
        post = Post(_client_order_id(data), time.time())
        self.posts.append(post)
        if self._late_s:
            task = asyncio.create_task(self._bring(data, post, self._late_s))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            line.client.write(GATEWAY_TIMEOUT)
            post.status, post.reached = 504, False
            return
        line.memory["post"] = post
        if self._hold is Hold.BEFORE:
            await self._held()
            await asyncio.sleep(NOTICED_S)
            if line.left:
                post.reached = False  # it never left the machine of whoever died
                return
        yield data

    async def _answer(self, line: Line, data: bytes) -> bytes:
        post: Post | None = line.memory.pop("post", None)
        if post is not None:
            found = STATUS.match(data)
            post.status = int(found[1]) if found else None
            if self._hold is Hold.AFTER:
                await self._held()
        return data

    async def _held(self) -> None:
        self._hold = None
        self.caught.set()
        try:
            await asyncio.wait_for(self._released.wait(), HELD_AT_MOST_S)
        except TimeoutError:
            return

    async def _bring(self, data: bytes, post: Post, seconds: float) -> None:
        await asyncio.sleep(seconds)
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(HOST, self.server_port)
            writer.write(data)
            post.reached = bool(await reader.read(1))
            writer.close()


def _whole(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    length = LENGTH.search(head + b"\r\n")
    return bool(separator) and (length is None or len(body) >= int(length[1]))


def _client_order_id(data: bytes) -> str:
    try:
        return str(json.loads(data.partition(b"\r\n\r\n")[2])["client_order_id"])
    except (ValueError, KeyError):
        return "?"
