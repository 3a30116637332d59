"""A human's SET and DEL of a frontend's key: judged as QBot will judge it, then written by compare-and-set."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import redis
from pydantic import BaseModel

from qbot import limits
from qbot.console import describing
from qbot.contract import keys
from qbot.contract.key import Direction, Key
from qbot.contract.payloads_autotrading import AutotradingSession, AutotradingStatus
from qbot.contract.payloads_orders import EmergencyAction, EmergencyKind, MalformedOrder
from qbot.contract.payloads_settings import RiskSettings, TradingConfig, TradingSettings
from qbot.errors import QBotError
from qbot.session import FRONTEND_SOURCE

STDIN, FILE = "-", "@"
_WHAT_IT_DOES = {
    EmergencyKind.STOP_ALL_TRADING: "QBot stops trading, cancels open entries and stays latched until you release it",
    EmergencyKind.CLOSE_ALL_POSITIONS: "QBot stops trading, cancels every order and SELLS EVERY POSITION",
    EmergencyKind.CANCEL_ALL_ORDERS: "QBot cancels EVERY open order, protective stops too: positions stand unprotected",
}


class Refused(QBotError):
    """The write was not done. The message says why, and what to do."""


@dataclass(frozen=True)
class Wish:
    """A judged write: the bytes, the value they mean (None: DEL), the danger in one sentence, and what to beware of."""

    key: Key[Any]
    wire: bytes | None
    value: Any
    danger: str | None = None
    warnings: list[str] = field(default_factory=list)


def read_argument(given: str, limit: int = limits.MAX_PAYLOAD_BYTES) -> bytes:
    """The value as typed, of `-` what stands on standard input, of `@file` what the file holds. Raises Refused."""
    if given == STDIN:
        if sys.stdin is None:
            raise Refused("standard input is closed: there is no value to read")
        return sys.stdin.buffer.read(limit + 1).rstrip(b"\n")
    if not given.startswith(FILE):
        return given.encode(errors="surrogateescape")
    try:
        with Path(given[1:]).open("rb") as file:
            return file.read(limit + 1).rstrip(b"\n")
    except OSError as error:
        raise Refused(f"{given[1:]} cannot be read: {error.strerror}") from error


def wish(key: Key[Any], wire: bytes, now: datetime) -> Wish:
    """What is to be written, as QBot will read it. Raises Refused where QBot would refuse it, naming the field."""
    _frontends(key)
    reading = key.reading(wire)
    if reading.problem or reading.value is None:
        raise Refused(f"{key.name}: {reading.problem}\n`qbot contract show {key.name}` tells what is valid")
    if isinstance(reading.value, tuple):
        for number, element in enumerate(reading.value, 1):
            if isinstance(element, MalformedOrder):
                raise Refused(f"{key.name}: element {number} would be REJECTED: {element.problem}")
    warnings = [*_unknown_fields(key, wire, reading.value), *_beware(reading.value, now)]
    return Wish(key, wire, reading.value, _danger(key, reading.value), warnings)


def removal(key: Key[Any]) -> Wish:
    """A DEL of a frontend's key. Raises Refused for QBot's keys."""
    _frontends(key)
    stops = key.name in (keys.AUTOTRADING_ENABLED.name, keys.TRADING_SETTINGS.name)
    return Wish(key, None, None, "QBot stops trading and cancels open entries; resting stops stay" if stops else None)


def carry_out(client: redis.Redis, wanted: Wish, seen: bytes | None) -> None:
    """SET or DEL, unless somebody wrote since `seen` was read: then nothing is done. Raises Refused, RedisError."""
    if not _if_still(client, wanted.key, seen, wanted.wire):
        raise Refused(
            f"{wanted.key.name} was changed by somebody else meanwhile; nothing was written: look, and repeat"
        )


def append(client: redis.Redis, key: Key[Any], wire: bytes, now: datetime) -> Wish:
    """Adds elements to an array, losing none that others add meanwhile. Raises Refused, redis.RedisError."""
    added = wish(key, wire, now)
    if not isinstance(added.value, tuple):
        raise Refused(f"{key.name} holds no array: --append is for arrays")
    for _ in range(limits.BOARD_UPDATE_ATTEMPTS):
        seen = current(client, key)
        before = key.reading(seen)
        if before.problem:
            raise Refused(f"{key.name} holds nothing to append to: {before.problem}")
        joined = [*(json.loads(seen) if seen else []), *json.loads(wire)]
        whole = wish(key, json.dumps(joined).encode(), now)
        if _if_still(client, key, seen, whole.wire):
            return added
    raise Refused(f"{key.name}: others kept writing; nothing was added")


def _if_still(client: redis.Redis, key: Key[Any], seen: bytes | None, wire: bytes | None) -> bool:
    """Writes if the key still holds what was seen; whether it did."""
    with client.pipeline(transaction=True) as pipe:
        pipe.watch(key.name)  # type: ignore[no-untyped-call]
        if current(pipe, key) != seen:
            return False
        pipe.multi()
        pipe.delete(key.name) if wire is None else pipe.set(key.name, wire)
        try:
            pipe.execute()
        except redis.WatchError:
            return False
    return True


def current(client: redis.Redis, key: Key[Any]) -> bytes | None:
    """The bytes of a key; a fixed word for something that is no string, which a SET replaces."""
    try:
        found: bytes | None = client.get(key.name)  # type: ignore[assignment]
    except redis.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        return b"no string"
    return found


def _frontends(key: Key[Any]) -> None:
    if key.direction is Direction.BACKEND:
        raise Refused(f"{key.name} is not yours to write: QBot writes it ({key.writer})")


def _unknown_fields(key: Key[Any], wire: bytes, value: Any) -> list[str]:
    """Fields that QBot would ignore without a word: most often a slip of the pen."""
    if key.text or not isinstance(value, BaseModel | tuple):
        return []
    known = {name.removeprefix("[].").removeprefix(".") for name, _, _ in describing.fields(key)}
    body = json.loads(wire)
    objects = body if isinstance(body, list) else [body]
    extra = {name for each in objects if isinstance(each, dict) for name in each if name not in known}
    warnings = []
    for name in sorted(extra)[:5]:
        near = get_close_matches(name, sorted(known), 1, 0.7)
        warnings.append(f"QBot ignores the field {name[:40]!r}" + (f"; did you mean {near[0]}?" if near else ""))
    return warnings


def _beware(value: Any, now: datetime) -> list[str]:
    """What QBot takes, but does nothing about, or not what one might think."""
    if isinstance(value, EmergencyAction):
        if not value.confirmed:
            return ["nothing happens until `confirmed` is true"]
        if value.action is EmergencyKind.CLOSE_ALL_POSITIONS:
            old = value.timestamp is None or (now - value.timestamp).total_seconds() > limits.EMERGENCY_MAX_AGE_S
            return ["without a fresh `timestamp` QBot stops trading but sells nothing"] if old else []
    if isinstance(value, AutotradingSession) and value.enabled and value.source != FRONTEND_SOURCE:
        return [f"it starts nothing: only `source` {FRONTEND_SOURCE!r} starts trading"]
    if isinstance(value, TradingConfig) and value.paper_mode is False:
        return ["`paper_mode` false: QBot stays on paper, and says CONFIG_ERROR"]
    return []


def _danger(key: Key[Any], value: Any) -> str | None:
    """One sentence on a write that starts, stops or sells; None for the others."""
    if isinstance(value, EmergencyAction):
        return _WHAT_IT_DOES[value.action] if value.confirmed else None
    if isinstance(value, AutotradingSession):
        if value.enabled:
            return "QBot starts to trade by itself with these settings, a running session of another name ends first"
        return "QBot stops trading and cancels open entries; resting stops stay"
    if isinstance(value, TradingSettings) and value.enabled is not None:
        return "QBot starts to trade by itself" if value.enabled else "QBot stops trading and cancels open entries"
    if isinstance(value, RiskSettings) and value.emergency_stop_active is not None:
        if value.emergency_stop_active:
            return "QBot latches the emergency stop: trading ends until you release it"
        return "QBot releases an emergency stop that stands; trading then needs a new start"
    if value is AutotradingStatus.STOPPED and key.name == keys.AUTOTRADING_STATUS.name:
        return "QBot stops trading and cancels open entries; resting stops stay"
    return None
