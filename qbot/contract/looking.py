"""Reads the whole board as somebody who may only read: what a check judges, fetched in two round trips.

Not in a transaction: a key that this user may not read would spoil it for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis
from pydantic import ValidationError

from qbot.contract import keys
from qbot.contract.checking import Found, Looked
from qbot.contract.key import Key
from qbot.contract.payloads_channels import Stamp
from qbot.contract.problems import Problem

_COMMANDS_A_KEY = 4


def look(client: redis.Redis) -> Looked:
    """Every key of the contract, the keys of all tickers, and the stamps. Raises redis.RedisError."""
    entries = list(keys.ENTRIES.values())
    found = fetch(client, [key for key in entries if not key.pattern])
    tickers = found[keys.DYNAMIC_TICKERS.name].reading.value or ()
    members = [key.of(ticker) for key in entries if key.pattern for ticker in tickers]
    return Looked(found | fetch(client, members), stamps(client), tickers)


def fetch(client: redis.Redis, wanted: Sequence[Key[Any]]) -> dict[str, Found]:
    """What some keys hold, at most one byte more of each than it may have. Raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        for key in wanted:
            pipe.exists(key.name)
            pipe.strlen(key.name)
            pipe.type(key.name)
            pipe.getrange(key.name, 0, key.max_bytes)
        answers = pipe.execute(raise_on_error=False)
    step = _COMMANDS_A_KEY
    return {key.name: _found(key, *answers[step * i : step * (i + 1)]) for i, key in enumerate(wanted)}


def stamps(client: redis.Redis) -> dict[str, Stamp]:
    """When each key was last written; a stamp of another version that cannot be read is left out."""
    found: dict[str, Stamp] = {}
    raw: dict[bytes, bytes] = client.hgetall(keys.WRITTEN)  # type: ignore[assignment]
    for name, stamp in raw.items():
        try:
            found[name.decode(errors="replace")] = Stamp.model_validate_json(stamp)
        except ValidationError:
            continue
    return found


def _found(key: Key[Any], exists: Any, size: Any, kind: Any, raw: Any) -> Found:
    if any(isinstance(answer, redis.exceptions.NoPermissionError) for answer in (exists, raw)):
        return Found(key.reading(None), hidden=True)
    _raise_first(exists, kind)
    if not exists:
        return Found(key.reading(None))
    if isinstance(raw, redis.ResponseError):
        if not str(raw).startswith("WRONGTYPE"):
            raise raw
        return Found(key.unreadable(f"{Problem.WRONG_REDIS_TYPE}: a {kind.decode()}, not a string"))
    return Found(key.reading(raw), raw, int(size))


def _raise_first(*answers: Any) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
