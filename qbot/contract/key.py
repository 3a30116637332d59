"""What the contract says about one key or channel, and how a payload is put on the wire and taken from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from qbot import limits
from qbot.contract import examples
from qbot.contract.problems import Problem, problem_of

T = TypeVar("T")
TICKER_SLOT = "{TICKER}"


class Direction(StrEnum):
    """Who writes: the frontend, the backend, or both."""

    FRONTEND = "frontend"
    BACKEND = "backend"
    BOTH = "both"


class Pace(StrEnum):
    """Whether a cadence is counted in wall time or, in a replay, in market time."""

    WALL = "wall"
    MARKET = "market"


@dataclass(frozen=True)
class Reading(Generic[T]):
    """What a key held: a value, or a problem that says why there is none. Absent: neither."""

    key: str
    value: T | None
    problem: str | None
    present: bool
    fingerprint: str | None  # sha256 of the raw bytes, tells one write from the next; None only when absent


@dataclass(frozen=True)
class Key(Generic[T]):
    """One documented key. `T` is its payload's type; `adapter` validates it.

    A key with `{TICKER}` in its name is a pattern: `of` gives the key of one ticker. `text` keys hold a plain string,
    all others JSON. `event` keys come and go with what happens and have no cadence. `history_limit` counts elements.
    `absent` says what it means when the key is not there; None: then something is missing. `extension`: no document
    has it.
    """

    name: str
    adapter: TypeAdapter[T]
    direction: Direction
    writer: str
    description: str
    cadence_s: float | None = None
    pace: Pace = Pace.WALL
    max_age_s: float | None = None
    history_limit: int | None = None
    text: bool = False
    absent: str | None = None
    extension: bool = False

    @property
    def pattern(self) -> bool:
        """True for a family of keys, one a ticker."""
        return TICKER_SLOT in self.name

    @property
    def internal(self) -> bool:
        """True for QBot's own bookkeeping, which no document names."""
        return self.name.startswith("qbot:")

    @property
    def example(self) -> str:
        """The documented example as it stands in Redis."""
        return examples.wire(self.name, text=self.text)

    @property
    def max_bytes(self) -> int:
        """The most a value may have: what others write is held tighter than QBot's own projections."""
        return limits.MAX_BOARD_BYTES if self.direction is Direction.BACKEND else limits.MAX_PAYLOAD_BYTES

    def of(self, ticker: str) -> Key[T]:
        """The key of one ticker of a pattern."""
        return dataclasses.replace(self, name=self.name.replace(TICKER_SLOT, ticker))

    def encode(self, value: T) -> bytes:
        """The bytes for Redis. Raises ValueError when the value is not what the contract says, or too large."""
        wire = self.adapter.dump_json(value, exclude_unset=True)
        self.adapter.validate_json(wire)
        if len(wire) > self.max_bytes:
            raise ValueError(f"{self.name}: {len(wire)} bytes are more than {self.max_bytes}")
        return _plain(wire) if self.text else wire

    def decode(self, raw: bytes) -> T:
        """Inverse of `encode`; a text key may also hold a JSON string. Raises pydantic.ValidationError."""
        return self.adapter.validate_json(as_json(raw) if self.text else raw)

    def reading(self, raw: bytes | None) -> Reading[T]:
        """Judges what Redis returned. Never raises."""
        if raw is None:
            return Reading(self.name, None, None, False, None)
        fingerprint = hashlib.sha256(raw).hexdigest()
        if len(raw) > self.max_bytes:
            return self.unreadable(f"{Problem.TOO_LARGE}: more than {self.max_bytes} bytes", fingerprint)
        try:
            return Reading(self.name, self.decode(raw), None, True, fingerprint)
        except ValidationError as error:
            return self.unreadable(problem_of(error), fingerprint)

    def unreadable(self, problem: str, fingerprint: str | None = None) -> Reading[T]:
        """A reading of something that is there and of no use."""
        return Reading(self.name, None, problem, True, fingerprint)


@dataclass(frozen=True)
class Channel(Generic[T]):
    """One pub/sub channel and the type of its messages."""

    name: str
    adapter: TypeAdapter[T]
    description: str

    @property
    def example(self) -> str:
        """One message."""
        return examples.wire(self.name)

    def encode(self, message: T) -> bytes:
        """The bytes to publish. Raises ValueError when the message is not what the contract says."""
        wire = self.adapter.dump_json(message, exclude_unset=True)
        self.adapter.validate_json(wire)
        return wire

    def decode(self, raw: bytes) -> T:
        """Inverse of `encode`. Raises pydantic.ValidationError."""
        return self.adapter.validate_json(raw)


def _plain(wire: bytes) -> bytes:
    """A JSON string as a plain one. What would not be read as itself stays JSON: what begins with a quotation mark
    would be told as JSON that somebody else wrote, with fields of its own.
    """
    plain = str(json.loads(wire)).encode()
    return wire if plain.startswith(b'"') or plain != plain.strip() else plain


def as_json(raw: bytes) -> bytes:
    """A plain string as a JSON string. Bytes that are no UTF-8 are left for the parser to refuse."""
    stripped = raw.strip()
    if stripped.startswith(b'"') and stripped.endswith(b'"') and len(stripped) > 1:
        return stripped
    try:
        return json.dumps(stripped.decode()).encode()
    except UnicodeDecodeError:
        return raw
