"""A small set of processes under the real supervisor: `python -m tests.stack.dummy_stack HOME`. Not a test."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from qbot.stack import child, environment, lock
from qbot.stack.replay import write
from qbot.stack.supervise import Program, Supervisor

# A server with a child of its own, that tells when it stops.
SERVER = """
import signal, subprocess, sys, time
from pathlib import Path
from qbot.stack import child
name, home = sys.argv[1:]
helper = subprocess.Popen(child.command([sys.executable, "-c", "import time; time.sleep(600)"]))
def stop(*_):
    with open(home + "/stopped", "a") as file: file.write(name + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if name == "stubborn" else stop)
Path(home, name + ".child").write_text(str(helper.pid))
Path(home, name + ".up").write_text("")
print(name, "is up", flush=True)
time.sleep(600)
"""


def program(home: Path, name: str, stage: int) -> Program:
    """One dummy, ready once its file is there."""
    up = home / f"{name}.up"
    args = child.command([sys.executable, "-c", SERVER, name, str(home)])
    return Program(name, tuple(args), environment.plain(), stage, lambda _pid: up.exists(), stop_within_s=1.0)


async def main(home: Path) -> None:
    """Runs until SIGTERM; writes the health to `health.json`."""
    asked = asyncio.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    names = {"base": 0, "stubborn": 1, "top": 1}
    supervisor = Supervisor([program(home, name, stage) for name, stage in names.items()], home / "logs")
    for stage in supervisor.stages():
        await supervisor.start_stage(stage, asked.is_set)
    while not asked.is_set():
        await supervisor.tick()
        health = {each.name: [each.pid, each.state, each.restarts] for each in supervisor.health()}
        write(home / "health.json", json.dumps(health))
        await asyncio.sleep(0.05)
    await supervisor.stop()


if __name__ == "__main__":
    with lock.held(Path(sys.argv[1])):
        asyncio.run(main(Path(sys.argv[1])))
