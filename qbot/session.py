"""On and off: one pure step from what was last acted upon and what the board shows now. Off by default.

Trading starts only by a frontend's write that is new since the last step. It ends by DEL, by `enabled: false`, by a
write of STOPPED or by an emergency. Where a start and a stop are seen at once, which came last cannot be told: it stays
off. What QBot mirrors itself is awaited by its fingerprint, once, and is neither a start nor a stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

FRONTEND_SOURCE = "frontend_ui"  # the documented `source` of autotrading:enabled
SETTINGS_SESSION = "trading_settings"  # the session id of a start by the older switch, which has none
AWAITED = "awaited:"  # in Switch.seen, before the name of an input: fingerprints of values QBot is about to write


class Event(StrEnum):
    STARTED = "started"
    STOPPED = "stopped"
    START_REFUSED = "start_refused"
    LATCHED = "latched"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Switch:
    """The recorded state. `seen` holds the fingerprints of the inputs last acted upon, None for an absent key, and
    beside them those of the values that QBot itself is about to write.
    """

    on: bool = False
    session_id: str | None = None
    latched: bool = False
    reason: str = "never started"
    seen: Mapping[str, str | None] | None = None
    epoch: int = 0


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


def step(switch: Switch, inputs: Inputs) -> tuple[Switch, list[Event]]:
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
    changed = {name: name not in unchanged and now_seen[name] not in _awaited(seen, name) for name in now_seen}
    # What was meant to replace a value is not awaited any more once that has changed: the same bytes are a frontend's.
    still_awaited = {AWAITED + name: seen[AWAITED + name] for name in unchanged if AWAITED + name in seen}
    events: list[Event] = []
    current = replace(switch, seen={**now_seen, **still_awaited})
    current = _latch(current, inputs, changed, events)
    current = _stop(current, inputs, changed, events)
    current = _start(current, inputs, changed, events)
    if events:
        current = replace(current, epoch=switch.epoch + 1)
    return current, events


def awaiting(switch: Switch, writes: Mapping[str, str]) -> Switch:
    """Remember what QBot is about to write over the values just seen: fingerprints by input. To be saved before."""
    seen = dict(switch.seen or {})
    for name, fingerprint in writes.items():
        seen[AWAITED + name] = ",".join(sorted({*_awaited(seen, name), fingerprint}))
    return replace(switch, seen=seen)


def _awaited(seen: Mapping[str, str | None], name: str) -> set[str]:
    return set(filter(None, (seen.get(AWAITED + name) or "").split(",")))


def latch(switch: Switch, reason: str) -> Switch:
    """An emergency: off, and off until a human releases it and starts anew."""
    return replace(switch, on=False, latched=True, reason=reason, epoch=switch.epoch + 1)


def _latch(switch: Switch, inputs: Inputs, changed: Mapping[str, bool], events: list[Event]) -> Switch:
    if not changed["risk"]:
        return switch
    if inputs.risk.on and not switch.latched:
        events.append(Event.LATCHED)
        return latch(switch, "risk_settings.emergency_stop_active was set")
    if inputs.risk.on is False and switch.latched:
        events.append(Event.RELEASED)
        return replace(switch, latched=False, reason="the emergency stop was released; a new start is needed")
    return switch


def _stop(switch: Switch, inputs: Inputs, changed: Mapping[str, bool], events: list[Event]) -> Switch:
    reason = _stop_reason(inputs, changed)
    if reason is None or not switch.on:
        return switch
    events.append(Event.STOPPED)
    return replace(switch, on=False, reason=reason)


def _stop_reason(inputs: Inputs, changed: Mapping[str, bool]) -> str | None:
    if changed["enabled"] and inputs.enabled.fingerprint is None:
        return "autotrading:enabled was deleted"
    if changed["enabled"] and inputs.enabled.on is False:
        return "autotrading:enabled says false"
    if changed["settings"] and inputs.settings.fingerprint is None:
        return "trading_settings was deleted"
    if changed["settings"] and inputs.settings.on is False:
        return "trading_settings.enabled says false"
    if changed["status"] and inputs.status.on is False:
        return "autotrading:status was set to STOPPED"
    return None


def _start(switch: Switch, inputs: Inputs, changed: Mapping[str, bool], events: list[Event]) -> Switch:
    by_session = changed["enabled"] and inputs.enabled.on is True and inputs.enabled.source == FRONTEND_SOURCE
    by_settings = changed["settings"] and inputs.settings.on is True
    if not by_session and not by_settings:
        return switch
    session_id = inputs.enabled.session_id if by_session else (switch.session_id if switch.on else SETTINGS_SESSION)
    obstacle = _obstacle(switch, inputs, changed, events)
    if obstacle is not None:
        events.append(Event.START_REFUSED)
        return replace(switch, reason=f"a start was refused: {obstacle}")
    if switch.on and session_id != switch.session_id:
        events.append(Event.STOPPED)  # one trading session at a time: the old one ends first
    if not switch.on or session_id != switch.session_id:
        events.append(Event.STARTED)
    return replace(switch, on=True, session_id=session_id, reason=f"started by session {session_id}")


def _obstacle(switch: Switch, inputs: Inputs, changed: Mapping[str, bool], events: list[Event]) -> str | None:
    if switch.latched:
        return "the emergency stop is latched"
    if Event.RELEASED in events:
        return "the emergency stop was released at the same moment"
    stop = _stop_reason(inputs, changed)
    return None if stop is None else f"{stop} at the same moment"
