"""Many seeds on several processes: what they came to, added up."""

from __future__ import annotations

import gc
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

import structlog

from tests.simulation.kernel import moment
from tests.simulation.simulation import FAULTS_A_DAY, ORDERS_A_DAY, Day, Defects, Simulation

DAYS_A_SEED = 5
SEEDS_A_BATCH = 20


@dataclass(slots=True)
class Outcome:
    """One seed."""

    seed: int
    days: list[Day]
    violations: list[str]
    struck: Counter[str]
    stops_during: Counter[str]
    points: Counter[str]
    errors: Counter[str]
    fingerprint: str
    restored: int = 0


@dataclass(slots=True)
class Total:
    """All seeds of a run."""

    seeds: int = 0
    days: int = 0
    cycles: int = 0
    orders: int = 0
    faults: int = 0
    restored: int = 0
    short: list[str] = field(default_factory=list)  # days with less than is promised of them; they do not count
    violations: list[tuple[int, str]] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    stops_during: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, one: Outcome) -> None:
        """Count a seed in."""
        self.seeds += 1
        self.violations += [(one.seed, text) for text in one.violations[:1]]
        for number, day in enumerate(one.days):
            over = number < len(one.days) - 1 or not one.violations
            if over and (day.orders < ORDERS_A_DAY or day.faults < FAULTS_A_DAY or day.cycles < 39):
                self.short.append(f"seed {one.seed}: {day}")
                continue
            self.days += 1
            self.cycles += day.cycles
            self.orders += day.orders
            self.faults += day.faults
        self.restored += one.restored
        self.struck += one.struck
        self.stops_during += one.stops_during
        self.points += one.points
        self.errors += one.errors


def quiet_logs() -> None:
    """Nothing is logged: a day would write a thousand lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def play(seed: int, days: int = DAYS_A_SEED, *, defects: Defects | None = None) -> Outcome:
    """One seed."""
    quiet_logs()
    simulation = Simulation(seed, days, defects=defects)
    simulation.play()
    return outcome(simulation)


def outcome(simulation: Simulation) -> Outcome:
    """What a simulation came to."""
    return Outcome(
        simulation.seed, simulation.days, [str(one) for one in simulation.violations], simulation.struck(),
        simulation.stops_during, simulation.kernel.struck, simulation.errors, fingerprint(simulation),
        simulation.restored,
    )  # fmt: skip


def fingerprint(simulation: Simulation) -> str:
    """The same for the same course of things: of every order, fill and intent, and of the last moment."""
    venue, told = simulation.venue, hashlib.sha256()
    for order in venue.orders.values():
        told.update(f"{order.id} {order.client_order_id} {order.status} {order.filled} {order.updated}\n".encode())
    for fill in venue.fills:
        told.update(f"{fill.execution_id} {fill.price_usd} {fill.at}\n".encode())
    for key, row in sorted(simulation.store.tables["intents"].items()):
        told.update(f"{key} {row['status']} {row['created_at_wall']}\n".encode())
    told.update(f"{simulation.kernel.now} {simulation.kernel.points}".encode())
    return told.hexdigest()


def _batch(first: int, count: int, days: int) -> list[Outcome]:
    gc.disable()  # what a seed leaves is dropped with it, and few of its objects point at each other
    found = [play(seed, days) for seed in range(first, first + count)]
    gc.collect()
    return found


def run(days: int, seed: int, processes: int = 2, days_a_seed: int = DAYS_A_SEED) -> Iterator[Outcome]:
    """All seeds from `seed` on that make up `days`, as they end."""
    seeds = -(-days // days_a_seed)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        begins = range(seed, seed + seeds, SEEDS_A_BATCH)
        batches = [pool.submit(_batch, at, min(SEEDS_A_BATCH, seed + seeds - at), days_a_seed) for at in begins]
        for done in as_completed(batches):
            yield from done.result()


def total(days: int, seed: int, processes: int = 2) -> Total:
    """The sum over `run`."""
    found = Total()
    for one in run(days, seed, processes):
        found.add(one)
    return found


def trace(seed: int, days: int = DAYS_A_SEED, *, defects: Defects | None = None) -> tuple[Simulation, list[str]]:
    """One seed again, with every step told: time, process, point or fault."""
    quiet_logs()
    simulation = Simulation(seed, days, traced=True, defects=defects)
    simulation.play()
    lines = [f"{moment(at):%Y-%m-%d %H:%M:%S.%f} {who:<10} {what}" for at, who, what in simulation.kernel.trace or ()]
    return simulation, lines
