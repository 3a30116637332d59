"""What the rounds came to, as a table that grows while they run."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rich.table import Table

from tests.chaos.rounds import END, Outcome


def table(names: Sequence[str], outcomes: Sequence[Outcome], rounds: int, seed: int) -> Table:
    """One row a fault, those that have not begun left out, and a sum."""
    shown = Table(title=f"chaos, {rounds} rounds each, seed {seed}; seconds as min / median / max since it healed")
    for name in ("fault", "rounds", "in flight", "entries", "exits", "by hand", "duplicate", "lost", "other", "off",
                 "recovered", "reconciled"):  # fmt: skip
        shown.add_column(name, justify="left" if name == "fault" else "right")
    for name in names:
        mine = [one for one in outcomes if one.fault == name]
        if mine:
            shown.add_row(name, *_cells(mine), style=None if all(one.ok for one in mine) else "red")
    shown.add_section()
    struck = [one for one in outcomes if one.fault != END]
    if struck:
        shown.add_row("all", *_cells(struck))
    return shown


def _cells(mine: Sequence[Outcome]) -> list[str]:
    duplicates, lost = sum(one.duplicates for one in mine), sum(one.lost for one in mine)
    other = sum(len(one.violations) for one in mine) - duplicates - lost
    counts = (
        len(mine), sum(one.in_flight for one in mine), sum(one.entries for one in mine),
        sum(one.exits for one in mine), sum(one.by_hand for one in mine), duplicates, lost, other,
        sum(one.went_off for one in mine),
    )  # fmt: skip
    times = [_span([getattr(one, name) for one in mine]) for name in ("recovered_s", "reconciled_s")]
    return [*map(str, counts), *times]


def _span(seconds: Sequence[float | None]) -> str:
    known = [one for one in seconds if one is not None]
    if not known:
        return "never"
    span = f"{min(known):.1f} / {median(known):.1f} / {max(known):.1f}"
    return span if len(known) == len(seconds) else f"{span}, {len(seconds) - len(known)} never"
