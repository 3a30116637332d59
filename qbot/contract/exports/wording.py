"""What a schema says, in words: the type of a field and its bounds. Used by the documents and as comments in code."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from qbot.contract.exports.schema import Schema

# Every number has these; they only keep out what a double cannot hold exactly.
NUMBER_MAX = 10**15
_BY_FORMAT = {"date-time": "time", "date": "date"}
# What the patterns of `fields` stand for.
_BY_PATTERN = {
    "^[A-Za-z][": "ticker",
    "^[1-9][0-9]{0,4}": "horizon",
    "^[0-9]{4}-": "time",
    "^-?[0-9]": "decimal string",
    "^([01][0-9]": "HH:MM",
}
_OF_TYPE_ALONE = ("ISO 8601 with zone", "US ticker")


def target(schema: Schema) -> str | None:
    """The payload or enum that a schema refers to, by name."""
    found = schema.get("$ref")
    return found.rsplit("/", 1)[1] if isinstance(found, str) else None


def options(schema: Schema) -> list[Schema]:
    """The alternatives of a field; the field itself where there are none. The `anyOf` of an object is a condition."""
    found: list[Schema] = schema["anyOf"] if "anyOf" in schema and "properties" not in schema else [schema]
    return found


def nullable(schema: Schema) -> bool:
    """True when null is a value."""
    return any(option.get("type") == "null" for option in options(schema))


def meaning(schema: Schema) -> str:
    """The description of a field; empty where it says no more than the type."""
    found = str(schema.get("description", ""))
    return "" if found in _OF_TYPE_ALONE else found[:1].upper() + found[1:]


def kind(schema: Schema) -> str:
    """The type in a word or two, without null: `number`, `time`, `whole number`, `array of Alert`."""
    named = target(schema)
    if named:
        return "any JSON" if named == "JsonValue" else named
    if "anyOf" in schema:
        kinds = [kind(option) for option in options(schema) if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        inner = kind(schema["items"])
        return f"array of {inner}" + ("s" if inner.islower() else "")
    if schema.get("type") == "object":
        return f"object: {naming(schema)} → {kind(schema['additionalProperties'])}"
    return _word(schema)


def naming(schema: Schema) -> str:
    """What the names of an object are: `ticker`, `horizon`, `string`."""
    return _word({"type": "string"} | schema.get("propertyNames", {}))


def bounds(schema: Schema) -> str:
    """The bounds of a number, string or array: `0 to 1`, `over 0, at most 100`. Empty when there are none to tell."""
    parts = [_bounds(option) for option in options(schema)]
    return "; ".join(part for part in parts if part)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` characters."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def compact(value: Any, width: int = 100, indent: int = 0) -> str:
    """JSON that breaks a line only where it would be too long."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(flat) + indent <= width or not isinstance(value, dict | list) or not value:
        return flat
    pad = " " * (indent + 2)
    if isinstance(value, dict):
        inner = [f"{pad}{json.dumps(name)}: {compact(item, width, indent + 2)}" for name, item in value.items()]
        return "{\n" + ",\n".join(inner) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + compact(item, width, indent + 2) for item in value) + "\n" + " " * indent + "]"


def duration(seconds: float) -> str:
    """`30 s`, `5 min`, `2 h`."""
    for unit_s, unit in ((3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:g} {unit}"
    return f"{seconds:g} s"


def _word(schema: Schema) -> str:
    said = _BY_FORMAT.get(str(schema.get("format")))
    pattern = str(schema.get("pattern", ""))
    said = said or next((word for start, word in _BY_PATTERN.items() if pattern.startswith(start)), None)
    return said or {"integer": "whole number"}.get(schema["type"], str(schema["type"]))


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    low, high = None if low == -NUMBER_MAX else low, None if high == NUMBER_MAX else high
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    said = [(low, "at least"), (over, "over"), (high, "at most"), (under, "under")]
    parts = [f"{word} {value:,}" for value, word in said if value is not None]
    if "maxItems" in schema:
        parts.append(f"at most {schema['maxItems']:,} elements")
    if "maxLength" in schema:
        parts.append(f"{schema.get('minLength', 0)} to {schema['maxLength']:,} characters")
    return ", ".join(parts)
