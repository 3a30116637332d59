"""The few kinds of key there are, so that an entry of `keys` says only what is its own.

`absent` says what it means when the key is not there; without it an absent key is a missing one.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter

from qbot.contract.key import Direction, Key, Pace

T = TypeVar("T")
MISSED_WRITES = 3


def frontend(
    name: str, adapter: TypeAdapter[T], description: str, absent: str, text: bool = False, extension: bool = False
) -> Key[T]:
    """Only a frontend writes it."""
    return Key(
        name,
        adapter,
        Direction.FRONTEND,
        "frontend",
        description,
        text=text,
        absent=absent,
        extension=extension,
    )


def shared(
    name: str, adapter: TypeAdapter[T], writer: str, description: str, absent: str | None = None, text: bool = False
) -> Key[T]:
    """A frontend writes it, and so does `writer`."""
    return Key(name, adapter, Direction.BOTH, writer, description, text=text, absent=absent)


def event(
    name: str, adapter: TypeAdapter[T], writer: str, description: str, absent: str | None = None, text: bool = False
) -> Key[T]:
    """QBot writes it when something happens."""
    return Key(name, adapter, Direction.BACKEND, writer, description, text=text, absent=absent)


def wall(name: str, adapter: TypeAdapter[T], writer: str, every_s: float, description: str) -> Key[T]:
    """QBot writes it every `every_s` seconds."""
    age_s = every_s * MISSED_WRITES
    return Key(name, adapter, Direction.BACKEND, writer, description, every_s, Pace.WALL, age_s)


def market(name: str, adapter: TypeAdapter[T], writer: str, every_s: float, description: str) -> Key[T]:
    """As `wall`, but in market time: a replay writes it as much oftener as it runs faster."""
    age_s = every_s * MISSED_WRITES
    return Key(name, adapter, Direction.BACKEND, writer, description, every_s, Pace.MARKET, age_s)


def history(
    name: str, adapter: TypeAdapter[T], writer: str, limit: int, description: str, absent: str | None = None
) -> Key[T]:
    """A JSON array that keeps its last `limit` elements."""
    return Key(name, adapter, Direction.BACKEND, writer, description, history_limit=limit, absent=absent)
