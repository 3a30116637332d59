"""Values that no frontend should write: broken bytes, broken documents, broken fields, other Redis types."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from zlib import crc32

import redis
from hypothesis import strategies as st

from qbot import limits
from qbot.contract import examples, keys
from qbot.contract.key import Direction, Key

INPUTS = [key for key in keys.ENTRIES.values() if key.direction is not Direction.BACKEND]
Path = tuple[str | int, ...]
REDIS_TYPES = ("list", "hash", "set", "zset", "stream")
TEN_MEGABYTES = 10_000_000
DEEP = 10_000

# As they stand in the document: what Python's own json would not write is among them.
BAD_LEAVES: tuple[str, ...] = (
    "null", "true", "false", "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "-0", "-0.0", "-1", "-1e-9", "0.5",
    "1.0000001", "1e16", "9" * 30, "1" + "0" * 400, "1" + "0" * 5_000, '""', '"x"', '"0.05"', '"5"', '"true"',
    '"\\u0000"', '"\\ud800"', '"\\udc00 and more"', json.dumps("x" * 1_001), "[]", "[[1]]", "{}", '{"a":1}',
    "[" * 150 + "]" * 150, "[" * DEEP + "]" * DEEP,
)  # fmt: skip
NOT_JSON: tuple[str, ...] = ("0x1F", "01", "+1", ".5", "1.", "'x'", "undefined", "Infinity1", "--1", "1e", "\\u0022")


@dataclass(frozen=True)
class Bad:
    """Bytes to SET, or with `redis_type` a key of another type."""

    raw: bytes = b""
    redis_type: str = "string"

    def put(self, client: redis.Redis, key: Key[Any]) -> None:
        """A frontend's write."""
        if self.redis_type != "string":
            client.delete(key.name)
        if self.redis_type == "string":
            client.set(key.name, self.raw)
        elif self.redis_type == "list":
            client.rpush(key.name, "ACTIVE")
        elif self.redis_type == "hash":
            client.hset(key.name, "enabled", "true")
        elif self.redis_type == "set":
            client.sadd(key.name, "ACTIVE")
        elif self.redis_type == "zset":
            client.zadd(key.name, {"ACTIVE": 1.0})
        else:
            client.xadd(key.name, {"enabled": "true"})

    def __repr__(self) -> str:
        shown = self.raw if len(self.raw) < 200 else self.raw[:100] + b" ... " + self.raw[-50:]
        return f"Bad({shown!r}, {self.redis_type!r})"


def never_good(key: Key[Any], value: Bad) -> bool:
    """True for what no contract whatever could allow: the judge of those who judge."""
    if value.redis_type != "string" or len(value.raw) > limits.MAX_PAYLOAD_BYTES:
        return True
    try:
        text = value.raw.decode()
        if not key.text:
            json.loads(text)  # NaN in a field that nobody looks at does no harm
    except (ValueError, RecursionError):
        return True
    return False


def example(key: Key[Any]) -> Any:
    """The fullest documented value, parsed; of a text key the text."""
    return copy.deepcopy(examples.documented(key.name)[0])


@cache
def paths(name: str) -> tuple[Path, ...]:
    """The way to every field of a key's value: those of its example and those of its schema."""
    key = keys.ENTRIES[name]
    schema = key.adapter.json_schema()
    found = set(_in_value(example(key))) | set(_in_schema(schema, schema.get("$defs", {}), ()))
    return tuple(sorted(found, key=str))


def _in_value(value: Any, at: Path = ()) -> Iterator[Path]:
    if isinstance(value, dict):
        inner: list[tuple[str | int, Any]] = list(value.items())
    else:
        inner = list(enumerate(value[:1])) if isinstance(value, list) else []
    for step, part in inner:
        yield (*at, step)
        yield from _in_value(part, (*at, step))


def _in_schema(schema: dict[str, Any], defs: dict[str, Any], at: Path) -> Iterator[Path]:
    if "$ref" in schema:
        yield from _in_schema(defs[schema["$ref"].rsplit("/", 1)[1]], defs, at)
    for part in schema.get("anyOf", []):
        yield from _in_schema(part, defs, at)
    for name, part in schema.get("properties", {}).items():
        if name not in ("raw", "problem"):  # of an element that is no order; QBot's own, not on the wire
            yield (*at, name)
            yield from _in_schema(part, defs, (*at, name))
    if isinstance(schema.get("items"), dict):
        yield (*at, 0)
        yield from _in_schema(schema["items"], defs, (*at, 0))


