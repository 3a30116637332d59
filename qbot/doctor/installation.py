"""What QBot stands on here: Python, room on the disk, its secrets, and its processes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qbot import limits
from qbot.console.installation import Installation
from qbot.doctor.finding import Finding, State
from qbot.stack import lock
from qbot.stack.stack import STATUS_FILE

GIGABYTE = 1e9
OLDEST, TOO_NEW = (3, 11), (3, 13)  # as pyproject.toml has it
RUNNING = "running"


def passed_over(problem: str | None, looked_at: str) -> list[Finding]:
    """That another QBot than the demo is looked at, for want of the demo."""
    if problem is None:
        return []
    words = f"it cannot be looked at: {problem}; all that follows is of {looked_at}"
    return [Finding("demo", State.FAILED, words, "Mend that, and run `qbot doctor --demo` again.")]


def python(version: tuple[int, int] = sys.version_info[:2]) -> list[Finding]:
    """Whether this Python is one that QBot is made for."""
    words = f"{version[0]}.{version[1]}"
    if OLDEST <= version < TOO_NEW:
        return [Finding("Python", State.OK, words)]
    advice = "Install Python 3.11 or 3.12, and run `make clean setup`."
    return [Finding("Python", State.FAILED, f"{words} is not 3.11 or 3.12", advice)]


def disk(home: Path) -> list[Finding]:
    """How much room there is where the data are, or will be."""
    place = next(folder for folder in (home, *home.resolve().parents) if folder.exists())
    free_gb = shutil.disk_usage(place).free / GIGABYTE
    words = f"{free_gb:,.1f} GB free for {home}"
    if free_gb >= limits.DISK_LOW_GB:
        return [Finding("disk", State.OK, words)]
    state = State.WARNING if free_gb >= limits.DISK_MIN_GB else State.FAILED
    return [Finding("disk", state, words, "Make room there, or name a folder with more of it by QBOT_HOME.")]


def secrets(problem: str | None) -> list[Finding]:
    """What is wrong with the passwords of the embedded servers, which `problem` tells."""
    return [] if problem is None else [Finding("secrets", State.FAILED, problem, "Do as it says, then start QBot.")]


def stack(found: Installation) -> list[Finding]:
    """The processes of the embedded stack, as its supervisor tells of them."""
    home, name = found.settings.home, "processes"
    pid = lock.holder(home)
    if pid is None:
        advice = "Start it with `make up`, or `make demo` to try it; of containers `docker compose ps` tells."
        return [Finding(name, State.OFF, f"{found.name} does not run here", advice)]
    processes = _processes(home)
    if processes is None:
        words = f"{found.name} is starting or stopping (pid {pid})"
        return [Finding(name, State.WARNING, words, "Run `qbot doctor` again in a minute.")]
    down = [one for one in processes if one["state"] != RUNNING]
    again = [one for one in processes if one["restarts"] >= limits.RESTARTS_MANY and one not in down]
    if not down and not again:
        return [Finding(name, State.OK, f"{len(processes)} run (pid {pid})")]
    return [
        *(_process(home, one, State.FAILED, f"{one['name']} is {one['state']}") for one in down),
        *(_process(home, one, State.WARNING, f"{one['name']} died {one['restarts']} times") for one in again),
    ]


def _process(home: Path, one: Mapping[str, Any], state: State, words: str) -> Finding:
    return Finding("processes", state, words, f"Look for `error` in {home}/logs/{one['name']}.log.")


def _processes(home: Path) -> Sequence[Mapping[str, Any]] | None:
    try:
        found: Sequence[Mapping[str, Any]] = json.loads((home / STATUS_FILE).read_text())["processes"]
    except (OSError, ValueError, KeyError):  # it is written anew every few seconds, and removed at the end
        return None
    return found
