"""`qbot resume`: what made QBot stop, and a human's word that trading may be started again."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from qbot import risk_watch
from qbot.cli_stop import Reached, runtime_of, settings_of, where
from qbot.console import installation
from qbot.log import quiet
from qbot.risk_watch import Standing

console = Console(highlight=False)


def resume(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    demo: Annotated[
        bool | None, typer.Option("--demo/--main", help="Which QBot, where both run; by default the configured one.")
    ] = None,
) -> None:
    """Release the emergency stop and tripped circuit breakers, once you have seen why they stand.

    Losses are counted anew from then on. Trading needs a new start by a frontend afterwards.
    """
    quiet()
    found = installation.choose(demo)
    values = settings_of(found)
    rt = runtime_of(values, found, Reached(postgres=True, redis=True))
    console.print(f"This is {found.name}, trading at {where(values)}.")
    standing = risk_watch.standing(rt)
    show(standing)
    if not standing.breakers and not standing.latched:
        return
    if not yes:
        typer.confirm("Have you seen to it, and may trading be started again?", abort=True)
    risk_watch.resume(rt, getpass.getuser())
    console.print("Released. Losses count from now. Trading begins when a frontend starts it anew.")


def show(standing: Standing) -> None:
    """What stands, why, and the numbers."""
    report = standing.report
    if report is not None:
        reasons = ", ".join(report.reasons) or "nothing"
        console.print(
            f"Risk factor {report.factor.normalize():f}, lowered by {reasons} ({report.at:%Y-%m-%d %H:%M} UTC)."
        )
        console.print(f"Lost within a week {report.rolling_loss_pct:.2%}; under the peak {report.drawdown_pct:.2%}.")
    if not standing.breakers and not standing.latched:
        console.print("No circuit breaker tripped and no emergency stop is latched: there is nothing to resume.")
        return
    if standing.latched:
        console.print(f"Latched: {standing.reason}", markup=False)
    if standing.breakers:
        table = Table("Breaker", "Tripped (UTC)", "Why", "What to do", box=None, pad_edge=False, padding=(0, 2))
        for row in standing.breakers:
            table.add_row(row["name"], f"{row['tripped_at']:%Y-%m-%d %H:%M}", row["why"], row["advice"])
        console.print(table)
        for row in standing.breakers:
            told = ", ".join(f"{name} {value}" for name, value in row["numbers"].items())
            console.print(f"{row['name']}: {told}", markup=False)
