"""Ticks in a real Celery worker: collapse, limits, named errors, JSON only."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from qbot import clock
from tests.support.bench import Bench, new_bench
from tests.support.servers import RedisServer, wait_until


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, module_postgres_url: str
) -> Iterator[tuple[Bench, subprocess.Popen[bytes]]]:
    """One worker for the tests that leave it whole."""
    bench = new_bench(tmp_path_factory.mktemp("worker"), redis_server, module_postgres_url)
    with bench.worker("misc") as process:
        yield bench, process


@pytest.fixture
def bench(shared: tuple[Bench, subprocess.Popen[bytes]]) -> Bench:
    shared[0].begin()
    return shared[0]


def test_ticks_that_piled_up_collapse_into_one_and_later_ones_run(
    shared: tuple[Bench, subprocess.Popen[bytes]], bench: Bench
) -> None:
    shared[1].send_signal(signal.SIGSTOP)
    for _ in range(5):
        bench.send("mark")
    bench.send("mark", expires=clock.wall_now())  # beat's expiry holds as well
    shared[1].send_signal(signal.SIGCONT)
    wait_until(lambda: bench.seen() == ["mark"], "the first run")
    bench.send("break_down")
    wait_until(lambda: "break_down" in bench.seen(), "the queue to be worked off")
    assert bench.seen() == ["mark", "break_down"]
    bench.send("mark")
    wait_until(lambda: bench.seen()[2:] == ["mark"], "the later tick")


def test_a_tick_is_skipped_while_another_run_of_its_task_is_under_way(bench: Bench) -> None:
    bench.send("slow")
    wait_until(lambda: bench.seen() == ["slow"], "the first run")
    bench.send("slow")
    bench.send("mark")
    wait_until(lambda: "mark" in bench.seen(), "the tick behind it")
    assert bench.seen() == ["slow", "mark"]


def test_soft_and_hard_time_limits_end_a_run_and_the_next_tick_runs(bench: Bench) -> None:
    bench.send("dawdle")
    bench.send("hang")
    wait_until(lambda: {"dawdle", "hang", "hang swallowed"} <= set(bench.seen()), "both at their limit")
    wait_until(lambda: "tick took too long" in bench.log, "the soft limit")
    wait_until(lambda: "Hard time limit" in bench.log, "the hard limit")
    bench.send("hang")
    wait_until(lambda: bench.seen().count("hang") == 2, "the claim of the killed run to be free")
    wait_until(lambda: bench.log.count("Hard time limit") == 2, "the end of the second")


def test_a_named_error_is_logged_by_its_name_and_not_retried(bench: Bench) -> None:
    bench.send("break_down")
    wait_until(lambda: "error=DataUnavailable" in bench.log, "the log line")
    bench.send("mark")
    wait_until(lambda: "mark" in bench.seen(), "the next tick")
    assert bench.seen() == ["break_down", "mark"]


def test_ticks_go_on_after_flushall_though_sender_and_worker_declared_their_queues_before(
    bench: Bench, redis_server: RedisServer
) -> None:
    bench.send("mark")
    wait_until(lambda: bench.seen() == ["mark"], "the tick before")
    for times in (2, 3):
        redis_server.client.flushall()
        bench.send("mark")
        wait_until(lambda wanted=times: bench.seen() == ["mark"] * wanted, "the tick after")


def test_a_log_line_has_the_task_and_its_id_and_no_secret(bench: Bench) -> None:
    before = bench.log.count(": marked")
    bench.send("mark")
    wait_until(lambda: bench.log.count(": marked") > before, "the run")
    line = [line for line in bench.log.splitlines() if ": marked" in line][-1]
    assert "task=mark" in line
    assert "task_id=" in line
    assert "password=***" in line
    assert "test-secret" not in bench.log


def test_a_message_that_is_not_json_is_refused(bench: Bench) -> None:
    bench.send("mark", serializer="pickle")
    bench.send("break_down")
    wait_until(lambda: "break_down" in bench.seen(), "the good message")
    assert bench.seen() == ["break_down"]
