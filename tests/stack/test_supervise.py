"""The supervisor: what dies comes back, what is stopped is gone, and nothing outlives it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from qbot.errors import StackError
from qbot.stack import child, environment, lock
from qbot.stack.supervise import Program, Supervisor
from tests.support.processes import alive, started, wait_gone
from tests.support.servers import wait_until

NAMES = ("base", "stubborn", "top")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def dummy(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    with started(["-m", "tests.stack.dummy_stack", str(home)], dict(os.environ), home / "out") as process:
        wait_until(lambda: states(home) == dict.fromkeys(NAMES, "running"), "all running")
        yield process


def health(home: Path) -> dict[str, list[object]]:
    file = home / "health.json"
    return json.loads(file.read_text()) if file.exists() else {}


def states(home: Path) -> dict[str, object]:
    return {name: state for name, (_pid, state, _restarts) in health(home).items()}


def pids(home: Path) -> dict[str, int]:
    return {name: int(str(pid)) for name, (pid, _state, _restarts) in health(home).items() if pid}


def children(home: Path) -> list[int]:
    return [int((home / f"{name}.child").read_text()) for name in NAMES]


def test_every_killed_process_comes_back_and_its_orphans_are_not_left_as_zombies(
    dummy: subprocess.Popen[bytes], home: Path
) -> None:
    before, orphans = pids(home), children(home)
    for name in NAMES:
        os.kill(before[name], signal.SIGKILL)
    wait_until(lambda: len(pids(home)) == 3 and not set(pids(home).values()) & set(before.values()), "new pids")
    assert {name: restarts for name, (_pid, _state, restarts) in health(home).items()} == dict.fromkeys(NAMES, 1)
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in [*before.values(), *orphans]), "end of the old ones")


def test_sigterm_stops_the_last_stage_first_and_kills_what_does_not_listen(
    dummy: subprocess.Popen[bytes], home: Path
) -> None:
    family = [*pids(home).values(), *children(home)]
    dummy.send_signal(signal.SIGTERM)
    assert dummy.wait(15) == 0
    assert (home / "stopped").read_text().split() == ["top", "base"]
    assert not [pid for pid in family if alive(pid)]


def test_nothing_is_left_when_the_supervisor_is_killed_and_the_next_start_is_not_refused(
    dummy: subprocess.Popen[bytes], home: Path
) -> None:
    family = [*pids(home).values(), *children(home)]
    dummy.kill()
    wait_gone(family)
    dummy.wait(5)
    assert lock.holder(home) is None
    with lock.held(home):
        assert (home / "lock").read_text() == str(os.getpid())


def test_a_second_start_on_the_same_home_is_refused_with_the_pid_of_the_first(
    dummy: subprocess.Popen[bytes], home: Path
) -> None:
    with pytest.raises(StackError, match=rf"already running .*pid {dummy.pid}\)"), lock.held(home):
        pytest.fail("two holders")
    assert lock.holder(home) == dummy.pid


def test_output_of_a_process_is_in_its_log(dummy: subprocess.Popen[bytes], home: Path) -> None:
    wait_until(lambda: "top is up" in (home / "logs" / "top.log").read_text(), "output")


def test_a_process_that_keeps_ending_stops_the_start_with_its_last_words(tmp_path: Path) -> None:
    args = child.command([sys.executable, "-c", "import sys; sys.exit('no such table')"])
    broken = Program("broken", tuple(args), environment.plain(), ready=lambda _pid: False)

    async def start() -> None:
        supervisor = Supervisor([broken], tmp_path)
        try:
            await supervisor.start_stage(0, lambda: False)
        finally:
            await supervisor.stop()

    with pytest.raises(StackError, match=r"broken keeps ending(.|\n)*no such table"):
        asyncio.run(start())


def test_back_off_grows_while_a_process_keeps_dying(tmp_path: Path) -> None:
    args = child.command([sys.executable, "-S", "-c", "import os; os.write(1, b'x')"])

    async def run() -> int:
        supervisor = Supervisor([Program("flap", tuple(args), environment.plain())], tmp_path)
        await supervisor.start_stage(0, lambda: False)
        for _ in range(50):
            await supervisor.tick()
            await asyncio.sleep(0.05)
        await supervisor.stop()
        return supervisor.health()[0].restarts

    assert 1 <= asyncio.run(run()) <= 3  # 0.5 + 1 + 2 s: a loop without back-off restarts a dozen times
