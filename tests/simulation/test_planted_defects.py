"""Planted defects: each is noticed, and by the oracle whose business it is. A check that cannot fail proves nothing."""

from __future__ import annotations

import pytest

from tests.simulation.defects import PLANTED, planted
from tests.simulation.running import Outcome, play

SEEDS = 150
# Seeds that have caught what takes long to meet; tried first, and all others when they no longer do.
RARE = {"drop the lock": 102, "give up by the wall's clock alone": 29}


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_caught(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, patches, invariants = PLANTED[defect]
    planted(patches, monkeypatch.setattr)
    caught: Outcome | None = None
    for seed in sorted(range(SEEDS), key=lambda seed: seed != RARE.get(defect)):
        found = play(seed, defects=parts)
        if found.violations:
            caught = found
            break
    assert caught is not None, f"{defect} was not noticed in {SEEDS} seeds"
    noticed_by = {text.split(" ")[0] for text in caught.violations}
    assert noticed_by & invariants, caught.violations
