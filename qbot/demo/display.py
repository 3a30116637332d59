"""Where snapshots go: a full-screen view on a terminal, lines everywhere else."""

from __future__ import annotations

import sys
from typing import Protocol

from rich.console import Console
from rich.live import Live

from qbot.demo.plain import PlainLog
from qbot.demo.snapshot import Snapshot
from qbot.demo.view import render


class Display(Protocol):
    def show(self, snapshot: Snapshot) -> None:
        """Shows one more snapshot. Raises OSError when nobody reads any more."""
        ...

    def close(self) -> None:
        """Gives the terminal back. May be called twice."""
        ...


class LiveDisplay:
    """The view on the terminal's alternate screen; what stood there before comes back at the end."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def show(self, snapshot: Snapshot) -> None:
        if not self._live.is_started:
            self._live.start()
        width, height = self._console.size
        self._live.update(render(snapshot, width, height), refresh=True)

    def close(self) -> None:
        self._live.stop()


class LineDisplay:
    """One line an event on standard output."""

    def __init__(self) -> None:
        self._log = PlainLog()

    def show(self, snapshot: Snapshot) -> None:
        for line in self._log.lines(snapshot):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Lines need no end."""


class Nobody:
    """Nobody watches."""

    def show(self, snapshot: Snapshot) -> None:
        """Shows nothing."""

    def close(self) -> None:
        """Has nothing to close."""


def fitting(plain: bool | None) -> Display:
    """Lines where asked for, or where standard output is no terminal."""
    lines = plain if plain is not None else not sys.stdout.isatty()
    return LineDisplay() if lines else LiveDisplay()
