"""Postgres of the embedded stack: after kills, as root and as a user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import psycopg2
import pytest

from qbot.errors import StackError
from qbot.stack import child, postgres
from tests.support.processes import wait_gone
from tests.support.servers import free_port, postgres_running, wait_until

NOBODY = 65534


@pytest.fixture(scope="module")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("made") / "data"
    postgres.prepare(folder, free_port(), "qbot", "test-secret", "qbot")
    return folder


@pytest.fixture
def folder(made_folder: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", str(made_folder), str(tmp_path / "data")], check=True)
    return tmp_path / "data"


def spawn_without_parent(folder: Path, port: int) -> int:
    """A server left behind by a killed run of a system where no kernel ends children; its pid."""
    args = postgres.prepare(folder, port, "qbot", "test-secret", "qbot")
    args[args.index("--signal") + 1] = "0"  # no signal
    process = subprocess.Popen(args, stderr=subprocess.DEVNULL)
    wait_until(lambda: can_connect(port), "the orphan")
    return process.pid


def can_connect(port: int) -> bool:
    try:
        psycopg2.connect(host="127.0.0.1", port=port, user="qbot", password="test-secret", dbname="qbot").close()
    except psycopg2.OperationalError:
        return False
    return True


def test_data_survives_a_kill_and_the_stale_pid_file_does_not_matter(folder: Path) -> None:
    with postgres_running(folder) as server:
        server.execute("SET synchronous_commit = on; CREATE TABLE kept (x int)")
        os.kill(server.pid, signal.SIGKILL)
    assert (folder / "postmaster.pid").exists()
    (folder / "postmaster.pid").write_text((folder / "postmaster.pid").read_text().replace(str(server.pid), "1", 1))
    with postgres_running(folder) as again:
        again.execute("INSERT INTO kept VALUES (1)")


def test_a_server_left_behind_by_a_killed_run_is_ended(folder: Path) -> None:
    port = free_port()
    orphan = spawn_without_parent(folder, port)
    postgres.prepare(folder, port, "qbot", "test-secret", "qbot")
    wait_gone([orphan], 5.0)
    assert not (folder / "postmaster.pid").exists()


def test_a_server_of_another_folder_is_left_alone(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["cp", "-a", str(folder), str(other)], check=True)
    with postgres_running(other) as server:
        postgres.end_orphans(folder)
        assert can_connect(server.port)


def test_a_data_folder_of_another_version_is_refused_and_not_touched(folder: Path) -> None:
    (folder / "PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match="Postgres 16"):
        postgres.prepare(folder, free_port(), "qbot", "test-secret", "qbot")
    assert (folder / "base").is_dir()


def test_an_initialisation_that_was_cut_off_starts_anew(tmp_path: Path) -> None:
    half = tmp_path / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with postgres_running(tmp_path / "data") as server:
        assert can_connect(server.port)
    assert not half.exists()


def test_the_server_never_runs_as_root_and_serves_root_under_a_closed_folder(folder: Path) -> None:
    folder.parent.chmod(0o700)
    with postgres_running(folder) as server:
        assert psutil.Process(server.pid).uids().effective == (NOBODY if os.geteuid() == 0 else os.geteuid())


def test_a_plain_user_makes_and_runs_it_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = Path(tmp_path_factory.mktemp("user"))
    code = """
        import os, subprocess, sys
        from pathlib import Path
        from qbot.stack import postgres
        command = postgres.prepare(Path(sys.argv[1]), int(sys.argv[2]), "qbot", "test-secret", "qbot")
        assert "--uid" not in command
        sys.exit(subprocess.call(command))
    """
    uid, port = (NOBODY if os.geteuid() == 0 else None), free_port()
    if uid:
        os.chown(home, uid, uid)
    args = child.command([sys.executable, "-c", textwrap.dedent(code), home / "data", str(port)], uid=uid)
    with subprocess.Popen(args, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: can_connect(port), "the user's Postgres")
        assert (home / "data").stat().st_uid == (uid or os.geteuid())
        server = psutil.Process(process.pid).children()
        process.kill()
    wait_gone([each.pid for each in server])
    shutil.rmtree(home)


def test_a_folder_of_somebody_else_is_told_to_a_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(StackError, match="belongs to uid"):
        postgres.prepare(folder, free_port(), "qbot", "test-secret", "qbot")
