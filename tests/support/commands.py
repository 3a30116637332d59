"""Commands of `qbot` as they run with the settings of a test's world: in this process, or in one of their own.

A process takes seconds to begin, so few of the tests have one of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys

from pydantic import SecretStr
from typer.testing import CliRunner, Result

from qbot.cli import app
from qbot.settings import ROOT, settings
from tests.support.runtime import World

WIDE = {"COLUMNS": "160"}


def environment_of(world: World) -> dict[str, str]:
    """What says the settings of a world to a process."""
    return {
        f"QBOT_{name.upper()}": value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in world.rt.settings
        if value is not None
    }


def run(world: World, *words: str, typed: str = "", **environment: str) -> Result:
    """In this process, which reads its settings anew. `environment`: what is set otherwise. Raises what ends it."""
    settings.cache_clear()
    try:
        values = {**environment_of(world), **environment, **WIDE}
        done = CliRunner(env=values).invoke(app, [*words], input=typed)
    finally:
        settings.cache_clear()
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception  # what `main` would tell
    return done


def run_alone(world: World, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "qbot.cli", *words], env={**os.environ, **environment_of(world), **environment, **WIDE},
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
