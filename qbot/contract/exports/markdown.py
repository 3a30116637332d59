"""The contract as a guide for people who build a frontend: every key, what it holds and what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qbot.contract.exports import wording
from qbot.contract.exports.schema import Schema
from qbot.contract.exports.source import NOTICE, Contract, frontend_writes
from qbot.contract.key import Direction, Key, Pace
from qbot.contract.names import groups

_CONVENTIONS = Path(__file__).with_name("conventions.md")
_TITLES = {
    "core": "Core",
    "autotrading": "Starting and stopping",
    "frontend": "What frontends write",
    "backend": "What frontends show",
    "forecasts": "Forecasts and training",
    "market data": "Market data",
    "own": "QBot's own",
}
_WHO = {Direction.FRONTEND: "frontend", Direction.BACKEND: "QBot", Direction.BOTH: "both"}
_MAX_VALUES_SHOWN = 12


class _Seen:
    """Which payload was described under which heading, so that each is described once."""

    def __init__(self, definitions: dict[str, Schema]) -> None:
        self.definitions = definitions
        self.where: dict[str, str] = {}


def text(contract: Contract, document: Schema) -> str:
    """The whole guide."""
    seen = _Seen(document["$defs"])
    grouped = _grouped(contract)
    lines = [f"<!-- {NOTICE} -->", ""]
    lines += [_CONVENTIONS.read_text(encoding="utf-8").rstrip().replace("{KEYS}", _overview(grouped)), ""]
    for title, entries in grouped.items():
        lines += [f"## {title}", ""]
        for key in entries:
            lines += _key(key, document["properties"][key.name], seen)
    lines += ["## Channels", ""]
    for name, channel in contract.channels.items():
        schema = document["x-qbot-channels"][name]
        lines += [f"### Channel `{name}`", "", channel.description, ""]
        lines += _holds(schema, f"Channel `{name}`", seen, "A message is") + _example(json.loads(channel.example))
    lines += _written(contract, document, seen)
    return "\n".join(lines).rstrip() + "\n"


def anchor(heading: str) -> str:
    """The fragment that a rendered heading gets."""
    return re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-")


def _article(word: str) -> str:
    """`an Alert`, `a string`; a payload's name in bold."""
    shown = f"**{word}**" if word[0].isupper() else word
    return f"an {shown}" if word.startswith((*"AEIOaeio", "Up")) else f"a {shown}"


def _grouped(contract: Contract) -> dict[str, list[Key[object]]]:
    """Keys by title. A key that no group has is put last rather than left out."""
    known = {key.name: _TITLES.get(group, group.capitalize()) for group, keys in groups().items() for key in keys}
    found: dict[str, list[Key[object]]] = {}
    for name, key in contract.entries.items():
        found.setdefault(known.get(name, "Others"), []).append(key)
    return found


def _overview(grouped: dict[str, list[Key[object]]]) -> str:
    blocks = []
    for title, entries in grouped.items():
        rows = [
            (f"[`{key.name}`](#{anchor(key.name)})" + (" ⁺" if key.extension else ""), _WHO[key.direction], _when(key))
            for key in entries
        ]
        blocks.append(f"**{title}**\n\n" + _table(("Key", "Writer", "Every"), rows))
    return "\n\n".join(blocks)


def _when(key: Key[object]) -> str:
    return wording.duration(key.cadence_s) if key.cadence_s else "event"


def _key(key: Key[object], schema: Schema, seen: _Seen) -> list[str]:
    heading = f"`{key.name}`"
    mark = " *Extension.*" if key.extension else ""
    return [
        f"### {heading}",
        "",
        f"{key.description}{mark}",
        "",
        *_facts(key),
        "",
        *_holds(schema, heading, seen, "Plain text:" if key.text else "It holds"),
        *_example(key.example if key.text else json.loads(key.example), plain=key.text),
    ]


def _facts(key: Key[object]) -> list[str]:
    writers = {
        Direction.FRONTEND: "a frontend",
        Direction.BACKEND: f"QBot, task `{key.writer}`",
        Direction.BOTH: f"a frontend and QBot, task `{key.writer}`",
    }
    of = "of market time" if key.pace is Pace.MARKET else ""
    facts = [("Written by", writers[key.direction])]
    every = f"every {wording.duration(key.cadence_s)} {of}".strip() if key.cadence_s else "as it happens"
    facts.append(("When", every))
    if key.max_age_s:
        facts.append(("Stale after", f"{wording.duration(key.max_age_s)} {of}".strip()))
    facts.append(("Not there", key.absent or "Something is missing: QBot has not written it yet, or does not run."))
    if key.history_limit:
        facts.append(("Keeps", f"the last {key.history_limit} elements"))
    if frontend_writes(key):
        facts.append(("At most", f"{key.max_bytes:,} bytes"))
    return [f"- {name}: {said}" for name, said in facts]


