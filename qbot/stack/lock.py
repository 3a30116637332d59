"""One supervisor a home: a file lock that dies with its holder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qbot.errors import StackError

FILE = "lock"


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Holds the lock of `home` for the block. Raises StackError with the pid of whoever has it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StackError(
                f"QBot is already running on {home} (pid {file.read().strip() or 'unknown'}):"
                " stop it first, or use another folder (QBOT_HOME, demo: --home) and other ports"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(home: Path) -> int | None:
    """The pid of the supervisor that runs on `home`, or None."""
    path = home / FILE
    if not path.exists():
        return None
    with path.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdigit() else 0
    return None
