"""Runs programs and keeps them running: start in stages, restart with back-off, stop in reverse, no leftovers.

circus' Watcher spawns, stops with grace and writes the rotated logs; order, readiness and back-off are added here.
Everything happens in one event loop in the main thread, since a child on Linux ends with the thread that started it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import psutil
from circus.stream import FileStream
from circus.watcher import Watcher
from tornado.ioloop import IOLoop

from qbot import clock
from qbot.errors import StackError
from qbot.settings import ROOT

TICK_S = 0.25
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
STABLE_S = 30.0  # a process that ran this long starts its back-off anew
DEATHS_AT_START = 3  # a process that dies this often before it was ready once never will be
LOG_BYTES = 5_000_000
LOG_FILES = 3
LAST_WORDS_S = 0.1
LEFTOVERS_S = 3.0
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Program:
    """One process. `args` is the whole command; `stage` orders starts, and stops in reverse."""

    name: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    stage: int = 0
    ready: Callable[[int], bool] | None = None  # asked with the process' pid
    ready_within_s: float = 90.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 5.0


@dataclass(frozen=True)
class ProcessHealth:
    """`state`: stopped | starting | running | restarting. `uptime_s` of the present process."""

    name: str
    pid: int | None
    state: str
    restarts: int
    uptime_s: float


class Supervised:
    """A program with its circus watcher and what happened to it so far."""

    def __init__(self, program: Program, log_folder: Path) -> None:
        self.program = program
        self.log_file = log_folder / f"{program.name}.log"
        self.restarts = 0
        self.was_ready = False  # ever
        self._ready = False  # the present process
        self._started_s: float | None = None
        self._next_start_s: float | None = None
        self._delay_s = BACKOFF_FIRST_S
        output = {"stream": FileStream(str(self.log_file), max_bytes=LOG_BYTES, backup_count=LOG_FILES)}
        self.watcher: Any = Watcher(
            program.name,
            quote(program.args[0]),
            args=list(program.args[1:]),
            env=dict(program.env),
            working_dir=str(ROOT),
            stop_signal=program.stop_signal,
            graceful_timeout=program.stop_within_s,
            stdout_stream=output,
            stderr_stream=output,
            respawn=False,
            loop=IOLoop.current(),
        )
        self.watcher.initialize(None, {}, None)

    @property
    def pid(self) -> int | None:
        """Of the running process, or None."""
        for process in list(self.watcher.processes.values()):
            return int(process.pid)
        return None

    async def start(self) -> None:
        """Starts the process. Raises StackError when its command cannot be run."""
        self._ready = False
        await self.watcher.start()
        self._started_s = clock.monotonic_s()
        if self.pid is None:
            raise StackError(f"{self.program.name} cannot be started: {self.program.args[0]}")

    async def stop(self) -> None:
        """Asks the process to end, and kills it and its children when its time is over."""
        self._next_start_s = None
        if self._started_s is not None:
            self._started_s = None
            await self.watcher.stop()

    async def check(self) -> None:
        """Notices a death and starts the process again once its back-off is over."""
        if self._started_s is None:
            return
        now = clock.monotonic_s()
        if self._next_start_s is None and self._ended():
            await self._bury()
            if now - self._started_s > STABLE_S:
                self._delay_s = BACKOFF_FIRST_S
            self._start_later(now)
        if self._next_start_s is not None and now >= self._next_start_s:
            self._next_start_s = None
            self.restarts += 1
            try:
                await self.start()
            except StackError:
                self._start_later(now)

    def _start_later(self, now_s: float) -> None:
        self._next_start_s = now_s + self._delay_s
        self._delay_s = min(self._delay_s * 2, BACKOFF_MAX_S)

    def is_ready(self) -> bool:
        """True once the process runs and its readiness was seen."""
        pid = self.pid
        if pid is None or self._next_start_s is not None:
            return False
        self._ready = self._ready or self.program.ready is None or self.program.ready(pid)
        self.was_ready = self.was_ready or self._ready
        return self._ready

    def health(self) -> ProcessHealth:
        """The present state."""
        name, now = self.program.name, clock.monotonic_s()
        if self._started_s is None:
            return ProcessHealth(name, None, "stopped", self.restarts, 0.0)
        if self._next_start_s is not None:
            return ProcessHealth(name, None, "restarting", self.restarts, 0.0)
        state = "running" if self._ready else "starting"
        return ProcessHealth(name, self.pid, state, self.restarts, round(now - self._started_s, 1))

    def last_lines(self, count: int = 5) -> str:
        """The end of its log."""
        try:
            with self.log_file.open(errors="replace") as file:
                return "".join(deque(file, maxlen=count)).strip()
        except OSError:
            return ""

    def _ended(self) -> bool:
        """True when the process is gone or a zombie. It is not reaped yet: its last words are still in the pipe."""
        pid = self.pid
        if pid is None:
            return True
        try:
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    async def _bury(self) -> None:
        await asyncio.sleep(LAST_WORDS_S)
        for pid, process in list(self.watcher.processes.items()):
            self.watcher.stream_redirector.remove_redirections(process)
            with suppress(ChildProcessError):
                _pid, status = os.waitpid(pid, os.WNOHANG)
                self.watcher.reap_process(pid, status)
        await self.watcher.stop()


class Supervisor:
    """All programs of a stack. To be used inside a running event loop of the main thread."""

    def __init__(self, programs: Sequence[Program], log_folder: Path) -> None:
        log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.supervised = [Supervised(program, log_folder) for program in programs]
        if sys.platform == "linux":  # orphans of a killed worker become ours, and so can be ended
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def stages(self) -> list[int]:
        """In starting order."""
        return sorted({each.program.stage for each in self.supervised})

    async def start_stage(self, stage: int, should_stop: Callable[[], bool]) -> None:
        """Starts the programs of one stage and waits until they are ready, or until `should_stop`.

        Raises StackError with the end of the log of a program that keeps dying or takes too long.
        """
        members = [each for each in self.supervised if each.program.stage == stage]
        for each in members:
            await each.start()
        begun_s = clock.monotonic_s()
        while any(not each.is_ready() for each in members):
            if should_stop():
                return
            await self.tick()
            for each in members:
                self._give_up_on(each, clock.monotonic_s() - begun_s)
            await asyncio.sleep(0.05)

    @staticmethod
    def _give_up_on(each: Supervised, waited_s: float) -> None:
        if each.was_ready:
            return
        dies, late = each.restarts >= DEATHS_AT_START, waited_s > each.program.ready_within_s
        if dies or late:
            what = "keeps ending" if dies else f"is not ready after {waited_s:.0f} s"
            raise StackError(f"{each.program.name} {what}; its log {each.log_file} ends with:\n{each.last_lines()}")

    async def tick(self) -> None:
        """To be called about every TICK_S: restarts what died and clears dead orphans."""
        for each in self.supervised:
            await each.check()
            each.is_ready()
        self._reap_orphans()

    def health(self) -> list[ProcessHealth]:
        """Of every program, in starting order. May be called from any thread."""
        return [each.health() for each in self.supervised]

    async def stop(self) -> None:
        """Stops all, the last stage first, and kills whatever is left of their descendants."""
        for stage in reversed(self.stages()):
            await asyncio.gather(*(each.stop() for each in self.supervised if each.program.stage == stage))
        self._end_leftovers()

    def _own_pids(self) -> set[int]:
        return {pid for each in self.supervised for pid in each.watcher.processes}

    def _orphans(self) -> list[psutil.Process]:
        """Children of this process that it did not start: their parent died."""
        mine = self._own_pids()
        return [child for child in psutil.Process().children() if child.pid not in mine and _is_stray(child)]

    def _reap_orphans(self) -> None:
        for child in self._orphans():
            with suppress(psutil.NoSuchProcess, ChildProcessError):
                if child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)

    def _end_leftovers(self) -> None:
        left = [grand for child in self._orphans() for grand in [child, *_descendants(child)]]
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=LEFTOVERS_S)


def _is_stray(process: psutil.Process) -> bool:
    """True for what descends from a program: each program leads a session of its own."""
    try:
        return os.getsid(process.pid) != os.getsid(0)
    except ProcessLookupError:
        return False


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
