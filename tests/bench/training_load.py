"""Trains for ever on the history of a running installation, as its training worker would, and keeps nothing.

`python -m tests.bench.training_load FILE`: the settings come from the environment; each training adds a line to FILE.
"""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from qbot import clock, limits
from qbot.pipeline import HISTORY
from qbot.settings import settings
from qbot.stack.programs import NICE
from qbot.store import bars
from qbot.store.engine import make_engine, transaction
from qbot.training_process import run_training
from qbot.training_types import TrainingRequest


def main(done: Path) -> None:
    """Until it is killed."""
    os.nice(NICE["training"])
    values, now = settings(), clock.market_now()
    symbols = tuple(filter(None, values.tickers.split(","))) or limits.DEFAULT_TICKERS
    with transaction(make_engine(values.postgres_url)) as connection:
        history = bars.load(connection, symbols, now - HISTORY, now)
    with tempfile.TemporaryDirectory(prefix="qbot-bench-") as folder:
        for number in range(1_000):
            at, seconds = now + timedelta(seconds=number), values.train_seconds_per_horizon
            request = TrainingRequest(symbols, Path(folder), at, "manual", seconds, limits.TRAINING_MIN_ROWS)
            run_training(history, request, lambda _: None, limits.TRAINING_LIMIT_S)
            with done.open("a") as lines:
                lines.write(f"{number}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
