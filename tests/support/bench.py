"""A real Celery worker with the tasks of `tick_app`, and a sender that sends as beat does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from qbot import clock
from tests.support.processes import environment_of, settings_for, started
from tests.support.servers import RedisServer, wait_until

WORKER = [
    "-m",
    "celery",
    "-A",
    "tests.support.tick_app",
    "worker",
    "-P",
    "prefork",
    "--without-gossip",
    "--without-mingle",
]
NAME = "tests.support.tick_app."


class Bench:
    """A Redis with nothing in it, a sender, and a worker."""

    def __init__(self, folder: Path, env: dict[str, str], url: str) -> None:
        self.folder, self.env = folder, env | {"TEST_SEEN": str(folder / "seen")}
        self.app = Celery("sender", broker=url, set_as_current=False)
        self.app.conf.update(task_default_queue="misc", task_ignore_result=True)
        self._seen_before = 0

    def send(self, name: str, queue: str = "misc", **options: object) -> None:
        """As beat does: with the header that says when."""
        headers = {"sent_at": clock.wall_now().isoformat()}
        self.app.send_task(NAME + name, queue=queue, headers=headers, **options)

    @contextmanager
    def worker(self, queues: str, processes: int = 2, **env: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker, ready."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        whole = self.env | {"QBOT_READY_FILE": str(ready), "QBOT_QUEUE": queues} | env
        args = [*WORKER, "-Q", queues, "-c", str(processes), "-n", f"{self.folder.name}@test"]
        with started(args, whole, self.folder / "log") as process:
            wait_until(ready.exists, "the worker")
            yield process

    def begin(self) -> None:
        """Forgets what earlier tests did."""
        self._seen_before = len(self._lines())

    def seen(self) -> list[str]:
        return self._lines()[self._seen_before :]

    def _lines(self) -> list[str]:
        file = self.folder / "seen"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


def new_bench(folder: Path, redis_server: RedisServer, postgres_url: str) -> Bench:
    redis_server.client.flushall()
    return Bench(folder, environment_of(settings_for(folder, redis_server, postgres_url)), redis_server.url)
