"""The home of an installation: secrets, ports, the replay's state."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from qbot import clock
from qbot.clock import Timeline
from qbot.errors import StackError
from qbot.settings import Settings
from qbot.stack import environment, ports, replay, secrets
from qbot.stack.stack import Stack
from tests.support.servers import free_port


def settings(home: Path, **more: object) -> Settings:
    return Settings(_env_file=None, home=home, **more)  # type: ignore[call-arg, arg-type]


# secrets


def test_secrets_are_made_once_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    first, second = (secrets.with_secrets(settings(tmp_path)) for _ in range(2))
    assert first == second
    values = {getattr(first, name).get_secret_value() for name in secrets.NAMES}
    assert len(values) == len(secrets.NAMES)
    assert min(map(len, values)) > 30
    assert (tmp_path / secrets.FILE).stat().st_mode & 0o777 == 0o600


def test_a_secret_of_the_environment_wins_and_is_not_written_down(tmp_path: Path) -> None:
    known = secrets.with_secrets(settings(tmp_path, redis_password=SecretStr("of-the-environment")))
    assert known.redis_password.get_secret_value() == "of-the-environment"
    assert "redis_password" not in json.loads((tmp_path / secrets.FILE).read_text())


def test_secrets_that_others_may_read_are_refused(tmp_path: Path) -> None:
    secrets.with_secrets(settings(tmp_path))
    (tmp_path / secrets.FILE).chmod(0o644)
    with pytest.raises(StackError, match="others may read"):
        secrets.with_secrets(settings(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"redis_password": 1}', '{"redis_password": ""}'])
def test_a_damaged_file_of_secrets_is_an_error_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    file = tmp_path / secrets.FILE
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(StackError):
        secrets.with_secrets(settings(tmp_path))
    assert file.read_text() == text


def test_children_get_every_setting_but_only_those_who_trade_get_the_brokers_keys(tmp_path: Path) -> None:
    values = settings(tmp_path, alpaca_api_key=SecretStr("K1"), alpaca_secret_key=SecretStr("S1"), allow_live=True)
    env = environment.of_children(values, tmp_path / "clock.json")
    assert env["QBOT_ALPACA_API_KEY"] == "K1"
    assert env["QBOT_ALLOW_LIVE"] == "true"
    assert env["QBOT_CLOCK_FILE"] == str(tmp_path / "clock.json")
    assert env["OMP_NUM_THREADS"] == "1"
    keyless = environment.without_broker_keys(env)
    assert not {"K1", "S1"} & set(keyless.values())
    assert not any(name.startswith("QBOT_") for name in environment.plain())


def test_no_child_knows_the_passwords_of_frontends_and_env_does_not_bring_them_back(tmp_path: Path) -> None:
    values = secrets.with_secrets(settings(tmp_path))
    env = environment.of_children(values, None)
    others = {values.redis_frontend_password.get_secret_value(), values.redis_viewer_password.get_secret_value()}
    assert not others & set(env.values())
    assert (env["QBOT_REDIS_USER"], env["QBOT_REDIS_PASSWORD"]) == (
        "backend",
        values.redis_password.get_secret_value(),
    )
    assert env["QBOT_REDIS_FRONTEND_PASSWORD"] == env["QBOT_REDIS_VIEWER_PASSWORD"] == ""


# ports


def test_a_taken_port_is_named_with_its_owner_and_the_variable_to_change() -> None:
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError) as raised:
            ports.require_free({"Redis": (port, "QBOT_REDIS_PORT")}, 0.0)
    for part in (str(port), "Redis", "QBOT_REDIS_PORT", psutil.Process().name(), f"pid {os.getpid()}"):
        assert part in str(raised.value)


def test_free_ports_pass_and_one_port_for_two_services_does_not() -> None:
    port, other = free_port(), free_port()
    ports.require_free({"Redis": (port, "A"), "Postgres": (other, "B")}, 0.0)
    with pytest.raises(StackError, match="same port"):
        ports.require_free({"Redis": (port, "A"), "Postgres": (port, "B")}, 0.0)


# replay

START = datetime(2026, 1, 5, 14, 15, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(clock.CLOCK_FILE_ENV, "")
    yield
    monkeypatch.undo()
    clock.timeline.cache_clear()


def one_day(resume_s: float, speed: float = 60.0) -> Timeline:
    return Timeline(speed, clock.wall_now(), resume_s, ((START, START + timedelta(hours=7)),))


def state(home: Path) -> replay.Replay:
    return replay.Replay(home / replay.CLOCK_FILE, home / replay.STATE_FILE, "bars:1:15", one_day(1_000.0))


def test_a_replay_goes_on_a_little_after_where_it_was_never_before(tmp_path: Path) -> None:
    run = state(tmp_path)
    run.save()
    stood_s = run.timeline.elapsed_s(clock.wall_now())
    resumed_s = replay._resume_s(run.state_file, run.source)
    assert stood_s < resumed_s <= stood_s + (replay.AHEAD_S + 1) * run.timeline.speed


def test_other_bars_are_refused_and_a_damaged_state_too(tmp_path: Path) -> None:
    run = state(tmp_path)
    run.save()
    with pytest.raises(StackError, match="qbot reset"):
        replay._resume_s(run.state_file, "other:2:15")
    run.state_file.write_text("{")
    with pytest.raises(StackError, match="qbot reset"):
        replay._resume_s(run.state_file, run.source)


def test_without_a_state_the_replay_starts_at_its_beginning(tmp_path: Path) -> None:
    assert replay._resume_s(tmp_path / replay.STATE_FILE, "bars:1:15") == 0.0


def test_saving_never_goes_past_the_end(tmp_path: Path) -> None:
    run = replay.Replay(tmp_path / "c", tmp_path / "s.json", "bars", one_day(7 * 3600 - 10))
    run.save()
    assert replay._resume_s(run.state_file, "bars") == run.timeline.length_s


# the broker


@pytest.mark.parametrize("keys", ["", "PKSOMEONES"])
def test_only_without_keys_is_the_broker_the_embedded_exchange_whatever_the_environment_says(
    tmp_path: Path, keys: str
) -> None:
    stack = Stack(
        settings(tmp_path, alpaca_api_key=SecretStr(keys), alpaca_secret_key=SecretStr(keys), embedded_exchange=True)
    )
    assert stack.settings.embedded_exchange is stack.embedded_exchange is (keys == "")
