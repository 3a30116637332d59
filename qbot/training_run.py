"""The child of a training run: `python -m qbot.training_run <folder with request.json and bars.parquet> <parent pid>`.

Writes progress as JSON lines to stdout and the result to result.json in the folder. It speaks to neither Redis nor
Postgres. Exit status 0 only when result.json is whole.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from qbot.errors import QBotError

NICENESS = 10
REQUEST_FILE, BARS_FILE, RESULT_FILE = "request.json", "bars.parquet", "result.json"
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(arguments: list[str]) -> int:
    """Runs one training; the exit status."""
    folder, parent = Path(arguments[0]), int(arguments[1])
    if not die_with_parent(parent):
        return 3
    os.nice(NICENESS)
    return run(folder, _take_stdout())


def run(folder: Path, progress: BinaryIO) -> int:
    """Trains as the request in `folder` says; the exit status."""
    import pandas as pd  # the imports take seconds: only once the child is niced and bound to its parent

    from qbot.training import train
    from qbot.training_types import PROGRESS, REQUEST, RESULT, TrainingProgress

    def send(event: TrainingProgress) -> None:
        progress.write(PROGRESS.dump_json(event) + b"\n")
        progress.flush()

    try:
        request = REQUEST.validate_json((folder / REQUEST_FILE).read_bytes())
        result = train(pd.read_parquet(folder / BARS_FILE), request, send)
    except QBotError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    unfinished = folder / (RESULT_FILE + ".part")
    unfinished.write_bytes(RESULT.dump_json(result))
    unfinished.rename(folder / RESULT_FILE)
    return 0


def die_with_parent(parent: int) -> bool:
    """On Linux the kernel kills this process when its parent ends. False when the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent


def _take_stdout() -> BinaryIO:
    """Stdout for progress alone: whatever a library prints goes to stderr."""
    progress = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return progress


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
