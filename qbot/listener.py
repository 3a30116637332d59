"""Acts at once on what frontends write: `python -m qbot.listener`. The beat tasks are the net under it.

An event only says which keys to look at: what is done follows from what stands there, and at every connect everything
is looked at. Each kind of work has a lane of its own. Whatever is done here the beat tasks may do at the same moment;
none of it is done twice.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from uuid import uuid4

import structlog

from qbot import (
    clock,
    continuity,
    control,
    emergency,
    inputs,
    lanes,
    limits,
    log,
    mirrors,
    notifying,
    pipeline,
    rebuild,
    sessions,
    showing,
)
from qbot.alert_lanes import AlertLanes
from qbot.configuration import SOURCES
from qbot.contract import keys
from qbot.contract.board import Snapshot
from qbot.contract.events import INPUTS, Events, Passed, Written
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.control import SWITCH_KEYS
from qbot.errors import BoardUnavailable, BrokerError, ConfigError, QBotError, StackError, StoreUnavailable
from qbot.lanes import Lane
from qbot.market.calendar import market_hours
from qbot.runtime import Runtime, runtime
from qbot.stack import environment
from qbot.store import state
from qbot.store.engine import make_engine, transaction
from qbot.writes import Writes

logger = structlog.get_logger(__name__)

POLLED = (*SWITCH_KEYS, keys.EMERGENCY_ACTIONS)
EMERGENCY = frozenset({keys.EMERGENCY_ACTIONS.name})
SWITCH = frozenset(mirrors.NAMES)
SETTINGS = frozenset(key.name for key in SOURCES) | SWITCH
ORDERS = frozenset({keys.MANUAL_ORDERS.name})
ASKED = frozenset(key.name for key in inputs.KEYS)
ALL = frozenset(INPUTS)
EVERYTHING, DEAF = "*", "!"  # for the lane of inputs: nothing is known of what was written; no event is raised
NO_EVENTS = (
    "Redis sends no keyspace events",
    "Set notify-keyspace-events to KEA at the Redis server. Until then what switches trading is seen within a quarter"
    " of a second, everything else at the intervals of the tasks.",
)
RUNTIMES = ("emergency", "switch", "settings", "orders", "inputs", "rebuild", "poll")


class Listener:
    """The lanes and the subscription that wakes them. `run` in the main thread of a process, or of a test."""

    def __init__(self, rt: Runtime) -> None:
        self._settings = rt.settings
        self._events: Events | None = None
        self._round = threading.Condition()
        self._name = uuid4().hex  # every listener hears the tokens of all
        self._sent, self._passed = 0, 0
        self._writes = Writes(self._catch_up)
        self._polled: Snapshot | None = None
        self._rehearsed: set[str] = set()
        self._shown_epoch = -1
        # A runtime each: the broker's client takes one request at a time, and a slow one must delay nobody else.
        self._rt = {name: replace(rt) for name in RUNTIMES}
        self._emergency = Lane("emergency", self._on_emergency, self._failed, every_s=limits.LISTENER_WARM_S)
        self._switch = Lane("switch", self._on_switch, self._failed, every_s=limits.LISTENER_WARM_S)
        urgent = (self._emergency, self._switch)
        self._shown = Lane("settings", self._on_settings, self._failed, after=urgent)
        self._orders = Lane("orders", self._on_orders, self._failed, after=urgent)
        self._inputs = Lane("inputs", self._on_inputs, self._failed, after=urgent)
        self._rebuild = Lane("rebuild", self._on_loss, self._failed, after=urgent)
        self._poll = Lane("poll", self._on_poll, self._failed, every_s=limits.LISTENER_POLL_S)
        self._alerts = AlertLanes(rt, self._failed, urgent)
        others = (self._shown, self._orders, self._inputs, self._rebuild, self._poll)
        self._lanes = (*urgent, *others, *self._alerts.lanes)

    def run(self, should_stop: Callable[[], bool] = lambda: False, on_ready: Callable[[], None] = lambda: None) -> None:
        """Listens until `should_stop`; `on_ready` is called at every connect. Raises StackError when a lane died."""
        for lane in self._lanes:
            lane.start()
        self._alerts.start()
        self._emergency.wake(())
        self._switch.wake(())
        failures = 0
        try:
            while not should_stop():
                try:
                    with self._subscribed() as events:
                        failures = 0
                        on_ready()
                        self._listen(events, should_stop)
                except BoardUnavailable as error:
                    failures += 1
                    logger.warning("not_connected", why=str(error), attempts=failures)
                    clock.pause(lanes.pause_s(failures))
        finally:
            self._alerts.end()
            for lane in self._lanes:
                lane.end()

    def quiet(self) -> bool:
        """True when every lane has done what it was woken for."""
        return all(lane.idle.is_set() for lane in self._lanes)

    # --- events into wake-ups ----------------------------------------------------------------------------------------

    @contextmanager
    def _subscribed(self) -> Iterator[Events]:
        events = Events(self._settings)
        self._events = events
        try:
            yield events
        finally:
            self._events = None
            events.close()

    def _listen(self, events: Events, should_stop: Callable[[], bool]) -> None:
        """Until told to stop. Raises BoardUnavailable when the connection is lost, or silent though it should speak."""
        logger.info("subscribed", keys=len(INPUTS))
        self._wake(ALL)
        self._inputs.wake({EVERYTHING})
        asked_s = probed_s = heard_s = clock.monotonic_s()
        self._ask(events, probe=True)
        while not should_stop():
            event = events.receive(limits.LISTENER_POLL_S)
            now_s = clock.monotonic_s()
            if isinstance(event, Passed):
                heard_s = now_s
                self._arrived(event)
            elif event is not None:
                self._on_event(event)
            if now_s - asked_s > limits.LISTENER_HEALTH_S:
                asked_s = now_s
                due = now_s - probed_s > limits.LISTENER_PROBE_S
                probed_s = now_s if due else probed_s
                self._ask(events, probe=due)
            if now_s - heard_s > limits.LISTENER_SILENCE_S:
                raise BoardUnavailable(f"the subscription has been silent for {now_s - heard_s:.1f} s")
            self._require_lanes()

    def _on_event(self, event: Written) -> None:
        self._writes.note(event)
        if not event.own:
            logger.debug("written", key=event.key)
            self._wake(frozenset({event.key}))
            self._inputs.wake({event.key})

    def _wake(self, names: frozenset[str]) -> None:
        """The lanes that these keys concern, the urgent ones first."""
        wakes = ((self._emergency, EMERGENCY), (self._switch, SWITCH), (self._shown, SETTINGS), (self._orders, ORDERS))
        for lane, concerned in wakes:
            if names & concerned:
                lane.wake(names & concerned)

    def _require_lanes(self) -> None:
        """Raises StackError when a lane ended by an unforeseen error: the supervisor then starts the process anew."""
        dead = [lane.name for lane in self._lanes if not lane.is_alive()]
        dead += [] if self._alerts.is_alive() else ["alerts heard"]
        if dead:
            raise StackError(f"the listener's {', '.join(dead)} died")

    def _ask(self, events: Events, *, probe: bool = False) -> int:
        with self._round:
            self._sent += 1
            number = self._sent
        (events.probe if probe else events.send)(f"{self._name}:{number}")
        return number

    def _arrived(self, event: Passed) -> None:
        name, _, number = event.token.partition(":")
        if name != self._name:
            return
        if event.deaf:
            self._inputs.wake({DEAF})
        with self._round:
            self._passed = max(self._passed, int(number))
            self._round.notify_all()

    def _catch_up(self) -> bool:
        """Wait until everything Redis has sent so far was noted. Whether it was; without a connection none will be."""
        events = self._events
        if events is None:
            return True
        try:
            number = self._ask(events)
        except BoardUnavailable as error:
            logger.warning("cannot_catch_up", why=str(error))
            return False
        with self._round:
            caught_up = self._round.wait_for(lambda: self._passed >= number, limits.LISTENER_YIELD_S)
        if not caught_up:
            logger.warning("cannot_catch_up", why="no answer in time")
        return caught_up

    # --- what the lanes do -------------------------------------------------------------------------------------------

    def _on_emergency(self, names: frozenset[str]) -> None:
        rt = self._rt["emergency"]
        if not names:
            return self._keep_warm("emergency")
        done = False
        while emergency.handle(rt) is not None:
            done = True
        if done:
            self._wake(SWITCH)
        return None

    def _on_switch(self, names: frozenset[str]) -> float | None:
        rt = self._rt["switch"]
        if not names:
            self._keep_warm("switch")
            return None
        switch = control.sync_switch(rt, self._writes)
        if switch.stopping:
            switch = control.finish_stop(rt, switch, self._writes)
        if switch.epoch != self._shown_epoch:
            self._shown_epoch = switch.epoch
            self._shown.wake(SETTINGS)
            if switch.reason in (continuity.LOST, continuity.LOST_AND_LATCHED):
                self._rebuild.wake(SWITCH)
        return limits.LISTENER_AGAIN_S if switch.stopping else None

    def _on_settings(self, _names: frozenset[str]) -> None:
        rt = self._rt["settings"]
        settings = control.sync_settings(rt)
        showing.session(rt, settings, market_hours(rt.market()))

    def _on_orders(self, _names: frozenset[str]) -> None:
        pipeline.process_manual_orders(self._rt["orders"])

    def _on_inputs(self, names: frozenset[str]) -> None:
        rt, unknown = self._rt["inputs"], EVERYTHING in names
        if DEAF in names:
            control.raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, *NO_EVENTS)
        for name in sorted(ALL if unknown else names & ALL):
            rt.board.announce(INPUTS[name], now=rt.wall())
        for name in sorted(names & sessions.NAMES):
            sessions.observe(rt, INPUTS[name])
        if unknown:
            sessions.observe(rt)
        if unknown or names & ASKED:
            inputs.handle(rt)

    def _on_poll(self, _names: frozenset[str]) -> None:
        """What no event tells: a FLUSHALL, a Redis set back to an older state, events that were lost or never sent."""
        now, before = self._rt["poll"].board.read_many(POLLED), self._polled
        self._polled = now
        if before is None:  # it may have been lost since it was looked at
            self._wake(SWITCH | EMERGENCY)
            return
        changed = {key.name for key in POLLED if now[key].fingerprint != before[key].fingerprint}
        if keys.SENTINEL.name in changed or now.revision < before.revision:
            changed |= SWITCH
        self._wake(frozenset(changed))

    def _on_loss(self, _names: frozenset[str]) -> None:
        rt = self._rt["rebuild"]
        if rebuild.needed(rt):
            rebuild.rebuild(rt)

    def _keep_warm(self, lane: str) -> None:
        """A stop must not wait for a connection to be made, nor, the first one, for anything to be done first."""
        rt = self._rt[lane]
        if lane not in self._rehearsed:
            control.rehearse(rt)
            self._rehearsed.add(lane)
        with transaction(rt.engine) as connection:
            state.load_switch(connection)
        try:
            rt.broker.clock()
        except (BrokerError, ConfigError) as error:
            logger.debug("broker_does_not_answer", why=str(error))

    def _failed(self, lane: str, error: QBotError) -> None:
        """A human is told, unless that was done where the error arose, or cannot be."""
        if not isinstance(error, StoreUnavailable | BrokerError):
            message = f"{lane}: {type(error).__name__}: {error}"
            control.raise_alert(
                self._rt["poll"], AlertType.SYSTEM_ALERT, Severity.WARNING, "The listener could not act", message
            )


def main() -> None:
    """Listens until the process is told to end."""
    rt = runtime()
    log.configure("listener", rt.settings)
    sys.setswitchinterval(limits.LISTENER_SWITCH_S)
    rt = replace(rt, engine=make_engine(rt.settings.postgres_url, pool_size=limits.LISTENER_POOL))
    for channel in notifying.made(rt.settings):
        channel.prepare()
    gc.collect()
    gc.freeze()  # a full collection of all that the imports left takes longer than a stop may
    Listener(rt).run(on_ready=environment.tell_ready)


if __name__ == "__main__":
    main()
