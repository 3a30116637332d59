"""The listener's lanes for alerts: each is on the board and with the channels as soon as it is committed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import structlog

from qbot import clock, lanes, limits, notifying, showing
from qbot.channels import Channel
from qbot.errors import QBotError, StoreUnavailable
from qbot.lanes import Lane
from qbot.runtime import Runtime
from qbot.store.notifications import new_alerts

log = structlog.get_logger(__name__)
RAISED = "raised"


class Hearing(threading.Thread):
    """Wakes lanes when an alert was raised, by whatever process, and whenever it may have missed that."""

    def __init__(self, rt: Runtime, wake: Callable[[], None]) -> None:
        super().__init__(name="alerts heard", daemon=True)
        self._rt, self._wake = rt, wake
        self._ended = False

    def end(self) -> None:
        """Ends the thread within LISTENER_POLL_S."""
        self._ended = True

    def run(self) -> None:
        """Until `end`. Without Postgres it tries again, for ever."""
        failures = 0
        while not self._ended:
            try:
                with new_alerts(self._rt.engine) as wait:
                    failures = 0
                    self._wake()
                    while not self._ended:
                        if wait(limits.LISTENER_POLL_S):
                            self._wake()
            except StoreUnavailable as error:
                failures += 1
                log.warning("alerts_not_heard", why=str(error))
                clock.pause(lanes.pause_s(failures))


class AlertLanes:
    """The lane of the board and one for each channel: a slow one delays none of the others."""

    def __init__(self, rt: Runtime, failed: Callable[[str, QBotError], None], after: tuple[Lane, ...]) -> None:
        board = replace(rt)
        self.lanes = [Lane("alerts", lambda _names: showing.alerts(board), failed, after=after)]
        self.lanes += [_of(replace(rt), channel, failed, after) for channel in notifying.made(rt.settings)]
        self._hearing = Hearing(rt, self.wake)

    def wake(self) -> None:
        """There may be new alerts."""
        for lane in self.lanes:
            lane.wake((RAISED,))

    def start(self) -> None:
        """Begin to hear of alerts; the lanes are started by whoever has them."""
        self._hearing.start()

    def end(self) -> None:
        """Hear of no more."""
        self._hearing.end()

    def is_alive(self) -> bool:
        """False when hearing ended by an unforeseen error."""
        return self._hearing.is_alive()


def _of(rt: Runtime, channel: Channel, failed: Callable[[str, QBotError], None], after: tuple[Lane, ...]) -> Lane:
    def work(_names: frozenset[str]) -> None:
        notifying.deliver(rt, channel)

    # Also without being woken: what was put off is due by then, and a wake-up may have been lost.
    return Lane(f"notify {channel.name}", work, failed, every_s=limits.NOTIFY_POLL_S, after=after)