def _holds(schema: Schema, heading: str, seen: _Seen, intro: str) -> list[str]:
    """What a value is, and a table for each payload in it that was not described before."""
    bounds = "" if "maxItems" in schema else wording.bounds(schema)
    lead = f"{intro} {_sentence(schema, seen)}" + (f" ({bounds})." if bounds else ".")
    lines: list[str] = []
    for name in _reachable(schema, seen.definitions):
        body, known = seen.definitions[name], seen.where.get(name)
        if known:
            lines += ["", f"**{name}**: see [{known}](#{anchor(known)})."]
            continue
        seen.where[name] = heading
        if name == _main(schema):
            lead += f" {_said_of(body)}"
            lines += ["", _fields(body, seen)]
        else:
            lines += ["", f"**{name}**. {_said_of(body)}".strip(), "", _fields(body, seen)]
    return [lead.strip(), *lines, ""]


def _main(schema: Schema) -> str | None:
    """The payload that a value is, or is an array or object of."""
    inner = schema.get("items") or schema.get("additionalProperties")
    return _main(inner) if isinstance(inner, dict) else wording.target(schema)


def _said_of(body: Schema) -> str:
    """What a payload's own description adds to the heading it stands under, as a sentence."""
    said = re.sub(r"^(One (element|ticker) of )?`[^`]*`[.:,]?\s*", "", str(body.get("description", ""))).strip()
    said = said[:1].upper() + said[1:]
    return said if not said or said.endswith(".") else f"{said}."


def _sentence(schema: Schema, seen: _Seen) -> str:
    values = seen.definitions.get(wording.target(schema) or "", schema).get("enum")
    if values:
        return "one of " + ", ".join(f"`{value}`" for value in values)
    if schema.get("type") == "array":
        limit = f" (at most {schema['maxItems']:,})" if "maxItems" in schema else ""
        inner = re.sub(r"^an? ", "", _sentence(schema["items"], seen))
        return f"an array of {inner}{'' if inner.startswith('**') else 's'}{limit}"
    if schema.get("type") == "object":
        inner = _sentence(schema["additionalProperties"], seen)
        return f"an object: for each {wording.naming(schema)} {inner}"
    return _article(wording.kind(schema))


def _reachable(schema: Any, definitions: dict[str, Schema]) -> list[str]:
    """The payloads within a schema, each once, in the order of appearance."""
    found: list[str] = []
    _reach(schema, definitions, found)
    return found


def _reach(schema: Any, definitions: dict[str, Schema], found: list[str]) -> None:
    if isinstance(schema, list):
        for item in schema:
            _reach(item, definitions, found)
    elif isinstance(schema, dict):
        name = wording.target(schema)
        if name and name not in found and "properties" in definitions[name]:
            found.append(name)
            _reach(definitions[name], definitions, found)
        for word, inner in schema.items():
            if word not in ("examples", "default"):
                _reach(inner, definitions, found)


def _fields(body: Schema, seen: _Seen) -> str:
    required = body.get("required", ())
    rows = [
        (f"`{field}`" + ("" if field in required else " ?"), _type(inner, seen), _meaning(inner))
        for field, inner in body["properties"].items()
    ]
    return _table(("Field", "Type", "Meaning"), rows)


def _type(schema: Schema, seen: _Seen) -> str:
    name = wording.target(schema) or next(
        (wording.target(option) for option in wording.options(schema) if wording.target(option)), None
    )
    values = seen.definitions[name].get("enum", ()) if name else schema.get("enum", ())
    if values:
        shown = " ".join(f"`{value}`" for value in values[:_MAX_VALUES_SHOWN])
    else:
        bounds = wording.bounds(schema)
        shown = wording.kind(schema) + (f", {bounds}" if bounds and "characters" not in bounds else "")
    return shown + (", or null" if wording.nullable(schema) else "")


def _meaning(schema: Schema) -> str:
    default = schema.get("default")
    left_out = f" Left out: {json.dumps(default)}." if default not in (None, "") else ""
    said = wording.meaning(schema)
    return (said if not left_out or said.endswith(".") or not said else f"{said}.") + left_out


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.strip().replace("|", "\\|") for cell in line) + " |" for line in lines)


def _example(value: Any, *, plain: bool = False) -> list[str]:
    fence, body = ("text", str(value)) if plain else ("json", wording.compact(value))
    return [f"```{fence}", body, "```", ""]


def _written(contract: Contract, document: Schema, seen: _Seen) -> list[str]:
    return [
        f"## The hash `{contract.written}`",
        "",
        f"One field a key: when it was last written, and with which revision. `HGET {contract.written} <key>`",
        "tells how old a value is. Frontends only read it.",
        "",
        *_holds(document["x-qbot-written"], f"The hash `{contract.written}`", seen, "A field holds"),
    ]
