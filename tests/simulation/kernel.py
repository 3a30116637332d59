"""Simulated time and simulated processes: one thread, greenlets, a heap of what comes next, one seeded random source.

A process runs the product's own, synchronous code. Wherever that would wait for a store, a broker or a clock, it calls
`point`: time passes, others whose moment has come have their turn, and the process may be killed or frozen there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from qbot.clock import Uptime
from qbot.errors import QBotError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000  # of the kernel's time, which is whole microseconds
IDLE_S = 15  # Postgres ends the session of a process that sits still within a transaction: qbot.store.engine
LOCK_WAIT_S = 10  # and gives up waiting for a lock


E = TypeVar("E", bound=QBotError)


class Killed(BaseException):
    """kill -9: nothing of the process runs on. No Exception, so that no handler of the product sees it."""


@dataclass(slots=True, eq=False)
class Host:
    """A machine, as far as its clocks matter: `skew` is how far the wall's is off, in microseconds."""

    name: str
    skew: int = 0
    boots: int = 1
    booted: int = 0

    def restart(self, now: int) -> None:
        """Its uptime begins anew."""
        self.boots, self.booted = self.boots + 1, now


@dataclass(slots=True, eq=False)
class Run:
    """One task in one process. `fate`: what befalls it at the `fuse`-th point, of those named `aim` if that is set."""

    kernel: Kernel
    name: str
    host: Host
    work: Callable[[Run], None]
    ended: Callable[[Run, BaseException | None], None]
    thread: greenlet | None = None
    done: bool = False
    fuse: int = 0
    fate: str = ""
    aim: str = ""
    passed: int = 0
    waiting: bool = False
    session_lost: bool = False
    notes: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        """Its first turn."""
        kernel = self.kernel
        self.thread = kernel.idle.pop() if kernel.idle else greenlet(kernel.serve, kernel.hub)
        before, kernel.current = kernel.current, self
        self.thread.switch(self)
        kernel.current = before

    def resume(self) -> None:
        """Go on where it lost its turn."""
        if self.done:
            return
        before, self.kernel.current = self.kernel.current, self
        assert self.thread is not None
        self.thread.switch()
        self.kernel.current = before

    def kill(self) -> None:
        """kill -9 from outside; not from within itself."""
        if self.done or self.thread is None:
            return
        before, self.kernel.current = self.kernel.current, self
        self.thread.throw(Killed)
        self.kernel.current = before

    def main(self) -> None:
        """The life of the process."""
        error: BaseException | None = None
        try:
            self.work(self)
        except Killed as killed:
            error = killed
        except QBotError as raised:
            error = raised
        self.done = True
        self.ended(self, error)
        self.thread = None


class Kernel:
    """Time is `now`, microseconds since 1970, and never goes back. `trace`, where there is one, is told everything."""

    def __init__(self, seed: int, begin: int) -> None:
        self.rng = Random(seed)
        self.random = self.rng.random
        self.now = begin
        self.heap: list[tuple[int, int, Callable[[], None]]] = []
        self.seq = 0
        self.hub = getcurrent()
        self.idle: list[greenlet] = []  # threads whose process has ended
        self.current: Run | None = None
        self.trace: list[tuple[int, str, str]] | None = None
        self.struck: Counter[str] = Counter()  # points at which a process was killed or frozen
        self.longest: Counter[str] = Counter()  # the most points a task has passed, by its name
        self.on_freeze: Callable[[Run], None] = lambda _run: None
        self.points = 0

    # --- what comes next ---

    def at(self, when: int, what: Callable[[], None]) -> None:
        """Have something happen. It must not wait."""
        self.seq += 1
        heappush(self.heap, (when, self.seq, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """The same, some time from now."""
        self.at(self.now + int(seconds * SECOND), what)

    def start(
        self,
        name: str,
        host: Host,
        work: Callable[[Run], None],
        ended: Callable[[Run, BaseException | None], None],
        delay_s: float = 0.0,
    ) -> Run:
        """A new process that begins with `work`."""
        run = Run(self, name, host, work, ended)
        self.at(self.now + int(delay_s * SECOND), run.begin)
        return run

    def serve(self, run: Run) -> None:
        """The thread of one process after the other: a new one for each would cost more than what many of them do."""
        while True:
            run.main()
            self.idle.append(getcurrent())
            run = self.hub.switch()

    def run(self, until: int) -> None:
        """Let everything happen up to a moment."""
        heap = self.heap
        while heap and heap[0][0] <= until:
            when, _, what = heappop(heap)
            if when > self.now:
                self.now = when
            what()
        self.now = max(self.now, until)

    # --- what a process calls ---

    def point(self, name: str, cost_us: int = 1_000) -> None:
        """Time passes: about `cost_us`. Others may have their turn, and this process may meet its fate."""
        run = self.current
        if run is None:
            return
        self.points += 1
        run.passed += 1
        when = self.now + 1 + int(cost_us * (0.5 + self.random()))
        if self.trace is not None:
            self.trace.append((self.now, run.name, name))
        if run.fate and (not run.aim or run.aim == name):
            run.fuse -= 1
            if run.fuse <= 0:
                when = self._strike(run, name, when)
        heap = self.heap
        if heap and heap[0][0] <= when:
            self._let_others(run, when)
        else:
            self.now = when

    def _strike(self, run: Run, name: str, when: int) -> int:
        fate, run.fate = run.fate, ""
        self.struck[f"{fate} {name}"] += 1
        if self.trace is not None:
            self.trace.append((self.now, run.name, f"*** {fate} at {name}"))
        if fate == "kill":
            raise Killed
        self.on_freeze(run)
        return when + int((2 + 90 * self.random()) * SECOND)

    def _let_others(self, run: Run, when: int) -> None:
        heap = self.heap
        if not heap or heap[0][0] > when:
            self.now = when
            return
        self.seq += 1
        heappush(heap, (when, self.seq, run.resume))
        self.hub.switch()

    def pause(self, seconds: float) -> None:
        """A process sleeps."""
        run = self.current
        if run is None:
            raise AssertionError("only a process can sleep")
        self.points += 1
        run.passed += 1
        self._let_others(run, self.now + max(1, int(seconds * SECOND)))

    def wait(self, until: Callable[[], bool]) -> bool:
        """A process waits for a lock; False when that takes too long."""
        deadline = self.now + LOCK_WAIT_S * SECOND
        while not until():
            if self.now > deadline or self.current is None:
                return False
            self.pause(0.003)
        return True

    # --- clocks ---

    def wall(self, host: Host) -> datetime:
        """What the clock of a machine says."""
        return EPOCH + timedelta(0, 0, self.now + host.skew)

    def monotonic_s(self) -> float:
        """Seconds that no jump of a clock moves."""
        return self.now / SECOND

    def uptime(self, host: Host) -> Uptime:
        """How long a machine runs."""
        return Uptime(f"{host.name}, boot {host.boots}", (self.now - host.booted) / SECOND)

    def noticed(self, error: E) -> E:
        """A process meets something that a human has to hear of."""
        if self.current is not None:
            self.current.notes["noticed"] = (self.now, error)
        return error

    def note(self, what: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append((self.now, self.current.name if self.current else "world", what))


def moment(at: int) -> datetime:
    """A time of the kernel as a datetime."""
    return EPOCH + timedelta(0, 0, at)


def micros(at: datetime) -> int:
    """A datetime as a time of the kernel."""
    return (at - EPOCH) // timedelta(microseconds=1)
