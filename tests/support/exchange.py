"""A paper exchange for tests: in a thread with a clock the test moves, or in a process that can be killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import requests
import uvicorn

from qbot.clock import CLOCK_FILE_ENV, Timeline, Uptime, monotonic_s, wall_now
from qbot.exchange.faults import Faults
from qbot.exchange.server import create_app
from qbot.exchange.venue import Venue, open_venue
from tests.support.servers import free_port

KEY = SECRET = "PAPER"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
# Monday 2025-07-07, 10:00 in New York: the market is open, weeks of history lie before it.
MID_SESSION = datetime(2025, 7, 7, 14, 0, tzinfo=UTC)


@dataclass
class ManualClock:
    """Market time that stands still until it is moved. Call it for the time."""

    at: datetime = MID_SESSION

    def __call__(self) -> datetime:
        return self.at

    def set(self, at: datetime) -> None:
        """Move to a moment."""
        self.at = at

    def advance(self, **delta: float) -> None:
        """Move on, as `timedelta(**delta)`."""
        self.at += timedelta(**delta)


@dataclass
class ManualUptime:
    """The uptime of a machine on which time passes as `wall` does; but for what that jumped."""

    wall: ManualClock
    boot: str = "this boot"
    jumped_s: float = 0.0

    def __call__(self) -> Uptime:
        return Uptime(self.boot, self.wall.at.timestamp() - self.jumped_s)

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.wall.advance(seconds=seconds)
        self.jumped_s += seconds


@dataclass
class RunningExchange:
    """A server that answers. `url` is the base both of alpaca-py's trading and of its data client."""

    url: str
    clock: ManualClock
    venue: Venue | None = None
    process: subprocess.Popen[bytes] | None = None
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def stream_url(self) -> str:
        """For TradingStream(url_override=...)."""
        return self.url.replace("http", "ws", 1) + "/stream"

    def call(self, method: str, path: str, **options: object) -> requests.Response:
        """A request with the keys, e.g. call("GET", "/v2/account")."""
        return self.session.request(method, self.url + path, headers=HEADERS, timeout=10, **options)  # type: ignore[arg-type]

    def fault(self, kind: str, **more: object) -> None:
        """Switch a fault on: latency, rate_limited, server_error, timeout_after_accept, drop_after_accept,
        silent_stream, hold_cancels; with method, path, times, seconds."""
        requests.post(self.url + "/faults", json={"kind": kind, **more}, timeout=10).raise_for_status()

    def clear_faults(self) -> None:
        """Switch all faults off."""
        requests.delete(self.url + "/faults", timeout=10).raise_for_status()


@contextmanager
def exchange_thread(
    home: Path,
    *,
    clock: Callable[[], datetime] | None = None,
    bars_file: Path | None = None,
    cash_usd: Decimal = Decimal("100000"),
    faults: Faults | None = None,
    rate_limit_per_minute: int = 100_000,
    partial_one_in: int = 0,
) -> Iterator[RunningExchange]:
    """An exchange in a thread of this process. Its market stands at MID_SESSION until `clock` is moved.

    `partial_one_in`: one order in so many fills in two steps, ten market seconds apart; 1: every one, 0: none.
    """
    manual = clock if isinstance(clock, ManualClock) else ManualClock()
    venue = open_venue(home, bars_file, cash_usd, clock or manual, faults)
    venue.book.partial_one_in = partial_one_in
    app = create_app(venue, {KEY: SECRET}, rate_limit_per_minute)
    # Named as TCP, since asyncio sets TCP_NODELAY only then; without it every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=120,
            timeout_graceful_shutdown=1,
        )
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        running = RunningExchange(f"http://127.0.0.1:{listener.getsockname()[1]}", manual, venue)
        wait_until_healthy(running.url)
        yield running
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def exchange_process(
    home: Path, *, start: datetime = MID_SESSION, speed: float = 1.0, port: int | None = None, **env: str
) -> Iterator[RunningExchange]:
    """`python -m qbot.exchange` in a process of its own, its market running on from `start` at `speed`.

    `home` is QBOT_HOME. A second one on the same home goes on where the first was killed. `env`: further variables.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    clock_file = home / "clock.json"
    if not clock_file.exists():
        clock_file.write_text(Timeline(speed, wall_now(), 0.0, ((start, start + timedelta(hours=6)),)).to_json())
    variables = {**os.environ, CLOCK_FILE_ENV: str(clock_file), "QBOT_HOME": str(home), "QBOT_EXCHANGE_PORT": str(port),
                 "QBOT_LOG_LEVEL": "WARNING", **env}  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "qbot.exchange"], env=variables)
    try:
        running = RunningExchange(f"http://127.0.0.1:{port}", ManualClock(start), process=process)
        wait_until_healthy(running.url, process)
        yield running
    finally:
        process.kill()
        process.wait(10)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes] | None = None, seconds: float = 60.0) -> None:
    """Return when /healthz answers. Raises RuntimeError if the process ends or time is up."""
    end = monotonic_s() + seconds
    pause = threading.Event()
    while monotonic_s() < end:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"the exchange ended with status {process.returncode}")
        try:
            requests.get(url + "/healthz", timeout=2).raise_for_status()
            return
        except requests.RequestException:
            pause.wait(0.05)
    raise RuntimeError(f"the exchange does not answer at {url}")
