"""What is known of who wrote the keys that switch, since the last look at them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from qbot import mirrors
from qbot.contract.events import Written
from qbot.session import Inputs, Switch, Touched


class Writes:
    """What frontends wrote to the switching keys since the last look, and whether QBot wrote over it."""

    def __init__(self, catch_up: Callable[[], bool]) -> None:
        """`catch_up` returns when every event that Redis has sent so far was noted here; False when it cannot tell."""
        self._catch_up = catch_up
        self._lock = threading.Lock()
        self._written: set[str] = set()
        self._overwritten: set[str] = set()
        self._taken = Touched()
        self._epoch = 0  # of the switch, at the look before

    def note(self, event: Written) -> None:
        """One event, in the order of Redis."""
        name = mirrors.NAMES.get(event.key)
        if name is None:
            return
        with self._lock:
            if not event.own:
                self._written.add(name)
            elif name in self._written:
                self._written.discard(name)
                self._overwritten.add(name)

    def touched(self, before: Switch, shown: Inputs) -> Touched:
        """Called under the switch's lock, under which alone QBot writes these keys, after they were read."""
        known = not self._doubtful(shown) or self._catch_up()
        with self._lock:
            self._taken = Touched(frozenset(self._written), frozenset(self._overwritten), self._epoch)
            if known:  # else it stays open whether QBot wrote over any of it, and since when
                self._written.clear()
                self._overwritten.clear()
                self._epoch = before.epoch
        return self._taken

    def undo(self) -> None:
        """The look has failed: what it was told of is still to be acted upon."""
        with self._lock:
            self._written |= self._taken.written
            self._overwritten |= self._taken.overwritten
        self._epoch, self._taken = self._taken.epoch, Touched()

    def _doubtful(self, shown: Inputs) -> bool:
        """True when a key was written, and what stands there stops nothing: QBot may have written over a stop."""
        harmless = {"settings": shown.settings.on is not False, "status": shown.status.on is not False}
        harmless["risk"] = shown.risk.on is not True
        with self._lock:
            return any(harmless.get(name, False) for name in self._written)
