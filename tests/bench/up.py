"""`qbot up` with the exchange that notes arrivals; everything else as ever: `python -m tests.bench.up`."""

from __future__ import annotations

import dataclasses
import sys

from qbot import cli
from qbot.settings import Settings
from qbot.stack import programs
from qbot.stack.supervise import Program


def main() -> None:
    """Until a signal ends it."""
    original = programs.exchange

    def watched(settings: Settings, env: dict[str, str]) -> Program:
        made = original(settings, env)
        return dataclasses.replace(made, args=tuple(_watched(part) for part in made.args))

    programs.exchange = watched
    sys.argv[1:] = ["up"]
    cli.app()


def _watched(part: str) -> str:
    return "tests.bench.watched_exchange" if part == "qbot.exchange" else part


if __name__ == "__main__":
    main()
