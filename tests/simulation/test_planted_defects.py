"""Planted defects: each is noticed, and by the oracle whose business it is. A check that cannot fail proves nothing."""

from __future__ import annotations

import pytest

from tests.simulation.defects import PLANTED, planted
from tests.simulation.running import Outcome, play

SEEDS = 150


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_caught(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, patches, invariants = PLANTED[defect]
    planted(patches, monkeypatch.setattr)
    caught: Outcome | None = None
    for seed in range(SEEDS):
        found = play(seed, defects=parts)
        if found.violations:
            caught = found
            break
    assert caught is not None, f"{defect} was not noticed in {SEEDS} seeds"
    noticed_by = {text.split(" ")[0] for text in caught.violations}
    assert noticed_by & invariants, caught.violations
