"""What befalls the system, one class a kind of fault: `strike` begins it, `heal` ends it. `ALL` is the whole list."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from qbot import clock
from qbot.client import BoardUnavailable, EmergencyKind
from qbot.settings import ROOT
from qbot.stack import environment
from qbot.stack.programs import DJANGO
from tests.chaos.proxy import Proxy
from tests.chaos.system import System, family_of, kill, signal_all
from tests.chaos.toxics import Kind, Toxic

OWN = (
    "worker-trading", "worker-emergency", "worker-data", "worker-misc", "worker-training", "listener", "stream",
    "beat", "flower",
)  # fmt: skip
PROCESSES = (*OWN, "exchange", "redis", "postgres")
LASTS_S = 5.0  # a fault that is not over at once
AWAY_S = 30.0
TOO_LONG_S = 12.0  # over the client's ten seconds


@dataclass
class Fault:
    """`group` and `name` are what `--only` looks for. `holds`: an order is caught on the wire while it strikes.
    `lasts_s`: orders go on coming for so long before it heals. `leaves_off`: trading is off afterwards, as documented.
    """

    group: str
    name: str
    lasts_s: float = 0.0
    holds: bool = True
    leaves_off: bool = False

    def strike(self, system: System) -> None:
        raise NotImplementedError

    def heal(self, system: System) -> None:
        """Nothing to do where QBot's own supervisor does it."""

    def missing(self, system: System) -> str | None:
        """What recovery takes besides, as long as it is not there; None then. The venue has just been looked at."""
        return None


# --- processes --------------------------------------------------------------------------------------------------------


@dataclass
class Kill(Fault):
    """SIGKILL, or another signal, to a process of the supervisor."""

    process: str = ""
    number: int = signal.SIGKILL
    _before: int | None = None

    def strike(self, system: System) -> None:
        process = system.process(self.process)
        self._before = process.pid
        kill(process, self.number)

    def missing(self, system: System) -> str | None:
        now = {each["name"]: each["pid"] for each in system.whole.processes()}.get(self.process)
        return None if now not in (None, self._before) else f"{self.process} was not replaced"


@dataclass
class KillChild(Fault):
    """SIGKILL to the children of a worker, which do the work, but not to itself."""

    process: str = "worker-trading"

    def strike(self, system: System) -> None:
        for child in system.process(self.process).children():
            kill(child)


@dataclass
class KillTogether(Fault):
    """SIGKILL to all of QBot's own processes at once; only the servers and the broker go on."""

    _before: dict[str, int] = field(default_factory=dict)

    def strike(self, system: System) -> None:
        family = {name: system.process(name) for name in OWN}
        self._before = {name: process.pid for name, process in family.items()}
        for process in family.values():
            kill(process)

    def missing(self, system: System) -> str | None:
        now = {each["name"]: each["pid"] for each in system.whole.processes()}
        old = [name for name, pid in self._before.items() if now.get(name) in (None, pid)]
        return f"not replaced: {', '.join(old)}" if old else None


@dataclass
class KillSupervisor(Fault):
    """The supervisor goes without a word, everything with it; a human starts QBot again."""

    def strike(self, system: System) -> None:
        system.whole.kill()

    def heal(self, system: System) -> None:
        system.whole.start()
        clock.timeline.cache_clear()  # the new run has a replay clock of its own


@dataclass
class Freeze(Fault):
    """SIGSTOP for a while, then SIGCONT, to a process and all its children."""

    process: str = ""
    _family: dict[int, psutil.Process] = field(default_factory=dict)

    def strike(self, system: System) -> None:
        self._family = family_of(system.process(self.process))
        signal_all(self._family, signal.SIGSTOP)

    def heal(self, system: System) -> None:
        signal_all(self._family, signal.SIGCONT)


# --- the two servers --------------------------------------------------------------------------------------------------


@dataclass
class FlushAll(Fault):
    """Every key is gone, without an event that would tell."""

    leaves_off: bool = True

    def strike(self, system: System) -> None:
        with system.administrator() as redis:
            redis.flushall()


@dataclass
class FullRedis(Fault):
    """Every write of a key is refused: no memory is left."""

    def strike(self, system: System) -> None:
        with system.administrator() as redis:
            redis.config_set("maxmemory", "1")

    def heal(self, system: System) -> None:
        with system.administrator() as redis:
            redis.config_set("maxmemory", "0")


@dataclass
class Line(Fault):
    """A fault of the network between QBot's processes and one of the servers."""

    server: str = "broker"
    toxic: Toxic = field(default_factory=lambda: Toxic(Kind.LATENCY))

    def line(self, system: System) -> Proxy:
        return {"broker": system.broker_line, "redis": system.redis_line, "postgres": system.postgres_line}[self.server]

    def strike(self, system: System) -> None:
        self.line(system).poison(self.toxic)

    def heal(self, system: System) -> None:
        self.line(system).heal()


