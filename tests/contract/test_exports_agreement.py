"""The JSON Schema and the validator take and refuse the same values, but for a short list that the guide names too."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from zoneinfo import available_timezones

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker, ValidationError, validators
from pydantic import ValidationError as Refused

from qbot.contract import examples, keys
from qbot.contract.exports import Contract, schema
from qbot.contract.payloads_orders import MalformedOrder

DOCUMENT = schema.document(Contract())
NAMES = [*keys.ENTRIES, *keys.CHANNELS]
TIME_ZONES = available_timezones()
# Values that are wrong somewhere, and some that only look it. No documented difference is among them.
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 5.0, 0.5, 1.5, -0.01, 1.01, 6, 10**6, 10**6 + 1, 1e-9, 1e15, 1.0000001e15, 10**400, "",
    "x", "x" * 100, "x" * 101, "x" * 1_000, "x" * 1_001, "a\x00b", "é" * 100, "1", "15", "015", "1٣", "15min", "15m",
    "AAPL", "aapl", "BRK.B", "1ABC", "TOOLONGATICKER", "A B", "BALANCED", "balanced", "BUY", "buy", "ACTIVE", "RUNNING",
    "09:30", "9:30", "25:00", "0٩:30", "2025-09-21T15:30:00Z", "2025-09-21T15:30:00+02:00", "2025-09-21t15:30:00.5Z",
    "2025-02-30T00:00:00Z", "2025-09-21T25:00:00Z", "2025-09-21T15:30:00", "2025-13-21T15:30:00", "2025-09-21",
    "yesterday", "2025-02-30", "1758468600", 1758468600, "100", "-1.5", "1e5", "+1", ".5", "NaN", "Infinity", "0x10",
    "frontend_ui", "2025-09-21t15:30:00z",
    [], {}, [1], [None], ["AAPL"], {"a": 1}, {"15": 1.0}, {"AAPL": 1.0}, [[]],
]  # fmt: skip


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """As ECMA 262, which JSON Schema names: `$` is the very end. Python's would let a line end pass."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_VALIDATOR = validators.extend(Draft202012Validator, {"pattern": _pattern})
_FORMATS = FormatChecker(["date-time", "date"])
assert {"date-time", "date"} <= set(_FORMATS.checkers)


def _shown(name: str) -> dict[str, Any]:
    found: dict[str, Any] = {**DOCUMENT["properties"], **DOCUMENT["x-qbot-channels"]}[name]
    return found


def _inlined(part: Any) -> Any:
    """A schema with what its references stand for in their places: looked up once, and not again for every value."""
    if isinstance(part, list):
        return [_inlined(each) for each in part]
    if not isinstance(part, dict):
        return part
    rest = {word: _inlined(inner) for word, inner in part.items() if word != "$ref"}
    if "$ref" in part:
        there = _inlined(DOCUMENT["$defs"][part["$ref"].removeprefix("#/$defs/")])
        assert rest.keys() & there.keys() <= {"title", "description", "examples"}, part
        return there | rest
    return rest


@cache
def _validator(name: str) -> Any:
    return _VALIDATOR(_inlined(_shown(name)), format_checker=_FORMATS)


@cache
def _as_published(name: str) -> Any:
    return _VALIDATOR({**_shown(name), "$defs": DOCUMENT["$defs"]}, format_checker=_FORMATS)


def schema_takes(name: str, value: Any) -> bool:
    return bool(_validator(name).is_valid(value))


def qbot_takes(name: str, value: Any) -> bool:
    """True when QBot would use the value. Of manual orders, when it would use every element."""
    entry = {**keys.ENTRIES, **keys.CHANNELS}[name]
    try:
        read = entry.adapter.validate_json(json.dumps(value))
    except Refused:
        return False
    return not (isinstance(read, tuple) and any(isinstance(item, MalformedOrder) for item in read))


def beyond_a_schema(value: Any) -> bool:
    """True where a rule that no schema can say refuses the value: those of LESS that the odd values run into."""
    items = value if isinstance(value, list) else [value]
    levels = [(item.get("below"), item.get("above")) for item in items if isinstance(item, dict)]
    hours = value.get("trading_hours") if isinstance(value, dict) else None
    if isinstance(hours, dict):
        levels.append((hours.get("market_open"), hours.get("market_close")))
        zone = hours.get("timezone")
        if isinstance(zone, str) and zone not in TIME_ZONES:
            return True
    return any(_comparable(low, high) and low >= high for low, high in levels)


def _comparable(low: Any, high: Any) -> bool:
    numbers = all(isinstance(side, int | float) and not isinstance(side, bool) for side in (low, high))
    return numbers or (isinstance(low, str) and isinstance(high, str))


PASSED_OVER = ("reason", "timestamp", "session_id", "force")


def judged_alike(name: str, value: Any) -> bool:
    """True when both take the value or both refuse it, or QBot refuses it by a rule that no schema can say."""
    taken = qbot_takes(name, value)
    if name == "frontend:emergency_actions" and isinstance(value, dict):  # what decides nothing is passed over
        value = {field: inner for field, inner in value.items() if field not in PASSED_OVER}
    return not taken if beyond_a_schema(value) else schema_takes(name, value) == taken


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in pairs:
        yield from _paths(inner, (*at, step))


