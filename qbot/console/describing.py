"""The contract's own entry of a key in words: purpose, writer, cadence, meaning of absence, fields, example."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qbot.console.text import age, size
from qbot.contract.key import Direction, Key, Pace

_AT_LEAST, _MORE_THAN = ("minimum", "ge"), ("exclusiveMinimum", "gt")
_AT_MOST, _LESS_THAN = ("maximum", "le"), ("exclusiveMaximum", "lt")
_EVERY_NUMBER = 1e15  # what any number of the contract may be: no bound of its own
_EXAMPLE_MAX = 1_500

Field = tuple[str, str, str]  # path, type, what it means


def listing(entries: list[Key[Any]]) -> list[tuple[str, str, str]]:
    """Name, who writes, purpose of several keys."""
    sides = {Direction.FRONTEND: "frontend", Direction.BACKEND: "QBot", Direction.BOTH: "both"}
    return [(key.name, sides[key.direction], key.description) for key in entries]


def facts(key: Key[Any]) -> list[tuple[str, str]]:
    """What is to be known of one key, as pairs of a word and a sentence."""
    said = [("purpose", key.description), ("written by", _side(key)), ("when", _cadence(key))]
    if key.max_age_s is not None:
        clock = "open market time" if key.pace is Pace.MARKET else "wall time"
        said.append(("allowed age", f"{age(key.max_age_s)} of {clock}"))
    said.append(("when absent", key.absent or "something is missing"))
    said.append(("form", "a plain word or time, no JSON" if key.text else "JSON"))
    if key.history_limit is not None:
        said.append(("keeps", f"the last {key.history_limit} elements"))
    said.append(("largest", size(key.max_bytes)))
    if key.extension:
        said.append(("extension", "no older document has this key"))
    return said


def fields(key: Key[Any]) -> list[Field]:
    """Every field of the payload with its type, bounds and meaning; an element's of an array, under `[]`."""
    schema = key.adapter.json_schema()
    return list(_walk("", schema, schema.get("$defs", {}), required=True))


def example(key: Key[Any]) -> str:
    """The documented example, laid out; a long one is cut."""
    if key.text:
        return key.example
    laid_out = json.dumps(json.loads(key.example), indent=2, ensure_ascii=False)
    return laid_out if len(laid_out) <= _EXAMPLE_MAX else laid_out[:_EXAMPLE_MAX] + "\n…"


def _side(key: Key[Any]) -> str:
    if key.direction is Direction.FRONTEND:
        return "frontends"
    return f"QBot ({key.writer})" if key.direction is Direction.BACKEND else f"frontends and QBot ({key.writer})"


def _cadence(key: Key[Any]) -> str:
    if key.cadence_s is None:
        return "whenever something happens" if key.direction is Direction.BACKEND else "whenever it is wanted"
    pace = ", in market time" if key.pace is Pace.MARKET else ""
    return f"every {age(key.cadence_s)}{pace}"


def _walk(path: str, schema: Mapping[str, Any], defs: Mapping[str, Any], *, required: bool) -> Iterator[Field]:
    said = schema.get("description", "") if path else ""
    schema, optional = _plain(schema, defs)
    said = said or (schema.get("description", "") if not _is_object(schema) else "")
    if path or not _is_object(schema):
        name = (
            _type(schema) + ("" if required else ", may be left out") + (", or null" if optional and required else "")
        )
        yield path or "(value)", name, said
    for name, part in schema.get("properties", {}).items():
        needed = name in schema.get("required", ())
        yield from _walk(f"{path}.{name}".lstrip("."), part, defs, required=needed)
    inner = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
    if isinstance(inner, Mapping):
        yield from _nested(f"{path}.<name>".lstrip("."), inner, defs)
    if isinstance(schema.get("items"), Mapping):
        yield from _nested(f"{path}[]", schema["items"], defs)


def _nested(path: str, schema: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[Field]:
    """What stands in an array or under each name: objects by their fields alone."""
    inner, _ = _plain(schema, defs)
    if not _is_object(inner) or "properties" not in inner:
        yield from _walk(path, schema, defs, required=True)
        return
    for name, part in inner["properties"].items():
        yield from _walk(f"{path}.{name}", part, defs, required=name in inner.get("required", ()))


def _plain(schema: Mapping[str, Any], defs: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The schema without references, alternatives with null and wrappers; and whether null is allowed.

    Of real alternatives the first counts: what QBot writes, or what a frontend should write.
    """
    optional = False
    while True:
        if "$ref" in schema:
            schema = {**defs[schema["$ref"].rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}
        elif "anyOf" in schema or "oneOf" in schema:
            options = schema.get("anyOf") or schema.get("oneOf") or []
            real = [each for each in options if each.get("type") != "null"]
            optional = optional or len(real) < len(options)
            schema = {**real[0], **{k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}}
        else:
            return dict(schema), optional


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(each) for each in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    name = {"string": "text", "array": "array", "object": "object"}.get(schema.get("type", ""), schema.get("type", ""))
    if schema.get("format") in ("date-time", "date"):
        name = "time" if schema["format"] == "date-time" else "date"
    return ", ".join([name or "any JSON", *_bounds(schema)])


def _bounds(schema: Mapping[str, Any]) -> list[str]:
    """The narrowest bounds of a number, the longest that a text or an array may be."""
    said = []
    least = _narrowest(schema, max, (*_AT_LEAST, *_MORE_THAN))
    most = _narrowest(schema, min, (*_AT_MOST, *_LESS_THAN))
    if least is not None and least > -_EVERY_NUMBER:
        said.append(f"{'>' if any(schema.get(name) == least for name in _MORE_THAN) else '≥'} {least:,g}")
    if most is not None and most < _EVERY_NUMBER:
        digits = f"{most:,.0f}" if float(most).is_integer() else f"{most:g}"
        said.append(f"{'<' if any(schema.get(name) == most for name in _LESS_THAN) else '≤'} {digits}")
    if "maxLength" in schema:
        said.append(f"≤ {schema['maxLength']:,} signs")
    if "maxItems" in schema:
        said.append(f"≤ {schema['maxItems']:,} elements")
    return said


def _narrowest(schema: Mapping[str, Any], pick: Callable[..., float], names: tuple[str, ...]) -> float | None:
    given = [schema[name] for name in names if isinstance(schema.get(name), int | float)]
    return pick(given) if given else None
