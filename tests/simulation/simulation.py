"""Trading days from a seed: QBot's own code against the simulated exchange, with faults, watched by the oracles."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from qbot import limits
from qbot.clock import NEW_YORK
from qbot.desk import Desk
from qbot.protecting import Protected
from qbot.reconciliation import Books
from qbot.session import Switch
from qbot.types import (
    TradingConfig,
)
from tests.simulation import crew, faults
from tests.simulation.broker import LATE, SimBroker, Wire
from tests.simulation.faults import Fate
from tests.simulation.humans import Humans
from tests.simulation.kernel import SECOND, Host, Kernel, Killed, Run, moment
from tests.simulation.market import Feed, choose_days
from tests.simulation.oracles import Oracles, Violation
from tests.simulation.settings import LOOSE, some_config
from tests.simulation.store import SimStore
from tests.simulation.stream import Stream
from tests.simulation.venue import Venue, usd

CYCLES, CYCLE_S = 39, 600
ORDERS_A_DAY, FAULTS_A_DAY = 5, 3
MINUTE = 60 * SECOND
HALF_DAY_S = 4 * 3600
QUIET_MINUTES = (6, 10, 14)  # after the close: the last one finds nothing left to do
PRICES_C = {"AAPL": 23_000, "PEP": 14_000, "SPY": 60_000}
CASH_C = (4_000_000, 10_000_000)


@dataclass(slots=True)
class Day:
    """What a day came to."""

    date: str
    cycles: int = 0
    orders: int = 0
    faults: int = 0


@dataclass(slots=True)
class Defects:
    """Parts to be exchanged for broken ones."""

    broker: type[SimBroker] = SimBroker
    store: type[SimStore] = SimStore


class Simulation:
    """A few days in a row. `violations` is empty, or nothing else counts."""

    def __init__(self, seed: int, days: int, *, traced: bool = False, defects: Defects | None = None) -> None:
        parts = defects or Defects()
        self.seed = seed
        rng = Random(f"world {seed}")
        self.sessions = choose_days(rng, days)
        self.kernel = Kernel(seed, self.sessions[0][0] - 3600 * SECOND)
        self.kernel.trace = [] if traced else None
        cash_c = rng.choice(CASH_C)
        self.venue = Venue(self.kernel, PRICES_C, cash_c, partial_one_in=rng.choice((3, 6, 10)))
        self.venue.hides_held = rng.random() < 0.5
        self.wire = Wire(self.kernel, self.venue)
        self.store = parts.store(self.kernel)
        self.broker_class = parts.broker
        self.feed = Feed(self.kernel, self.venue)
        self.oracles = Oracles(self.kernel, self.venue, self.wire, self.store, self.feed)
        self.hosts = [Host("host 1"), Host("host 2", int(rng.uniform(-0.4, 0.4) * SECOND))]
        self.desks: dict[Host, Desk] = {}
        self.start_usd = usd(cash_c)
        self.config, self.revision = some_config(rng, self.start_usd), 1
        self.oracles.revisions[1] = self.config
        self.oracles.fence_s, self.oracles.protection = limits.FENCE_MAX_S, True
        self.days: list[Day] = []
        self.strikes: Counter[str] = Counter()
        self.stops_during: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.drifts = self.restored = 0
        self.cycles_traded = 0
        self.running: dict[Run, str] = {}
        self.fates: list[Fate] = []
        self.armed: dict[str, int] = {}
        self.twice = 0
        self.two_beats_until = self.board_down_until = self.swapped_until = 0
        self.emergency_waits = False
        self.quiet_now = False
        self.humans, self.stream = Humans(self), Stream(self)
        self.venue.on_event = self.stream.event
        self.wire.on_trouble = self._trouble
        self.kernel.on_freeze = self._frozen
        self.stop_at_beat = False

    @property
    def violations(self) -> list[Violation]:
        return self.oracles.found

    # --- running ---

    def play(self) -> list[Day]:
        """All days, up to the first violation."""
        for opened, closed in self.sessions:
            self._day(opened, closed)
            if self.violations:
                break
        return self.days

    def _day(self, opened: int, closed: int) -> None:
        kernel, rng = self.kernel, self.kernel.rng
        day = Day(moment(opened).astimezone(NEW_YORK).date().isoformat())
        self.days.append(day)
        kernel.run(opened - 10 * MINUTE)
        self._boot(opened, closed)
        self._plan_faults(opened)
        until = opened + CYCLES * CYCLE_S * SECOND
        accepted, struck = self.oracles.accepted, self._struck()
        for number in range(CYCLES):
            kernel.run(opened + number * CYCLE_S * SECOND)
            if self.violations:
                return
            if number % 2 == 0:
                self.feed.predict()
            self._beat()
            day.cycles += 1
            done = self.oracles.accepted - accepted
            share = (kernel.now - opened) / (closed - opened)
            if 0.25 < share < 0.98 and done < ORDERS_A_DAY * share + 1:
                self._do_more(late=share > 0.6)
            if number in (26, 30, 34) and self._struck() - struck < FAULTS_A_DAY:
                for name in ("order by hand at the broker", "clock jump", "halted symbol"):
                    self.arm(name)
            if rng.random() < 0.12:
                self.task("reconcile", crew.reconcile(self), delay_s=rng.random() * 500)
        kernel.run(until)
        self._end_faults()
        self._quieten(until)
        day.orders = self.oracles.accepted - accepted
        day.faults = self._struck() - struck

    def _do_more(self, *, late: bool) -> None:
        """A day on which little happens gets more: humans trade, start again what they stopped, and loosen the caps."""
        if not self.switch.on:
            self.humans.restart()
        if late:
            self._set(replace(self.config, **LOOSE))
        for number in range(3 if late else 1):
            self.kernel.after(60 + 200 * number, partial(self.humans.ask_by_hand, small=True))

    @property
    def switch(self) -> Switch:
        """As it is committed."""
        return self.oracles.switches[-1][1] if self.oracles.switches else Switch()

    def _boot(self, opened: int, closed: int) -> None:
        """The morning: everything starts anew, and the market opens with a gap."""
        kernel, rng = self.kernel, self.kernel.rng
        self.oracles.begin, self.oracles.session = opened - 12 * 3600 * SECOND, (opened, closed)
        self.strikes["restart overnight"] += 1
        if closed - opened < HALF_DAY_S * SECOND:
            self.strikes["half day"] += 1
        if moment(opened).astimezone(NEW_YORK).utcoffset() != getattr(self, "_offset", None):
            self.strikes["DST"] += hasattr(self, "_offset")
            self._offset = moment(opened).astimezone(NEW_YORK).utcoffset()
        if rng.random() < 0.3:
            self._new_config()
        self.feed.walk(gap=0.03 if rng.random() < 0.3 else 0.006)
        self.task("reconcile", crew.reconcile(self))
        self.task("start", crew.start(self), delay_s=60)
        kernel.at(opened, self.venue.open_session)
        kernel.at(closed, self.venue.close_session)
        for number in range(1, 78):
            kernel.at(opened + number * 5 * MINUTE - 7 * SECOND, self.feed.walk)

    def _new_config(self) -> None:
        self._set(some_config(self.kernel.rng, self.start_usd))

    def _set(self, config: TradingConfig) -> None:
        """A human changes the settings."""
        if config != self.config:
            self.revision += 1
            self.config = config
            self.oracles.revisions[self.revision] = config

    def _plan_faults(self, opened: int) -> None:
        rng = self.kernel.rng
        names = list(faults.HERE)
        for _ in range(3 + int(rng.random() * 5)):
            at = opened + int(rng.random() * 380 * 60) * SECOND
            self.kernel.at(at, partial(self.arm, rng.choice(names)))
        if rng.random() < 0.2:
            self.kernel.at(opened + int(rng.random() * 360 * 60) * SECOND, self._press_soon)
        if rng.random() < 0.3:
            self.kernel.at(opened - 4 * MINUTE, self.humans.ask_by_hand)
        for _ in range(int(rng.random() * 3)):
            self.kernel.at(opened + int(rng.random() * 370 * 60) * SECOND, self.humans.ask_by_hand)

    def arm(self, name: str) -> None:
        """Bring a fault about; now and then the kill switch is pressed right under it."""
        if self.quiet_now:
            return
        self.kernel.note(f"fault: {name}")
        self.armed[name] = self.kernel.now
        faults.HERE[name](self)
        if self.kernel.random() < 0.06:
            self.kernel.after(self.kernel.random() * 400, self.humans.press_a_switch)

    def _press_soon(self) -> None:
        if self.kernel.random() < 0.5:
            self.humans.press_a_switch()
        else:
            self.stop_at_beat = True

    def _frozen(self, run: Run) -> None:
        """A process stands still: its transaction is lost after a while, and a human may stop trading meanwhile."""
        run.notes["frozen"] = True
        self.store.frozen(run)
        if self.kernel.random() < 0.4 and run.name in ("cycle", "manual"):
            self.kernel.after(2 * self.kernel.random(), self.humans.press_a_switch)

    def _trouble(self, fault: str, kind: str) -> None:
        """Where an order is in doubt, the reconcile of each minute matters."""
        if kind == "POST order" and not self.quiet_now:
            for minute in range(3):
                self.task("reconcile", crew.reconcile(self), delay_s=60 * (minute + self.kernel.random()))
            if fault == LATE and self.kernel.random() < 0.4:  # who gives it up by that clock does so too early
                self.kernel.after(30 * self.kernel.random(), partial(self.arm, "clock jump"))

    def _struck(self) -> int:
        return (
            sum(self.strikes.values()) + sum(self.wire.struck.values()) + sum(self.feed.struck.values())
            + self.store.outage_struck + self.store.mid_commit_struck
        )  # fmt: skip

    def struck(self) -> Counter[str]:
        """How often each fault took effect."""
        found = self.strikes + self.wire.struck + Counter(self.feed.struck)
        found["Postgres gone for minutes"] += self.store.outage_struck
        found["Postgres killed mid-commit"] += self.store.mid_commit_struck
        return found

    def _beat(self) -> None:
        """A tick of the trading cycle, delivered as often as it is."""
        rng = self.kernel.rng
        host = self.hosts[int(rng.random() * 2)]
        self.task("cycle", crew.cycle(self), host=host)
        if self.stop_at_beat:
            self.stop_at_beat = False
            kernel = self.kernel
            kernel.after(0.7 * rng.random(), self.humans.press_a_switch)
        if self.twice:
            self.twice -= 1
            self.strikes["same task twice at once"] += 1
            self.task("cycle", crew.cycle(self), host=self._other(host), delay_s=rng.random() * 0.2)
        if self.two_beats_until > self.kernel.now:
            self.strikes["two beats"] += 1
            self.task("cycle", crew.cycle(self), host=self._other(host), delay_s=1.5 * rng.random())

    def _other(self, host: Host) -> Host:
        return self.hosts[1] if host is self.hosts[0] else self.hosts[0]

    def task(self, name: str, work: crew.Work, *, host: Host | None = None, delay_s: float = 0.0) -> Run:
        """A process takes up a task."""
        kernel = self.kernel
        run = kernel.start(name, host or self.hosts[int(kernel.random() * 2)], work, self._ended, delay_s)
        run.notes["began"] = kernel.now
        if self.fates and not self.quiet_now:
            self._meet(run)
        self.running[run] = name
        return run

    def _meet(self, run: Run) -> None:
        for fate in self.fates:
            if run.name in fate.tasks:
                self.fates.remove(fate)
                run.fate, run.aim = fate.kind, fate.aim
                most = 1 if fate.aim else max(2, self.kernel.longest[run.name])
                run.fuse = 1 + int(self.kernel.random() * most)
                run.notes["fate"] = fate
                return

    def _ended(self, run: Run, error: BaseException | None) -> None:
        """A task is over."""
        self.running.pop(run, None)
        self.kernel.longest[run.name] = max(self.kernel.longest[run.name], min(run.passed, 150))
        fate = run.notes.get("fate")
        if isinstance(fate, Fate):
            if run.fate:
                self.fates.append(fate)
            else:
                self.strikes[fate.fault] += 1
        if isinstance(error, Killed):
            self._after_death(run)
        elif error is not None:
            self.kernel.note(f"{run.name} ended: {type(error).__name__}: {error}")
            self.errors[type(error).__name__] += 1
            at, what = run.notes.get("noticed") or (0, None)
            if what is not None and what in (error, error.__cause__) and "frozen" not in run.notes:
                self.oracles.told_in_time(f"{run.name}: {error}", at)
            if run.name in ("stop", "finish", "start") and not self.quiet_now:
                self.kernel.after(10, lambda: self.again(run))
        if run is self.stream.run:
            self.stream.run = None
            if error is not None:
                self.task("reconcile", crew.reconcile(self), delay_s=1)
            self.stream.pump()

    def again(self, run: Run) -> None:
        """The next tick of what must not be left undone."""
        self.task(run.name, run.work, host=run.host)

    def _after_death(self, run: Run) -> None:
        """The task is delivered again to another worker, or it is not."""
        if run.name in ("stop", "finish", "start") or self.kernel.random() < 0.7:
            again = {"reconcile": crew.reconcile(self), "stream": crew.reconcile(self)}.get(run.name, run.work)
            name = "reconcile" if run.name == "stream" else run.name
            self.task(name, again, host=self._other(run.host), delay_s=1 + 120 * self.kernel.random())

    def _end_faults(self) -> None:
        """The evening: whatever was wrong is right again."""
        self.quiet_now = True
        self.fates.clear()
        self.wire.troubles.clear()
        self.stream.faults.clear()
        self.feed.faults.clear()
        self.feed.runaway_until = 0
        self.wire.fills_hidden_s = 0.0
        self.wire.swapped_until = 0
        self.store.latency_us = 1_000
        self.stop_at_beat = False
        self.venue.halted.clear()
        self.store.down = False
        self.store.mid_commit = 0
        self.twice = self.humans.race = 0
        self.two_beats_until = self.board_down_until = self.swapped_until = 0
        self.humans.cancels_go_on()
        for run in self.running:
            run.fate = ""

    def _quieten(self, until: int) -> None:
        """Reconciles without faults; after the last one everything has to fit."""
        for minutes in QUIET_MINUTES:
            self.task("finish", crew.finish_stop(self))
            self.kernel.run(until + minutes * MINUTE - 30 * SECOND)
            self.task("reconcile", crew.reconcile(self))
            self.kernel.run(until + minutes * MINUTE)
        if not self.violations:
            self.oracles.quiet()
        self.quiet_now = False

    # --- what processes tell ---

    def protected(self, done: Protected) -> None:
        """What was done about lost protection."""
        self.restored += len(done.restored)

    def taken(self, run: Run, books: Books) -> None:
        """What a human is told of the books."""
        if books.drift:
            self.drifts += 1
            seen = run.notes.get("compared_at")
            if isinstance(seen, int) and "frozen" not in run.notes:
                self.oracles.told_in_time(f"{run.name}: drift", seen)
            self.kernel.note(f"drift: {dict(books.drift)}")

    def stop_recorded(self, run: Run) -> None:
        """A stop is in the store."""
        self.kernel.after(12, lambda: self.task("finish", crew.finish_stop(self)))
        self.kernel.after(40, self._finish_again)

    def _finish_again(self) -> None:
        if not self.switch.on and not self.quiet_now:
            self.task("finish", crew.finish_stop(self))
            self.kernel.after(60 if self.switch.stopping else 300, self._finish_again)

    def live_problem(self) -> str | None:
        """Why nothing may be entered though the keys work: they are those of the other account."""
        if self.swapped_until > self.kernel.now:
            self.strikes["paper and live keys swapped"] += 1
            return "these keys are of another account"
        return None
