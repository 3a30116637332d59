"""The venue's stream of trade updates on its way to the process that listens: late, twice, out of order, not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qbot.types import BrokerOrder, Fill
from tests.simulation import crew
from tests.simulation.kernel import Run
from tests.simulation.venue import Order

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation


class Stream:
    """`faults`: what is wrong with it, and until when."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.faults: dict[str, int] = {}
        self.queue: list[tuple[BrokerOrder, Fill | None]] = []
        self.run: Run | None = None

    def event(self, name: str, order: Order, fill: Fill | None) -> None:
        """What the venue tells on its stream."""
        if self.sim.humans.race and name == "partial_fill":
            self.sim.humans.cancel_soon(order)
        told, now, rng = self.sim.venue.told_alone(order), self.sim.kernel.now, self.sim.kernel.rng
        delay_s = 0.01 + 0.2 * rng.random()
        for kind, until in list(self.faults.items()):
            if until < now:
                del self.faults[kind]
                continue
            if kind == "stream gap":
                if rng.random() < 0.5:
                    continue
                self.sim.strikes[kind] += 1
                return
            self.sim.strikes[kind] += 1
            if kind == "stream silent":
                return
            if kind == "stream duplicate":
                self.sim.kernel.after(delay_s + 3 * rng.random(), lambda: self._deliver(told, fill))
            else:
                delay_s += 20 * rng.random()
        self.sim.kernel.after(delay_s, lambda: self._deliver(told, fill))

    def _deliver(self, order: BrokerOrder, fill: Fill | None) -> None:
        self.queue.append((order, fill))
        self.pump()

    def pump(self) -> None:
        if self.queue and self.run is None:
            self.run = self.sim.task("stream", crew.listen(self.sim, self.queue), host=self.sim.hosts[0])
