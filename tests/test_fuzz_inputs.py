"""Bad values under every key a frontend may write, thousands by `make fuzz`: nothing trades, the last good holds, it is
told.

Every value is judged by the contract's own words: what `Key.reading` calls good, and chance makes some so, has to be
followed; of all others nothing may come but a report.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from qbot import emergency, pipeline
from qbot.contract import keys
from qbot.contract.key import Key, Reading
from qbot.contract.payloads_autotrading import AutotradingStatus, BackendStatus
from qbot.contract.payloads_extra import MalformedElement
from qbot.contract.payloads_orders import EmergencyKind, MalformedOrder, ManualOrder, ManualOrderStatus
from qbot.session import FRONTEND_SOURCE
from qbot.store import state
from qbot.store.engine import transaction
from tests.support.bad_values import (
    BAD_LEAVES,
    INPUTS,
    Bad,
    broken_fields,
    leaves,
    never_good,
    paths,
    random_bad,
    structural,
)
from tests.support.fuzzed import DOCUMENTS, SETTINGS_KEYS, STOPS_ENTRIES, Fuzzed, Holding
from tests.support.runtime import World


@dataclass(frozen=True)
class Effort:
    """How much is tried, and what must at least have been bad of it: of each key, of each of its fields."""

    one_in: int  # of the grid of fields and what is wrong in them
    whole_one_in: int  # of what is wrong as a whole: others under the next key, so that no value is left out
    off_one_in: int  # of these, while all is off
    bad_in_a_row: int  # after one good value
    by_chance: int
    samples: int  # of the bad values of a key, for what takes longer
    bad_as_a_whole: int
    bad_a_field: int
    bad_by_chance: int
    bad_in_all: int


WHOLE = Effort(1, 1, 1, 1, 50, 5, bad_as_a_whole=100, bad_a_field=12, bad_by_chance=25, bad_in_all=3_000)
SOME = Effort(20, 12, 3, 3, 4, 1, bad_as_a_whole=6, bad_a_field=1, bad_by_chance=1, bad_in_all=200)
EFFORT = WHOLE if os.environ.get("QBOT_FUZZ") == "whole" else SOME  # `make fuzz`, `make test`
RANDOM = settings(max_examples=EFFORT.by_chance, suppress_health_check=list(HealthCheck))
PENDING = ManualOrderStatus.PENDING

STARTERS = {key.name for key in (keys.AUTOTRADING_ENABLED, keys.TRADING_SETTINGS, keys.AUTOTRADING_STATUS)}
every_input = pytest.mark.parametrize("key", INPUTS, ids=lambda key: key.name)
every_input_and_state = pytest.mark.parametrize(
    ("key", "on"),
    [(key, on) for key in INPUTS for on in (True, False) if on or key.name in STARTERS],
    ids=lambda part: getattr(part, "name", {True: "on", False: "off"}.get(part)),
)


def strict_fields(key: Key[Any]) -> int:
    """Fields whose nonsense makes a value bad. Of an emergency only what decides: a stop must not fail for its form."""
    return 2 if key.name == keys.EMERGENCY_ACTIONS.name else len(paths(key.name))


def judge(fuzzed: Fuzzed, value: Bad) -> bool:
    """A good value, the one to judge, and a look at what came of it. True when it was a bad one."""
    before = fuzzed.well(EFFORT.bad_in_a_row)
    reading = fuzzed.bad(value)
    items = reading.value if isinstance(reading.value, tuple) else ()
    assert reading.problem or not never_good(fuzzed.key, value)
    if reading.problem is None:
        fuzzed.bad_since_good = EFFORT.bad_in_a_row  # whatever it did has to be undone
        _followed(fuzzed, reading, before)
        return any(isinstance(item, MalformedOrder | MalformedElement) for item in items)
    assert fuzzed.holding() == before
    _told(fuzzed, reading)
    return True


def _told(fuzzed: Fuzzed, reading: Reading[Any]) -> None:
    """An alert names the problem; that of an emergency is critical; a settings key makes entries wait."""
    name, problem = fuzzed.key.name, str(reading.problem)
    alerts = fuzzed.alerts(problem)
    assert alerts, f"no alert about {problem}"
    assert name != keys.EMERGENCY_ACTIONS.name or "CRITICAL" in alerts
    assert emergency.pending(fuzzed.world.rt) is (name == keys.EMERGENCY_ACTIONS.name)
    assert (fuzzed.settings.invalid is not None) is (name in SETTINGS_KEYS)
    assert name not in SETTINGS_KEYS or f"{name}: {problem}" in str(fuzzed.settings.invalid)


def _followed(fuzzed: Fuzzed, reading: Reading[Any], before: Holding) -> None:
    """What a good value has to do, and nothing beyond it."""
    now, value, name = fuzzed.holding(), reading.value, fuzzed.key.name
    assert fuzzed.settings.invalid is None and not emergency.pending(fuzzed.world.rt)
    wanted_on, latched = before.on, False
    due = value.action if fuzzed.due else None
    if name == keys.AUTOTRADING_ENABLED.name and (value.enabled is False or value.source == FRONTEND_SOURCE):
        wanted_on = wanted_on if value.enabled is None else value.enabled
    if name == keys.TRADING_SETTINGS.name and value.enabled is not None:
        wanted_on = value.enabled
    if name == keys.AUTOTRADING_STATUS.name:
        wanted_on = wanted_on and value is AutotradingStatus.ACTIVE
    if name == keys.RISK_SETTINGS.name:
        latched = bool(value.emergency_stop_active)
    if due is not None:
        latched = due is not EmergencyKind.CANCEL_ALL_ORDERS
    assert (now.on, now.latched) == (wanted_on and not latched, latched)
    if name in DOCUMENTS:
        with transaction(fuzzed.world.engine) as connection:
            stored = state.newest_settings(connection)["documents"][DOCUMENTS[name]]
        given = value.model_dump(mode="json", exclude_unset=True)
        assert {part: stored[part] for part in given} == given or name == keys.AUTOTRADING_ENABLED.name
    orders = [item for item in value if isinstance(item, ManualOrder)] if name == keys.MANUAL_ORDERS.name else []
    assert now.asked_of_the_venue[0] - before.asked_of_the_venue[0] <= sum(order.status is PENDING for order in orders)
    if name == keys.MANUAL_ORDERS.name:
        _settled(fuzzed)
    if wanted_on == before.on and not latched and due is None:
        assert now.asked_of_the_venue[1:] == before.asked_of_the_venue[1:]


def _settled(fuzzed: Fuzzed) -> None:
    """Every element that can say so has a status; one that is no order says REJECTED and why."""
    for item in fuzzed.world.rt.board.read(keys.MANUAL_ORDERS).value or ():
        if isinstance(item, ManualOrder):
            assert item.status is not PENDING
        elif isinstance(item.raw, dict):
            assert item.raw["status"] == "REJECTED" and item.raw["status_reason"]


# --- every bad value there is a list of -------------------------------------------------------------------------------


def share(key: Key[Any], one_in: int) -> Iterator[tuple[int, Bad]]:
    """What of the values that are wrong as a whole is tried under this key, with its place among them."""
    return itertools.islice(enumerate(structural(key)), INPUTS.index(key) % one_in, None, one_in)


def test_whatever_is_left_out_under_one_key_is_tried_under_another() -> None:
    tried = {place for key in INPUTS for place, _value in share(key, EFFORT.whole_one_in)}
    assert tried == {place for key in INPUTS for place, _value in enumerate(structural(key))}
    shares = [ways for key in INPUTS for _path, ways in leaves(key, EFFORT.one_in)]
    assert all(shares)
    assert {leaf for ways in shares for leaf in ways} == set(BAD_LEAVES)


@every_input_and_state
def test_whatever_is_wrong_as_a_whole_changes_nothing_and_is_told(world: World, key: Key[Any], on: bool) -> None:
    fuzzed, one_in = Fuzzed(world, key, on), 1 if on else EFFORT.off_one_in
    found = sum(judge(fuzzed, value) for _place, value in share(key, EFFORT.whole_one_in * one_in))
    assert found >= EFFORT.bad_as_a_whole // one_in


@every_input
def test_whatever_is_wrong_in_one_field_changes_nothing_and_is_told(world: World, key: Key[Any]) -> None:
    fuzzed = Fuzzed(world, key, on=True)
    found = sum(judge(fuzzed, value) for value in broken_fields(key, fuzzed.dangerous, EFFORT.one_in))
    assert found >= EFFORT.bad_a_field * strict_fields(key)


@every_input_and_state
def test_whatever_chance_writes_changes_nothing_and_is_told(world: World, key: Key[Any], on: bool) -> None:
    fuzzed = Fuzzed(world, key, on)
    seen: set[Bad] = set()

    @RANDOM
    @given(random_bad(key, fuzzed.dangerous))
    def tried(value: Bad) -> None:
        if judge(fuzzed, value):
            seen.add(value)

    tried()
    assert len(seen) >= EFFORT.bad_by_chance


@pytest.mark.parametrize("effort", [WHOLE, SOME], ids=["thousands", "hundreds"])
def test_these_are_many(effort: Effort) -> None:
    fields = sum(strict_fields(key) for key in INPUTS)
    of_a_key = effort.bad_as_a_whole + effort.bad_by_chance
    assert len(INPUTS) * of_a_key + fields * effort.bad_a_field > effort.bad_in_all


# --- whole tasks ------------------------------------------------------------------------------------------------------


def samples(fuzzed: Fuzzed) -> list[Bad]:
    """Of the values that the contract calls bad some from everywhere in the list, under each key others."""
    every = [*structural(fuzzed.key), *broken_fields(fuzzed.key, fuzzed.dangerous)]
    step = len(every) // EFFORT.samples
    first = step * INPUTS.index(fuzzed.key) // len(INPUTS)
    bad = (
        next(one for one in every[at:] + every if one.redis_type != "string" or fuzzed.key.reading(one.raw).problem)
        for at in range(first, len(every), step)
    )
    return list(itertools.islice(bad, EFFORT.samples))


def everything(world: World) -> None:
    """One tick of every task that reads what frontends write."""
    world.wall.advance(seconds=1)
    world.market.advance(seconds=1)
    pipeline.emergency_handler(world.rt)
    pipeline.process_manual_orders(world.rt)
    pipeline.trade_bot(world.rt)
    pipeline.sync_frontend_settings(world.rt)
    pipeline.monitor_autotrading_frontend(world.rt)
    pipeline.update_backend_responses(world.rt)
    pipeline.system_heartbeat(world.rt)


def shown(world: World) -> tuple[BackendStatus, str | None]:
    return world.told(keys.AUTOTRADING_BACKEND_STATUS), world.told(keys.AUTOTRADING_ERROR)


@every_input_and_state
def test_every_task_goes_on_and_frontends_are_told_until_a_good_value_comes(
    world: World, key: Key[Any], on: bool
) -> None:
    fuzzed = Fuzzed(world, key, on)
    well = BackendStatus.RUNNING if on else BackendStatus.STOPPED
    for value in samples(fuzzed):
        before = fuzzed.good()
        problem = fuzzed.bad(value).problem
        everything(world)
        assert fuzzed.holding() == before
        status, error = shown(world)
        assert status is (BackendStatus.CONFIG_ERROR if key.name in STOPS_ENTRIES else well)
        assert problem and error and f"{key.name}: {problem}" in error
        assert any(problem in alert.message for alert in world.told(keys.ALERTS_ACTIVE))
        fuzzed.good()
        everything(world)
        assert shown(world) == (well, None)


@every_input
def test_a_forecast_is_traded_only_when_nothing_that_decides_is_bad(world: World, key: Key[Any]) -> None:
    fuzzed = Fuzzed(world, key, on=True)
    bad = samples(fuzzed)
    for value in bad if key.name in STOPS_ENTRIES else bad[:1]:
        before = fuzzed.good()
        world.believe("SPY", 0.01)
        fuzzed.bad(value)
        everything(world)
        if key.name in STOPS_ENTRIES:
            assert fuzzed.holding() == before
    if key.name in STOPS_ENTRIES:
        fuzzed.good()
        everything(world)
    assert [order["symbol"] for order in world.sent() if order["symbol"] == "SPY"] == ["SPY"]


@every_input
def test_whatever_stands_under_one_key_a_stop_by_another_works(world: World, key: Key[Any]) -> None:
    fuzzed = Fuzzed(world, key, on=True)
    other = keys.AUTOTRADING_STATUS if key.name == keys.AUTOTRADING_ENABLED.name else keys.AUTOTRADING_ENABLED
    for value in samples(fuzzed)[:: max(1, EFFORT.samples // 3)]:
        fuzzed.good()
        fuzzed.bad(value)
        if other is keys.AUTOTRADING_STATUS:
            world.say(other, "STOPPED")
        else:
            world.redis.delete(other.name)
        pipeline.emergency_handler(world.rt)
        assert not fuzzed.switch().on
        assert [order["symbol"] for order in world.resting("buy")] == ["MSFT"]  # the human's own
