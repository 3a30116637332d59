"""How many requests the venue still takes this minute, and what is kept of them for what must not wait.

The venue counts over all processes of the account and tells what is left with each answer, so its own count is the one
they share: whoever has just had an answer knows. One that has asked nothing for a while may ask once before it knows
better, a handful of processes in all, and the reserve has room for that. Nothing here needs Redis or Postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from threading import Lock

from qbot import clock, limits
from qbot.errors import BrokerError

_URGENT: ContextVar[bool] = ContextVar("urgent", default=False)
WINDOW_S = 60.0


@contextmanager
def urgent() -> Iterator[None]:
    """Every request within belongs to a cancel or an exit: it goes out whatever is left."""
    before = _URGENT.set(True)
    try:
        yield
    finally:
        _URGENT.reset(before)


@dataclass(slots=True)
class _Window:
    """What the venue said last: `left` of `most` requests until `ends_s` (monotonic), less those sent since."""

    most: int
    left: int
    ends_s: float


class Pace:
    """Of one client; its threads share it."""

    def __init__(
        self,
        monotonic_s: Callable[[], float] = clock.monotonic_s,
        wall: Callable[[], datetime] = clock.wall_now,
        pause: Callable[[float], None] = clock.pause,
    ) -> None:
        self._monotonic_s, self._wall, self._pause = monotonic_s, wall, pause
        self._lock = Lock()
        self._window: _Window | None = None
        self._untold: list[float] = []  # when requests went out that no answer has counted

    def before(self, *, pressing: bool = False) -> None:
        """To be called before each request. What is neither `pressing` nor within `urgent` keeps off the reserve.

        It waits for the next minute if that is near. Raises BrokerError if it is not; then nothing was sent.
        """
        if pressing or _URGENT.get():
            with self._lock:
                self._spend()
            return
        wait_s = self._take()
        if 0 < wait_s <= limits.PACE_WAIT_S:
            self._pause(wait_s)
            wait_s = self._take()
        if wait_s > 0:
            raise BrokerError(f"the venue's requests of this minute are kept for cancels and exits, {wait_s:.0f} s yet")

    def _take(self) -> float:
        """Count a request and return 0, or the seconds until it may be asked again."""
        with self._lock:
            now_s, window = self._monotonic_s(), self._current()
            if window is not None and window.left <= _reserve(window.most):
                return window.ends_s - now_s
            if window is None and len(self._untold) >= limits.UNTOLD_PER_MINUTE:
                return self._untold[0] + WINDOW_S - now_s
            self._spend()
            return 0.0

    def _current(self) -> _Window | None:
        now_s = self._monotonic_s()
        self._untold = [at_s for at_s in self._untold if now_s - at_s < WINDOW_S]
        return self._window if self._window is not None and now_s < self._window.ends_s else None

    def _spend(self) -> None:
        window = self._current()
        if window is None:
            self._untold.append(self._monotonic_s())
        else:
            window.left -= 1

    def heard(self, headers: Mapping[str, str]) -> None:
        """What an answer says is left. One that says nothing, or nonsense, changes nothing."""
        try:
            most, left, reset = (int(headers[f"X-RateLimit-{name}"]) for name in ("Limit", "Remaining", "Reset"))
        except (KeyError, ValueError):
            return
        ends_in_s = min(max(reset - self._wall().timestamp(), 0.0), WINDOW_S)
        with self._lock:
            self._window = _Window(most, left, self._monotonic_s() + ends_in_s)
            self._untold.clear()


def _reserve(most: int) -> int:
    """A replay takes more requests a minute, and keeps the same part of them."""
    return most * limits.CANCELS_RESERVED_PER_MINUTE // limits.REQUESTS_PER_MINUTE
