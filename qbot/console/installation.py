"""Which QBot the commands speak with: the one of the environment, or the demo, found by its lock.

Nothing has to be set: the port stands in the server's own configuration, the passwords in the home's secrets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from qbot import clock
from qbot.clock import Timeline
from qbot.contract import acl
from qbot.contract.board import HEALTH_CHECK_S, SOCKET_TIMEOUT_S
from qbot.contract.checking import Times
from qbot.demo import run as demo
from qbot.errors import BoardUnavailable, StackError
from qbot.market.calendar import sessions_between
from qbot.settings import Settings, settings
from qbot.stack import lock, replay, secrets
from qbot.stack.stack import STATUS_FILE

LOOK_BACK = timedelta(days=14)  # sessions counted for ages: no key may be that old
_PORT = re.compile(r"^port (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Installation:
    """One QBot: its settings with their secrets, whether it runs, and the replay that is its market's clock, if any."""

    name: str
    settings: Settings
    pid: int | None
    timeline: Timeline | None
    note: str = ""
    demo: bool = False

    @property
    def address(self) -> str:
        return f"{self.settings.redis_host}:{self.settings.redis_port}"

    def account(self, *, writes: bool) -> tuple[str, str]:
        """User and password: the viewer's to look, the frontend's to write; QBot's own where these have none."""
        s = self.settings
        accounts = [
            (acl.FRONTEND, s.redis_frontend_password.get_secret_value()),
            (s.redis_user, s.redis_password.get_secret_value()),
        ]
        if not writes:
            accounts.insert(0, (acl.VIEWER, s.redis_viewer_password.get_secret_value()))
        return next(((user, password) for user, password in accounts if password), ("", ""))

    def told(self, *, writes: bool = False) -> str:
        """One line that says what the command looks at, and as whom."""
        user = self.account(writes=writes)[0] or "nobody, for want of a password,"
        pace = f", replay {self.timeline.speed:g}×" if self.timeline else ""
        return f"{self.name}: Redis {self.address} as {user}{pace}{self.note}"

    def times(self) -> Times:
        """Now, on both clocks, with the exchange's sessions around it."""
        wall, line = clock.wall_now(), self.timeline
        market = line.market_at(wall) if line else wall
        sessions = sessions_between(market - LOOK_BACK, market + timedelta(days=1))
        return Times(wall, line.market_at if line else _same, sessions, line.speed if line else 1.0)


def choose(want_demo: bool | None, demo_home: Path = demo.HOME, main: Settings | None = None) -> Installation:
    """The demo, the configured installation, or (None) the one of them that runs; of both, the configured one.

    `main`: the configured one's settings, where they are not those of the environment.
    """
    main = main or settings()
    demo_pid, main_pid = lock.holder(demo_home), lock.holder(main.home)
    is_demo = main.home.resolve() == demo_home
    if want_demo or is_demo or (want_demo is None and demo_pid is not None and main_pid is None):
        values = demo.demo_settings(demo.Options(home=demo_home))
        return replace(_of("the demo", values, demo_pid, replayed=True), demo=True)
    both = " (the demo runs too: `qbot contract --demo …`)" if demo_pid is not None else ""
    embedded = not main.alpaca_api_key.get_secret_value()
    return _of(name_of(main.home), main, main_pid, replayed=embedded, note=both)


def client(found: Installation, *, writes: bool = False) -> redis.Redis:
    """A client with the least rights that do; answers are bytes. It connects at first use."""
    user, password = found.account(writes=writes)
    return redis.Redis(
        host=found.settings.redis_host,
        port=found.settings.redis_port,
        username=user or None,
        password=password or None,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_S,
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def reaching(found: Installation) -> Iterator[None]:
    """What Redis refuses, or that it is not there, as one sentence that says what to do. Raises BoardUnavailable."""
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise BoardUnavailable(_denied(found, error)) from error
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise BoardUnavailable(_unreachable(found)) from error
    except redis.RedisError as error:
        raise BoardUnavailable(f"Redis at {found.address} answered: {error}") from error


def _denied(found: Installation, error: Exception) -> str:
    where = found.settings.home / secrets.FILE
    return (
        f"Redis at {found.address} does not accept these rights or this password ({error}):"
        f" is it that of {found.name}? Passwords come from the environment, .env, or {where}"
    )


def _unreachable(found: Installation) -> str:
    if found.pid is not None:
        return f"Redis at {found.address} does not answer, though {found.name} runs (pid {found.pid}): is it starting?"
    start = "`make demo`" if found.demo else "`qbot up`, or `make demo` and look again"
    return f"nothing answers at {found.address}, and {found.name} does not run here: start it with {start}"


def _of(name: str, values: Settings, pid: int | None, *, replayed: bool, note: str = "") -> Installation:
    if (values.home / secrets.FILE).exists():
        values = secrets.with_secrets(values)
    port = _port(values.home) if pid is not None else None
    if port is not None:
        values = values.model_copy(update={"redis_host": "127.0.0.1", "redis_port": port})
    if pid is not None and (made_up := _made_up(values.home)) is not None:
        values = values.model_copy(update={"fake_providers": made_up})
    return Installation(name, values, pid, _timeline(values.home) if replayed else None, note)


def _port(home: Path) -> int | None:
    """Where the embedded Redis of a home listens, or None."""
    file = home / "redis" / "redis.conf"
    found = _PORT.search(file.read_text()) if file.exists() else None
    return int(found[1]) if found else None


def _made_up(home: Path) -> bool | None:
    """Whether the stack that runs here has made-up market data; None while it does not say."""
    try:
        return bool(json.loads((home / STATUS_FILE).read_text())["fake_providers"])
    except (OSError, ValueError, KeyError):
        return None


def _timeline(home: Path) -> Timeline | None:
    file = home / replay.CLOCK_FILE
    if not file.exists():
        return clock.timeline()
    try:
        return Timeline.from_json(file.read_text())
    except ValueError as error:
        raise StackError(f"{file} cannot be read ({error}); `qbot reset` starts over") from error


def _same(wall: datetime) -> datetime:
    return wall


def name_of(home: Path) -> str:
    """How a human knows the installation of a folder."""
    here = Path.cwd()
    return f"QBot on {home.relative_to(here) if home.is_relative_to(here) else home}"
