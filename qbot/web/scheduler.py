"""Beat's scheduler: the schedule of the database, and at most one beat that fires from it."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from qbot import clock
from qbot.stack import environment
from qbot.store.beat_lock import BeatLock
from qbot.web.setup import set_up

set_up()

from django_celery_beat.schedulers import DatabaseScheduler  # noqa: E402  Django first

WAIT_S = 20.0  # Postgres notices that a killed beat's connection is gone well before
CHECK_EVERY_S = 5.0


class SingleScheduler(DatabaseScheduler):  # type: ignore[misc]
    """Fires only while it holds the lock; ends the process when it cannot get or keep it."""

    def __init__(self, *args: Any, lazy: bool = False, **kwargs: Any) -> None:
        self._lock: BeatLock | None = None
        self._checked_s = clock.monotonic_s()
        self._asked_to_end = self._listening = False
        if not lazy:  # beat makes lazy copies to look at
            self._lock = BeatLock()
            if not self._lock.acquire(WAIT_S):
                raise SystemExit("another beat holds the schedule of this database; this one does not fire")
        super().__init__(*args, lazy=lazy, **kwargs)
        if not lazy:
            environment.tell_ready()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """One round: what is due is sent. Returns the seconds to wait."""
        self._listen()
        if self._asked_to_end:
            raise SystemExit(0)
        now_s = clock.monotonic_s()
        if self._lock and now_s - self._checked_s > CHECK_EVERY_S:
            self._checked_s = now_s
            if not self._lock.held():
                raise SystemExit("beat lost its lock on the schedule: another one may have it")
        return float(super().tick(*args, **kwargs))

    def _listen(self) -> None:
        """Replaces beat's own handlers: they raise from wherever the signal falls, and now and then that gets lost."""
        if not self._listening:
            self._listening = True
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_to_end = True
