"""`python -m tests.chaos --rounds 10 --only redis`: the faults, round after round, against one running system."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from tests.chaos.faults import catalogue, chosen
from tests.chaos.rounds import Outcome, Rounds
from tests.chaos.system import system
from tests.chaos.table import table

RESULTS = "results.jsonl"
WIDTH = 160  # where no terminal says otherwise


def main() -> int:
    """The exit status: 1 when anything was violated, or nothing ran."""
    options = _options()
    if options.list:
        print("\n".join(f"{fault.group}: {fault.name}" for fault in catalogue()))
        return 0
    faults = chosen(options.only)
    folder = Path(options.folder or tempfile.mkdtemp(prefix="qbot-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    outcomes: list[Outcome] = []
    names = [fault.name for fault in faults]
    try:
        with system(folder, options.seed) as shaken:
            rounds = Rounds(shaken, options.seed)
            try:
                with Live(console=console, auto_refresh=False, transient=True) as live:
                    for number in range(options.rounds):
                        for fault in faults:
                            begun = time.monotonic()
                            outcomes.append(rounds.run(fault, number))
                            _keep(folder / RESULTS, outcomes[-1])
                            _tell(console, outcomes[-1], time.monotonic() - begun)
                            live.update(table(names, outcomes, options.rounds, options.seed), refresh=True)
            finally:
                rounds.close()
    except KeyboardInterrupt:
        console.print("interrupted; what there was until then:")
    console.print(table(names, outcomes, options.rounds, options.seed))
    for one in outcomes:
        for violation in one.violations:
            console.print(f"{one.fault}, round {one.number}: {violation}", style="red", markup=False)
    console.print(f"logs: {folder}/home/logs, results: {folder / RESULTS}")
    return 0 if outcomes and all(one.ok for one in outcomes) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each fault (10)")
    parser.add_argument("--only", action="append", default=[], help="faults whose group or name holds this word")
    parser.add_argument("--seed", type=int, default=1, help="of the orders and of the bad lines (1)")
    parser.add_argument("--folder", help="of data, logs and results; else a new temporary one")
    parser.add_argument("--list", action="store_true", help="show the faults and end")
    return parser.parse_args()


def _keep(file: Path, outcome: Outcome) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(outcome.as_json()) + "\n")


def _tell(console: Console, one: Outcome, took_s: float) -> None:
    if console.is_terminal:
        return
    times = f"recovered {one.recovered_s} s, reconciled {one.reconciled_s} s, took {took_s:.0f} s"
    off = f", off {' '.join(one.tripped)}" if one.went_off else ""
    console.print(f"{one.number:>2} {one.fault:<34} in flight {one.in_flight:>2} {one.caught:<6} {times}{off}",
                  highlight=False)  # fmt: skip
    for violation in one.violations:
        console.print(f"   {violation}", style="red", markup=False)


if __name__ == "__main__":
    sys.exit(main())
