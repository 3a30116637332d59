"""The AsyncAPI document: whole, its references lead somewhere, and its examples are what its schemas say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from qbot.contract import keys
from qbot.contract.exports import render
from qbot.contract.key import Direction

DOCUMENT: dict[str, Any] = yaml.safe_load(render()[Path("contract/asyncapi.yaml")])
CHANNELS: dict[str, Any] = DOCUMENT["channels"]
BY_ADDRESS = {channel["address"]: identifier for identifier, channel in CHANNELS.items()}


def _inside(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _inside(inner)


def _resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def test_it_has_what_the_specification_asks_for() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    assert all({"host", "protocol"} <= set(server) for server in DOCUMENT["servers"].values())
    allowed = "asyncapi info defaultContentType servers channels operations components"
    assert set(DOCUMENT) <= set(allowed.split())
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in (*CHANNELS, *DOCUMENT["operations"]))


def test_every_key_and_every_topic_is_a_channel() -> None:
    assert set(BY_ADDRESS) == {*keys.ENTRIES, *keys.CHANNELS}
    assert len(BY_ADDRESS) == len(CHANNELS)


def test_every_reference_leads_somewhere_and_stands_alone() -> None:
    references = [part for part in _inside(DOCUMENT) if isinstance(part.get("$ref"), str)]
    assert len(references) > 100
    for part in references:
        assert set(part) == {"$ref"}
        assert _resolve(part["$ref"]) is not None


def test_a_slot_in_an_address_is_a_parameter() -> None:
    for channel in CHANNELS.values():
        assert set(re.findall(r"\{(\w+)\}", channel["address"])) == set(channel.get("parameters", ()))


def test_the_operations_are_the_frontends() -> None:
    done: dict[str, set[str]] = {}
    for operation in DOCUMENT["operations"].values():
        address = _resolve(operation["channel"]["$ref"])["address"]
        done.setdefault(address, set()).add(operation["action"])
        assert operation["messages"] == [{"$ref": f"{operation['channel']['$ref']}/messages/value"}]
    for name, key in keys.ENTRIES.items():
        writes = {"send"} if key.direction is not Direction.BACKEND else set()
        reads = set() if key.internal else {"receive"}
        assert done.get(name, set()) == writes | reads
    assert all(done[name] == {"receive"} for name in keys.CHANNELS)


@pytest.mark.parametrize("address", BY_ADDRESS)
def test_an_example_is_what_the_schema_says(address: str) -> None:
    message = CHANNELS[BY_ADDRESS[address]]["messages"]["value"]
    body = {**message["payload"], "components": DOCUMENT["components"]}
    Draft7Validator.check_schema(message["payload"])
    assert message["examples"]
    for example in message["examples"]:
        Draft7Validator(body).validate(example["payload"])


@pytest.mark.parametrize("name", [name for name, key in keys.ENTRIES.items() if key.text])
def test_a_text_key_is_no_json(name: str) -> None:
    assert CHANNELS[BY_ADDRESS[name]]["messages"]["value"]["contentType"] == "text/plain"
