"""The typed board: the only door to the Redis keys. Reads judge and never raise on a bad value; writes are validated.

Every change goes through one Lua script, so that the new value, the growing revision and the message on `qbot:updates`
are one atomic step, and subscribers see revisions in order. Compare-and-set compares a hash of the bytes read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

import redis
from pydantic_core import from_json
from redis.backoff import NoBackoff
from redis.retry import Retry

from qbot import limits
from qbot.contract import keys
from qbot.contract.fields import iso
from qbot.contract.key import Channel, Key, Reading, as_json
from qbot.contract.payloads_channels import Stamp
from qbot.contract.problems import Problem
from qbot.errors import BoardUnavailable
from qbot.settings import Settings

T = TypeVar("T")
ABSENT, WRONG_TYPE, ANY = "absent", "wrong type", "any"
SOCKET_TIMEOUT_S = 2.0  # far over a local round trip, far under the 10 s of the emergency poll
HEALTH_CHECK_S = 15

# Both scripts: KEYS are the revision counter, the record of writes, then the keys; ARGV the channel and the time.
_COMMON = """
local own = 'OWN_WRITES'
local function state(key)
  local raw = redis.pcall('GET', key)
  if type(raw) == 'table' then return 'wrong type' end
  if not raw then return 'absent' end
  return redis.sha1hex(raw)
end
local function tell(key, hash, head, shown)
  local number = string.format('%d', redis.call('INCR', KEYS[1]))
  local stamp = '{"revision":' .. number .. ',"time":' .. ARGV[2] .. ',"sha1":"' .. hash .. '"}'
  redis.call('HSET', KEYS[2], key, stamp)
  redis.call('PUBLISH', ARGV[1], head .. number .. ',"time":' .. ARGV[2] .. ',"value":' .. shown .. '}')
  return tonumber(number)
end
""".replace("OWN_WRITES", keys.OWN_WRITES)
# When the values were taken ("" or milliseconds), then per key: expected state, head of the message, the bytes (""
# deletes), what is shown ("": the bytes, which are JSON). Values taken before those that stand there are old news and
# not written; a time far ahead of them is that of a clock that has been set back since.
_APPLY = (
    (
        _COMMON
        + """
if ARGV[3] ~= '' then
  local ahead = tonumber(redis.call('HGET', 'TAKEN', KEYS[3]) or '0') - tonumber(ARGV[3])
  if ahead > 0 and ahead < SKEW_MS then return 0 end
  redis.call('HSET', 'TAKEN', KEYS[3], ARGV[3])
end
for i = 3, #KEYS do
  local expected = ARGV[4 * i - 8]
  if expected ~= 'any' and expected ~= state(KEYS[i]) then return 0 end
end
local revision = tonumber(redis.call('GET', KEYS[1]) or '0')
for i = 3, #KEYS do
  local at = 4 * i - 8
  local head, wire, shown = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if wire ~= '' or redis.call('EXISTS', KEYS[i]) == 1 then
    local hash = 'absent'
    redis.call('PUBLISH', own, KEYS[i])
    if wire == '' then redis.call('DEL', KEYS[i]) else
      local set = redis.pcall('SET', KEYS[i], wire)
      if set.err then  -- a full server: the next event of this key is not QBot's
        redis.call('PUBLISH', own, '')
        return set
      end
      hash = redis.sha1hex(wire)
    end
    if shown == '' then shown = wire end
    revision = tell(KEYS[i], hash, head, shown)
  end
end
return revision
"""
    )
    .replace("TAKEN", keys.TAKEN)
    .replace("SKEW_MS", str(limits.CLOCK_SKEW_S * 1_000))
)
# The counter never goes back: a frontend takes a lower revision for old news.
_ADVANCE = """
if tonumber(redis.call('GET', KEYS[1]) or '0') < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
"""
# One key that somebody else wrote: told once, and only while it is still what was read.
_ANNOUNCE = (
    _COMMON
    + """
local seen, head, shown = ARGV[3], ARGV[4], ARGV[5]
if state(KEYS[3]) ~= seen then return 0 end
local stamp = redis.call('HGET', KEYS[2], KEYS[3])
if stamp and cjson.decode(stamp)['sha1'] == seen then return 0 end
if not stamp and seen == 'absent' then return 0 end
return tell(KEYS[3], seen, head, shown)
"""
)


class Write(NamedTuple, Generic[T]):
    """One key and its new value; None removes the key."""

    key: Key[T]
    value: T | None


@dataclass(frozen=True)
class Snapshot:
    """Readings of several keys, all taken at one instant, and how far the counter of revisions had come."""

    readings: dict[str, Reading[Any]]
    revision: int = 0

    def __getitem__(self, key: Key[T]) -> Reading[T]:
        """The reading of one of the keys asked for. Raises KeyError for another."""
        return self.readings[key.name]

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by key; empty when nothing is."""
        return {name: reading.problem for name, reading in self.readings.items() if reading.problem}


