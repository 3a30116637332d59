"""The `qbot` command itself: every command is found, and one does not wait for what others need."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from qbot import cli
from qbot.cli import COMMANDS, app
from qbot.settings import LOG_LEVELS, ROOT, Settings
from qbot.settings import settings as settings_of_this_process

HEAVY = ("alpaca", "pandas", "autogluon")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = CliRunner(env={"COLUMNS": "100"}).invoke(app, [name, "--help"])
    assert done.exit_code == 0, done.output
    assert f" {name} " in done.output.splitlines()[1]


def test_the_help_tells_every_command_in_a_sentence() -> None:
    told = CliRunner(env={"COLUMNS": "100"}).invoke(app, ["--help"]).output.splitlines()
    for name in COMMANDS:
        line = next(each for each in told if each.startswith(f"│ {name} "))
        assert len(line.strip("│ ").split()) > 3


def test_an_unknown_command_is_refused_with_a_hint() -> None:
    done = CliRunner().invoke(app, ["stpo"])
    assert done.exit_code == 2
    assert "No such command 'stpo'" in done.output


def test_a_command_that_does_not_trade_waits_for_nothing_that_trading_needs() -> None:
    code = (
        "import json, sys\nfrom typer.testing import CliRunner\nfrom qbot.cli import app\n"
        "done = CliRunner().invoke(app, ['contract', '--help'])\n"
        f"print(json.dumps([done.exit_code, [one for one in {HEAVY!r} if one in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [0, []]


@pytest.mark.parametrize("level", LOG_LEVELS)
def test_a_level_of_the_log_may_be_written_in_any_case(level: str) -> None:
    for told in (level, level.lower(), level.title(), f" {level} "):
        assert Settings(_env_file=None, log_level=told).log_level == level  # type: ignore[call-arg]


@pytest.mark.parametrize("level", ["", "loud", "10", "INFO,DEBUG"])
def test_a_level_of_the_log_that_there_is_not_is_refused_in_a_sentence(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValidationError):
        Settings(_env_file=None, log_level=level)  # type: ignore[call-arg]
    monkeypatch.setenv("QBOT_LOG_LEVEL", level)
    monkeypatch.setattr(sys, "argv", ["qbot", "status"])
    settings_of_this_process.cache_clear()
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        settings_of_this_process.cache_clear()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("qbot: QBOT_LOG_LEVEL: ")
    assert line.endswith("there is no such level; there are DEBUG, INFO, WARNING, ERROR, CRITICAL")
