"""Start and stop under every interleaving: frontends that write, beat tasks and a listener that look, mirrors that come
late, events that arrive late. Against the pure step and the listener's own book of writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from qbot import mirrors, session
from qbot.contract.events import Written
from qbot.session import FRONTEND_SOURCE, UNTOUCHED, Event, Inputs, Observed, Switch, Touched
from qbot.writes import Writes

KEYS = {name: key for key, name in mirrors.NAMES.items()}
GONE = Observed()
ACTIVE, STOPPED = Observed("ACTIVE", True), Observed("STOPPED", False)


def start_of(session_id: str, mark: int) -> Observed:
    return Observed(f"on-{session_id}-{mark}", True, session_id, FRONTEND_SOURCE)


VALUES: dict[str, list[Observed]] = {
    "enabled": [GONE, start_of("s1", 0), start_of("s1", 1), start_of("s2", 0), Observed("off", False, "s1", None)],
    "settings": [GONE, Observed("settings-on", True), Observed("settings-off", False), Observed("partial")],
    "status": [ACTIVE, STOPPED],
    "risk": [Observed("risk-off", False), Observed("risk-on", True), Observed("partial")],
}
WRITES = st.sampled_from([(name, value) for name, values in VALUES.items() for value in values])


@dataclass
class Looked:
    """A look whose mirrors are still to be written."""

    switch: Switch
    shown: Inputs
    wanted: dict[str, Observed]


@dataclass
class World:
    """One board, one recorded switch, several processes that look at it. `sent`: events, of which the listener has
    heard the first `heard`. `said`: what frontends wrote, in order.
    """

    switch: Switch = field(default_factory=Switch)
    board: Inputs = field(default_factory=Inputs)
    sent: list[Written] = field(default_factory=list)
    heard: int = 0
    said: list[tuple[str, Observed]] = field(default_factory=list)
    unmirrored: list[Looked] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.writes = Writes(self.hear_all)

    # --- what happens ---

    def say(self, name: str, value: Observed) -> None:
        if getattr(self.board, name) == value == GONE:
            return  # a DEL of what is not there is no write
        self.board = replace(self.board, **{name: value})
        self.sent.append(Written(KEYS[name], own=False))
        self.said.append((name, value))

    def hear(self) -> None:
        if self.heard < len(self.sent):
            self.writes.note(self.sent[self.heard])
            self.heard += 1

    def hear_all(self) -> bool:
        while self.heard < len(self.sent):
            self.hear()
        return True

    def look(self, listener: bool) -> None:
        """Under the lock, so in one piece. A stop's entries are cancelled at once, and it looks again."""
        before = self.switch
        touched = self.writes.touched(before, self.board) if listener else UNTOUCHED
        after, _ = session.step(before, self.board, touched)
        if after.stopping:
            self.switch = replace(after, stopping=False)
            self.look(listener)
            return
        self.count += 1
        wanted = self.wanted(after)
        self.switch = session.awaiting(after, {name: str(value.fingerprint) for name, value in wanted.items()})
        if wanted:
            self.unmirrored.append(Looked(self.switch, self.board, wanted))

    def mirror(self, which: int) -> None:
        """By one of those who looked, under the lock again: unless the switch has moved, over the very bytes seen."""
        if not self.unmirrored:
            return
        looked = self.unmirrored.pop(which % len(self.unmirrored))
        if looked.switch != self.switch:
            return
        for name, value in looked.wanted.items():
            if getattr(self.board, name).fingerprint == getattr(looked.shown, name).fingerprint:
                self.board = replace(self.board, **{name: value})
                self.sent.append(Written(KEYS[name], own=True))

    def settle(self) -> None:
        """Everything arrives, everybody has looked."""
        for _ in range(4):
            self.hear_all()
            self.look(listener=True)
            while self.unmirrored:
                self.mirror(-1)

    def wanted(self, after: Switch) -> dict[str, Observed]:
        """As `mirrors.wanted`."""
        made: dict[str, Observed] = {}
        settings_, risk = self.board.settings, self.board.risk
        if settings_.fingerprint is None:
            made["settings"] = Observed(f"default-{self.count}", False)
        elif bool(settings_.on) is not after.on:
            made["settings"] = Observed(f"own-settings-{self.count}", after.on)
        if after.on and self.board.status.on is False:
            made["status"] = ACTIVE
        if risk.fingerprint is None or bool(risk.on) is not after.latched:
            made["risk"] = Observed(f"own-risk-{after.latched}", after.latched)
        return made

    # --- what may be asked of it ---

    def must_be_off(self) -> bool:
        """A frontend's last word on some key stops, and no start was written after it."""
        starts = [at for at, (name, value) in enumerate(self.said) if _starts(name, value)]
        last = {name: (at, value) for at, (name, value) in enumerate(self.said)}
        return any(at > max(starts, default=-1) and _stops(name, value) for name, (at, value) in last.items())


