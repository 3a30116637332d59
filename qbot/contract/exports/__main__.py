"""`python -m qbot.contract.exports [--check] [--folder docs]`: writes the exports, or tells which are not current."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from qbot.contract.exports import COMMAND, stale, write


def main(arguments: list[str] | None = None) -> int:
    """0: current, or brought up to date; 1: `--check` found files that are not."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Writes the contract's exports.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a file is not current")
    parser.add_argument("--folder", type=Path, default=Path("docs"), help="where they are (default: docs)")
    given = parser.parse_args(arguments)
    if not given.check:
        changed = write(given.folder)
        print("\n".join(f"written: {given.folder / path}" for path in changed) or "all current")
        return 0
    old = stale(given.folder)
    for path in old:
        print(f"not current: {given.folder / path}", file=sys.stderr)
    if old:
        print(f"The contract has changed. Run `make contract` (or `{COMMAND}`) and commit.", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
