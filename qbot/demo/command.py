"""The `qbot demo` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qbot.demo import run
from qbot.demo.display import fitting
from qbot.errors import QBotError


def demo(
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="End after so many minutes; the exit status tells how it went.")
    ] = None,
    plain: Annotated[
        bool | None, typer.Option("--plain/--live", help="Lines, or the full-screen view; by default what fits.")
    ] = None,
    speed: Annotated[float, typer.Option(min=1, max=1000, help="How many times faster the market runs.")] = 60.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier runs of the demo first.")] = False,
    screenshot: Annotated[Path | None, typer.Option(hidden=True, help="Save the view as SVG at the end.")] = None,
    home: Annotated[Path, typer.Option(help="Folder of the demo's data.")] = run.HOME,
) -> None:
    """Watch QBot trade a replayed market: no keys, no servers. Ends with Ctrl-C."""
    options = run.Options(minutes, speed, fresh, screenshot, home.resolve())
    try:
        status = run.run(options, fitting(plain))
    except QBotError as error:
        typer.echo(f"qbot demo: {error}", err=True)
        raise typer.Exit(1) from error
    raise typer.Exit(status)
