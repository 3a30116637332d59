"""docs/risk-gate.md says what the gate does: the same checks in their order, for the same orders, in each state."""

from __future__ import annotations

from pathlib import Path

import pytest

from qbot.risk import RULES, Rule
from qbot.risk_case import Whose
from qbot.types import TradingState
from tests.support.scenes import ENTRY, EXIT, PROTECTION

PAGE = (Path(__file__).parents[1] / "docs" / "risk-gate.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]


def row_of(place: int, rule: Rule) -> list[str]:
    """The line of the table as the code has it: the first paragraph of a check's docstring is what it compares."""
    what = " ".join((rule.check.__doc__ or "").split("\n\n")[0].split())
    names = " ".join(f"`{name}`" for name in rule.refusals)
    return [str(place), names, what, *("×" if each in rule.whose else "" for each in Whose)]


def test_the_page_has_the_checks_of_the_gate_in_their_order() -> None:
    told = [row for row in ROWS if row[0].isdigit()]
    assert told == [row_of(place, rule) for place, rule in enumerate(RULES, 1)]
    header = next(row for row in ROWS if "refusal" in row)
    assert header[3:] == list(Whose)


@pytest.mark.parametrize("state", TradingState)
def test_the_page_tells_what_passes_in_each_state(state: TradingState) -> None:
    row = next(row for row in ROWS if row[0] == f"`{state}`")
    scenes = (ENTRY, ENTRY.by_hand(), EXIT, EXIT.by_hand())
    assert [cell == "×" for cell in row[2:]] == [scene.amid(state=state).verdict().allowed for scene in scenes]
    assert PROTECTION.amid(state=state).verdict().allowed
