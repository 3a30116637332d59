"""A running exchange for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.exchange import RunningExchange, exchange_thread


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[RunningExchange]:
    """An exchange on the shipped sample; its market stands at 10:00 on 2025-07-07 until the test moves it."""
    with exchange_thread(tmp_path) as running:
        yield running
