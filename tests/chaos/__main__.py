"""`python -m tests.chaos --rounds 10 --only redis`: the faults, round after round, against one running system."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.chaos.faults import Fault, catalogue, chosen
from tests.chaos.rounds import END, Outcome, Rounds
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
    try:
        faults = chosen(options.only)
    except ValueError as error:
        print(f"chaos: {error}; --list shows them all", file=sys.stderr)
        return 1
    folder = Path(options.folder or tempfile.mkdtemp(prefix="qbot-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(options, faults, folder)
    try:
        run.all_rounds()
    except KeyboardInterrupt:
        run.console.print("interrupted; what there was until then:")
    finally:
        run.conclude()
    return 0 if run.outcomes and all(one.ok for one in run.outcomes) else 1


class Run:
    """The rounds of one call, and what they came to so far: also in the folder, should this process be killed."""

    def __init__(self, options: argparse.Namespace, faults: list[Fault], folder: Path) -> None:
        self.options, self.faults, self.folder = options, faults, folder
        self.console = Console(width=None if sys.stdout.isatty() else WIDTH)
        self.outcomes: list[Outcome] = []

    def all_rounds(self) -> None:
        """Every fault once, then every fault again: a fault meets the traces of all others."""
        with system(self.folder, self.options.seed) as shaken:
            rounds = Rounds(shaken, self.options.seed)
            try:
                with Live(console=self.console, auto_refresh=False, transient=True) as live:
                    for number in range(self.options.rounds):
                        for fault in self.faults:
                            self._note(rounds.run(fault, number))
                            live.update(self._table(), refresh=True)
                    self._note(rounds.end())
            finally:
                rounds.close()

    def conclude(self) -> None:
        """The table, every violation again, and where the logs are."""
        self.console.print(self._table())
        for one in self.outcomes:
            for violation in one.violations:
                self.console.print(f"{one.fault}, round {one.number}: {violation}", style="red", markup=False)
        self.console.print(f"logs: {self.folder}/home/logs, results: {self.folder / RESULTS}")

    def _note(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        with (self.folder / RESULTS).open("a") as lines:
            lines.write(json.dumps(outcome.as_json()) + "\n")
        if not self.console.is_terminal:
            self.console.print(_line(outcome), highlight=False, markup=False)

    def _table(self) -> Table:
        names = [*(fault.name for fault in self.faults), END]
        return table(names, self.outcomes, self.options.rounds, self.options.seed)


def _line(one: Outcome) -> str:
    times = f"recovered {one.recovered_s} s, reconciled {one.reconciled_s} s"
    off = f", off {' '.join(one.tripped)}" if one.went_off else ""
    line = f"{one.number:>2} {one.fault:<37} in flight {one.in_flight:>2} {one.caught:<6} {times}{off}"
    return "\n".join([line, *(f"   {violation}" for violation in one.violations)])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="of each fault (10)")
    parser.add_argument("--only", action="append", default=[], help="faults whose group or name holds this word")
    parser.add_argument("--seed", type=int, default=1, help="of the orders and of the bad lines (1)")
    parser.add_argument("--folder", help="of data, logs and results; else a new temporary one")
    parser.add_argument("--list", action="store_true", help="show the faults and end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
