"""Workers that lose their database or are killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.bench import Bench, new_bench
from tests.support.processes import wait_gone
from tests.support.servers import RedisServer, free_port, wait_until


@pytest.fixture
def own(tmp_path: Path, redis_server: RedisServer, postgres_url: str) -> Bench:
    """With nobody else on its Redis."""
    return new_bench(tmp_path, redis_server, postgres_url)


def test_without_postgres_an_emergency_still_runs_and_nothing_else(own: Bench) -> None:
    with own.worker("misc,emergency", QBOT_POSTGRES_PORT=str(free_port())):
        own.send("mark")
        own.send("emergency", "emergency")
        wait_until(lambda: own.seen() == ["emergency"], "the emergency")
        wait_until(lambda: "error=StoreUnavailable" in own.log, "the refusal of the other")
    assert own.seen() == ["emergency"]


@pytest.mark.parametrize("queue", ["misc", "data"], ids=["forked", "spawned"])
def test_pool_children_end_when_their_worker_is_killed(own: Bench, queue: str) -> None:
    with own.worker(queue, 1) as worker:
        own.send("stay", queue)
        wait_until(own.seen, "a busy child")
        family = [child.pid for child in psutil.Process(worker.pid).children(recursive=True)]
        assert int(own.seen()[0].split()[1]) in family
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        wait_gone(family)
