"""The parent of a training run: a niced child in its own process group, killed whole at its limit or on any error."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from qbot import clock
from qbot.errors import TrainingFailed
from qbot.training_run import BARS_FILE, REQUEST_FILE, RESULT_FILE
from qbot.training_types import PROGRESS, REQUEST, RESULT, TrainingProgress, TrainingRequest, TrainingResult

THREADS = "2"
STDERR_TAIL = 2_000
COLUMNS = ["symbol", "ts", "open", "high", "low", "close", "volume", "source"]  # the last where it is known
CHILD = (sys.executable, "-m", "qbot.training_run")


def run_training(
    bars: pd.DataFrame,
    request: TrainingRequest,
    on_progress: Callable[[TrainingProgress], None],
    timeout_s: float,
    child: tuple[str, ...] = CHILD,
) -> TrainingResult:
    """Trains in a child process and passes its progress on. Call it from a main thread: the child dies with it.

    Raises TrainingFailed, with the tail of the child's stderr, when it fails or passes `timeout_s`; the last event is
    then `failed`. Whatever is raised here, also by `on_progress`, the child and its group are gone and its unfinished
    artifacts removed.
    """
    last: list[TrainingProgress] = []

    def pass_on(event: TrainingProgress) -> None:
        last[:] = [event]
        on_progress(event)

    with tempfile.TemporaryDirectory(prefix="qbot-training-") as name:
        folder = Path(name)
        known = [name for name in COLUMNS if name in bars]
        bars.assign(symbol=bars["symbol"].astype(str))[known].to_parquet(folder / BARS_FILE)
        (folder / REQUEST_FILE).write_bytes(REQUEST.dump_json(request))
        try:
            _run_child(folder, pass_on, clock.monotonic_s() + timeout_s, timeout_s, child)
            return RESULT.validate_json((folder / RESULT_FILE).read_bytes())
        except (TrainingFailed, OSError, ValidationError) as error:
            if not last or last[-1].event != "failed":
                on_progress(_failed(request, last, str(error)))
            if isinstance(error, TrainingFailed):
                raise
            raise TrainingFailed(str(error)) from error
        finally:
            shutil.rmtree(request.partial_folder, ignore_errors=True)


def _run_child(
    folder: Path,
    on_progress: Callable[[TrainingProgress], None],
    deadline_s: float,
    limit_s: float,
    child: tuple[str, ...],
) -> None:
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [*child, str(folder), str(os.getpid())],
            stdout=subprocess.PIPE,
            stderr=stderr,
            stdin=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
    try:
        for line in _lines(process, deadline_s, limit_s):
            on_progress(PROGRESS.validate_json(line))
        status = process.wait(timeout=max(0.1, deadline_s - clock.monotonic_s()))
    except subprocess.TimeoutExpired as error:
        raise TrainingFailed(f"training took longer than {limit_s:.0f} s") from error
    finally:
        _end(process)
    if status != 0:
        tail = (folder / "stderr").read_bytes()[-STDERR_TAIL:].decode(errors="replace").strip()
        raise TrainingFailed(f"training ended with status {status}: {tail}")


def _lines(process: subprocess.Popen[bytes], deadline_s: float, limit_s: float) -> Iterator[bytes]:
    """Whole lines of the child's stdout until it closes it. Raises TrainingFailed at the deadline."""
    assert process.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left_s = deadline_s - clock.monotonic_s()
            if left_s <= 0 or not selector.select(left_s):
                raise TrainingFailed(f"training took longer than {limit_s:.0f} s")
            chunk = os.read(process.stdout.fileno(), 65_536)
            if not chunk:
                return
            *whole, pending = (pending + chunk).split(b"\n")
            yield from whole


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills the child's whole group and reaps it. A group that is gone already is what is wanted."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.poll()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _environment() -> dict[str, str]:
    """The child's environment: few threads, and none of QBot's own settings, since it needs no secret.

    Threads sleep while they wait: with spinning ones a niced LightGBM beside two busy processes took 60 s, not 1 s.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QBOT_")}
    return kept | {"OMP_NUM_THREADS": THREADS, "OPENBLAS_NUM_THREADS": THREADS, "OMP_WAIT_POLICY": "PASSIVE"}


def _failed(request: TrainingRequest, last: list[TrainingProgress], detail: str) -> TrainingProgress:
    progress = last[-1].progress if last else 0.0
    now = clock.wall_now()
    return TrainingProgress(False, "failed", progress, request.trigger, "failed", detail[:500], request.now, now)
