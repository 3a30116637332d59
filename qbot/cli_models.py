"""`qbot models`: what forecasts, how good each model was found, and the way back to an earlier one."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from qbot import promoting, showing_ml
from qbot.cli_stop import Reached, runtime_of, settings_of, where
from qbot.console import installation
from qbot.errors import BoardUnavailable
from qbot.log import quiet
from qbot.runtime import Runtime
from qbot.store import models, standing
from qbot.store.engine import transaction
from qbot.training_types import RECORD, ArtifactRecord

NEWEST = 5  # of each horizon

console = Console(highlight=False)
app = typer.Typer(
    invoke_without_command=True, help="Show the models: which forecast now, how good each was found, and why."
)
Demo = Annotated[
    bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
]


@app.callback()
def show(
    context: typer.Context,
    demo: Demo = None,
    everything: Annotated[bool, typer.Option("--all", help=f"Not only the newest {NEWEST} of each horizon.")] = False,
) -> None:
    """Show the models: which forecast now, how good each was found on days it had not seen, and what was decided."""
    context.obj = demo
    if context.invoked_subcommand is not None:
        return
    rt = _runtime(demo)
    with transaction(rt.engine) as connection:
        rows = standing.listed(connection)
    if not rows:
        console.print("Nothing was trained yet.")
    for horizon in sorted({row["horizon_minutes"] for row in rows}):
        mine = [row for row in rows if row["horizon_minutes"] == horizon]
        shown = [row for at, row in enumerate(mine) if everything or at < NEWEST or row["standing"]]
        console.print(_table(horizon, shown))
        for row in shown:
            console.print(f"[dim]{row['artifact_id']}[/dim] {_verdict(row)}", soft_wrap=True)
        console.print()
        if len(shown) < len(mine):
            console.print(f"{len(mine) - len(shown)} older ones: `qbot models --all`.\n")


@app.command()
def rollback(
    context: typer.Context,
    horizon: Annotated[int, typer.Option("--horizon", help="Minutes ahead: 15, 30 or 60.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="ARTIFACT_ID", help="Which; by default what stood before.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let an earlier model forecast again; the next forecasts are its own. What it was found worth stays as it was.

    A later training may replace it, as any other. Exit status 1 when its files are missing or not the recorded ones.
    """
    rt = _runtime(context.obj)
    if not yes:
        typer.confirm(f"Bring back {to or 'the model that stood before'}, {horizon} minutes ahead?", abort=True)
    now_stands, before = promoting.roll_back(rt, horizon, getpass.getuser(), to)
    instead = f" instead of {before['artifact_id']}" if before is not None else ""
    console.print(f"{now_stands['artifact_id']} stands{instead}: {_skill(now_stands)}.", soft_wrap=True)
    try:
        showing_ml.training(rt)
    except BoardUnavailable:
        console.print("Redis does not answer: the board shows it after the next training.")


def _runtime(demo: bool | None) -> Runtime:
    quiet()
    chosen = installation.choose(demo)
    values = settings_of(chosen)
    console.print(f"This is {chosen.name}, trading at {where(values)}.")
    return runtime_of(values, chosen, Reached(postgres=True, redis=True))


def _table(horizon: int, rows: list[models.Row]) -> Table:
    """One row a model; it fits into 80 columns."""
    table = Table(title=f"{horizon} minutes ahead", title_justify="left", box=None, pad_edge=False, padding=(0, 1))
    for name in ("model", "trained (UTC)", "MAE USD", "no\nchange", "MAPE %", "AUC", ""):
        table.add_column(name, no_wrap=name not in ("trained (UTC)", ""))
    for row in rows:
        record = RECORD.validate_python(row["metrics"], strict=False) if "metrics" in row["metrics"] else None
        name = f"[bold]{row['artifact_id']}[/bold]" if row["standing"] else row["artifact_id"]
        table.add_row(name, *_measured(record), f"{_skill(row)}, stands" if row["standing"] else _skill(row))
    return table


def _measured(record: ArtifactRecord | None) -> tuple[str, ...]:
    if record is None:
        return ("",) * 5
    found = record.metrics
    return (
        f"{record.trained_at:%Y-%m-%d %H:%M}",
        f"{found.mae:.4f}",
        f"{found.naive_mae:.4f}",
        f"{found.mape:.3f}",
        "" if found.auc is None else f"{found.auc:.3f}",
    )


def _skill(row: models.Row) -> str:
    if row["skilled"]:
        return "[green]skilled[/green]"
    return "no skill"


def _verdict(row: models.Row) -> str:
    if row["unusable"] is not None:
        return f"[red]cannot be used:[/red] {row['unusable']}"
    if not Path(row["path"]).is_dir():
        return "[dim]its files are deleted[/dim]"
    found = row["verdict"]
    return "" if found is None else f"{found['outcome']}: {found['why']}"
