"""One stand-in for all tests of a worker: its market stands in the middle of a session, and is well at each begin."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from qbot.settings import Settings
from qbot.standin.running import Running, standing_in
from qbot.standin.walk import Walk

NOW = datetime(2026, 11, 25, 16, 3, 20, tzinfo=UTC)  # a Wednesday, 11:03 in New York


@pytest.fixture(scope="session")
def one_for_all() -> Iterator[Running]:
    with standing_in(Walk(), lambda: NOW) as running:
        yield running


@pytest.fixture
def standin(one_for_all: Running) -> Running:
    one_for_all.control.heal()
    one_for_all.control.forget()
    return one_for_all


@pytest.fixture
def values(standin: Running, tmp_path: Path) -> Settings:
    """Settings with which every vendor is the stand-in."""
    broker = {"alpaca_api_key": SecretStr("K"), "alpaca_secret_key": SecretStr("S")}
    return Settings(_env_file=None, home=tmp_path).model_copy(update={**standin.settings, **broker})  # type: ignore[call-arg]
