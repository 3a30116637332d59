"""Starting QBot's own processes in tests, with the environment the stack would give them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr

from qbot.settings import ROOT, Settings
from qbot.stack import environment
from tests.support.servers import RedisServer, wait_until


def settings_for(home: Path, redis_server: RedisServer, postgres_url: str, **more: Any) -> Settings:
    """Settings that point at the servers of the tests."""
    user, _, rest = postgres_url.split("://", 1)[1].partition(":")
    password, _, where = rest.partition("@")
    address, _, database = where.partition("/")
    values = {
        "home": home,
        "redis_port": redis_server.port,
        "redis_password": SecretStr(redis_server.password),
        "postgres_port": int(address.partition(":")[2]),
        "postgres_user": user,
        "postgres_password": SecretStr(password),
        "postgres_db": database,
        "django_secret_key": SecretStr("only-for-tests"),
    }
    return Settings(_env_file=None, **{**values, **more})  # type: ignore[call-arg]


def environment_of(values: Settings, **more: str) -> dict[str, str]:
    """What a process of these settings finds in its environment."""
    return environment.of_children(values, None) | more


@contextmanager
def started(args: Sequence[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `python args…` in a session of its own; afterwards nothing of it is left."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *args], env=env, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        end_tree(process)


def end_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a process and all that descends from it."""
    try:
        family = [*psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait(10)
    for member in family:
        if member.is_running():
            member.kill()


def wait_gone(pids: Sequence[int], timeout_s: float = 15.0) -> None:
    """Raises TimeoutError while one of `pids` is alive (a zombie is not)."""
    wait_until(lambda: not any(alive(pid) for pid in pids), f"end of {list(pids)}", timeout_s)


def alive(pid: int) -> bool:
    """True when the process runs."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