def _starts(name: str, value: Observed) -> bool:
    return name in ("enabled", "settings") and value.on is True


def _stops(name: str, value: Observed) -> bool:
    gone = name in ("enabled", "settings") and value.fingerprint is None
    return gone or (name == "risk" and value.on is True) or (name != "risk" and value.on is False)


Deed = Callable[[World], None]


@st.composite
def deeds(draw: st.DrawFn, writing: bool = True) -> Deed:
    kinds = ["hear", "listener", "beat", "mirror"] + ["say"] * 3 * writing
    kind = draw(st.sampled_from(kinds))
    if kind == "say":
        name, value = draw(WRITES)
        return lambda world: world.say(name, value)
    if kind == "mirror":
        which = draw(st.integers(0, 3))
        return lambda world: world.mirror(which)
    return {"hear": World.hear, "listener": lambda w: w.look(True), "beat": lambda w: w.look(False)}[kind]


@settings(max_examples=1_500)
@given(st.lists(deeds(), max_size=40))
def test_a_stop_that_nobody_took_back_leaves_trading_off(done: list[Deed]) -> None:
    world = World()
    world.settle()
    for deed in done:
        deed(world)
    world.settle()
    if world.must_be_off():
        assert not world.switch.on
    assert not (world.switch.on and world.switch.latched)
    if not any(_starts(name, value) for name, value in world.said):
        assert not world.switch.on


@settings(max_examples=600)
@given(
    st.lists(deeds(), max_size=20),
    st.lists(deeds(writing=False), max_size=8),
    st.lists(deeds(writing=False), max_size=8),
)
def test_a_start_as_documented_starts_whoever_looks_in_between(
    before: list[Deed], between: list[Deed], after: list[Deed]
) -> None:
    """`autotrading:enabled`, then ACTIVE: QBot's own ACTIVE, written at any moment, makes no stop of the frontend's."""
    world = World()
    world.settle()
    for deed in before:
        deed(world)
    world.say("risk", Observed("risk-off-at-last", False))
    world.settle()
    world.say("enabled", start_of("s9", 9))
    for deed in between:
        deed(world)
    world.say("status", ACTIVE)
    for deed in after:
        deed(world)
    world.settle()
    assert world.switch.on
    assert world.switch.session_id == "s9"


def test_a_stop_in_old_bytes_that_a_mirror_went_over_is_a_stop() -> None:
    world = World()
    world.say("status", STOPPED)
    world.settle()
    world.say("enabled", start_of("s1", 1))
    world.look(listener=False)
    assert world.switch.on
    world.say("status", STOPPED)
    world.mirror(0)
    assert world.board.status == ACTIVE
    world.settle()
    assert not world.switch.on


def test_old_bytes_start_and_release_nothing() -> None:
    off, _ = session.step(Switch(), Inputs(enabled=start_of("s1", 1), settings=Observed("settings-on", True)))
    touched = Touched(frozenset({"enabled", "settings"}))
    assert session.step(off, Inputs(start_of("s1", 1), Observed("settings-on", True)), touched)[1] == []
    latched, _ = session.step(session.latch(off, "test"), Inputs(risk=Observed("risk-off", False)))
    again = session.latch(latched, "test")
    kept, events = session.step(again, Inputs(risk=Observed("risk-off", False)), Touched(frozenset({"risk"})))
    assert (kept.latched, Event.RELEASED in events) == (True, False)


def test_what_a_look_that_failed_was_told_is_told_again() -> None:
    writes = Writes(lambda: True)
    writes.note(Written(KEYS["status"], own=False))
    shown = Inputs(status=STOPPED)
    first = writes.touched(Switch(epoch=3), shown)
    writes.undo()
    assert writes.touched(Switch(epoch=3), shown) == first == Touched(frozenset({"status"}), epoch=0)
    assert writes.touched(Switch(epoch=3), shown) == Touched(epoch=3)


def test_a_stop_whose_event_is_heard_before_that_of_the_mirror_over_it_is_a_stop() -> None:
    """The listener knows that it was written, and what stands there by now is harmless: it asks who wrote that."""
    world = World()
    world.say("status", STOPPED)
    world.settle()
    world.say("enabled", start_of("s1", 1))
    world.look(listener=False)
    world.say("status", STOPPED)
    world.hear()
    world.hear()
    world.mirror(0)
    world.look(listener=True)
    world.settle()
    assert not world.switch.on


def test_a_setting_that_another_process_saw_and_mirrored_first_is_no_stop() -> None:
    world = World()
    world.settle()
    world.say("enabled", start_of("s1", 1))
    world.settle()
    world.say("settings", Observed("partial"))
    world.look(listener=False)
    world.mirror(0)
    assert world.board.settings.on is True
    world.settle()
    assert world.switch.on
