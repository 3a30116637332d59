"""The stand-in as a server: of this process until a signal ends it, or in a thread for a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import uvicorn

from qbot import clock
from qbot.errors import StackError
from qbot.standin.addresses import HOST, settings_at, url_of
from qbot.standin.client import Control
from qbot.standin.market import Prices
from qbot.standin.server import StandIn

START_WITHIN_S = 20.0
KEEP_ALIVE_S = 120  # longer than any client pauses


@dataclass(frozen=True, slots=True)
class Running:
    """A stand-in that listens. `control` breaks and heals its vendors."""

    url: str
    control: Control

    @property
    def settings(self) -> dict[str, object]:
        """Fields of Settings with which QBot asks it."""
        return settings_at(self.url)


def serve(prices: Prices, now: Callable[[], datetime], port: int) -> None:
    """Run until a signal ends it."""
    uvicorn.Server(_config(StandIn(prices, now), port)).run()


@contextmanager
def standing_in(prices: Prices, now: Callable[[], datetime]) -> Iterator[Running]:
    """One in a thread of this process, on a free port. Raises StackError when it does not start."""
    # Named as TCP, since asyncio sets TCP_NODELAY only then; without it every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind((HOST, 0))
    server = uvicorn.Server(_config(StandIn(prices, now), 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="stand-in", daemon=True)
    thread.start()
    try:
        until_s = clock.monotonic_s() + START_WITHIN_S
        while not server.started:
            if not thread.is_alive() or clock.monotonic_s() > until_s:
                raise StackError("the stand-in did not start")
            clock.pause(0.005)
        url = url_of(listener.getsockname()[1])
        yield Running(url, Control(url))
    finally:
        server.should_exit = server.force_exit = True  # whoever is slow is not waited for
        thread.join(10)
        listener.close()


def _config(app: StandIn, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app, host=HOST, port=port, log_level="error", access_log=False, proxy_headers=False, lifespan="off",
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=1,
    )  # fmt: skip