class Board:
    """Typed reads and writes of the contract's keys. Raises BoardUnavailable when Redis cannot be used.

    The client must return bytes: one that decodes would raise on the first value that is no UTF-8.
    """

    def __init__(self, client: redis.Redis) -> None:
        if client.connection_pool.connection_kwargs.get("decode_responses"):
            raise ValueError("the board needs a client without decode_responses")
        self._client = client
        self._apply = client.register_script(_APPLY)
        self._announce = client.register_script(_ANNOUNCE)
        self._advance = client.register_script(_ADVANCE)

    def __repr__(self) -> str:
        at = self._client.connection_pool.connection_kwargs
        return f"Board({at.get('host', at.get('path'))}:{at.get('port', '')})"

    def read(self, key: Key[T]) -> Reading[T]:
        """What one key holds."""
        return self.read_many([key])[key]

    def read_many(self, wanted: Iterable[Key[Any]]) -> Snapshot:
        """What several keys hold at one instant, in one round trip. One of the wrong type does not harm the others."""
        asked = list(wanted)
        raws, revision = self._fetch_all(asked)
        return Snapshot({key.name: _reading(key, raw) for key, raw in zip(asked, raws, strict=True)}, revision)

    def write(self, key: Key[T], value: T, *, now: datetime) -> int:
        """Sets one key and tells the subscribers. Returns the revision. Raises ValueError when the value is invalid."""
        return self.write_many([(key, value)], now=now)

    def delete(self, key: Key[Any], *, now: datetime) -> int:
        """Removes one key and tells the subscribers, with value null. Returns the revision."""
        return self.write_many([(key, None)], now=now)

    def write_many(
        self, writes: Sequence[tuple[Key[Any], Any]], *, now: datetime, taken_at: datetime | None = None
    ) -> int:
        """All or nothing, in one round trip; None removes a key. `now` is wall time. Returns the last revision.

        `taken_at`: when the values were taken, wall time. Nothing is written, and 0 returned, when the first key holds
        values taken later: of several writers the one with the newest knowledge wins.
        """
        if not writes:
            return 0
        changes = [(key, key.encode(value) if value is not None else b"", ANY) for key, value in writes]
        return self._change(changes, now, taken_at)

    def write_over(self, seen: Snapshot, writes: Sequence[tuple[Key[Any], Any]], *, now: datetime) -> int:
        """Sets each key that still holds the very bytes it had in `seen`. The number of those set."""
        raws = self._fetch([key for key, _ in writes])
        done = 0
        for (key, value), raw in zip(writes, raws, strict=True):
            if _reading(key, raw).fingerprint == seen[key].fingerprint:
                done += self._change([(key, key.encode(value), _state(raw))], now) > 0
        return done

    def advance(self, revision: int) -> None:
        """Bring the counter of revisions to at least this, after Redis lost it."""
        with _available():
            self._advance(keys=[keys.REVISION_COUNTER], args=[revision])

    def update(self, key: Key[T], change: Callable[[T | None], T | None], *, now: datetime) -> Reading[T]:
        """Compare-and-set: `change` gets the value (None when absent) and returns the new one, or None to leave it.

        It may run several times, when others write in between; nothing they wrote is lost. A value that is present but
        invalid is left alone: the reading returned names the problem. Otherwise the reading is what now stands.
        """
        return self._replace(key, lambda reading: change(reading.value) if not reading.problem else None, now)

    def append(self, key: Key[tuple[T, ...]], items: Sequence[T], *, now: datetime) -> tuple[T, ...]:
        """Adds to a bounded history, dropping the oldest over its limit; returns it. An invalid history starts anew.

        When BoardUnavailable is raised, the items may or may not be in it.
        """
        limit = key.history_limit
        if limit is None:
            raise ValueError(f"{key.name} is no history")
        if not items:
            return self.read(key).value or ()
        reading = self._replace(key, lambda old: ((old.value or ()) + tuple(items))[-limit:], now)
        return reading.value or ()

    def announce(self, key: Key[Any], *, now: datetime) -> int:
        """Tells the subscribers what a frontend wrote, with a revision of its own. Returns it.

        0 when there is nothing new to tell: QBot wrote it, it was told before, or it is not what the contract says.
        """
        raw = self._fetch([key])[0]
        reading = _reading(key, raw)
        if reading.problem or isinstance(raw, Exception):
            return 0
        head, shown = _head(key), _shown(key, raw or b"")
        if not shown and reading.value is not None and _is_lax(raw or b""):
            shown = key.encode(reading.value)
        args: list[str | bytes] = [keys.UPDATES.name, json.dumps(iso(now)), _state(raw), head, shown or raw or b""]
        with _available():
            return int(self._announce(keys=[keys.REVISION_COUNTER, keys.WRITTEN, key.name], args=args))

    def written(self) -> dict[str, Stamp]:
        """When each key was last written, and with which revision, by name. A key never told of is not in it."""
        with _available():
            found: dict[Any, Any] = self._client.hgetall(keys.WRITTEN)
        return {name.decode(): Stamp.model_validate_json(stamp) for name, stamp in found.items()}

    def publish(self, channel: Channel[T], messages: Sequence[T]) -> None:
        """Sends messages on one channel, in order, in one round trip."""
        with _available(), self._client.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.publish(channel.name, channel.encode(message))
            pipe.execute()

    def ping(self) -> None:
        """One round trip, for measuring its latency."""
        with _available():
            self._client.ping()

    def _replace(self, key: Key[T], change: Callable[[Reading[T]], T | None], now: datetime) -> Reading[T]:
        wire = None
        for _ in range(limits.BOARD_UPDATE_ATTEMPTS):
            raw = self._fetch([key])[0]
            reading = _reading(key, raw)
            if raw is not None and raw == wire:
                return reading  # the connection broke after the script had run, and the client sent it again
            value = change(reading)
            if value is None:
                return reading
            wire = key.encode(value)
            if self._change([(key, wire, _state(raw))], now):
                return key.reading(wire)
        raise BoardUnavailable(f"{key.name}: others kept writing through {limits.BOARD_UPDATE_ATTEMPTS} attempts")

    def _fetch(self, wanted: Sequence[Key[Any]]) -> list[bytes | redis.ResponseError | None]:
        return self._fetch_all(wanted)[0] if wanted else []

    def _fetch_all(self, wanted: Sequence[Key[Any]]) -> tuple[list[bytes | redis.ResponseError | None], int]:
        """Raw bytes, at most one more than allowed; None where absent; the error where it is no string. The counter."""
        with _available(), self._client.pipeline(transaction=True) as pipe:
            for key in wanted:
                pipe.exists(key.name)
                pipe.getrange(key.name, 0, key.max_bytes)
            pipe.get(keys.REVISION_COUNTER)
            *answers, counted = pipe.execute(raise_on_error=False)
        found = [(bool(answers[i]), answers[i + 1]) for i in range(0, len(answers), 2)]
        for _, answer in found:
            if isinstance(answer, Exception) and not str(answer).startswith("WRONGTYPE"):
                raise BoardUnavailable(str(answer)) from answer
        raws = [answer if present else None for present, answer in found]
        return raws, int(counted) if isinstance(counted, bytes) and counted.isdigit() else 0

    def _change(
        self, changes: Sequence[tuple[Key[Any], bytes, str]], now: datetime, taken_at: datetime | None = None
    ) -> int:
        """Applies all, or none where an expected state does not hold: then 0."""
        taken_ms = str(int(taken_at.timestamp() * 1_000)) if taken_at else ""
        args: list[str | bytes] = [keys.UPDATES.name, json.dumps(iso(now)), taken_ms]
        for key, wire, expected in changes:
            args += [expected, _head(key), wire, _shown(key, wire)]
        names = (key.name for key, _, _ in changes)
        with _available():
            return int(self._apply(keys=[keys.REVISION_COUNTER, keys.WRITTEN, *names], args=args))


