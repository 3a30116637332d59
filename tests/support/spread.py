"""How a run of many tests is spread over a few cores. It tells of each failure at once, and of the slowest files."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

WORKERS = 3  # each with servers of its own; one more than a small machine has cores, since many tests wait
# Real processes by the dozen, and deadlines: one after the other, on one worker, and first, for they take longest.
STACKS = ("tests/test_end_to_end.py", "tests/chaos/test_one_round.py", "tests/demo/test_run.py", "tests/stack/")
# Long, and on processes of its own: while it runs, what is short should not wait behind it at the end.
LONG = ("tests/simulation/",)
# No test of these leans on its neighbours: each goes to the worker that is free.
DIVISIBLE = ("tests/test_fuzz_inputs.py",)
SLOWEST_FILES, WORTH_TELLING_S = 10, 20.0


def _path(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class ByFile(LoadScopeScheduling):
    """A file goes to one worker, since its tests may share fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        path = _path(nodeid)
        if path.startswith(STACKS):
            return "stacks"
        return nodeid if path in DIVISIBLE else path


def _weight(item: pytest.Item) -> int:
    path = _path(item.nodeid)
    return 0 if path.startswith(STACKS) else 1 if path.startswith(LONG) else 2 if path in DIVISIBLE else 3


class Told:
    """Prints a failure when it happens, since a run that is cut off has no summary; and where the time went."""

    def __init__(self, config: pytest.Config) -> None:
        self.reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
        self.seconds: Counter[str] = Counter()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[_path(report.nodeid)] += report.duration
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(crash.message if crash else report.longrepr).strip().splitlines()
            self.reporter.ensure_newline()
            self.reporter.write_line(f"FAILED {report.nodeid} ({report.when}): {' '.join(reason[:1])[:200]}", red=True)

    def pytest_terminal_summary(self) -> None:
        total = sum(self.seconds.values())
        if total < WORTH_TELLING_S:
            return
        self.reporter.section(f"slowest files, of {total:.0f} s in all")
        for path, seconds in self.seconds.most_common(SLOWEST_FILES):
            self.reporter.write_line(f"{seconds:6.1f} s  {path}")


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # the one that a human sees
        session.config.pluginmanager.register(Told(session.config))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, so that no core waits for the other at the end."""
    items.sort(key=_weight)


def pytest_collection_finish() -> None:
    """What is imported by now stays: to look through it for garbage, again and again, takes a sixth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """With `-n auto`. None for a file or two, as starting servers twice takes longer than they do."""
    asked = [Path(_path(arg)) for arg in config.args]
    few = len(asked) <= WORKERS and all(path.suffix == ".py" for path in asked)
    return 0 if few else min(WORKERS, 1 + len(os.sched_getaffinity(0)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    config.option.loadscopereorder = False  # by the number of tests; ours is `_weight`
    return ByFile(config, log)
