"""On and off: one pure step from what was last acted upon and what the board shows now. Off by default.

Trading starts only by a frontend's write that is new since the last step. It ends by DEL, by `enabled: false`, by a
write of STOPPED or by an emergency. What QBot mirrors itself is remembered by its fingerprint and is never a start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

FRONTEND_SOURCE = "frontend_ui"  # the documented `source` of autotrading:enabled
SETTINGS_SESSION = "trading_settings"  # the session id of a start by the older switch, which has none


class Event(StrEnum):
    STARTED = "started"
    STOPPED = "stopped"
    START_REFUSED = "start_refused"
    LATCHED = "latched"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Switch:
    """The recorded state. `seen` holds the fingerprints of the inputs last acted upon, None for an absent key."""

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


def step(switch: Switch, inputs: Inputs, own_writes: frozenset[str] = frozenset()) -> tuple[Switch, list[Event]]:
    """The next state and what happened. `own_writes` are fingerprints of values QBot wrote: never a start.

    The first step ever only remembers: a value left over from before the start is no frontend's write.
    """
    now_seen = inputs.fingerprints()
    if switch.seen is None:
        latched = inputs.risk.on is True
        reason = "an emergency stop was set before the first start" if latched else switch.reason
        return replace(switch, seen=now_seen, latched=latched, reason=reason), []
    seen = switch.seen
    changed = {name: now_seen[name] != seen.get(name) and now_seen[name] not in own_writes for name in now_seen}
    events: list[Event] = []
    current = replace(switch, seen=now_seen)
    current = _latch(current, inputs, changed, events)
    current = _stop(current, inputs, changed, events)
    current = _start(current, inputs, changed, events)
    if events:
        current = replace(current, epoch=switch.epoch + 1)
    return current, events


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
    if switch.latched:
        events.append(Event.START_REFUSED)
        return replace(switch, reason="a start was refused: the emergency stop is latched")
    if switch.on and session_id != switch.session_id:
        events.append(Event.STOPPED)  # one trading session at a time: the old one ends first
    if not switch.on or session_id != switch.session_id:
        events.append(Event.STARTED)
    return replace(switch, on=True, session_id=session_id, reason=f"started by session {session_id}")
