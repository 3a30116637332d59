"""The demo from start to end, around a stack that is only Redis and Postgres and starts nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from qbot.demo import run
from qbot.demo.run import Demo, Options
from qbot.demo.snapshot import Phase, Snapshot
from qbot.errors import StackError
from qbot.settings import Settings
from qbot.stack import lock
from qbot.stack.supervise import ProcessHealth
from tests.demo.samples import process
from tests.support.servers import RedisServer, wait_until


@dataclass
class Shown:
    """A display that remembers."""

    snapshots: list[Snapshot] = field(default_factory=list)
    on_show: Callable[[Snapshot], None] = lambda _snapshot: None
    closed: bool = False

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        self.on_show(snapshot)

    def close(self) -> None:
        self.closed = True


@dataclass
class IdleStack:
    """The stack's face with nothing behind it: ready at once, up until it is asked to stop."""

    settings: Settings
    error: str | None = None
    never_ready: bool = False
    restarts: int = 0

    def health(self) -> list[ProcessHealth]:
        return [process("redis"), process("postgres", restarts=self.restarts)]

    def run(self, on_ready: Callable[[IdleStack], None], should_stop: Callable[[], bool]) -> None:
        if self.error:
            raise StackError(self.error)
        if not self.never_ready:
            on_ready(self)
        wait_until(should_stop, "the stop")


@pytest.fixture
def settings(tmp_path: Path, redis_client: redis.Redis, redis_server: RedisServer, postgres_url: str) -> Settings:
    url = make_url(postgres_url)
    return Settings(
        home=tmp_path, redis_port=redis_server.port, redis_password=SecretStr(redis_server.password),
        redis_frontend_password=SecretStr(redis_server.frontend_password),
        postgres_port=url.port, postgres_user=url.username, postgres_db=url.database,
        postgres_password=SecretStr(str(url.password)),
    )  # fmt: skip


def demo(settings: Settings, shown: Shown, minutes: float | None = None, **stack: object) -> Demo:
    made = replace(IdleStack(settings), **stack)  # type: ignore[arg-type]
    return Demo(made, Options(minutes=minutes), shown)  # type: ignore[arg-type]


def test_a_run_of_some_minutes_ends_by_itself_with_a_summary(
    settings: Settings, redis_client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Shown()
    assert demo(settings, shown, minutes=0.02).run() == 0
    assert "all went well" in capsys.readouterr().out
    assert shown.closed
    assert [s.phase for s in shown.snapshots][-1] is Phase.STOPPING
    assert set(redis_client.scan_iter("frontend:*")) and not redis_client.exists("autotrading:enabled")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("never_ready", [False, True], ids=["up", "while starting"])
def test_a_signal_ends_it_cleanly_at_any_moment(
    settings: Settings, number: signal.Signals, never_ready: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Shown(on_show=lambda _snapshot: os.kill(os.getpid(), number))
    handler = signal.getsignal(number)
    assert demo(settings, shown, never_ready=never_ready).run() == 0
    assert "QBot demo" in capsys.readouterr().out
    assert signal.getsignal(number) is handler
    assert not [thread for thread in threading.enumerate() if thread.name == "observer"]


def test_a_stack_that_cannot_start_is_a_failure_that_says_why(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(settings, Shown(), error="port 6380 for Redis is taken").run() == 1
    assert "FAILED: port 6380 for Redis is taken" in capsys.readouterr().out


def test_a_process_that_kept_dying_is_a_failure(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo(settings, Shown(), minutes=0.01, restarts=7).run() == 1
    assert "postgres was restarted 7 times" in capsys.readouterr().out


def test_a_view_that_breaks_ends_the_demo_instead_of_hanging_it(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_snapshot: Snapshot) -> None:
        raise ZeroDivisionError("view")

    assert demo(settings, Shown(on_show=broken)).run() == 1
    assert "FAILED: the demo itself broke: ZeroDivisionError: view" in capsys.readouterr().out


def test_a_reader_that_left_ends_the_demo_quietly(settings: Settings) -> None:
    def gone(_snapshot: Snapshot) -> None:
        raise BrokenPipeError

    assert demo(settings, Shown(on_show=gone)).run() == 0


def test_the_demo_never_takes_the_owners_keys_or_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QBOT_ALPACA_API_KEY", "QBOT_ALPACA_SECRET_KEY", "QBOT_ALPACA_URL"):
        monkeypatch.setenv(name, "https://real.example")
    monkeypatch.setenv("QBOT_ALLOW_LIVE", "true")
    monkeypatch.setenv("QBOT_HOME", "/somewhere/real")
    made = run.demo_settings(Options())
    assert not made.alpaca_api_key.get_secret_value() and not made.alpaca_secret_key.get_secret_value()
    assert (made.alpaca_url, made.allow_live, made.home) == (None, False, run.HOME)


def test_a_fresh_start_removes_the_demos_data_and_nothing_else(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years")
    run.forget(other)
    assert (other / "thesis.txt").exists()
    (other / "secrets.json").write_text("{}")
    run.forget(other)
    assert [path.name for path in other.iterdir()] == [lock.FILE]


def test_a_fresh_start_is_refused_while_qbot_runs_and_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{}")
    with lock.held(tmp_path), pytest.raises(StackError, match="already running"):
        run.forget(tmp_path)
    assert (tmp_path / "secrets.json").exists()
