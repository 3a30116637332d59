"""What the days found wrong, each as small as it can be told."""

from __future__ import annotations

from typing import Any

import pytest

from qbot import protecting
from qbot.errors import BrokerError
from tests.simulation import crew
from tests.simulation.simulation import Simulation


def failing(*_args: Any, **_more: Any) -> Any:
    raise BrokerError("the broker went away")


@pytest.mark.parametrize("task", [crew.cycle, crew.reconcile])
def test_a_human_hears_of_a_drift_before_protection_is_looked_after(task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take as long as the broker does, or fail."""
    simulation = Simulation(1, 1)
    simulation.wire.fills_hidden_s = 3_600
    simulation.venue.is_open = True
    simulation.venue.on_event = lambda *_event: None
    simulation.venue.by_hand("AAPL", "buy", 1, "by hand")
    simulation.kernel.run(simulation.kernel.now + 5_000_000)
    monkeypatch.setattr(protecting, "protect", failing)
    simulation.task("cycle", task(simulation))
    simulation.kernel.run(simulation.kernel.now + 5_000_000)
    assert simulation.drifts == 1
    assert simulation.errors == {"BrokerError": 1}
