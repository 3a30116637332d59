"""The contract as JSON Schema 2020-12. The other exports are made from it, so that all say the same.

Pydantic's own schema is the base. `_tidy` puts what it leaves in Pydantic's words into the standard's, and refuses what
it does not know: a keyword that other languages cannot read would be a bound that holds on one side only.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from qbot.contract.exports.source import NOTICE, Contract
from qbot.contract.key import TICKER_SLOT, Key

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXTENSION = "x-qbot"
TICKER = r"[A-Z][A-Z0-9.\-]{0,11}"  # in the name of a key: as QBot writes it
_OF_SCHEMAS = ("properties", "$defs")
_LISTS = ("anyOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "propertyNames", "if", "then", "else", "not")
_PLAIN = {
    "type", "format", "pattern", "enum", "const", "description", "default", "$ref", "required", "minLength",
    "maxLength", "minItems", "maxItems", "uniqueItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
}  # fmt: skip
_DROPPED = ("title", "max_digits")  # titles repeat the names; the digits are bounded by a pattern


class _Base(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def serialised(document: Schema) -> str:
    """The document as the file holds it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def document(contract: Contract) -> Schema:
    """The whole schema: `properties` maps each key to its schema, `x-qbot-channels` each channel; payloads in `$defs`.

    As a schema it validates a whole board, given as one object of parsed values. Raises ValueError when a payload
    cannot be expressed.
    """
    entries, channels = contract.entries, contract.channels
    named: list[tuple[str, TypeAdapter[Any]]] = [(name, entry.adapter) for name, entry in entries.items()]
    named += [(name, channel.adapter) for name, channel in channels.items()]
    named.append((contract.written, contract.stamp))
    inputs: list[tuple[str, Any, TypeAdapter[Any]]] = [(name, "validation", adapter) for name, adapter in named]
    found, shared = TypeAdapter.json_schemas(inputs, schema_generator=_Base)
    shown = {name: _tidy(found[(name, "validation")]) for name, _ in named}
    definitions = {name: _tidy(schema) for name, schema in shared["$defs"].items()}
    properties = {name: _entry(entry, shown[name]) for name, entry in entries.items()}
    families = {_pattern(name): schema for name, schema in properties.items() if entries[name].pattern}
    return {
        "$schema": DIALECT,
        "$id": "urn:qbot:contract",
        "title": "QBot's Redis contract",
        "description": (
            f"{NOTICE} `properties`: every key and what it holds, parsed. `x-qbot-channels`: the messages. Unknown "
            "fields are ignored. `x-qbot`: who writes a key, when, and what its absence means. A key with `text` "
            "true holds the plain string, without JSON's quotes."
        ),
        "type": "object",
        "properties": properties,
        "patternProperties": families,
        "x-qbot-channels": {
            name: {"description": channel.description} | _with_examples(shown[name], [json.loads(channel.example)])
            for name, channel in channels.items()
        },
        "x-qbot-written": {"description": f"One field of the hash {contract.written}."} | shown[contract.written],
        "$defs": definitions,
    }


def extension(key: Key[object]) -> Schema:
    """What the contract says about a key beyond its type. Null: there is none."""
    return {
        "direction": key.direction.value,
        "writer": key.writer,
        "cadence_s": _number(key.cadence_s),
        "clock": key.pace.value,
        "max_age_s": _number(key.max_age_s),
        "history_limit": key.history_limit,
        "max_bytes": key.max_bytes,
        "text": key.text,
        "absent": key.absent,
        "extension": key.extension,
        "internal": key.internal,
    }


def _entry(key: Key[object], shown: Schema) -> Schema:
    example: object = key.example if key.text else json.loads(key.example)
    head: Schema = {"description": key.description, EXTENSION: extension(key)}
    limit = {"maxItems": key.history_limit} if key.history_limit else {}
    return head | _with_examples(shown, [example]) | limit


def _with_examples(shown: Schema, examples: list[object]) -> Schema:
    return {name: value for name, value in shown.items() if name != "description"} | {"examples": examples}


def _pattern(name: str) -> str:
    return "^" + name.replace(TICKER_SLOT, TICKER) + "$"


def _tidy(schema: Any) -> Any:
    """One schema and all within it in the standard's words. Raises ValueError on a keyword it does not know."""
    if not isinstance(schema, dict):
        return schema
    body = {name: value for name, value in schema.items() if name not in _DROPPED}
    if body.get("default", 0) is None:
        del body["default"]  # None stands for "not there", which is no value on the wire
    _bound(body, "minimum", "exclusiveMinimum", body.pop("ge", None), body.pop("gt", None), max)
    _bound(body, "maximum", "exclusiveMaximum", body.pop("le", None), body.pop("lt", None), min)
    _dictionary(body)
    for name in body:
        if name in _OF_SCHEMAS:
            body[name] = {inner: _tidy(value) for inner, value in body[name].items()}
        elif name in _LISTS:
            body[name] = [_tidy(value) for value in body[name]]
        elif name in _SINGLE:
            body[name] = _tidy(body[name])
        elif name not in _PLAIN:
            raise ValueError(f"the exports cannot express {name!r} of {json.dumps(schema)[:200]}")
    _lift_description(body)
    return body


def _bound(body: Schema, inclusive: str, exclusive: str, at: Any, beyond: Any, tightest: Any) -> None:
    """Of several bounds on one side the tightest."""
    closed = [value for value in (body.pop(inclusive, None), at) if value is not None]
    opened = [value for value in (body.pop(exclusive, None), beyond) if value is not None]
    if not closed and not opened:
        return
    bound = tightest(closed + opened)
    body[exclusive if bound in opened else inclusive] = _number(bound)


def _dictionary(body: Schema) -> None:
    """A pattern of names says nothing of the other names: those are not allowed."""
    patterns = body.pop("patternProperties", None)
    if patterns is None:
        return
    ((pattern, values),) = patterns.items()
    body["propertyNames"] = body.get("propertyNames", {}) | {"pattern": pattern}
    body["additionalProperties"] = values


def _lift_description(body: Schema) -> None:
    """`X or null` is described once, outside."""
    options = body.get("anyOf", [])
    inner = next((option["description"] for option in options if "description" in option), None)
    if inner is not None:
        body.setdefault("description", inner)
        body["anyOf"] = [{name: value for name, value in option.items() if name != "description"} for option in options]


def _number(value: float | None) -> float | None:
    return int(value) if isinstance(value, float) and value.is_integer() else value