@dataclass
class KilledAndAway(Line):
    """The server crashes, and cannot be reached for a while after it is back."""

    def strike(self, system: System) -> None:
        kill(system.process(self.server), signal.SIGQUIT)
        super().strike(system)


# --- the broker itself ------------------------------------------------------------------------------------------------


@dataclass
class AtBroker(Fault):
    """A fault that the paper exchange does itself, by its /faults."""

    body: dict[str, Any] = field(default_factory=dict)
    holds: bool = False

    def strike(self, system: System) -> None:
        system.at_exchange("POST", "/faults", json=self.body)

    def heal(self, system: System) -> None:
        system.at_exchange("DELETE", "/faults")


@dataclass
class AcceptedLate(Fault):
    """Orders are answered with 504 at once and reach the broker only later."""

    late_s: float = 4.0
    holds: bool = False

    def strike(self, system: System) -> None:
        system.broker_line.accept_late(self.late_s)

    def heal(self, system: System) -> None:
        system.broker_line.accept_late(0.0)
        deadline = time.monotonic() + 2 * self.late_s
        while system.broker_line.on_their_way and time.monotonic() < deadline:
            time.sleep(0.1)


@dataclass
class StreamEvents(Fault):
    """Events of the trade stream come twice, or out of order."""

    doubled: bool = False
    reordered: bool = False
    holds: bool = False

    def strike(self, system: System) -> None:
        system.broker_line.stream_doubled, system.broker_line.stream_reordered = self.doubled, self.reordered

    def heal(self, system: System) -> None:
        system.broker_line.stream_doubled = system.broker_line.stream_reordered = False


# --- what is delivered twice ------------------------------------------------------------------------------------------


@dataclass
class Doubled(Fault):
    """The same message of Celery several times at once, again and again."""

    task: str = "trade_bot"
    times: int = 4
    holds: bool = False

    def strike(self, system: System) -> None:
        for _ in range(5):
            system.tick(self.task, times=self.times)
            time.sleep(0.4)


@dataclass
class TwoBeats(Fault):
    """A second beat is started beside the first."""

    holds: bool = False
    _second: subprocess.Popen[bytes] | None = None

    def strike(self, system: System) -> None:
        env = environment.of_children(system.settings, system.whole.home / "clock.json") | DJANGO
        scheduler = ("-S", "qbot.web.scheduler:SingleScheduler", "--pidfile=", "-l", "INFO")
        command = [sys.executable, "-m", "celery", "-A", "tasks.app", "beat", *scheduler]
        with (system.whole.home.parent / "second-beat.log").open("ab") as log:
            self._second = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)

    def heal(self, system: System) -> None:
        assert self._second is not None
        self._second.kill()
        self._second.wait(10)


# --- a stop while something is wrong ----------------------------------------------------------------------------------


@dataclass
class StopUnder(Fault):
    """A human stops everything while another fault is on."""

    kind: EmergencyKind = EmergencyKind.STOP_ALL_TRADING
    under: Fault = field(default_factory=lambda: Kill("kill", "", process="worker-emergency"))
    leaves_off: bool = True

    def strike(self, system: System) -> None:
        self.under.strike(system)
        deadline = time.monotonic() + AWAY_S
        while True:  # a human presses until it is taken
            try:
                return system.emergency(self.kind)
            except BoardUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def heal(self, system: System) -> None:
        self.under.heal(system)

    def missing(self, system: System) -> str | None:
        instead = self.under.missing(system)
        if instead:
            return instead
        if not system.switch().latched:
            return "the stop did not latch"
        left = system.open_purchases()
        if left:
            return f"purchases are still open: {left}"
        if self.kind is EmergencyKind.CLOSE_ALL_POSITIONS and system.venue.positions:
            return f"positions are still held: {dict(system.venue.positions)}"
        return None


def _broker(name: str, toxic: Toxic, lasts_s: float = LASTS_S) -> Line:
    return Line("network", f"broker {name}", lasts_s, server="broker", toxic=toxic)


def _server(name: str, what: str, toxic: Toxic, lasts_s: float = LASTS_S) -> Line:
    return Line("network", f"{name} {what}", lasts_s, server=name, toxic=toxic)


def _venue(name: str, lasts_s: float = LASTS_S, **body: Any) -> AtBroker:
    return AtBroker("exchange", name, lasts_s, body=body)


DOWN, RESET = Toxic(Kind.DOWN), Toxic(Kind.RESET_PEER)
CLOSE_ALL, STOP_ALL = EmergencyKind.CLOSE_ALL_POSITIONS, EmergencyKind.STOP_ALL_TRADING


