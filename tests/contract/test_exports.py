"""The exports are current, whole and well-formed, and a change of the contract that is not exported is found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import tree_sitter_cpp
import tree_sitter_typescript
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field, TypeAdapter
from tree_sitter import Language, Node, Parser

from qbot.contract import keys, kinds
from qbot.contract.exports import Contract, __main__, render, schema, stale, write
from qbot.contract.exports.markdown import anchor
from qbot.contract.exports.source import shouting, unique
from qbot.contract.fields import Number, Payload
from qbot.contract.key import Direction, Key
from qbot.contract.payloads_orders import MalformedOrder
from qbot.contract.payloads_trading import RiskStatus

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILES = {path.name: text for path, text in render().items()}
GUIDE, SCHEMA, ASYNC = FILES["contract.md"], FILES["qbot.schema.json"], FILES["asyncapi.yaml"]
TYPESCRIPT, HEADER = FILES["qbot-contract.ts"], FILES["qbot_contract.h"]
DOCUMENT = json.loads(SCHEMA)
NAMES = [*keys.ENTRIES, *keys.CHANNELS]
ENUMS = {name: body["enum"] for name, body in DOCUMENT["$defs"].items() if "enum" in body}


def models(kind: Any) -> set[type[BaseModel]]:
    """Every payload within a type: found without the schema, so that the schema cannot forget one."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        inner = (field.annotation for field in kind.model_fields.values())
        return {kind}.union(*(models(annotation) for annotation in inner))
    return set().union(*(models(argument) for argument in get_args(kind)))


def _payloads() -> list[type[BaseModel]]:
    entries = [*keys.ENTRIES.values(), *keys.CHANNELS.values()]
    found = set().union(*(models(entry.adapter._type) for entry in entries))
    return sorted(found - {MalformedOrder}, key=lambda model: model.__name__)


def _tree(text: str, language: Any) -> Node:
    return Parser(Language(language)).parse(text.encode()).root_node


def _nodes(node: Node) -> list[Node]:
    return [node, *(inner for child in node.children for inner in _nodes(child))]


# Current


def test_the_files_in_docs_are_current() -> None:
    assert stale(DOCS) == [], "run `make contract` and commit"


def test_the_same_contract_gives_the_same_text() -> None:
    assert {path.name: text for path, text in render(Contract()).items()} == FILES


class _WithOneMore(RiskStatus):
    planted_field: Number = Field(description="planted")


PLANTED = Contract(
    entries=dict(keys.ENTRIES)
    | {
        "risk_status": kinds.wall(
            "risk_status", TypeAdapter(_WithOneMore), "update_backend_responses", 30.0, "Today's."
        )
    }
)


def test_a_field_that_was_not_exported_makes_every_file_stale(tmp_path: Path) -> None:
    written = write(tmp_path)
    assert stale(tmp_path) == []
    assert sorted(stale(tmp_path, PLANTED)) == sorted(written)
    assert all("planted" in text.lower() for text in render(PLANTED).values())


def test_the_check_says_which_file_and_which_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--folder", str(tmp_path)]) == 0
    assert __main__.main(["--folder", str(tmp_path), "--check"]) == 0
    capsys.readouterr()
    (tmp_path / "contract.md").write_text("old")
    assert __main__.main(["--folder", str(tmp_path), "--check"]) == 1
    told = capsys.readouterr().err
    assert "contract.md" in told
    assert "qbot.schema.json" not in told
    assert "make contract" in told
    assert (tmp_path / "contract.md").read_text() == "old"


def test_a_missing_file_is_stale(tmp_path: Path) -> None:
    assert len(stale(tmp_path)) == len(FILES)


# Whole


@pytest.mark.parametrize("file", FILES)
def test_every_key_and_channel_is_in_every_export(file: str) -> None:
    assert [name for name in NAMES if name not in FILES[file]] == []


@pytest.mark.parametrize("model", _payloads(), ids=lambda model: model.__name__)
def test_every_field_of_every_payload_is_in_every_export(model: type[BaseModel]) -> None:
    name, fields = model.__name__, set(model.model_fields)
    assert set(DOCUMENT["$defs"][name]["properties"]) == fields
    interface = re.search(rf"^export interface {name} \{{(.*?)^\}}", TYPESCRIPT, re.S | re.M)
    assert interface
    assert set(re.findall(r"^  readonly (\w+)\??:", interface[1], re.M)) == fields
    namespace = re.search(rf"^namespace {name} \{{(.*?)^\}}", HEADER, re.S | re.M)
    assert namespace
    assert set(re.findall(r'char k\w+\[\] = "(\w+)";', namespace[1])) == fields
    assert any(fields == set(re.findall(r"^\| `(\w+)`", table, re.M)) for table in GUIDE.split("| Field |")[1:])


@pytest.mark.parametrize("name", ENUMS)
def test_every_value_of_every_enum_is_in_the_code(name: str) -> None:
    values = ", ".join(json.dumps(value) for value in ENUMS[name])
    assert f"k{name}Names[] = {{{values}}};" in HEADER
    assert f"export type {name} = {values.replace(', ', ' | ')};" in TYPESCRIPT