def connect(settings: Settings) -> Board:
    """A board on the configured Redis. Connects at first use; a stalled connection fails instead of hanging."""
    return Board(client_of(settings))


def client_of(settings: Settings) -> redis.Redis:
    """The client under a board, for QBot's own keys that are no entries of the contract. Answers are bytes."""
    return redis.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        username=settings.redis_user,
        password=settings.redis_password.get_secret_value() or None,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        socket_keepalive=True,
        health_check_interval=HEALTH_CHECK_S,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),  # a pooled connection of a dead server
    )


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BoardUnavailable(str(error)) from error


def _head(key: Key[Any]) -> str:
    """The message up to its revision, which only the script knows."""
    return f'{{"key":{json.dumps(key.name)},"revision":'


def _shown(key: Key[Any], wire: bytes) -> bytes:
    """The value as the message shows it; empty where that is the wire itself, which is JSON."""
    if not wire:
        return b"null"
    return as_json(wire) if key.text else b""


def _is_lax(wire: bytes) -> bool:
    """True for NaN or Infinity in a field that nobody looks at: read here all the same, but no parser of a frontend's
    would take a message with it.
    """
    try:
        from_json(wire, allow_inf_nan=False)
    except ValueError:
        return True
    return False


def _reading(key: Key[T], raw: bytes | redis.ResponseError | None) -> Reading[T]:
    if isinstance(raw, redis.ResponseError):
        return key.unreadable(f"{Problem.WRONG_REDIS_TYPE}: not a string", WRONG_TYPE)  # present: no DEL, no stop
    return key.reading(raw)


def _state(raw: bytes | redis.ResponseError | None) -> str:
    """What the script compares with."""
    if raw is None:
        return ABSENT
    return WRONG_TYPE if isinstance(raw, redis.ResponseError) else hashlib.sha1(raw, usedforsecurity=False).hexdigest()
