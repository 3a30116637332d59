"""Partial settings objects laid over the last good ones."""

from __future__ import annotations

from typing import Any, TypeVar

from qbot.contract.fields import PartialPayload
from qbot.contract.key import Reading

P = TypeVar("P", bound=PartialPayload)


def merge_partial(last_good: P, reading: Reading[P]) -> P:
    """`last_good` with the fields the reading has. Absent or invalid: `last_good` as it is."""
    return overlay(last_good, reading.value) if reading.value is not None else last_good


def overlay(base: P, part: P) -> P:
    """`base` with the fields that `part` was given, nested objects field by field."""
    changes: dict[str, Any] = {}
    for name in part.model_fields_set:
        old, new = getattr(base, name), getattr(part, name)
        nested = isinstance(old, PartialPayload) and isinstance(new, PartialPayload)
        changes[name] = overlay(old, new) if nested else new
    return base.model_copy(update=changes)
