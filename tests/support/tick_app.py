"""The Celery application with tasks that tests can watch: `celery -A tests.support.tick_app worker`. Not a test."""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog

from qbot.errors import DataUnavailable
from tasks.app import app
from tasks.base import tick

SEEN = Path(os.environ["TEST_SEEN"])
app.conf.include = ["tasks.app", "tasks.base", __name__]  # spawned children import what is listed here
NAME = "tests.support.tick_app."
app.conf.task_annotations = {NAME + name: {"soft_time_limit": 1.0, "time_limit": 2.0} for name in ("dawdle", "hang")}


def note(text: str) -> None:
    """One line in the file that the test reads."""
    with SEEN.open("a") as file:
        file.write(text + "\n")


@tick("misc")
def mark() -> None:
    """Leaves a mark and its binding in the log."""
    structlog.get_logger().info("marked", password="test-secret")
    note("mark")


@tick("misc")
def slow() -> None:
    """Runs for a while."""
    note("slow")
    time.sleep(1.5)


@tick("misc")
def dawdle() -> None:
    """Runs past its soft limit."""
    note("dawdle")
    time.sleep(30)


@tick("misc")
def hang() -> None:
    """Runs past its hard limit: nothing it is told reaches it."""
    note("hang")
    while True:
        try:
            time.sleep(30)
        except Exception:  # noqa: BLE001  it must swallow the soft limit
            note("hang swallowed")


@tick("misc")
def break_down() -> None:
    """Ends with a named error."""
    note("break_down")
    raise DataUnavailable("no quotes today")


@tick("emergency", needs_postgres=False)
def emergency() -> None:
    """Runs whatever happens to Postgres."""
    note("emergency")


@tick("misc")
def stay() -> None:
    """Tells the pid of the pool child and stays."""
    note(f"pid {os.getpid()}")
    time.sleep(600)
