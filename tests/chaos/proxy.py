"""A TCP proxy in front of a server, in a thread of its own, whose line a test makes bad and good again."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.chaos.toxics import CHUNK_BYTES, Ended, Kind, Toxic, pieces

T = TypeVar("T")
HOST = "127.0.0.1"
CONTROL_S = 10.0
UP, DOWN = "up", "down"  # to the server, from the server
BROKEN = (ConnectionError, OSError, asyncio.IncompleteReadError)


@dataclass(eq=False)
class Line:
    """One connection: both ends, what went each way, and whatever a subclass remembers of it."""

    asked: asyncio.StreamReader
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    carried: dict[str, int] = field(default_factory=lambda: {UP: 0, DOWN: 0})
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> bool:
        """Whether the client is gone."""
        return self.asked.at_eof() or self.asked.exception() is not None or self.client.transport.is_closing()

    def abort(self, reset: bool) -> None:
        for writer in (self.client, self.server):
            if reset and (sock := writer.get_extra_info("socket")) is not None:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """`port` leads to `server_port`. Everything but `port` may be called from any thread."""

    def __init__(self, server_port: int, seed: int = 0) -> None:
        self.server_port, self.port = server_port, 0
        self._toxics: list[Toxic] = []
        self._always: list[Toxic] = []
        self._lines: set[Line] = set()
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def start(self) -> None:
        """Listens on a port of its own from now on."""
        self._thread.start()
        self.run(self._listen())

    def stop(self) -> None:
        """Ends every connection and the thread."""
        self.run(self._down())
        self.run(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONTROL_S)
        self._loop.close()

    def always(self, *toxics: Toxic) -> None:
        """What the line is like when nothing is wrong."""
        self._always = list(toxics)

    def poison(self, *toxics: Toxic) -> None:
        """Makes the line bad, for the connections there are as well."""
        self._toxics = list(toxics)
        kinds = {toxic.kind for toxic in toxics}
        if Kind.DOWN in kinds:
            self.run(self._down())
        if Kind.RESET_PEER in kinds:
            self.run(self._cut(reset=True))

    def heal(self) -> None:
        """The line is good again; what a fault has broken stays broken."""
        self._toxics = []
        if self._server is None:
            self.run(self._listen())

    def cut(self) -> None:
        """Ends every connection once."""
        self.run(self._cut(reset=False))

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        """Has the proxy's own thread do it."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(CONTROL_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut(reset=False)

    async def _end_tasks(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cut(self, reset: bool) -> None:
        for line in list(self._lines):
            line.abort(reset)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, asks = await asyncio.open_connection(HOST, self.server_port)
        except OSError:
            writer.transport.abort()  # nobody is behind the proxy
            return
        line = Line(reader, writer, asks)
        self._lines.add(line)
        try:
            await asyncio.gather(self._pump(line, UP, reader, asks), self._pump(line, DOWN, answers, writer))
        except asyncio.CancelledError:
            return  # the proxy stops
        finally:
            self._lines.discard(line)
            line.abort(reset=False)

    async def _pump(self, line: Line, way: str, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                async for part in self.passing(line, way, data):
                    await self._carry(line, way, part, target)
            for toxic in self._toxics:
                if toxic.kind is Kind.SLOW_CLOSE:
                    await asyncio.sleep(toxic.seconds)
            target.write_eof()
        except Ended as ended:
            line.abort(ended.reset)
        except BROKEN:
            line.abort(reset=False)

    async def _carry(self, line: Line, way: str, data: bytes, target: asyncio.StreamWriter) -> None:
        async for piece in pieces(data, self._on(way), line.carried[way], self._dice):
            target.write(piece)
            await target.drain()
            line.carried[way] += len(piece)

    def _on(self, way: str) -> list[Toxic]:
        """The toxics of a direction: all act on answers, and those that end a connection on requests too."""
        ends = (Kind.TIMEOUT, Kind.RESET_PEER)
        bad = [toxic for toxic in self._toxics if way == DOWN or toxic.kind in ends]
        return [*self._always, *bad] if way == DOWN else bad

    async def passing(self, line: Line, way: str, data: bytes) -> Any:
        """What goes on of `data`; a subclass looks at it, holds it up, or doubles it."""
        yield data


@contextmanager
def running(proxy: Proxy) -> Iterator[Proxy]:
    """Starts a proxy and stops it in the end."""
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
