"""From nothing to the first filled trade, beside the bare servers of the same machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from qbot.clock import monotonic_s
from tests.support.servers import postgres_running, redis_running
from tests.support.whole import whole_system


def run() -> Iterator[str]:
    """Lines to print."""
    with tempfile.TemporaryDirectory(prefix="qbot-bench-") as name:
        folder = Path(name)
        begun = monotonic_s()
        (folder / "redis").mkdir()
        with redis_running(folder / "redis"), postgres_running(folder / "pg"):
            bare_s = monotonic_s() - begun
        yield f"bare Redis and a new Postgres      {bare_s:6.1f} s"
        begun = monotonic_s()
        with whole_system(folder) as whole:
            whole.start()
            ready_s = monotonic_s() - begun
            yield f"all processes of QBot ready        {ready_s:6.1f} s   {ready_s / bare_s:5.1f} × the bare servers"
            whole.begin_trading()
            whole.wait_for_trade()
            trade_s = monotonic_s() - begun
            yield f"first filled trade, training in it {trade_s:6.1f} s   {trade_s / bare_s:5.1f} × the bare servers"
