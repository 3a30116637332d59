"""`make simulate`: trading days from seeds until the number is reached or something is wrong.

make simulate ARGS="--days 100000 --seed 7"
make simulate ARGS="--replay 12345"
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.simulation import faults
from tests.simulation.running import DAYS_A_SEED, Total, run, trace

LINES = 400  # of the trace before a violation


def main() -> int:
    """0 when nothing was violated."""
    parser = argparse.ArgumentParser(prog="make simulate", description="Deterministic trading days with faults.")
    parser.add_argument("--days", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the first one; each plays some days")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="play one seed and show what came before a violation"
    )
    parser.add_argument("--lines", type=int, default=LINES, help="of the trace that are shown")
    options = parser.parse_args()
    console = Console()
    if options.replay is not None:
        return replay(console, options.replay, options.lines)
    begun, total = time.monotonic(), Total()
    columns = (
        TextColumn("days"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("days", total=options.days, rate="")
        for one in run(options.days, options.seed, options.processes):
            total.add(one)
            rate = f"{total.days / (time.monotonic() - begun):.0f} days/s, {len(total.violations)} violations"
            progress.update(bar, completed=total.days, rate=rate)
            for text in one.violations[:1]:
                progress.console.print(f"[red]seed {one.seed}: {text}")
    show(console, total, time.monotonic() - begun)
    if total.violations:
        replay(console, min(seed for seed, _ in total.violations), options.lines)
    return 1 if total.violations or total.short else 0


def show(console: Console, total: Total, took_s: float) -> None:
    """What the days came to."""
    table = Table("fault", "took effect", "kill switch within 20 minutes")
    for name in [*faults.HERE, *faults.BY_THE_CALENDAR]:
        table.add_row(name, str(total.struck[name]), str(total.stops_during[name]))
    console.print(table)
    for name, where in faults.ELSEWHERE.items():
        console.print(f"{name}: {where}")
    console.print(
        f"{total.days} days, {total.cycles} cycles, {total.orders} orders, {total.faults} faults in {took_s:.0f} s "
        f"({total.days / took_s:.0f} days/s, {took_s / max(1, total.cycles) * 1000:.2f} ms a cycle); "
        f"protection put back {total.restored} times; {len(total.violations)} violations"
    )
    for text in total.short[:10]:
        console.print(f"[red]too little happened: {text}")


def replay(console: Console, seed: int, lines: int) -> int:
    """One seed, and the trace before its first violation."""
    simulation, told = trace(seed, DAYS_A_SEED)
    for line in told[-lines:]:
        console.print(line, markup=False, highlight=False)
    for one in simulation.violations:
        console.print(f"[red]seed {seed}: {one}")
    console.print(f"seed {seed}: {len(simulation.days)} days, {len(simulation.violations)} violations")
    return 1 if simulation.violations else 0


if __name__ == "__main__":
    sys.exit(main())