def with_leaf(document: Any, path: Path, leaf: str) -> bytes:
    """The document as JSON, with the text `leaf`, valid JSON or not, at one place."""
    changed = copy.deepcopy(document)
    at = changed
    for step in path[:-1]:
        if isinstance(at, dict):
            at = at.setdefault(step, {})
        else:
            at += [{}] * (not at)
            at = at[step]
    if isinstance(at, list) and not at:
        at.append(None)
    at[path[-1]] = "@here@"
    return json.dumps(changed).replace('"@here@"', leaf).encode()


def structural(key: Key[Any]) -> Iterator[Bad]:
    """Bytes and Redis types that are wrong as a whole."""
    wire = key.example.encode()
    for redis_type in REDIS_TYPES:
        yield Bad(redis_type=redis_type)
    whole = [
        b"", b" ", b"\n", b"\x00", b"\xff", b"{", b"}", b"[", b"]", b'"', b"x", b"0", b",", b"nul", wire[:1], wire[1:],
        wire[:-1], wire[: len(wire) // 2], wire + b"\x00", b"\x00" + wire, wire + b"x", wire + b" {}", wire + wire,
        wire + b",", b"\xef\xbb\xbf" + wire, b"\xff\xfe" + wire, wire.decode().encode("utf-16"), b"\xc0\x80" + wire,
        b"\xed\xa0\x80" + wire, wire + b"\xed\xb0\x80", b"\xf5\x80\x80\x80", b"//comment\n" + wire, b"(" + wire + b")",
        wire.replace(b'"', b"'") + b"'", b'"' + b"x" * TEN_MEGABYTES + b'"', b" " * TEN_MEGABYTES, b"[" * DEEP,
        b"[" * DEEP + b"]" * DEEP, b'{"a":' * DEEP + b"1" + b"}" * DEEP, b'{"enabled":true,"enabled":' + b"[" * 50,
        json.dumps({"value": example(key)}).encode(), json.dumps([[example(key)]]).encode(),
        json.dumps(json.dumps(example(key)) + "!").encode(),
    ]  # fmt: skip
    for raw in whole:
        yield Bad(raw)
    for padding in (b" " * TEN_MEGABYTES, b"\n" * TEN_MEGABYTES):
        yield Bad(wire + padding)  # but for its size a good one
        yield Bad(padding + wire)
    for leaf in (*BAD_LEAVES, *NOT_JSON):
        yield Bad(leaf.encode())
        yield Bad(f"[{leaf}]".encode())
    for other in INPUTS:
        if other.name != key.name:
            yield Bad(other.example.encode())
    if wire.startswith(b"{"):  # last, so that what stands at one place is of one sort under every key
        yield Bad(wire[:-1] + b',"unknown":"' + b"x" * TEN_MEGABYTES + b'"}')


def leaves(key: Key[Any], one_in: int) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """With what each field of a key is broken. Each gets its share of the ways, so many fields in a row all of them."""
    for row, path in enumerate(paths(key.name), start=crc32(key.name.encode())):
        yield path, BAD_LEAVES[row % one_in :: one_in]


def broken_fields(key: Key[Any], document: Any, one_in: int = 1) -> Iterator[Bad]:
    """The document with each field broken in turn, in every way, and with it given twice, the second one broken.

    `one_in`: how much of that grid, see `leaves`.
    """
    for path, ways in leaves(key, one_in):
        for leaf in ways:
            yield Bad(with_leaf(document, path, leaf))
        if isinstance(path[-1], str):
            twice = json.dumps(path[-1])
            yield Bad(with_leaf(document, path, f'1,{twice}:"?",{twice}:[]'))


def any_json() -> st.SearchStrategy[Any]:
    """Any value a JSON writer could make, and some that it should not."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=20),
        st.text(st.characters(), max_size=5), st.sampled_from(["x" * 1_001, "\x00", "ACTIVE", "STOPPED", "1e5"]),
    )  # fmt: skip
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    )


def random_bad(key: Key[Any], document: Any) -> st.SearchStrategy[Bad]:
    """Random bytes, random JSON, the document's bytes with some replaced, the document with a random field."""
    wire = (document if key.text else json.dumps(document)).encode()
    spliced = st.tuples(st.integers(0, len(wire)), st.integers(0, 20), st.binary(max_size=6)).map(
        lambda cut: Bad(wire[: cut[0]] + cut[2] + wire[cut[0] + cut[1] :])
    )
    ways = [st.binary(max_size=200).map(Bad), any_json().map(lambda value: Bad(_dumps(value))), spliced]
    if paths(key.name):
        one_field = st.tuples(st.sampled_from(paths(key.name)), any_json())
        ways.append(one_field.map(lambda drawn: Bad(with_leaf(document, drawn[0], _dumps(drawn[1]).decode()))))
    return st.one_of(ways)


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()