def catalogue() -> list[Fault]:
    """Every fault, new."""
    return [
        *(Kill("kill", f"kill -9 {name}", process=name) for name in PROCESSES),
        KillChild("kill", "kill -9 trading children"),
        KillTogether("kill", "kill -9 all but the servers"),
        KillSupervisor("kill", "kill -9 supervisor"),
        Freeze("freeze", "freeze worker-trading", 8.0, process="worker-trading"),
        Freeze("freeze", "freeze worker-trading long", 22.0, process="worker-trading"),
        Freeze("freeze", "freeze listener", 8.0, process="listener"),
        Freeze("freeze", "freeze beat", 8.0, process="beat"),
        Kill("redis", "redis restart", process="redis", number=signal.SIGTERM),
        FlushAll("redis", "redis FLUSHALL", LASTS_S),
        FullRedis("redis", "redis full", LASTS_S),
        Kill("postgres", "postgres immediate stop", process="postgres", number=signal.SIGQUIT),
        Kill("postgres", "postgres fast restart", process="postgres", number=signal.SIGINT),
        KilledAndAway("postgres", "postgres away 30 s", AWAY_S, server="postgres", toxic=DOWN),
        _broker("latency", Toxic(Kind.LATENCY, seconds=1.5, jitter_s=1.0), 8.0),
        _broker("down", DOWN),
        _broker("bandwidth", Toxic(Kind.BANDWIDTH, kb_s=8)),
        _broker("slow_close", Toxic(Kind.SLOW_CLOSE, seconds=2.0)),
        _broker("timeout", Toxic(Kind.TIMEOUT, seconds=TOO_LONG_S), TOO_LONG_S),
        _broker("reset_peer", Toxic(Kind.RESET_PEER, seconds=0.05)),
        _broker("slicer", Toxic(Kind.SLICER, seconds=0.01, size_bytes=64)),
        _broker("limit_data", Toxic(Kind.LIMIT_DATA, size_bytes=1_500)),
        _server("redis", "latency", Toxic(Kind.LATENCY, seconds=0.3, jitter_s=0.2)),
        _server("redis", "down", DOWN),
        _server("redis", "reset_peer", RESET),
        _server("postgres", "latency", Toxic(Kind.LATENCY, seconds=0.2, jitter_s=0.1)),
        _server("postgres", "down", DOWN),
        _server("postgres", "reset_peer", RESET),
        _venue("timeout after accept", kind="timeout_after_accept", method="POST", path="/v2/orders"),
        _venue("connection dropped after accept", kind="drop_after_accept", method="POST", path="/v2/orders"),
        _venue("5xx", kind="server_error"),
        _venue("429 storm", kind="rate_limited"),
        _venue("429 to orders", kind="rate_limited", method="POST", path="/v2/orders"),
        _venue("silent stream", kind="silent_stream"),
        _venue("cancels stuck", kind="hold_cancels"),
        AcceptedLate("exchange", "5xx, accepted late", LASTS_S),
        StreamEvents("exchange", "stream events twice", LASTS_S, doubled=True),
        StreamEvents("exchange", "stream events out of order", LASTS_S, reordered=True),
        Doubled("delivery", "cycle delivered 4 times at once"),
        Doubled("delivery", "manual tick delivered 4 times at once", task="process_manual_orders"),
        TwoBeats("delivery", "two beats", 6.0),
        StopUnder("emergency", "STOP_ALL at a slow broker", 3.0, under=_broker("", Toxic(Kind.LATENCY, seconds=1.0))),
        StopUnder("emergency", "STOP_ALL, postgres killed", under=Kill("", "", process="postgres")),
        StopUnder("emergency", "STOP_ALL, trading frozen", 6.0, under=Freeze("", "", process="worker-trading")),
        StopUnder("emergency", "CLOSE_ALL, children killed", kind=CLOSE_ALL, under=KillChild("", "")),
        StopUnder("emergency", "CLOSE_ALL, redis restart", kind=CLOSE_ALL, under=Kill("", "", process="redis")),
        StopUnder("emergency", "CLOSE_ALL, listener killed", kind=CLOSE_ALL, under=Kill("", "", process="listener")),
        StopUnder("emergency", "CLOSE_ALL, broker down", 4.0, kind=CLOSE_ALL, under=_broker("", DOWN)),
    ]  # fmt: skip


def chosen(only: Sequence[str]) -> list[Fault]:
    """Those whose group or name holds one of these words; all without any. Raises ValueError where there is none."""
    faults = [f for f in catalogue() if not only or any(word in f"{f.group}: {f.name}" for word in only)]
    if not faults:
        raise ValueError(f"no fault is called {', '.join(only)}")
    return faults
