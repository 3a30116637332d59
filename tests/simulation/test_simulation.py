"""Ten thousand trading days with faults: what must always be true is. And the same seed is the same course of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from qbot.settings import ROOT
from tests.simulation import faults
from tests.simulation.running import Total, play, total, trace

DAYS = int(os.environ.get("SIMULATED_DAYS", "10000"))
SPARE = 0.01  # so many more are played, for those on which too little happens
SEED = 1
# What a process is doing when it is killed or frozen: every point at which it waits for somebody.
POINTS = {
    "begin", "lock", "commit", "committed", "look", "answer", "POST order", "POST answer", "DELETE order",
    "GET account", "GET positions", "GET open orders", "GET orders", "GET order", "GET fills",
}  # fmt: skip


@pytest.fixture(scope="module")
def many_days() -> Total:
    """The days, played once for all tests."""
    return total(round(DAYS * (1 + SPARE)), SEED, min(2, os.cpu_count() or 1))


@pytest.mark.timeout(1_800)
def test_nothing_that_must_always_be_true_is_ever_not(many_days: Total) -> None:
    assert many_days.violations == []
    assert many_days.days >= DAYS


def test_every_day_has_its_cycles_its_orders_and_its_faults(many_days: Total) -> None:
    assert len(many_days.short) <= SPARE * DAYS
    assert many_days.cycles >= 39 * DAYS


@pytest.mark.parametrize("fault", [*faults.HERE, *faults.BY_THE_CALENDAR])
def test_every_fault_struck(many_days: Total, fault: str) -> None:
    assert many_days.struck[fault] > 0


@pytest.mark.parametrize("fault", faults.HERE)
def test_the_kill_switch_was_pressed_under_every_fault(many_days: Total, fault: str) -> None:
    assert many_days.stops_during[fault] > 0


@pytest.mark.parametrize("fate", ["kill", "freeze"])
def test_processes_were_killed_and_frozen_wherever_they_can_be(many_days: Total, fate: str) -> None:
    assert {point for point in POINTS if not many_days.points[f"{fate} {point}"]} == set()


def test_protection_was_lost_and_put_back(many_days: Total) -> None:
    assert many_days.restored > 0


@pytest.mark.parametrize("fault", faults.ELSEWHERE)
def test_what_cannot_be_simulated_is_proven_by_a_test_that_exists(fault: str) -> None:
    path, name = faults.ELSEWHERE[fault].split("::")
    assert re.search(rf"^(async )?def {name}\b", (ROOT / path).read_text(), re.MULTILINE)


def test_the_same_seed_is_the_same_course_of_things_to_the_last_step() -> None:
    (first, told), (second, again) = trace(7, 2), trace(7, 2)
    assert told == again
    assert len(told) > 1_000
    assert first.kernel.now == second.kernel.now


def test_a_replay_is_what_was_played() -> None:
    from tests.simulation.running import fingerprint

    assert fingerprint(trace(11, 2)[0]) == play(11, 2).fingerprint


def test_another_seed_is_another_course_of_things() -> None:
    assert play(11, 1).fingerprint != play(12, 1).fingerprint


def test_the_hash_seed_of_a_process_does_not_matter() -> None:
    code = "from tests.simulation.running import play; print(play(13, 2).fingerprint)"

    def told(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert told("1") == told("2") != ""
