"""Errors in the processes' logs: those of this run, each once."""

from __future__ import annotations

from pathlib import Path

from qbot.demo.logs import LogWatch

ERROR = (
    "2026-03-02T12:00:00.000000Z error    [data] celery.app.trace: Task x raised unexpected: KeyError | Traceback ⏎ …\n"
)
INFO = "2026-03-02T12:00:00.000000Z info     [data] qbot: an error is no error=None\n"


def test_only_errors_logged_since_the_start_are_found_and_only_once(tmp_path: Path) -> None:
    log = tmp_path / "worker-data.log"
    log.write_text(ERROR)
    watch = LogWatch(tmp_path)
    assert watch.poll() == []
    with log.open("a") as file:
        file.write(INFO + ERROR + "2026-03-02T12:00:01.000000Z critical half a li")
    (found,) = watch.poll()
    assert (found.process, found.task_crashed) == ("worker-data", True)
    assert watch.poll() == []
    with log.open("a") as file:
        file.write("ne\n")
    assert [error.text for error in watch.poll()] == ["half a line"]


def test_a_log_that_appears_later_or_is_rotated_is_read_from_its_beginning(tmp_path: Path) -> None:
    watch = LogWatch(tmp_path)
    (tmp_path / "beat.log").write_text(ERROR * 3)
    assert len(watch.poll()) == 3
    (tmp_path / "beat.log").write_text(ERROR)
    assert len(watch.poll()) == 1


def test_what_postgres_says_about_itself_is_not_taken_for_ours(tmp_path: Path) -> None:
    watch = LogWatch(tmp_path)
    (tmp_path / "postgres.log").write_text("2026-03-02 12:00:00.000 UTC [12] ERROR:  relation does not exist\n")
    assert watch.poll() == []


def test_the_same_fault_of_two_runs_of_a_task_reads_the_same(tmp_path: Path) -> None:
    watch = LogWatch(tmp_path)
    line = "2026-03-02T12:00:00.000000Z error    Task tasks.x.x[{0}] raised unexpected: E task_id={0} task=x\n"
    ids = ("7027a81f-c998-4d98-a5c3-bdd580370978", "51b20ecf-55bc-4797-acae-203a4f2ca310")
    (tmp_path / "w.log").write_text("".join(line.format(number) for number in ids))
    assert [error.text for error in watch.poll()] == ["Task tasks.x.x raised unexpected: E task=x"] * 2