def _fields(shown: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every schema within one."""
    reference = shown.get("$ref")
    for word, inner in (DOCUMENT["$defs"][reference.rsplit("/", 1)[1]] if reference else shown).items():
        if word == "properties":
            yield from (field for schemas in inner.values() for field in (schemas, *_fields(schemas)))
        elif word in ("items", "additionalProperties") and isinstance(inner, dict):
            yield from (inner, *_fields(inner))
        elif word == "anyOf":
            yield from (field for option in inner for field in (option, *_fields(option)))


def _edges(name: str) -> list[Any]:
    """Values at and just beyond every bound within one key's schema."""
    found: list[Any] = []
    for field in (_shown(name), *_fields(_shown(name))):
        for word in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            if word in field:
                found += [field[word] - 1, field[word], field[word] + 1, float(field[word])]
        found += field.get("enum", [])
    return found


@st.composite
def near_values(draw: st.DrawFn, name: str) -> Any:
    """A documented value with a few odd replacements, omissions and additions."""
    value = copy.deepcopy(draw(st.sampled_from(examples.documented(name))))
    odd = st.sampled_from([*ODD, *_edges(name)])
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(_paths(value))))
        if not path:
            value = copy.deepcopy(draw(odd)) if draw(st.integers(0, 9)) == 0 else value
            continue
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        action = draw(st.sampled_from(["replace", "replace", "replace", "drop", "rename", "double"]))
        if action == "replace":
            holder[path[-1]] = copy.deepcopy(draw(odd))
        elif action == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        elif action == "rename" and isinstance(holder, dict):
            holder[str(draw(odd))[:200]] = holder.pop(path[-1])
        else:
            del holder[path[-1]]
    return value


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_the_schema_and_the_validator_agree(name: str, data: st.DataObject) -> None:
    value = data.draw(near_values(name))
    assert judged_alike(name, value), json.dumps(value)[:2_000]


@pytest.mark.parametrize("name", NAMES)
def test_every_documented_example_is_valid_by_the_schema(name: str) -> None:
    for value in examples.documented(name):
        assert schema_takes(name, value)
        assert _as_published(name).is_valid(value)


@pytest.mark.parametrize("name", NAMES)
def test_each_odd_value_in_each_place_is_judged_alike(name: str) -> None:
    """The same without chance: the fullest example with one value replaced, for every field of every payload."""
    documented = examples.documented(name)[0]
    odd_values = [*ODD, *_edges(name)]
    for path in _paths(documented):
        value = copy.deepcopy(documented)
        holder = value
        for step in path[:-1]:
            holder = holder[step]
        for odd in odd_values:
            if path:
                holder[path[-1]] = odd
            else:
                value = odd
            assert judged_alike(name, value), json.dumps(value)[:2_000]


DOT_Z = "2025-09-21T15:30:00Z"
ORDER = {"order_id": "m1", "symbol": "AAPL", "side": "BUY", "quantity": 1, "order_type": "MARKET"}
MORE = [
    ("trading_settings", {"last_updated": "2025-09-21 15:30:00Z"}),
    ("trading_settings", {"last_updated": "2025-09-21T15:30Z"}),
    ("frontend:portfolio_settings", {"excluded_tickers": [" TSLA "]}),
    ("frontend:emergency_actions", {"action": "STOP_ALL_TRADING", "confirmed": True, "force": "yes", "timestamp": 1}),
]
LESS = [
    ("trading_settings", {"last_updated": "0001-01-01T00:00:00+23:59"}),
    ("autotrading:enabled", {"trading_hours": {"timezone": "Mars/Olympus"}}),
    ("autotrading:enabled", {"trading_hours": {"market_open": "16:00", "market_close": "09:30"}}),
    ("frontend:price_alerts", [{"price_alert_id": "p", "symbol": "AAPL", "above": 1, "below": 2}]),
    ("trading_settings", {"updated_by": "\ud800"}),
]


@pytest.mark.parametrize(("name", "value"), MORE)
def test_qbot_takes_these_though_the_schema_does_not(name: str, value: Any) -> None:
    assert (schema_takes(name, value), qbot_takes(name, value)) == (False, True)


@pytest.mark.parametrize(("name", "value"), LESS)
def test_qbot_refuses_these_though_the_schema_cannot_say_so(name: str, value: Any) -> None:
    assert (schema_takes(name, value), qbot_takes(name, value)) == (True, False)


def test_an_invalid_manual_order_is_refused_alone() -> None:
    orders = [ORDER, ORDER | {"quantity": 0}]
    assert not schema_takes("frontend:manual_orders", orders)
    assert keys.MANUAL_ORDERS.reading(json.dumps(orders).encode()).problem is None


def test_a_history_that_is_too_long_is_read_and_cut_at_the_next_write() -> None:
    entry = {"time": DOT_Z, "ticker": "AAPL", "side": "buy", "qty": 1}
    assert schema_takes("trades_log", [entry] * 200)
    assert not schema_takes("trades_log", [entry] * 201)
    assert qbot_takes("trades_log", [entry] * 201)
