"""On and off: one pure step from what was last acted upon and what the board shows now. Off by default.

Trading starts only by a frontend's write that is new since the last step. It ends by DEL, by `enabled: false`, by a
write of STOPPED or by an emergency. Where a start and a stop are seen at once, which came last cannot be told: it stays
off. What QBot mirrors itself is awaited by its fingerprint, once, and is neither a start nor a stop. Where it is known
that a frontend wrote, though the bytes are the old ones, that counts as a stop and never as a start. The entries of a
session that ended are cancelled before another one starts: until then its start is put off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

FRONTEND_SOURCE = "frontend_ui"  # the documented `source` of autotrading:enabled
SETTINGS_SESSION = "trading_settings"  # the session id of a start by the older switch, which has none
AWAITED = "awaited:"  # in Switch.seen, before the name of an input: fingerprints of values QBot is about to write
UNSHOWN = "unshown"  # in Switch.seen: the board has not shown the latch yet, so that no false can be meant against it


class Event(StrEnum):
    STARTED = "started"
    STOPPED = "stopped"
    START_REFUSED = "start_refused"
    LATCHED = "latched"
    RELEASED = "released"
    UNPROTECTED = "unprotected"  # every order is cancelled on request: no protection is put back until a new start


@dataclass(frozen=True, slots=True)
class Switch:
    """The recorded state. `seen` holds the fingerprints of the inputs last acted upon, None for an absent key, and
    beside them those of the values that QBot itself is about to write. `stopping`: trading has ended, and its entries
    may still rest at the broker. `revision`: the board's counter when this was recorded. `breaker`: latched by a
    circuit breaker, so that no frontend releases it. `reducing`: it tripped while trading, and exits go on.
    """

    on: bool = False
    session_id: str | None = None
    latched: bool = False
    reason: str = "never started"
    seen: Mapping[str, str | None] | None = None
    epoch: int = 0
    stopping: bool = False
    revision: int = 0
    breaker: bool = False
    reducing: bool = False

    @property
    def cycles(self) -> bool:
        """Whether trading cycles run, be it for exits alone."""
        return self.on or self.reducing


@dataclass(frozen=True, slots=True)
class Observed:
    """One input key as read: `fingerprint` is None when the key is absent; a value that is not valid is None."""

    fingerprint: str | None = None
    on: bool | None = None
    session_id: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """The four keys that switch: `status.on` is False for STOPPED, `risk.on` is emergency_stop_active."""

    enabled: Observed = Observed()
    settings: Observed = Observed()
    status: Observed = Observed()
    risk: Observed = Observed()

    def fingerprints(self) -> dict[str, str | None]:
        return {
            "enabled": self.enabled.fingerprint,
            "settings": self.settings.fingerprint,
            "status": self.status.fingerprint,
            "risk": self.risk.fingerprint,
        }


@dataclass(frozen=True, slots=True)
class Touched:
    """What frontends are known to have written since the look before, whatever the bytes; names as in `Inputs`.

    `written`: what stands there is theirs. `overwritten`: QBot wrote over it since. `epoch`: the switch's at the look
    before.
    """

    written: frozenset[str] = frozenset()
    overwritten: frozenset[str] = frozenset()
    epoch: int = 0


UNTOUCHED = Touched()


@dataclass(frozen=True, slots=True)
class _Look:
    """`changed`: other bytes than those acted upon, and not QBot's. `written`: these and old bytes written again.
    `replaced`: QBot's mirror of a change of the switch went over a frontend's write that nobody had seen.
    """

    inputs: Inputs
    changed: frozenset[str]
    written: frozenset[str]
    replaced: frozenset[str]


def step(switch: Switch, inputs: Inputs, touched: Touched = UNTOUCHED) -> tuple[Switch, list[Event]]:
    """The next state and what happened.

    The first step ever only remembers: a value left over from before the start is no frontend's write.
    """
    now_seen = inputs.fingerprints()
    if switch.seen is None:
        found = inputs.risk.on is True and not switch.latched
        reason = "an emergency stop was set before the first start" if found else switch.reason
        return replace(switch, on=False, seen=now_seen, latched=found or switch.latched, reason=reason), []
    seen = switch.seen
    unchanged = {name for name in now_seen if now_seen[name] == seen.get(name)}
    changed = frozenset(name for name in now_seen.keys() - unchanged if now_seen[name] not in _awaited(seen, name))
    # A mirror follows a change of the switch; where that did not change, a value that was written over was acted upon.
    replaced = touched.overwritten if switch.epoch > touched.epoch else frozenset()
    look = _Look(inputs, changed, changed | touched.written, replaced)
    # What was meant to replace a value is not awaited any more once that has changed: the same bytes are a frontend's.
    still_awaited = {AWAITED + name: seen[AWAITED + name] for name in unchanged if AWAITED + name in seen}
    unshown = {UNSHOWN: seen[UNSHOWN]} if UNSHOWN in seen else {}
    events: list[Event] = []
    current = replace(switch, seen={**now_seen, **still_awaited, **unshown})
    current = _latch(current, look, events)
    current = _stop(current, look, events)
    current = _start(current, look, events, seen)
    if events:
        current = replace(current, epoch=switch.epoch + 1)
    return _shown(current) if inputs.risk.on is True else current, events


def put_off(switch: Switch, inputs: Inputs) -> bool:
    """True when a start waits until the entries of the session before it are cancelled. `switch`: after the step."""
    return any((switch.seen or {}).get(name) != fingerprint for name, fingerprint in inputs.fingerprints().items())


def awaiting(switch: Switch, writes: Mapping[str, str]) -> Switch:
    """Remember what QBot is about to write over the values just seen: fingerprints by input. To be saved before."""
    seen = dict(switch.seen or {})
    for name, fingerprint in writes.items():
        seen[AWAITED + name] = ",".join(sorted({*_awaited(seen, name), fingerprint}))
    return replace(switch, seen=seen)


def _awaited(seen: Mapping[str, str | None], name: str) -> set[str]:
    return set(filter(None, (seen.get(AWAITED + name) or "").split(",")))


def latch(switch: Switch, reason: str) -> Switch:
    """An emergency: off, and off until a human who can have seen it releases it and starts anew."""
    seen = None if switch.seen is None else {**switch.seen, UNSHOWN: None}
    after = replace(switch, on=False, latched=True, reducing=False, stopping=True, seen=seen)
    return replace(after, reason=reason, epoch=switch.epoch + 1)


def trip(switch: Switch, reason: str) -> Switch:
    """A circuit breaker: as an emergency, but the exits of the cycles go on where they did, and no frontend ends it."""
    if switch.latched:
        return replace(switch, breaker=True)
    return replace(latch(switch, reason), breaker=True, reducing=switch.on)


def release(switch: Switch, reason: str) -> Switch:
    """The latch is off again. Trading needs a new start."""
    free = replace(_shown(switch), latched=False, breaker=False, reducing=False)
    return replace(free, reason=reason, epoch=switch.epoch + 1)


def _shown(switch: Switch) -> Switch:
    return replace(switch, seen={name: value for name, value in (switch.seen or {}).items() if name != UNSHOWN})


def _latch(switch: Switch, look: _Look, events: list[Event]) -> Switch:
    set_now = look.inputs.risk.on is True and "risk" in look.written
    if not switch.latched and (set_now or "risk" in look.replaced):
        events.append(Event.LATCHED)
        return latch(switch, "risk_settings.emergency_stop_active was set")
    shown = UNSHOWN not in (switch.seen or {})
    if switch.latched and not switch.breaker and look.inputs.risk.on is False and "risk" in look.changed and shown:
        events.append(Event.RELEASED)
        return replace(switch, latched=False, reason="the emergency stop was released; a new start is needed")
    return switch


def _stop(switch: Switch, look: _Look, events: list[Event]) -> Switch:
    reason = _stop_reason(look)
    if reason is None or not switch.cycles:
        return switch
    events.append(Event.STOPPED)
    reason = switch.reason if switch.latched else reason  # what latched is what a human has to know
    return replace(switch, on=False, reducing=False, stopping=True, reason=reason)


def _stop_reason(look: _Look) -> str | None:
    inputs = look.inputs
    if "enabled" in look.written and inputs.enabled.fingerprint is None:
        return "autotrading:enabled was deleted"
    if "enabled" in look.written and inputs.enabled.on is False:
        return "autotrading:enabled says false"
    if "settings" in look.written and inputs.settings.fingerprint is None:
        return "trading_settings was deleted"
    if "settings" in look.written and inputs.settings.on is False:
        return "trading_settings.enabled says false"
    if "status" in look.written and inputs.status.on is False:
        return "autotrading:status was set to STOPPED"
    if "settings" in look.replaced:
        return "trading_settings was written at the moment of a start"
    if "status" in look.replaced:
        return "autotrading:status was written at the moment of a start"
    return None


def _start(switch: Switch, look: _Look, events: list[Event], before: Mapping[str, str | None]) -> Switch:
    enabled = look.inputs.enabled
    by_session = "enabled" in look.changed and enabled.on is True and enabled.source == FRONTEND_SOURCE
    by_settings = "settings" in look.changed and look.inputs.settings.on is True
    if not by_session and not by_settings:
        return switch
    session_id = enabled.session_id if by_session else (switch.session_id if switch.on else SETTINGS_SESSION)
    obstacle = _obstacle(switch, look, events)
    if obstacle is not None:
        events.append(Event.START_REFUSED)
        return replace(switch, reason=f"a start was refused: {obstacle}")
    if switch.on and session_id != switch.session_id:
        events.append(Event.STOPPED)  # one trading session at a time: the old one ends first
        switch = replace(switch, on=False, stopping=True, reason=f"session {session_id} takes over")
    if switch.stopping:
        waiting = {"enabled": by_session, "settings": by_settings}
        seen = {**(switch.seen or {}), **{name: before.get(name) for name, waits in waiting.items() if waits}}
        return replace(switch, seen=seen)
    if not switch.on:
        events.append(Event.STARTED)
    return replace(switch, on=True, session_id=session_id, reason=f"started by session {session_id}")


def _obstacle(switch: Switch, look: _Look, events: list[Event]) -> str | None:
    if switch.breaker:
        return "a circuit breaker tripped; only `qbot resume` lets trading start again"
    if switch.latched:
        return "the emergency stop is latched"
    if Event.RELEASED in events:
        return "the emergency stop was released at the same moment"
    stop = _stop_reason(look)
    return None if stop is None else f"{stop} at the same moment"
