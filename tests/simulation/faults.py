"""Every fault of the table in docs/simulation.md: how it is brought about here, or which test proves it elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation import broker, crew
from tests.simulation.broker import Trouble
from tests.simulation.kernel import SECOND

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

ORDER_TASKS = frozenset({"cycle", "manual"})
POST = frozenset({"POST order"})


@dataclass(frozen=True, slots=True)
class Fate:
    """What shall befall the next process that does one of `tasks`: at the point `aim`, or anywhere."""

    fault: str
    kind: str
    tasks: frozenset[str]
    aim: str = ""


def _fate(fault: str, kind: str, aim: str, sim: Simulation) -> None:
    tasks = ORDER_TASKS if aim else frozenset({"cycle", "manual", "reconcile", "stream", "stop", "finish", "start"})
    sim.fates.append(Fate(fault, kind, tasks, aim))


def _wire(kind: str, sim: Simulation) -> None:
    rng, now = sim.kernel.rng, sim.kernel.now
    if kind in (broker.LOST_ANSWER, broker.LATE):
        sim.wire.troubles.append(Trouble(kind, now + 3 * 3600 * SECOND, 1.0, POST, 1 + int(rng.random() * 3)))
        if rng.random() < 0.3:
            sim.wire.troubles.append(Trouble(kind, now + 120 * SECOND, 3.0))
        return
    kinds = POST if rng.random() < 0.3 else frozenset()
    length_s = 20 + 400 * rng.random() if not kinds else 3_600
    sim.wire.troubles.append(Trouble(kind, now + int(length_s * SECOND), 1 + 3 * rng.random(), kinds))


def _twice(sim: Simulation) -> None:
    sim.twice += 1


def _two_beats(sim: Simulation) -> None:
    length_s = 1800 + 7200 * sim.kernel.random()
    sim.two_beats_until = sim.kernel.now + int(length_s * SECOND)
    if sim.kernel.random() < 0.7:
        _store_slow(sim, length_s)


def _flushall(sim: Simulation) -> None:
    sim.strikes["Redis FLUSHALL or restart"] += 1
    sim.task("stop", crew.stop(sim, "the board was lost"))
    sim.humans.restart_later()


def _board_full(sim: Simulation) -> None:
    sim.board_down_until = sim.kernel.now + int((300 + 900 * sim.kernel.random()) * SECOND)


def _mid_commit(sim: Simulation) -> None:
    sim.kernel.after(600 * sim.kernel.random(), partial(_kill_commits, sim))


def _kill_commits(sim: Simulation) -> None:
    sim.store.mid_commit += 1 + int(sim.kernel.random() * 3)


def _store_gone(sim: Simulation) -> None:
    sim.store.down = True

    def back() -> None:
        sim.store.down = False

    sim.kernel.after(30 + 500 * sim.kernel.random(), back)


def _store_slow(sim: Simulation, length_s: float = 1_200.0) -> None:
    sim.store.latency_us = int(50_000 + 500_000 * sim.kernel.random())
    sim.strikes["Postgres slow"] += 1

    def back() -> None:
        sim.store.latency_us = 1_000

    sim.kernel.after(length_s, back)


def _fills_late(sim: Simulation) -> None:
    sim.wire.fills_hidden_s = 60 + 1800 * sim.kernel.random()
    length_s = 1200 + 2400 * sim.kernel.random()
    sim.kernel.after(5, sim.humans.order_by_hand)
    sim.stream.faults["stream silent"] = sim.kernel.now + int(length_s * SECOND)
    sim.strikes["fills late over REST"] += 1

    def back() -> None:
        sim.wire.fills_hidden_s = 0.0

    sim.kernel.after(length_s, back)


def _stream(kind: str, sim: Simulation) -> None:
    sim.stream.faults[kind] = sim.kernel.now + int((600 + 3600 * sim.kernel.random()) * SECOND)
    if sim.kernel.random() < 0.5:
        _by_hand(sim)


def _cancel_race(sim: Simulation) -> None:
    sim.humans.race += 1


def _stuck(sim: Simulation) -> None:
    sim.venue.cancels_stick = True
    sim.kernel.after(60 + 900 * sim.kernel.random(), sim.humans.cancels_go_on)


def _by_hand(sim: Simulation) -> None:
    for number in range(1 + int(sim.kernel.random() * 4)):
        sim.kernel.after(number * 300 * sim.kernel.random(), sim.humans.order_by_hand)


def _replaced(sim: Simulation) -> None:
    sim.humans.replace_by_hand()


def _prices(name: str, sim: Simulation) -> None:
    sim.feed.start(name, 900 + 2400 * sim.kernel.random())


def _gap(sim: Simulation) -> None:
    sim.strikes["price gap"] += 1
    sim.feed.walk(gap=0.08 if sim.kernel.random() < 0.4 else -0.5)


def _clock(sim: Simulation) -> None:
    rng = sim.kernel.rng
    host = rng.choice(sim.hosts)
    size_s = rng.choice((2, 15, 60, 90, 300, 1200)) * (1 if rng.random() < 0.5 else -1)
    host.skew += size_s * SECOND
    sim.strikes["clock jump"] += 1
    sim.kernel.note(f"the clock of {host.name} jumps by {size_s} s")

    def back() -> None:
        host.skew -= size_s * SECOND

    sim.kernel.after(300 + 3000 * rng.random(), back)


def _restart(sim: Simulation) -> None:
    """A machine is gone with all that runs on it, and comes back."""
    host = sim.kernel.rng.choice(sim.hosts)
    sim.strikes["machine restarted"] += 1
    for run in [run for run in sim.running if run.host is host and run.thread]:
        run.kill()
    host.restart(sim.kernel.now)


def _halt(sim: Simulation) -> None:
    symbol = sim.kernel.rng.choice(list(sim.venue.price_c))
    sim.venue.halted.add(symbol)
    sim.strikes["halted symbol"] += 1
    sim.kernel.after(300 + 3600 * sim.kernel.random(), lambda: sim.venue.halted.discard(symbol))


def _runaway(sim: Simulation) -> None:
    sim.strikes["runaway strategy"] += 1
    sim.feed.runaway_until = sim.kernel.now + 3600 * SECOND
    if sim.kernel.random() < 0.5:
        _store_slow(sim)
    sim.feed.predict()
    for number in range(12):
        sim.task("cycle", crew.cycle(sim), delay_s=number * 7 * sim.kernel.random())


def _keys_swapped(sim: Simulation) -> None:
    length = int((600 + 1800 * sim.kernel.random()) * SECOND)
    if sim.kernel.random() < 0.5:
        sim.swapped_until = sim.kernel.now + length  # they are noticed at once
    else:
        sim.wire.swapped_until = sim.kernel.now + length


Arm = Callable[["Simulation"], None]
# By the words of the list of faults; what follows it are faults that the other lessons tell of.
HERE: dict[str, Arm] = {
    "worker killed before send": partial(_fate, "worker killed before send", "kill", "POST order"),
    "worker killed after send": partial(_fate, "worker killed after send", "kill", "POST answer"),
    broker.LOST_ANSWER: partial(_wire, broker.LOST_ANSWER),
    broker.LATE: partial(_wire, broker.LATE),
    broker.STORM: partial(_wire, broker.STORM),
    "same task twice at once": _twice,
    "two beats": _two_beats,
    "Redis FLUSHALL or restart": _flushall,
    "Redis full or gone": _board_full,
    "Postgres killed mid-commit": _mid_commit,
    "Postgres gone for minutes": _store_gone,
    "stream gap": partial(_stream, "stream gap"),
    "stream duplicate": partial(_stream, "stream duplicate"),
    "stream out of order": partial(_stream, "stream out of order"),
    "partial fill then cancel race": _cancel_race,
    "replace, then rejected": _replaced,
    "order by hand at the broker": _by_hand,
    "stale prices": partial(_prices, "stale prices"),
    "frozen prices": partial(_prices, "frozen prices"),
    "NaN prices": partial(_prices, "NaN prices"),
    "split-unadjusted prices": partial(_prices, "split-unadjusted prices"),
    "clock jump": _clock,
    "machine restarted": _restart,
    "halted symbol": _halt,
    "runaway strategy": _runaway,
    "model file missing": partial(_prices, "model file missing"),
    "model file corrupt": partial(_prices, "model file corrupt"),
    "paper and live keys swapped": _keys_swapped,
    broker.UNREACHABLE: partial(_wire, broker.UNREACHABLE),
    broker.TIMEOUT_BEFORE: partial(_wire, broker.TIMEOUT_BEFORE),
    broker.SLOW: partial(_wire, broker.SLOW),
    "process killed anywhere": partial(_fate, "process killed anywhere", "kill", ""),
    "process frozen anywhere": partial(_fate, "process frozen anywhere", "freeze", ""),
    "worker frozen before send": partial(_fate, "worker frozen before send", "freeze", "POST order"),
    "cancels stick": _stuck,
    "Postgres slow": _store_slow,
    "stream silent": partial(_stream, "stream silent"),
    "fills late over REST": _fills_late,
    "provider gone": partial(_prices, "provider gone"),
    "price gap": _gap,
}
# Days bring these by themselves.
BY_THE_CALENDAR = ("DST", "half day", "restart overnight")
# What cannot be in a simulation of one process, and the test that proves it.
ELSEWHERE = {
    "Redis full": "tests/contract/test_board.py::test_after_a_write_that_a_full_redis_refused_a_frontends_own_is_not_"
    "taken_for_qbots",
    "half-deployed version": "tests/test_manual_orders.py::test_an_order_that_another_version_recorded_differently_is_"
    "told_and_not_sent",
    "restore of an old backup": "tests/test_control.py::test_a_start_that_reappears_with_an_old_backup_of_redis_"
    "starts_nothing",
    "corrupt or missing model file": "tests/test_pipeline.py::test_a_corrupt_artifact_gives_no_forecasts_and_no_error",
    "paper and live keys swapped": "tests/test_account.py::test_of_another_account_nothing_is_taken_over_and_nothing_"
    "is_entered",
}
