"""The contract as an AsyncAPI 3.0 document, from the frontend's side: what it sends and what it receives.

A pub/sub channel is a channel; so is every key, with `x-redis-key` saying how it is read and written. AsyncAPI's own
schema language is a superset of JSON Schema draft 07, in which nothing may stand beside a `$ref`.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from qbot.contract.exports.schema import EXTENSION, TICKER, Schema
from qbot.contract.exports.source import NOTICE, VERSION, Contract, camel, frontend_writes, unique
from qbot.contract.key import Key

_DEFINITIONS, _COMPONENTS = "#/$defs/", "#/components/schemas/"
_MAPS = ("properties", "patternProperties")
_LITERAL = ("default", "const", "enum", "examples")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def text(contract: Contract, document: Schema) -> str:
    """The document as YAML."""
    body = yaml.dump(described(contract, document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return f"# {NOTICE}\n{body}"


def described(contract: Contract, document: Schema) -> dict[str, Any]:
    """The document as values."""
    entries = contract.entries
    ids = unique({name: _id(name) for name in (*entries, *contract.channels)})
    channels = {ids[name]: _topic(name, document["x-qbot-channels"][name]) for name in contract.channels}
    channels |= {ids[name]: _key_channel(key, document["properties"][name]) for name, key in entries.items()}
    operations = {f"follow{_big(ids[name])}": _operation("receive", ids[name]) for name in contract.channels}
    for name, key in entries.items():
        if not key.internal:
            operations[f"read{_big(ids[name])}"] = _operation("receive", ids[name], "GET")
        if frontend_writes(key):
            operations[f"write{_big(ids[name])}"] = _operation("send", ids[name], "SET")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "QBot's Redis contract, seen by a frontend",
            "version": VERSION,
            "description": (
                "What a frontend reads from QBot's Redis, follows and writes. Operations that receive from a key are a "
                "GET, operations that send to one are a SET. docs/contract.md tells the rest."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": {name: _draft_07(schema) for name, schema in document["$defs"].items()},
            "securitySchemes": {
                "user": {"type": "userPassword", "description": "`frontend`, or `viewer`, which only reads."}
            },
        },
    }


def _servers() -> dict[str, Any]:
    security = {"security": [{"$ref": "#/components/securitySchemes/user"}]}
    return {
        "embedded": {
            "host": "127.0.0.1:6380",
            "protocol": "redis",
            "pathname": "/0",
            "description": "`make demo` and `qbot up`.",
        }
        | security,
        "compose": {
            "host": "redis:6379",
            "protocol": "redis",
            "pathname": "/0",
            "description": "`docker compose up`, from within its network.",
        }
        | security,
    }


def _topic(name: str, schema: Schema) -> dict[str, Any]:
    return _channel(name, schema, "application/json") | {"bindings": {"redis": {}}}


def _key_channel(key: Key[object], schema: Schema) -> dict[str, Any]:
    shown = _channel(key.name, schema, "text/plain" if key.text else "application/json")
    if key.pattern:
        shown["parameters"] = {"TICKER": {"description": f"A US ticker: {TICKER}", "examples": ["AAPL"]}}
    return shown | {"x-redis-key": {"type": "string"} | schema[EXTENSION]}


def _channel(name: str, schema: Schema, content_type: str) -> dict[str, Any]:
    payload = {word: value for word, value in schema.items() if word not in ("description", EXTENSION, "examples")}
    message: dict[str, Any] = {
        "name": name,
        "contentType": content_type,
        "payload": _draft_07(payload),
        "examples": [{"payload": example} for example in schema["examples"]],
    }
    return {"address": name, "description": schema["description"], "messages": {"value": message}}


def _operation(action: str, channel: str, command: str | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/value"}],
    }
    return shown | ({"x-redis-command": command} if command else {})


def _draft_07(schema: Any) -> Any:
    """The same schema for draft 07: definitions elsewhere, and a `$ref` alone."""
    if not isinstance(schema, dict):
        return schema
    body = {word: _inner(word, value) for word, value in schema.items()}
    if "$ref" in body and len(body) > 1:
        body["allOf"] = [{"$ref": body.pop("$ref")}, *body.get("allOf", [])]
    return body


def _inner(word: str, value: Any) -> Any:
    if word == "$ref":
        return value.replace(_DEFINITIONS, _COMPONENTS)
    if word in _LITERAL:
        return json.loads(json.dumps(value))
    if word in _MAPS:
        return {name: _draft_07(inner) for name, inner in value.items()}
    return [_draft_07(item) for item in value] if isinstance(value, list) else _draft_07(value)


def _id(name: str) -> str:
    joined = camel(name)
    return joined[0].lower() + joined[1:]


def _big(identifier: str) -> str:
    return identifier[0].upper() + identifier[1:]
