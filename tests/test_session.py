"""The switch: only a frontend's new write starts trading; every stop, latch and deletion ends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qbot import session
from qbot.session import AWAITED, FRONTEND_SOURCE, SETTINGS_SESSION, Event, Inputs, Observed, Switch, awaiting, step

GONE = Observed()
INVALID = Observed("not-json")


def started(session_id: str | None = "s1", mark: str = "1", source: str | None = FRONTEND_SOURCE) -> Observed:
    """`autotrading:enabled` as a frontend writes it; `mark` stands for its timestamp."""
    return Observed(f"on-{session_id}-{source}-{mark}", True, session_id, source)


def settings_doc(on: bool | None, mark: str = "1") -> Observed:
    return Observed(f"settings-{on}-{mark}", on)


def risk_doc(stop: bool | None, mark: str = "1") -> Observed:
    return Observed(f"risk-{stop}-{mark}", stop)


ACTIVE, STOPPED = Observed("ACTIVE", True), Observed("STOPPED", False)
OFF, _ = step(Switch(), Inputs())
ON, _ = step(OFF, Inputs(enabled=started(), status=ACTIVE))
RUNNING = Inputs(enabled=started(), status=ACTIVE)


def test_a_new_installation_is_off() -> None:
    assert (Switch().on, Switch().latched, OFF.on, OFF.latched) == (False, False, False, False)


@pytest.mark.parametrize("inputs", [RUNNING, Inputs(settings=settings_doc(True))])
def test_the_first_look_never_starts_and_neither_does_the_same_value_later(inputs: Inputs) -> None:
    switch, events = step(Switch(), inputs)
    assert (switch.on, events) == (False, [])
    for _ in range(3):
        switch, events = step(switch, inputs)
        assert (switch.on, events, switch.epoch) == (False, [], 0)


def test_the_first_look_takes_over_an_emergency_stop_and_keeps_one_that_is_recorded() -> None:
    taken, events = step(Switch(), Inputs(risk=risk_doc(True)))
    assert (taken.latched, events) == (True, [])
    recorded = session.latch(Switch(), "CLOSE_ALL_POSITIONS")
    for risk in (GONE, risk_doc(False), INVALID):
        kept, _ = step(recorded, Inputs(risk=risk))
        assert (kept.latched, kept.reason) == (True, "CLOSE_ALL_POSITIONS")
    assert step(replace(recorded, on=True), RUNNING)[0].on is False


def test_a_frontends_write_starts_a_session() -> None:
    switch, events = step(OFF, RUNNING)
    assert (switch.on, switch.session_id, events, switch.epoch) == (True, "s1", [Event.STARTED], OFF.epoch + 1)
    again, events = step(switch, RUNNING)
    assert (again, events) == (switch, [])


@pytest.mark.parametrize(
    "enabled",
    [
        started(source=None), started(source="backend"), started(source="FRONTEND_UI"), INVALID,
        Observed("partial", None, "s1", FRONTEND_SOURCE), Observed("off", False, "s1", FRONTEND_SOURCE),
    ],
)  # fmt: skip
def test_nothing_but_an_explicit_on_of_a_frontend_starts(enabled: Observed) -> None:
    assert step(OFF, Inputs(enabled=enabled, status=ACTIVE)) == (
        replace(OFF, seen=Inputs(enabled, status=ACTIVE).fingerprints()),
        [],
    )


def test_the_older_switch_starts_a_session_without_a_name() -> None:
    switch, events = step(OFF, Inputs(settings=settings_doc(True)))
    assert (switch.on, switch.session_id, events) == (True, SETTINGS_SESSION, [Event.STARTED])


def test_settings_saved_while_a_session_trades_leave_it_as_it_is() -> None:
    switch, events = step(ON, replace(RUNNING, settings=settings_doc(True)))
    assert (switch.on, switch.session_id, events, switch.epoch) == (True, "s1", [], ON.epoch)


def settled(switch: Switch) -> Switch:
    """Once the entries are cancelled."""
    return replace(switch, stopping=False)


def test_a_new_session_ends_the_old_one_first_and_starts_once_its_entries_are_cancelled() -> None:
    inputs = replace(RUNNING, enabled=started("s2"))
    switch, events = step(ON, inputs)
    assert (switch.on, switch.stopping, events, session.put_off(switch, inputs)) == (False, True, [Event.STOPPED], True)
    for _ in range(2):
        switch, events = step(switch, inputs)
        assert (switch.on, events, session.put_off(switch, inputs)) == (False, [], True)
    switch, events = step(settled(switch), inputs)
    assert (switch.on, switch.session_id, events) == (True, "s2", [Event.STARTED])
    assert not session.put_off(switch, inputs)


def test_a_start_that_was_put_off_is_gone_when_it_is_taken_back_or_stopped() -> None:
    waiting, _ = step(ON, replace(RUNNING, enabled=started("s2")))
    gone, _ = step(settled(waiting), replace(RUNNING, enabled=GONE))
    assert step(gone, replace(RUNNING, enabled=GONE))[0].on is False
    stopped, events = step(waiting, replace(RUNNING, enabled=started("s2"), status=STOPPED))
    assert events == [Event.START_REFUSED]
    assert step(settled(stopped), replace(RUNNING, enabled=started("s2"), status=STOPPED))[0].on is False
    latched = session.latch(waiting, "CLOSE_ALL_POSITIONS")
    refused, _ = step(settled(latched), replace(RUNNING, enabled=started("s2")))
    assert refused.on is False
    assert step(session.release(refused, "by a human"), replace(RUNNING, enabled=started("s2")))[0].on is False


def test_the_same_session_written_again_just_goes_on() -> None:
    same, events = step(ON, replace(RUNNING, enabled=started("s1", mark="2")))
    assert (same.on, same.session_id, events) == (True, "s1", [])


STOPS = {
    "DEL": replace(RUNNING, enabled=GONE),
    "enabled false": replace(RUNNING, enabled=Observed("off", False, "s1", FRONTEND_SOURCE)),
    "false of no one": replace(RUNNING, enabled=Observed("off", False, None, None)),
    "STOPPED": replace(RUNNING, status=STOPPED),
    "settings false": replace(RUNNING, settings=settings_doc(False)),
    "FLUSHALL": Inputs(),
}


@pytest.mark.parametrize("stop", STOPS)
def test_every_stop_ends_trading_and_stays_a_stop(stop: str) -> None:
    switch, events = step(ON, STOPS[stop])
    assert (switch.on, switch.latched, events, switch.epoch) == (False, False, [Event.STOPPED], ON.epoch + 1)
    assert switch.reason
    for _ in range(2):
        switch, events = step(switch, STOPS[stop])
        assert (switch.on, events) == (False, [])


def test_deleting_the_older_switch_ends_trading_too() -> None:
    on, _ = step(OFF, Inputs(settings=settings_doc(True)))
    assert step(on, Inputs())[1] == [Event.STOPPED]


@pytest.mark.parametrize(
    "inputs",
    [
        replace(RUNNING, enabled=INVALID),
        replace(RUNNING, settings=INVALID),
        replace(RUNNING, settings=settings_doc(None)),
        replace(RUNNING, status=INVALID),
        replace(RUNNING, status=GONE),
        replace(RUNNING, risk=risk_doc(None)),
        replace(RUNNING, risk=risk_doc(False)),
        replace(RUNNING, risk=INVALID),
    ],
)
def test_what_says_nothing_about_on_or_off_changes_nothing(inputs: Inputs) -> None:
    switch, events = step(ON, inputs)
    assert (switch.on, switch.session_id, switch.latched, events) == (True, "s1", False, [])


def test_a_stopped_left_over_does_not_end_a_session_but_a_new_write_of_it_does() -> None:
    off, _ = step(Switch(), Inputs(status=STOPPED))
    on, events = step(off, Inputs(enabled=started(), status=STOPPED))
    assert (on.on, events) == (True, [Event.STARTED])
    active, _ = step(on, Inputs(enabled=started(), status=ACTIVE))
    assert step(active, Inputs(enabled=started(), status=STOPPED))[0].on is False


def test_the_same_bytes_start_again_after_a_stop_was_seen() -> None:
    off, _ = step(ON, Inputs(status=STOPPED))
    again, events = step(settled(off), RUNNING)
    assert (again.on, events) == (True, [Event.STARTED])


@pytest.mark.parametrize("stop", [name for name in STOPS if name not in ("DEL", "enabled false", "false of no one")])
@pytest.mark.parametrize("before", [OFF, ON], ids=["off", "on"])
def test_a_start_and_a_stop_seen_at_once_leave_it_off(stop: str, before: Switch) -> None:
    inputs = replace(STOPS[stop], enabled=started("s9"))
    if stop == "FLUSHALL":
        inputs, before = replace(inputs, settings=GONE), replace(before, seen={**(before.seen or {}), "settings": "x"})
    switch, events = step(before, inputs)
    assert switch.on is False
    assert events == ([Event.STOPPED] if before.on else []) + [Event.START_REFUSED]
    assert "same moment" in switch.reason


def test_a_start_by_the_older_switch_does_not_outdo_a_deletion_of_the_other() -> None:
    switch, events = step(ON, Inputs(settings=settings_doc(True), status=ACTIVE))
    assert (switch.on, events) == (False, [Event.STOPPED, Event.START_REFUSED])


# --- the latch ------------------------------------------------------------------------------------------------------

LATCHED, _ = step(ON, replace(RUNNING, risk=risk_doc(True)))
STOP_IS_SET = replace(RUNNING, risk=risk_doc(True))


def test_an_emergency_stop_latches() -> None:
    switch, events = step(ON, STOP_IS_SET)
    assert (switch.on, switch.latched, events, switch.epoch) == (False, True, [Event.LATCHED], ON.epoch + 1)


@pytest.mark.parametrize(
    "start", [replace(STOP_IS_SET, enabled=started("s2")), replace(STOP_IS_SET, settings=settings_doc(True))]
)
def test_a_latched_switch_never_starts(start: Inputs) -> None:
    switch, events = step(LATCHED, start)
    assert (switch.on, switch.latched, events) == (False, True, [Event.START_REFUSED])
    assert "latched" in switch.reason


def test_an_emergency_beats_a_start_seen_at_the_same_moment() -> None:
    switch, events = step(OFF, STOP_IS_SET)
    assert (switch.on, switch.latched, events) == (False, True, [Event.LATCHED, Event.START_REFUSED])


@pytest.mark.parametrize("risk", [GONE, INVALID, risk_doc(None)])
def test_only_an_explicit_false_releases_the_latch(risk: Observed) -> None:
    assert step(LATCHED, replace(RUNNING, risk=risk))[0].latched is True


def test_a_release_needs_a_new_start_that_comes_after_it() -> None:
    released, events = step(LATCHED, replace(RUNNING, risk=risk_doc(False)))
    assert (released.on, released.latched, events) == (False, False, [Event.RELEASED])
    assert step(released, replace(RUNNING, risk=risk_doc(False)))[0].on is False
    at_once, events = step(LATCHED, replace(RUNNING, risk=risk_doc(False), enabled=started("s2")))
    assert (at_once.on, at_once.latched, events) == (False, False, [Event.RELEASED, Event.START_REFUSED])
    on, _ = step(settled(released), replace(RUNNING, risk=risk_doc(False), enabled=started("s2")))
    assert (on.on, on.session_id) == (True, "s2")


def test_the_same_bytes_latch_again_after_a_release() -> None:
    released, _ = step(LATCHED, replace(RUNNING, risk=risk_doc(False)))
    assert step(released, STOP_IS_SET)[0].latched is True


def test_latching_twice_keeps_the_latch_and_grows_the_epoch() -> None:
    twice = session.latch(session.latch(ON, "first"), "second")
    assert (twice.on, twice.latched, twice.reason, twice.epoch) == (False, True, "second", ON.epoch + 2)


# --- what QBot writes itself ----------------------------------------------------------------------------------------


def test_what_qbot_writes_itself_is_no_start_no_stop_and_no_release() -> None:
    mirrored = settings_doc(True, mark="own")
    assert mirrored.fingerprint
    switch, events = step(awaiting(OFF, {"settings": mirrored.fingerprint}), Inputs(settings=mirrored))
    assert (switch.on, events) == (False, [])
    default = settings_doc(False, mark="own")
    switch, events = step(awaiting(ON, {"settings": str(default.fingerprint)}), replace(RUNNING, settings=default))
    assert (switch.on, events) == (True, [])
    cleared = risk_doc(False, mark="own")
    switch, events = step(awaiting(LATCHED, {"risk": str(cleared.fingerprint)}), replace(RUNNING, risk=cleared))
    assert (switch.latched, events) == (True, [])


def test_an_own_write_is_awaited_as_long_as_the_key_has_not_moved() -> None:
    own = settings_doc(False, mark="own")
    waiting = awaiting(ON, {"settings": str(own.fingerprint)})
    for _ in range(3):
        waiting, _ = step(waiting, RUNNING)
    assert step(waiting, replace(RUNNING, settings=own))[0].on is True


def test_the_bytes_of_an_own_write_are_a_frontends_once_it_was_seen() -> None:
    own = settings_doc(False, mark="own")
    off = awaiting(OFF, {"settings": str(own.fingerprint)})
    off, _ = step(off, Inputs(settings=own))
    on, _ = step(off, Inputs(settings=settings_doc(True)))
    assert on.on is True
    stopped, events = step(on, Inputs(settings=own))
    assert (stopped.on, events) == (False, [Event.STOPPED])


def test_who_cannot_have_seen_the_latch_does_not_release_it() -> None:
    """A form saved in the moment of an emergency holds the false that stood there before."""
    latched = session.latch(ON, "CLOSE_ALL_POSITIONS")
    for mark in ("quicker than the mirror", "and once more"):
        latched, events = step(latched, replace(RUNNING, risk=risk_doc(False, mark=mark)))
        assert (latched.latched, events) == (True, [])
    shown, _ = step(latched, replace(RUNNING, risk=risk_doc(True)))
    assert step(shown, replace(RUNNING, risk=risk_doc(False)))[1] == [Event.RELEASED]


def test_an_emergency_stop_with_the_bytes_of_an_own_write_still_latches() -> None:
    own = risk_doc(True)
    latched = awaiting(session.latch(ON, "CLOSE_ALL_POSITIONS"), {"risk": str(own.fingerprint)})
    shown, _ = step(latched, replace(RUNNING, risk=own))
    released, events = step(shown, replace(RUNNING, risk=risk_doc(False)))
    assert events == [Event.RELEASED]
    assert step(released, replace(RUNNING, risk=own))[1] == [Event.LATCHED]


def test_two_own_writes_of_one_key_are_both_awaited() -> None:
    both = awaiting(awaiting(ON, {"settings": "a"}), {"settings": "b"})
    assert (both.seen or {})[AWAITED + "settings"] == "a,b"
    for mark in "ab":
        assert step(both, replace(RUNNING, settings=Observed(mark, False)))[0].on is True
    assert step(both, replace(RUNNING, settings=Observed("a,b", False)))[0].on is False


# --- any order of writes --------------------------------------------------------------------------------------------


Write = tuple[str, Observed]


@dataclass
class World:
    """A board, a switch, and QBot's mirroring as its control does it: after a look, unless a frontend was quicker.

    `pending`: bytes QBot has meant to write since the key last moved; a frontend that writes the very same ones in that
    moment cannot be told from it.
    """

    switch: Switch = field(default_factory=Switch)
    board: Inputs = field(default_factory=Inputs)
    authors: dict[str, str] = field(default_factory=dict)
    pending: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    count: int = 0

    def write(self, name: str, value: Observed, author: str = "frontend") -> None:
        self.board = replace(self.board, **{name: value})
        self.authors[name] = author

    def look(self, meanwhile: Sequence[Write] = (), lost: bool = False) -> None:
        """One step, held against what may be asked of it whatever went before."""
        before, shown = self.switch, self.board
        after, events = step(before, shown)
        if after.stopping:  # its entries are cancelled, and what waited for that is looked at again
            after, more = step(settled(after), shown)
            after, events = replace(after, epoch=before.epoch + bool(events or more)), events + more
        if before.seen is None:
            assert (after.on, events) == (False, [])
        else:
            self.judge(before, after, events)
        assert not (after.on and after.latched)
        mirrors = self.mirrors(after)
        self.switch = awaiting(after, {name: str(value.fingerprint) for name, value in mirrors.items()})
        for name, fingerprint in shown.fingerprints().items():
            if fingerprint != (before.seen or {}).get(name):
                self.pending[name].clear()
        for name, value in mirrors.items():
            self.pending[name].add(str(value.fingerprint))
        for name, value in meanwhile:
            self.write(name, value)
        for name, value in mirrors.items():
            if getattr(self.board, name) == getattr(shown, name) and not lost:
                self.write(name, value, "qbot")

    def judge(self, before: Switch, after: Switch, events: list[Event]) -> None:
        seen, now = before.seen or {}, self.board.fingerprints()
        new = {
            name
            for name in now
            if now[name] != seen.get(name)
            and self.authors.get(name) == "frontend"
            and now[name] not in self.pending[name]
        }
        board = self.board
        starts = ("enabled" in new and board.enabled.on is True and board.enabled.source == FRONTEND_SOURCE) or (
            "settings" in new and board.settings.on is True
        )
        stops = any(
            name in new and getattr(board, name).fingerprint is None for name in ("enabled", "settings")
        ) or any(name in new and getattr(board, name).on is False for name in ("enabled", "settings", "status"))
        if "risk" in new and board.risk.on:
            assert after.latched
        if before.latched and not ("risk" in new and board.risk.on is False):
            assert after.latched
        if before.latched or after.latched or stops:
            assert not after.on
        if not before.on and not starts:
            assert not after.on
        if starts and not stops and not before.latched and not after.latched:
            assert after.on
        if before.on and not stops and not after.latched:
            assert after.on
        assert (after.epoch == before.epoch + 1) == bool(events)

    def mirrors(self, after: Switch) -> dict[str, Observed]:
        """Values meant to replace what was just seen."""
        made: dict[str, Observed] = {}
        self.count += 1
        if self.board.settings.fingerprint is None or (self.board.settings.on and not after.on):
            made["settings"] = Observed(f"own-settings-{self.count}", False)
        if self.board.risk.fingerprint is None or (self.board.risk.on is (not after.latched)):
            made["risk"] = Observed(f"own-risk-{after.latched}", after.latched)  # without a time: the same bytes again
        return made


Deed = Callable[[World], None]
VALUES: dict[str, list[Observed]] = {
    "enabled": [GONE, INVALID, started("s1"), started("s1", "2"), started("s2"), started("s3", source="backend"),
                Observed("off", False, "s1", FRONTEND_SOURCE)],
    "settings": [GONE, INVALID, settings_doc(True), settings_doc(True, "2"), settings_doc(False), settings_doc(None)],
    "status": [GONE, INVALID, ACTIVE, STOPPED],
    "risk": [GONE, INVALID, risk_doc(True), risk_doc(False), Observed("own-risk-True", True),
             Observed("own-risk-False", False)],
}  # fmt: skip
WRITES = st.sampled_from([(name, value) for name, values in VALUES.items() for value in values])


@st.composite
def deeds(draw: st.DrawFn) -> Deed:
    kind = draw(st.sampled_from(["write", "write", "write", "look", "look", "disturbed look", "latch", "release"]))
    if kind == "write":
        name, value = draw(WRITES)
        return lambda world: world.write(name, value)
    if kind == "latch":
        return lambda world: setattr(world, "switch", session.latch(world.switch, "emergency"))
    if kind == "release":
        return lambda world: setattr(world, "switch", replace(world.switch, latched=False))
    if kind == "look":
        return World.look
    meanwhile, lost = draw(st.lists(WRITES, max_size=2)), draw(st.booleans())
    return lambda world: world.look(meanwhile, lost)


@settings(max_examples=300)
@given(st.lists(deeds(), max_size=30))
def test_no_order_of_writes_starts_what_no_one_started_or_keeps_what_someone_stopped(done: list[Deed]) -> None:
    world = World()
    for deed in done:
        deed(world)
    world.look()
    on, latched = world.switch.on, world.switch.latched
    for _ in range(2):  # what QBot wrote itself moves nothing any more
        world.look()
        assert (world.switch.on, world.switch.latched) == (on, latched)
