"""The contract as a C++17 header: names, enums and limits, with and without Qt.

Identifiers start with `k`, so that none is a keyword or one of the macros that Qt, X11 and Windows define.
"""

from __future__ import annotations

import json

from qbot.contract.exports.schema import EXTENSION, Schema
from qbot.contract.exports.source import NOTICE, Contract, camel, unique
from qbot.contract.exports.wording import kind, meaning, nullable, wrapped

# A header is read in whatever code page a compiler has.
_ASCII = str.maketrans({"×": "x", "−": "-", "…": "...", "→": "->", "–": "-", "’": "'", "√": "sqrt "})

_HEAD = f"""// {NOTICE}
//
// Names, enums and limits of QBot's Redis keys. C++17; needs neither Qt nor anything else. With Qt 5 or 6:
//
//   namespace contract = qbot::contract;
//   QJsonObject settings;
//   settings[QLatin1String(contract::fields::TradingSettings::kEnabled)] = false;
//   redis.set(contract::keys::kTradingSettings, QJsonDocument(settings).toJson(QJsonDocument::Compact));
//
//   contract::BackendStatus status;
//   if (contract::fromString(std::string_view(bytes.constData(), std::size_t(bytes.size())), status)) ...
//
// A key's value is JSON, but for keys whose info says `text`: those hold the plain string itself.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace qbot::contract {{

namespace detail {{

template <typename Enum, std::size_t N>
constexpr bool find(const char* const (&names)[N], std::string_view text, Enum& value) noexcept {{
  for (std::size_t i = 0; i < N; ++i) {{
    if (text == names[i]) {{
      value = static_cast<Enum>(i);
      return true;
    }}
  }}
  return false;
}}

}}  // namespace detail
"""

_INFO = """enum class Direction { kFrontend, kBackend, kBoth };

// Whether seconds are of wall time or, in a replay, of market time.
enum class Clock { kWall, kMarket };

struct KeyInfo {
  const char* name;
  Direction direction;       // who writes it
  const char* writer;        // the task that writes it
  double cadence_s;          // seconds between two writes; 0: it follows events
  Clock clock;
  double max_age_s;          // seconds after which a value is stale; 0: never
  std::size_t history_limit; // elements a history keeps; 0: it is none
  std::size_t max_bytes;
  bool text;                 // a plain string, without JSON's quotes
  const char* absent;        // what it means when the key is not there; nullptr: then something is missing
  bool extension;            // the older documents do not have it
  bool internal;             // QBot's own bookkeeping
};
"""

_TAIL = """// nullptr: no such key.
constexpr const KeyInfo* info(std::string_view name) noexcept {
  for (const KeyInfo& key : kKeys) {
    if (name == key.name) return &key;
  }
  return nullptr;
}

// The key of one ticker of a family such as `yfinance_enhanced:{TICKER}`.
inline std::string keyFor(std::string_view family, std::string_view ticker) {
  constexpr std::string_view slot = "{TICKER}";
  std::string name(family);
  const std::size_t at = name.find(slot);
  if (at != std::string::npos) name.replace(at, slot.size(), ticker);
  return name;
}

}  // namespace qbot::contract
"""


def text(contract: Contract, document: Schema) -> str:
    """The whole header."""
    definitions = document["$defs"]
    enums = {name: schema for name, schema in definitions.items() if "enum" in schema}
    payloads = {name: schema for name, schema in definitions.items() if "properties" in schema}
    names = {name: schema["description"] for name, schema in document["properties"].items()}
    channels = {name: channel.description for name, channel in contract.channels.items()}
    parts = [_HEAD]
    parts.append(f"namespace keys {{\n\n{_strings(names)}\n}}  // namespace keys\n")
    parts.append(f"namespace channels {{\n\n{_strings(channels)}\n}}  // namespace channels\n")
    parts.append("// The names of the fields, payload by payload.\nnamespace fields {\n")
    parts += [_payload(name, schema) for name, schema in payloads.items()]
    parts.append("}  // namespace fields\n")
    parts += [_enum(name, schema) for name, schema in enums.items()]
    parts += [_INFO, _table(document["properties"]), _TAIL]
    return "\n".join(parts)


def identifier(name: str) -> str:
    """`trades_today` as `kTradesToday`."""
    return "k" + camel(name)


def _strings(described: dict[str, str], indent: str = "") -> str:
    unique({name: identifier(name) for name in described})
    return "".join(
        _comment(said, indent) + f"{indent}inline constexpr char {identifier(name)}[] = {_literal(name)};\n"
        for name, said in described.items()
    )


def _payload(name: str, schema: Schema) -> str:
    described = {field: _told(inner) for field, inner in schema["properties"].items()}
    return f"{_comment(meaning(schema), '')}namespace {name} {{\n{_strings(described)}}}  // namespace {name}\n"


def _told(schema: Schema) -> str:
    said = kind(schema) + (" or null" if nullable(schema) else "")
    return f"{said}. {meaning(schema)}" if meaning(schema) else f"{said}."


def _enum(name: str, schema: Schema) -> str:
    values = unique({value: identifier(value) for value in schema["enum"]})
    names = ", ".join(_literal(value) for value in values)
    return (
        f"{_comment(meaning(schema), '')}enum class {name} {{ {', '.join(values.values())} }};\n"
        f"inline constexpr const char* k{name}Names[] = {{{names}}};\n"
        f"constexpr const char* toString({name} value) noexcept {{\n"
        f"  return k{name}Names[static_cast<std::size_t>(value)];\n}}\n"
        "// False, and `value` as it was, when it is none of the names.\n"
        f"constexpr bool fromString(std::string_view text, {name}& value) noexcept {{\n"
        f"  return detail::find(k{name}Names, text, value);\n}}\n"
    )


def _table(properties: dict[str, Schema]) -> str:
    rows = []
    for name, schema in properties.items():
        known = schema[EXTENSION]
        cells = [
            f"keys::{identifier(name)}",
            f"Direction::{identifier(known['direction'])}",
            _literal(known["writer"]),
            str(known["cadence_s"] or 0),
            f"Clock::{identifier(known['clock'])}",
            str(known["max_age_s"] or 0),
            str(known["history_limit"] or 0),
            str(known["max_bytes"]),
            _bool(known["text"]),
            "nullptr" if known["absent"] is None else _literal(known["absent"]),
            _bool(known["extension"]),
            _bool(known["internal"]),
        ]
        rows.append("    {" + ", ".join(cells) + "},\n")
    return "inline constexpr KeyInfo kKeys[] = {\n" + "".join(rows) + "};\n"


def _comment(said: str, indent: str) -> str:
    return "".join(f"{indent}// {line}\n" for line in wrapped(said.translate(_ASCII), 115))


def _literal(value: str) -> str:
    return json.dumps(value)


def _bool(value: bool) -> str:
    return "true" if value else "false"
