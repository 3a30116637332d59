"""What changed between two values of a key, in a few words. Pure.

A part is a text with its direction: 1 for a number that rose or a key that came, -1 for the reverse, 0 for the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qbot.console.text import cut, printable

AGAIN, ONLY_TIME = "as before", "as before but for its time"
_VALUE = 40  # characters of one value
_IDS = ("order_id", "trade_id", "alert_id", "price_alert_id", "signal_id", "ticker", "symbol", "request_id")
_CLOCKS = ("timestamp", "time", "updated", "updated_at", "last_updated", "last_heartbeat", "last_refresh",
           "last_market_check", "current_time_et", "uptime_seconds", "uptime_hours")  # fmt: skip


class Part(NamedTuple):
    """A few words and their direction."""

    words: str
    direction: int = 0


def describe(old: Any, new: Any) -> list[Part]:
    """The difference of two JSON values; None stands for a key that is not there."""
    if old == new:
        return [Part(AGAIN)]
    if new is None:
        return [Part("gone", -1)]
    if old is None:
        return [Part(f"new: {short(new, 4 * _VALUE)}", 1)]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return _fields(old, new)
    if isinstance(old, list) and isinstance(new, list):
        return _elements(old, new)
    return [_change("", old, new)]


def telling(parts: Sequence[Part]) -> bool:
    """Whether anything changed but the time of the write."""
    return any(part.words not in (AGAIN, ONLY_TIME) for part in parts)


def short(value: Any, width: int = _VALUE) -> str:
    """A value on one line."""
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(printable(words), width)


def brief(value: Any) -> str:
    """The fields of an object but its times and long ids; any other value as it is."""
    if not isinstance(value, Mapping):
        return short(value, 4 * _VALUE)
    shown = (f"{name} {short(part)}" for name, part in value.items() if name not in _CLOCKS and name[-3:] != "_id")
    return ", ".join(shown)


def _change(name: str, old: Any, new: Any) -> Part:
    direction = 0
    if _is_number(old) and _is_number(new):
        direction = 1 if new > old else -1
    elif isinstance(old, bool) and isinstance(new, bool):
        direction = 1 if new else -1
    return Part(f"{name} {short(old)} → {short(new)}".strip(), direction)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Part]:
    before, after = dict(_leaves(old)), dict(_leaves(new))
    changed = [name for name in after if name in before and before[name] != after[name]]
    speaking = [name for name in changed if name.rpartition(".")[2] not in _CLOCKS]
    parts = [_change(name, before[name], after[name]) for name in speaking]
    parts += [Part(f"+{name} {short(after[name])}", 1) for name in after if name not in before]
    parts += [Part(f"−{name}", -1) for name in before if name not in after]
    return parts or [Part(ONLY_TIME if changed else AGAIN)]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, part in value.items():
        path = f"{prefix}{name}"
        found += _leaves(part, f"{path}.") if isinstance(part, Mapping) and part else [(path, part)]
    return found


def _elements(old: Sequence[Any], new: Sequence[Any]) -> list[Part]:
    """+n/−n with the newest element; elements that only changed are told by their id, where they have one."""
    field = next((each for each in _IDS if _names(old, each) and _names(new, each)), None)
    before, after = _by_identity(old, field), _by_identity(new, field)
    added = [name for name in after if name not in before]
    removed = [name for name in before if name not in after]
    changed = [name for name in after if name in before and before[name] != after[name]]
    parts = [Part(f"+{len(added)}", 1)] if added else []
    parts += [Part(f"−{len(removed)}", -1)] if removed else []
    for name in changed:
        fields = _fields(before[name], after[name])
        parts += [Part(f"{name} {part.words}", part.direction) for part in fields if telling([part])]
    if added:
        parts.append(Part(f"newest: {brief(_newest([after[name] for name in added]))}"))
    return parts or [Part(ONLY_TIME if changed else AGAIN)]


def _names(elements: Sequence[Any], field: str) -> bool:
    """Whether every element has this field, and no two the same."""
    names = [each.get(field) if isinstance(each, Mapping) else None for each in elements]
    return None not in names and len({str(name) for name in names}) == len(names)


def _by_identity(elements: Sequence[Any], field: str | None) -> dict[str, Any]:
    """Elements by their id, or without one by their whole text; equal ones are numbered."""
    if field is not None:
        return {str(each[field]): each for each in elements}
    found: dict[str, Any] = {}
    for each in elements:
        text, number = json.dumps(each, sort_keys=True), 0
        while f"{number} {text}" in found:
            number += 1
        found[f"{number} {text}"] = each
    return found


def _newest(added: Sequence[Any]) -> Any:
    def at(element: Any) -> str:
        times = [element.get(name) for name in ("time", "executed_at", "triggered_at", "created_at", "generated_at")]
        return next((str(each) for each in times if each), "")

    if all(isinstance(each, Mapping) for each in added):
        return max(reversed(added), key=at)
    return added[-1]
