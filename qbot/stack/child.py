"""Starts a command that ends with its parent: `python -I -S child.py --parent PID -- command…`.

Whoever starts a process may be killed with SIGKILL and then cannot clean up. On Linux the kernel does it
(PR_SET_PDEATHSIG, set here just before exec); elsewhere this process stays and watches the parent's pid.
Imports the standard library only, so that the extra start costs some milliseconds.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

CANNOT_EXEC = 126
POLL_S = 0.5
KILL_AFTER_S = 10.0

# <linux/prctl.h>, <linux/capability.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 4
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522


def command(
    args: Sequence[str | Path],
    *,
    on_parent_death: signal.Signals = signal.SIGKILL,
    uid: int | None = None,
    nice: int = 0,
    watch: bool = False,
) -> list[str]:
    """`args` wrapped so that it gets the signal `on_parent_death` once this process is gone.

    `uid` gives up root for that user first, keeping only the right to read and pass folders. `watch` forces the way
    of systems that are not Linux. The parent is the calling *thread* on Linux: start children from the main thread.
    """
    here = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), "--parent", str(os.getpid())]
    options = ["--signal", str(int(on_parent_death)), "--nice", str(nice)]
    if uid is not None:
        options += ["--uid", str(uid)]
    if watch:
        options += ["--watch"]
    return [*here, *options, "--", *map(str, args)]


def end_with_parent() -> None:
    """Makes the calling process end when its parent does, however that ends. For processes that are forked."""
    parent = os.getppid()
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent or parent == 1:
            os._exit(1)
        return
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)


def _prctl(option: int, *values: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [*values, 0, 0, 0, 0][:4]
    if libc.prctl(ctypes.c_int(option), *(ctypes.c_ulong(value) for value in padded)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def _give_up_root(uid: int) -> None:
    """Becomes `uid`. On Linux it may still read and pass every folder (the project may lie under a closed /root)."""
    linux = sys.platform == "linux"
    if linux:
        _prctl(_PR_SET_KEEPCAPS, 1)
        with suppress(OSError):  # else access(2), by which initdb looks for postgres, does not heed the capability
            _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    if linux:
        try:
            _keep_read_search()
        except OSError as error:  # a container without that capability: it works when the folders are open to all
            print(f"qbot: continuing without CAP_DAC_READ_SEARCH ({error})", file=sys.stderr)


def _keep_read_search() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << _CAP_DAC_READ_SEARCH
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, sets) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH)


def _run_watched(args: list[str], parent: int, on_parent_death: int) -> int:
    """Runs `args` as a child of this process: passes signals on and ends it when `parent` is gone."""
    process = subprocess.Popen(args)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, pass_on)
    while process.poll() is None:
        if os.getppid() != parent:
            process.send_signal(on_parent_death)
            try:
                process.wait(KILL_AFTER_S)
            except subprocess.TimeoutExpired:
                process.kill()
        time.sleep(POLL_S)
    return process.wait()


def main() -> int:
    """Never returns on Linux when the command could be started."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--signal", type=int, default=int(signal.SIGKILL))
    parser.add_argument("--uid", type=int)
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--watch", action="store_true")
    parser.add_argument("args", nargs="+")
    options = parser.parse_args()
    try:
        if options.nice:
            os.nice(options.nice)
        if options.uid is not None:
            _give_up_root(options.uid)
        if options.watch or sys.platform != "linux":
            return _run_watched(options.args, options.parent, options.signal)
        _prctl(_PR_SET_PDEATHSIG, options.signal)  # after setuid, which would clear it
        if os.getppid() != options.parent:  # it died before the line above
            return 1
        os.execvp(options.args[0], options.args)
    except OSError as error:
        print(f"qbot: cannot start {options.args[0]} as uid {os.getuid()}: {error}", file=sys.stderr)
    return CANNOT_EXEC


if __name__ == "__main__":
    sys.exit(main())