@pytest.mark.parametrize("key", keys.ENTRIES.values(), ids=lambda key: key.name)
def test_the_numbers_of_a_key_are_in_the_code(key: Key[object]) -> None:
    cadence, age, limit = key.cadence_s or 0, key.max_age_s or 0, key.history_limit or 0
    row = next(line for line in HEADER.splitlines() if line.startswith(f"    {{keys::{_identifier(key.name)},"))
    assert f'"{key.writer}", {cadence:g}, Clock::k{key.pace.capitalize()}, {age:g}, {limit}, {key.max_bytes},' in row
    line = next(line for line in TYPESCRIPT.splitlines() if line.startswith(f"  {json.dumps(key.name)}: {{"))
    known = json.loads(re.sub(r"(\w+): ", r'"\1": ', line.split(": ", 1)[1].split(", absent")[0] + "}"))
    assert (known["direction"], known["cadenceS"]) == (key.direction, key.cadence_s)
    assert (known["maxAgeS"], known["historyLimit"], known["text"]) == (key.max_age_s, key.history_limit, key.text)


def _identifier(name: str) -> str:
    found = re.search(rf"char (\w+)\[\] = {re.escape(json.dumps(name))};", HEADER.split("namespace channels")[0])
    assert found
    return found[1]


def test_every_number_says_its_unit_or_meaning() -> None:
    silent = [
        f"{name}.{field}"
        for name, body in DOCUMENT["$defs"].items()
        for field, inner in body.get("properties", {}).items()
        for option in inner.get("anyOf", [inner])
        if option.get("type") in ("number", "integer") and len(inner.get("description", "")) < 3
    ]
    assert silent == []


def test_the_types_know_what_a_frontend_may_write() -> None:
    union = re.search(r"export type WritableKey =(.*?);", TYPESCRIPT, re.S)
    assert union
    writable = {name for name, key in keys.ENTRIES.items() if key.direction is not Direction.BACKEND}
    assert set(re.findall(r'"([^"]+)"', union[1])) == writable


# Well-formed


def test_the_schema_is_a_schema_and_says_nothing_a_reader_would_skip() -> None:
    Draft202012Validator.check_schema(DOCUMENT)
    pieces = re.findall(r'"#/\$defs/(\w+)"', SCHEMA)
    assert set(pieces) <= set(DOCUMENT["$defs"])


def test_a_whole_board_is_valid_and_one_bad_value_is_not() -> None:
    board = {
        name.replace("{TICKER}", "AAPL"): key.example if key.text else json.loads(key.example)
        for name, key in keys.ENTRIES.items()
    }
    judge = Draft202012Validator(DOCUMENT)
    assert judge.is_valid(board)
    assert not judge.is_valid(board | {"yfinance_enhanced:AAPL": {}})
    assert not judge.is_valid(board | {"trading_settings": {"enabled": None}})


def test_the_typescript_parses_and_has_no_any() -> None:
    tree = _tree(TYPESCRIPT, tree_sitter_typescript.language_typescript())
    assert not tree.has_error
    kinds_named = {node.text for node in _nodes(tree) if node.type == "predefined_type"}
    assert kinds_named == {b"string", b"number", b"boolean"}
    assert _tree(TYPESCRIPT.replace("export interface Alert {", "export interface {"), tree_sitter_typescript.language_typescript()).has_error  # fmt: skip  # noqa: E501


def test_the_header_parses_and_is_plain_ascii() -> None:
    assert not _tree(HEADER, tree_sitter_cpp.language()).has_error
    assert HEADER.isascii()
    assert _tree(HEADER.replace("enum class Side {", "enum class Side"), tree_sitter_cpp.language()).has_error


def test_the_header_uses_the_standard_library_alone() -> None:
    assert set(re.findall(r"^#include (.+)$", HEADER, re.M)) == {"<cstddef>", "<string>", "<string_view>"}


def test_every_link_of_the_guide_leads_somewhere() -> None:
    headings = {anchor(line.lstrip("# ")) for line in GUIDE.splitlines() if line.startswith("#")}
    links = re.findall(r"\]\(([^)]+)\)", GUIDE)
    assert [link for link in links if link.startswith("#") and link[1:] not in headings] == []
    assert [link for link in links if not link.startswith("#") and not (DOCS / link).exists()] == []


def test_every_table_of_the_guide_has_as_many_cells_in_each_row() -> None:
    for table in re.findall(r"(?:^\|.*\|\n)+", GUIDE, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table


# Refused


class _Unspeakable(Payload):
    even: int = Field(multiple_of=2)


def test_a_bound_that_the_exports_cannot_tell_is_refused() -> None:
    entry = kinds.event("x", TypeAdapter(_Unspeakable), "w", "X.")
    with pytest.raises(ValueError, match="multipleOf"):
        schema.document(Contract(entries={"x": entry}))


def test_two_keys_that_would_share_an_identifier_are_refused() -> None:
    with pytest.raises(ValueError, match="share an identifier"):
        unique({name: shouting(name) for name in ("a:b", "a_b")})
