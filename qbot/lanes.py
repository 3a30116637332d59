"""Threads that wait to be woken, each with its own kind of work, so that what is slow never delays what is urgent."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence

import structlog

from qbot import limits
from qbot.errors import QBotError

log = structlog.get_logger(__name__)
Work = Callable[[frozenset[str]], float | None]


def pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row: exponential, with jitter, bounded."""
    longest = min(limits.LISTENER_PAUSE_MAX_S, limits.LISTENER_PAUSE_S * 2.0 ** min(failures - 1, 30))
    return longest * random.uniform(0.5, 1.0)


class Lane(threading.Thread):
    """Calls `work` with the names it was woken for; those of wake-ups while it works come together, in one call.
    `work` may return after how many seconds it wants to be called again with the same names: it is not done yet.

    A named error is logged, told to `failed`, and the work tried again, for ever; any other ends the thread, and
    whoever owns it must notice. `every_s`: work is also called, with no names, when nothing happened for so long.
    `after`: lanes that are given a moment to finish first.
    """

    def __init__(
        self,
        name: str,
        work: Work,
        failed: Callable[[str, QBotError], None],
        *,
        every_s: float | None = None,
        after: Sequence[Lane] = (),
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work, self._failed, self._every_s, self._after = work, failed, every_s, tuple(after)
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._pending: set[str] = set()
        self._ended = False
        self.idle = threading.Event()
        self.idle.set()

    def wake(self, names: Iterable[str]) -> None:
        """Have the work done soon. May be called from any thread."""
        with self._lock:
            self._pending |= set(names)
            self.idle.clear()
        self._woken.set()

    def end(self) -> None:
        """Ends the thread once it has done what it is at."""
        self._ended = True
        self._woken.set()

    def run(self) -> None:
        """Until `end`."""
        structlog.contextvars.bind_contextvars(lane=self.name)
        failures, again_s = 0, None
        while True:
            self._woken.wait(pause_s(failures) if failures else again_s or self._every_s)
            self._woken.clear()
            if self._ended:
                return
            for other in self._after:
                other.idle.wait(limits.LISTENER_YIELD_S)
            done, again_s = self._try()
            failures = 0 if done else failures + 1

    def _try(self) -> tuple[bool, float | None]:
        """Whether it went well, and how soon it wants to be called again."""
        with self._lock:
            names = frozenset(self._pending)
            self._pending.clear()
        try:
            again_s = self._work(names)
        except QBotError as error:
            log.warning("lane_failed", error=type(error).__name__, message=str(error))
            with self._lock:
                self._pending |= names
            self._failed(self.name, error)
            return False, None
        with self._lock:
            if again_s is not None:
                self._pending |= names
            if not self._pending:
                self.idle.set()
        return True, again_s
