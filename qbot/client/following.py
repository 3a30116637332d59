"""Follows the board: first what stands there, then every change as it happens, through broken connections and gaps.

Level-triggered: after anything that might have hidden a message, all keys are read again and what differs is handed on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import to_json
from redis.client import PubSub

from qbot import clock
from qbot.client.link import Link, State, back_off_s, known
from qbot.contract import keys
from qbot.contract.key import Key, Reading
from qbot.errors import BoardUnavailable

T = TypeVar("T")
SLICE_S = 0.5  # how soon a wait notices that it was ended from outside; nothing is sent to the server for it
QUIET_S = 10.0  # after so long without a message, a PING asks whether the connection still lives …
ANSWER_WITHIN_S = 5.0  # … and without an answer by then it does not


class ChangeKind(StrEnum):
    """What a change tells."""

    SNAPSHOT = "snapshot"  # what stands there: at first, and what differs after a reconnect or a gap
    UPDATE = "update"  # a change, as it happened
    DISCONNECTED = "disconnected"  # nothing is known from `time` on, until CONNECTED
    CONNECTED = "connected"  # again; what differs follows
    REBUILT = "rebuilt"  # the board was emptied, or went back to an older state; what differs follows


@dataclass(frozen=True)
class Change:
    """One step of what a frontend shows.

    `reading` holds the typed value, or the problem that says why there is none; it is None for changes of the
    connection. `time` is when the key was written, None when nobody knows; for DISCONNECTED, since when.
    """

    kind: ChangeKind
    key: str = ""
    revision: int = 0
    time: datetime | None = None
    reading: Reading[Any] | None = None
    reason: str = ""

    @property
    def value(self) -> Any:
        """The typed value; None when the key is gone or invalid."""
        return self.reading.value if self.reading else None

    @property
    def problem(self) -> str | None:
        """Why a value that is there is of no use; None when it is fine."""
        return self.reading.problem if self.reading else None

    def of(self, key: Key[T]) -> Reading[T] | None:
        """The reading, typed, when the change is of this key; else None."""
        return self.reading if self.key == key.name else None


class Following:
    """One subscription of one thread. `wanted`: None for all documented keys. `ended` says when to give up waiting."""

    def __init__(
        self,
        link: Link,
        wall: Callable[[], datetime],
        wanted: Sequence[Key[Any]] | None,
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self._link, self._wall, self._wanted, self._ended = link, wall, wanted, ended
        self._names = None if wanted is None else {key.name for key in wanted}
        self._changes: deque[Change] = deque()
        self._shown: dict[str, tuple[int, Reading[Any]]] = {}
        self._listener: PubSub | None = None
        self._revision = 0
        self._unanswered = 0  # PINGs; while there are any, messages may be older than what was read
        self._heard_s = 0.0
        self._failures = 0
        self._down = False
        self._retry_at_s = 0.0

    def next(self, timeout_s: float | None = None) -> Change | None:
        """The next change; None when the time is up or the wait was ended. Raises WrongPassword or NotAllowed."""
        deadline = None if timeout_s is None else clock.monotonic_s() + timeout_s
        while not self._changes:
            left_s = SLICE_S if deadline is None else min(deadline - clock.monotonic_s(), SLICE_S)
            if left_s <= 0 or self._link.closed.is_set() or self._ended():
                return None
            try:
                self._listen(left_s) if self._listener else self._begin(left_s)
            except BoardUnavailable as error:
                self._lost(str(error))
        return self._changes.popleft()

    def close(self) -> None:
        """Ends the subscription."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _begin(self, timeout_s: float) -> None:
        """Subscribes first and reads then: what happens in between is told, not missed."""
        pause_s = self._retry_at_s - clock.monotonic_s()
        if pause_s > 0:
            self._link.closed.wait(min(pause_s, timeout_s))
            return
        self._listener = self._link.subscribe()
        self._unanswered = 0
        self._read_again()

    def _lost(self, reason: str) -> None:
        self.close()
        self._failures += 1
        self._retry_at_s = clock.monotonic_s() + back_off_s(self._failures)
        if not self._down:
            self._changes.append(Change(ChangeKind.DISCONNECTED, time=self._wall(), reason=reason))
        self._down = True

    def _listen(self, timeout_s: float) -> None:
        listener = self._listener
        assert listener is not None
        with self._link.listening():
            message = listener.get_message(timeout=timeout_s)
        if message is None:
            self._check_pulse(listener)
            return
        self._heard_s = clock.monotonic_s()
        if message["type"] == "pong":
            self._unanswered = max(self._unanswered - 1, 0)
            self._failures = 0
        elif message["type"] == "message":
            self._take(message["data"])

    def _check_pulse(self, listener: PubSub) -> None:
        quiet_s = clock.monotonic_s() - self._heard_s
        if self._unanswered and quiet_s > ANSWER_WITHIN_S:
            raise BoardUnavailable(f"no answer for {quiet_s:.0f} s")
        if not self._unanswered and quiet_s > QUIET_S:
            self._ping(listener)

    def _ping(self, listener: PubSub) -> None:
        with self._link.listening():
            listener.ping()
        self._unanswered += 1
        self._heard_s = clock.monotonic_s()

    def _take(self, data: bytes) -> None:
        """One message: the next one, an old one from before the last read, or the sign that something is missing."""
        try:
            update = keys.UPDATES.decode(data)
        except ValidationError:
            return  # not QBot's: its messages are validated. If one was lost, the next shows the gap
        if update.revision == self._revision + 1:
            self._revision = update.revision
            self._apply(update.key, update.revision, update.time, update.value)
        elif update.revision > self._revision or not self._unanswered:
            self._read_again()

    def _apply(self, name: str, revision: int, time: datetime, value: Any) -> None:
        key = known(name)
        if key is None or key.internal or (self._names is not None and name not in self._names):
            return
        reading = key.reading(None if value is None else to_json(value))
        self._shown[name] = (revision, reading)
        self._changes.append(Change(ChangeKind.UPDATE, name, revision, time, reading))

    def _read_again(self) -> None:
        """Reads all, hands on what differs, and asks for a PONG: what arrives before it may be older than this."""
        listener = self._listener
        assert listener is not None
        state = self._link.read_once(self._wanted, self._shown)
        self._ping(listener)
        if self._down:
            self._changes.append(Change(ChangeKind.CONNECTED, time=self._wall()))
            self._down = False
        if state.revision < self._revision:
            self._changes.append(Change(ChangeKind.REBUILT, revision=state.revision, time=self._wall()))
        self._revision = state.revision
        for name, reading in state.readings.items():
            self._compare(name, reading, state)

    def _compare(self, name: str, reading: Reading[Any], state: State) -> None:
        revision, old = self._shown.get(name, (0, None))
        now = state.revision_of(name)
        same = old is not None and (old.present, old.value, old.problem) == (
            reading.present, reading.value, reading.problem,
        )  # fmt: skip
        if same and now == revision:
            return
        self._shown[name] = (now, reading)
        self._changes.append(Change(ChangeKind.SNAPSHOT, name, now, state.written_at(name), reading))
