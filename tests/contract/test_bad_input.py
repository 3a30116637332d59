"""Whatever stands under an input key: reading it never raises, names the problem, and harms no other key."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qbot.contract import examples, keys
from qbot.contract.board import Board
from qbot.contract.key import Direction, Key
from qbot.contract.payloads_orders import MalformedOrder
from qbot.contract.problems import Problem

INPUTS = [key for key in keys.ENTRIES.values() if key.direction is not Direction.BACKEND]
OBJECTS = [key for key in INPUTS if isinstance(examples.documented(key.name)[0], dict)]
NAMES = tuple(str(problem) for problem in Problem)
INTACT = keys.MARKET_STATUS
UNREADABLE_IS_FALSE = (keys.EMERGENCY_ACTIONS.name, "force")  # a stop must not fail for its form
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=20), st.just("x" * 1_001)
)
ANY_JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
WIRES = st.one_of(
    st.binary(max_size=200),
    ANY_JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"1e400", b"-1e400", b"[" * 5_000, b'{"a":' * 5_000, b"\xff" * 50, b"NaN", b'"\\ud800"', b"0x1F"]),
)
ON_REAL_REDIS = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _judge(board: Board, key: Key[object]) -> None:
    """One reading beside another key's: judged, and the other untouched."""
    snapshot = board.read_many([key, INTACT])
    reading = snapshot[key]
    assert snapshot[INTACT].value is not None
    assert reading.present
    assert (reading.value is None) == (reading.problem is not None)
    if reading.problem:
        assert reading.problem.split(":")[0] in NAMES
        assert len(reading.problem) < 400


@pytest.mark.parametrize("key", INPUTS, ids=lambda key: key.name)
@ON_REAL_REDIS
@given(wire=WIRES)
def test_any_bytes_under_an_input_key_are_judged_and_never_raise(
    board: Board, raw: redis.Redis, key: Key[object], wire: bytes
) -> None:
    raw.set(INTACT.name, INTACT.example)
    raw.set(key.name, wire)
    _judge(board, key)


@pytest.mark.parametrize("key", OBJECTS, ids=lambda key: key.name)
@ON_REAL_REDIS
@given(data=st.data())
def test_one_field_gone_bad_is_named(board: Board, raw: redis.Redis, key: Key[object], data: st.DataObject) -> None:
    example: dict[str, Any] = examples.documented(key.name)[0]
    field = data.draw(st.sampled_from(sorted(example)))
    value = data.draw(ANY_JSON)
    raw.set(INTACT.name, INTACT.example)
    raw.set(key.name, json.dumps(example | {field: value}))
    _judge(board, key)
    reading = board.read(key)
    if type(example[field]) is bool and not isinstance(value, bool) and (key.name, field) != UNREADABLE_IS_FALSE:
        assert field in str(reading.problem)


NO_NUMBERS = [
    "true",
    "false",
    '"5"',
    "null",
    "NaN",
    "-Infinity",
    "1e400",
    "-1e400",
    "-1",
    "[]",
    "{}",
    "1" + "0" * 5_000,
]
NUMBERS = [
    (key, field)
    for key in OBJECTS
    for field, value in examples.documented(key.name)[0].items()
    if type(value) in (int, float)
]


@pytest.mark.parametrize(("key", "field"), NUMBERS, ids=lambda part: getattr(part, "name", part))
def test_a_number_that_is_none_is_refused_by_name(key: Key[object], field: str) -> None:
    assert key.reading(f'{{"{field}": 1}}'.encode()).value is not None
    for bad in NO_NUMBERS:
        reading = key.reading(f'{{"{field}": {bad}}}'.encode())
        assert reading.value is None, bad
        assert field in str(reading.problem) or "NOT_JSON" in str(reading.problem)


@ON_REAL_REDIS
@given(items=st.lists(ANY_JSON, max_size=5))
def test_manual_orders_that_are_none_are_each_called_malformed(
    board: Board, raw: redis.Redis, items: list[Any]
) -> None:
    raw.set(keys.MANUAL_ORDERS.name, json.dumps(items))
    reading = board.read(keys.MANUAL_ORDERS)
    if reading.problem is None:
        assert reading.value is not None
        assert all(isinstance(order, MalformedOrder) and order.problem for order in reading.value)
        assert len(reading.value) == len(items)


@pytest.mark.parametrize("key", INPUTS, ids=lambda key: key.name)
def test_a_redis_list_hash_or_two_megabytes_are_named(board: Board, raw: redis.Redis, key: Key[object]) -> None:
    raw.rpush(key.name, "x")
    assert str(board.read(key).problem).startswith("WRONG_REDIS_TYPE: ")
    raw.delete(key.name)
    raw.hset(key.name, "enabled", "true")
    assert str(board.read(key).problem).startswith("WRONG_REDIS_TYPE: ")
    raw.set(key.name, b'"' + b"x" * 2_000_000 + b'"')
    assert str(board.read(key).problem).startswith("TOO_LARGE: ")
