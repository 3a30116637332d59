"""Ticks in a real Celery worker: collapse, limits, JSON only, and what happens to pool children."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import redis
from celery import Celery

from qbot import clock
from tests.support.processes import environment_of, settings_for, started, wait_gone
from tests.support.servers import RedisServer, free_port, wait_until

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
    """A Redis with nothing in it, a sender, and workers on demand."""

    def __init__(self, folder: Path, env: dict[str, str], url: str, stack: ExitStack) -> None:
        self.folder, self.env, self._stack = folder, env, stack
        self.app = Celery("sender", broker=url, set_as_current=False)
        self.app.conf.update(task_default_queue="misc", task_ignore_result=True)

    def send(self, name: str, queue: str = "misc", **options: object) -> None:
        """As beat does: with the header that says when."""
        headers = {"sent_at": clock.wall_now().isoformat()}
        self.app.send_task(NAME + name, queue=queue, headers=headers, **options)

    def worker(self, queue: str = "misc", processes: int = 2, **env: str) -> subprocess.Popen[bytes]:
        """A worker, ready."""
        ready = self.folder / f"{queue}.ready"
        whole = self.env | {"QBOT_READY_FILE": str(ready), "QBOT_QUEUE": queue} | env
        args = [*WORKER, "-Q", queue, "-c", str(processes), "-n", f"{queue}@{self.folder.name}"]
        process = self._stack.enter_context(started(args, whole, self.folder / "log"))
        wait_until(ready.exists, "the worker", 30)
        return process

    def seen(self) -> list[str]:
        file = self.folder / "seen"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture
def bench(tmp_path: Path, redis_server: RedisServer, redis_client: redis.Redis, postgres_url: str) -> Iterator[Bench]:
    values = settings_for(tmp_path, redis_server, postgres_url)
    with ExitStack() as stack:
        yield Bench(tmp_path, environment_of(values, TEST_SEEN=str(tmp_path / "seen")), redis_server.url, stack)


def test_ticks_that_piled_up_collapse_into_one_and_later_ones_run(bench: Bench) -> None:
    for _ in range(5):
        bench.send("mark")
    bench.send("mark", expires=clock.wall_now())  # beat's expiry holds as well
    bench.worker()
    wait_until(lambda: bench.seen() == ["mark"], "the first run")
    bench.send("break_down")
    wait_until(lambda: "break_down" in bench.seen(), "the queue to be worked off")
    assert bench.seen() == ["mark", "break_down"]
    bench.send("mark")
    wait_until(lambda: bench.seen()[2:] == ["mark"], "the later tick")


def test_a_tick_is_skipped_while_another_run_of_its_task_is_under_way(bench: Bench) -> None:
    bench.worker()
    bench.send("slow")
    wait_until(lambda: bench.seen() == ["slow"], "the first run")
    bench.send("slow")
    bench.send("mark")
    wait_until(lambda: "mark" in bench.seen(), "the tick behind it")
    assert bench.seen() == ["slow", "mark"]


def test_soft_and_hard_time_limits_end_a_run_and_the_next_tick_runs(bench: Bench) -> None:
    bench.worker(processes=2)
    bench.send("dawdle")
    bench.send("hang")
    wait_until(lambda: {"dawdle", "hang", "hang swallowed"} <= set(bench.seen()), "both at their limit")
    wait_until(lambda: "tick took too long" in bench.log, "the soft limit")
    wait_until(lambda: "Hard time limit" in bench.log, "the hard limit")
    bench.send("hang")
    wait_until(lambda: bench.seen().count("hang") == 2, "the claim of the killed run to be free")


def test_a_named_error_is_logged_by_its_name_and_not_retried(bench: Bench) -> None:
    bench.worker()
    bench.send("break_down")
    wait_until(lambda: "error=DataUnavailable" in bench.log, "the log line")
    bench.send("mark")
    wait_until(lambda: "mark" in bench.seen(), "the next tick")
    assert bench.seen() == ["break_down", "mark"]


def test_a_log_line_has_the_task_and_its_id_and_no_secret(bench: Bench) -> None:
    bench.worker()
    bench.send("mark")
    wait_until(lambda: "tick done" in bench.log, "the run")
    (line,) = [line for line in bench.log.splitlines() if ": marked" in line]
    assert "task=mark" in line
    assert "task_id=" in line
    assert "password=***" in line
    assert "test-secret" not in bench.log


def test_a_message_that_is_not_json_is_refused(bench: Bench, redis_client: redis.Redis) -> None:
    bench.worker()
    bench.send("mark", serializer="pickle")
    bench.send("break_down")
    wait_until(lambda: "break_down" in bench.seen(), "the good message")
    assert bench.seen() == ["break_down"]


def test_without_postgres_an_emergency_still_runs_and_nothing_else(bench: Bench) -> None:
    nowhere = {"QBOT_POSTGRES_PORT": str(free_port())}
    bench.worker(**nowhere)
    bench.worker("emergency", 1, **nowhere)
    bench.send("mark")
    bench.send("emergency", "emergency")
    wait_until(lambda: bench.seen() == ["emergency"], "the emergency")
    wait_until(lambda: "error=StoreUnavailable" in bench.log, "the refusal of the other")
    assert bench.seen() == ["emergency"]


@pytest.mark.parametrize("queue", ["misc", "data"], ids=["forked", "spawned"])
def test_pool_children_end_when_their_worker_is_killed(bench: Bench, queue: str) -> None:
    worker = bench.worker(queue, 2)
    bench.send("stay", queue)
    wait_until(lambda: any(line.startswith("pid ") for line in bench.seen()), "a busy child")
    family = [child.pid for child in psutil.Process(worker.pid).children(recursive=True)]
    assert int(bench.seen()[0].split()[1]) in family
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    wait_gone(family, 10)
