"""The contract as one TypeScript module: names, metadata and types. It needs TypeScript 4.1 and nothing else."""

from __future__ import annotations

import json
import re

from qbot.contract.exports.schema import EXTENSION, Schema
from qbot.contract.exports.source import NOTICE, Contract, camel, frontend_writes, shouting, unique
from qbot.contract.exports.wording import bounds, meaning, options, target, wrapped
from qbot.contract.key import TICKER_SLOT

_HEAD = f"""// {NOTICE}
//
// A key's value is JSON, but for keys whose info says `text`: those hold the plain string itself.
// Fields you do not know are to be ignored; a field with `?` may be left out.

/** ISO 8601 with a zone, such as 2025-09-21T15:30:00Z. */
export type IsoTime = string;

/** A day: 2025-09-21. */
export type IsoDate = string;

/** Any JSON. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | {{ readonly [name: string]: JsonValue }};
"""

_INFO = """export interface KeyInfo {
  /** Who writes it. */
  readonly direction: "frontend" | "backend" | "both";
  /** The task that writes it. */
  readonly writer: string;
  /** Seconds between two writes; null: it follows events. */
  readonly cadenceS: number | null;
  /** Whether the seconds are of wall time or, in a replay, of market time. */
  readonly clock: "wall" | "market";
  /** Seconds after which a value is stale; null: never. */
  readonly maxAgeS: number | null;
  /** Elements a history keeps; null: it is none. */
  readonly historyLimit: number | null;
  readonly maxBytes: number;
  /** True: a plain string, without JSON's quotes. */
  readonly text: boolean;
  /** What it means when the key is not there; null: then something is missing. */
  readonly absent: string | null;
  /** True: the older documents do not have it. */
  readonly extension: boolean;
  /** True: QBot's own bookkeeping. */
  readonly internal: boolean;
}
"""

_KEY_FOR = """/** The key of one ticker: keyFor(KEYS.%s, "AAPL"). */
export function keyFor(family: KeyFamily, ticker: string): string {
  return family.replace("{TICKER}", ticker);
}
"""


def text(contract: Contract, document: Schema) -> str:
    """The whole module."""
    names = unique({name: shouting(name) for name in contract.entries})
    channels = unique({name: shouting(name) for name in contract.channels})
    parts = [_HEAD, *(_definition(name, schema) for name, schema in document["$defs"].items())]
    parts.append(_constants("KEYS", "Every key, by an identifier.", names))
    parts.append("export type KeyName = (typeof KEYS)[keyof typeof KEYS];\n")
    writable = [name for name, key in contract.entries.items() if frontend_writes(key)]
    parts.append(_union("WritableKey", "The keys that a frontend may write.", writable))
    families = [name for name, key in contract.entries.items() if key.pattern]
    parts.append(_union("KeyFamily", f"Families of keys, one a ticker: {TICKER_SLOT} stands for it.", families))
    parts += [_KEY_FOR % names[name] for name in families[:1]]
    parts.append(_constants("CHANNELS", "Every pub/sub channel, by an identifier.", channels))
    parts.append("export type ChannelName = (typeof CHANNELS)[keyof typeof CHANNELS];\n")
    parts.append(_values("ContractValues", "What each key holds, parsed.", document["properties"]))
    parts.append(_values("ChannelMessages", "The messages of each channel, parsed.", document["x-qbot-channels"]))
    parts += [_INFO, _info(document["properties"])]
    return "\n".join(parts)


def expression(schema: Schema) -> str:
    """The type of one value."""
    named = target(schema)
    if named:
        return named
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(expression(option) for option in options(schema)))
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return f"ReadonlyArray<{expression(schema['items'])}>"
    if schema.get("type") == "object":
        return f"Readonly<Record<string, {expression(schema['additionalProperties'])}>>"
    if schema.get("type") == "string":
        return {"date-time": "IsoTime", "date": "IsoDate"}.get(str(schema.get("format")), "string")
    return {"integer": "number", None: "JsonValue"}.get(schema.get("type"), str(schema.get("type")))


def _definition(name: str, schema: Schema) -> str:
    if name == "JsonValue":
        return ""
    if "enum" in schema:
        values = ", ".join(json.dumps(value) for value in schema["enum"])
        constant = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).upper() + "_VALUES"
        kind = f"export type {name} = {expression(schema)};\n"
        return _comment(meaning(schema), "") + kind + f"export const {constant}: readonly {name}[] = [{values}];\n"
    required = schema.get("required", ())
    lines = [_comment(meaning(schema), "") + f"export interface {camel(name)} {{"]
    for field, inner in schema["properties"].items():
        optional = "" if field in required else "?"
        lines.append(_comment(_told(inner), "  ") + f"  readonly {_name(field)}{optional}: {expression(inner)};")
    return "\n".join([*lines, "}", ""])


def _told(schema: Schema) -> str:
    limits = bounds(schema)
    said = meaning(schema)
    default = f"Left out: {json.dumps(schema['default'])}." if schema.get("default") not in (None, "") else ""
    return " ".join(part for part in (said, f"({limits})" if limits else "", default) if part)


def _comment(said: str, indent: str) -> str:
    if not said:
        return ""
    lines = wrapped(said.replace("*/", "* /"), 110)
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    return f"{indent}/**\n" + "".join(f"{indent} * {line}\n" for line in lines) + f"{indent} */\n"


def _constants(constant: str, said: str, names: object) -> str:
    assert isinstance(names, dict)
    body = "".join(f"  {identifier}: {json.dumps(name)},\n" for name, identifier in names.items())
    return _comment(said, "") + f"export const {constant} = {{\n{body}}} as const;\n"


def _union(name: str, said: str, values: list[str]) -> str:
    if not values:
        return _comment(said, "") + f"export type {name} = never;\n"
    return _comment(said, "") + f"export type {name} =\n" + "".join(f"  | {json.dumps(v)}\n" for v in values) + "  ;\n"


def _values(name: str, said: str, schemas: dict[str, Schema]) -> str:
    lines = [
        _comment(meaning(schema), "  ") + f"  {json.dumps(key)}: {expression(schema)};\n"
        for key, schema in schemas.items()
    ]
    return _comment(said, "") + f"export interface {name} {{\n" + "".join(lines) + "}\n"


def _info(properties: dict[str, Schema]) -> str:
    lines = []
    for name, schema in properties.items():
        pairs = ((_lower_camel(key), json.dumps(value)) for key, value in schema[EXTENSION].items())
        lines.append(f"  {json.dumps(name)}: {{ " + ", ".join(f"{key}: {value}" for key, value in pairs) + " },\n")
    return "export const KEY_INFO: Readonly<Record<KeyName, KeyInfo>> = {\n" + "".join(lines) + "};\n"


def _lower_camel(name: str) -> str:
    joined = camel(name)
    return joined[0].lower() + joined[1:]


def _name(field: str) -> str:
    return field if re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$]*", field) else json.dumps(field)
