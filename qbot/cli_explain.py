"""`qbot explain`: why an order was made, from the verdict to the forecast and the model behind it."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from qbot import audit
from qbot.cli_stop import ask_who_answers, runtime_of, settings_of
from qbot.console import installation
from qbot.errors import StoreUnavailable
from qbot.log import quiet
from qbot.store.audit import Trail

console = Console(highlight=False)


def explain(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Of an order (the broker's or the client's), an execution, a manual order, a decision."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Tell why an order was made and what came of it: signal, forecast, model, settings, verdict, fills, profit.

    Exit status 1 when nobody knows the id, 2 when a part of its history is missing.
    """
    quiet()
    chosen = installation.choose(demo)
    values = settings_of(chosen)
    reached = ask_who_answers(values)
    if not reached.postgres:  # by itself a connection would wait for a frozen server several times over
        raise StoreUnavailable(f"Postgres: {reached.why['Postgres']}")
    rt = runtime_of(values, chosen, reached)
    found = audit.look(rt.engine, asked)
    if found is None:
        typer.echo(f"Nothing with the id {asked} is recorded in {chosen.name}.", err=True)
        raise typer.Exit(1)
    if as_json:
        typer.echo(json.dumps(audit.plain(found), indent=2, ensure_ascii=False))
    else:
        show(found)
    if found.missing:
        raise typer.Exit(2)


def show(found: Trail) -> None:
    """One paragraph a question."""
    for name, lines in audit.told(found):
        console.print(Text(name, style="bold red" if name == "MISSING" else "bold"))
        for line in lines:
            console.print(Text(f"  {line}"), soft_wrap=True)
