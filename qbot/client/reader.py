"""Connecting, reading and following: all that a screen needs which only shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from qbot import clock
from qbot.client.errors import NotInTime
from qbot.client.following import Change, Following
from qbot.client.link import Link, State
from qbot.client.waiting import Wait
from qbot.contract import keys, names
from qbot.contract.key import Key, Reading
from qbot.contract.payloads_autotrading import BackendStatus

T = TypeVar("T")


class Reader:
    """A connection to QBot's Redis. Use it as a context manager, or `connect` and `close` it. Threads may share it.

    Reads and writes keep trying for `patience_s`, then raise BoardUnavailable; WrongPassword and NotAllowed at once.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 6380,
        password: str = "",
        username: str | None = None,
        *,
        patience_s: float = 5.0,
        wall: Callable[[], datetime] = clock.wall_now,
    ) -> None:
        self._link = Link(host, port, password, username, patience_s)
        self.wall = wall

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._link.at})"

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def connect(self, within_s: float = 30.0) -> Self:
        """Waits until Redis answers, asking ever less often. Raises BoardUnavailable; WrongPassword at once."""
        self._link.ping(within_s)
        return self

    def close(self) -> None:
        """Ends every `updates` and every wait, and closes the connections. It does not stop trading."""
        self._link.close()

    def get(self, key: Key[T]) -> Reading[T]:
        """What one key holds: a typed value, or a problem."""
        return self.state([key])[key]

    def state(self, wanted: Iterable[Key[Any] | str] | None = None) -> State:
        """Several keys at one instant, with their revisions; None: all. Raises ValueError for an unknown key."""
        return self._link.read(_resolved(wanted))

    def updates(
        self, wanted: Iterable[Key[Any] | str] | None = None, ended: Callable[[], bool] = lambda: False
    ) -> Iterator[Change]:
        """First what stands there, then every change as it happens, for ever, without polling.

        A broken connection is told as DISCONNECTED and mended; afterwards what differs is handed on. It ends with
        `close`, or within half a second of `ended` being true. Raises WrongPassword and NotAllowed, nothing else.
        """
        following = Following(self._link, self.wall, _resolved(wanted), ended)
        try:
            while (change := following.next()) is not None:
                yield change
        finally:
            following.close()

    def wait_until(self, status: BackendStatus | Iterable[BackendStatus], timeout_s: float = 60.0) -> BackendStatus:
        """Waits for `autotrading:backend_status`; returns it. Raises NotInTime."""
        wanted: set[BackendStatus | None] = {status} if isinstance(status, BackendStatus) else set(status)
        wait = self._wait([keys.AUTOTRADING_BACKEND_STATUS])
        wait.until(lambda: wait.value(keys.AUTOTRADING_BACKEND_STATUS) in wanted, timeout_s)
        now = wait.value(keys.AUTOTRADING_BACKEND_STATUS)
        if now is None or now not in wanted:
            raise NotInTime(f"QBot is {now or 'silent'}, not {' or '.join(sorted(map(str, wanted)))}{wait.trouble}")
        return now

    def _wait(self, wanted: Sequence[Key[Any]]) -> Wait:
        return Wait(Following(self._link, self.wall, wanted))


def _resolved(wanted: Iterable[Key[Any] | str] | None) -> list[Key[Any]] | None:
    """Names as entries of the contract."""
    if wanted is None:
        return None
    found = [names.find(key) if isinstance(key, str) else key for key in wanted]
    for key in found:
        if key.pattern:
            raise ValueError(f"{key.name} is a family of keys: ask for the key of one ticker")
    return found
