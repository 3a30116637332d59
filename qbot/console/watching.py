"""Follows the channels: one line a change, gaps and a rebuilt board told, the connection made again when it breaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from qbot import clock
from qbot.console.changes import Part, brief, describe, short, telling
from qbot.contract import keys
from qbot.contract.key import as_json
from qbot.contract.looking import fetch

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
LISTEN_S = 1.0  # how soon a request to end is noticed


@dataclass(frozen=True)
class Line:
    """Something to show: a change of a key, a message of another channel, or (no key) a remark on the connection."""

    words: Sequence[Part]
    key: str | None = None
    revision: int | None = None
    time: str | None = None
    raw: str | None = None


@dataclass
class Follower:
    """Turns messages into lines. `values` holds the last JSON value of each key, `revision` the last one heard.

    Empty `wanted`: all keys. Without `everything` a write that changed no more than its time is not told.
    """

    wanted: frozenset[str] = frozenset()
    everything: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    revision: int | None = None

    def hear(self, channel: str, raw: str) -> list[Line]:
        """The lines of one message."""
        try:
            body = json.loads(raw)
        except ValueError:
            return [_remark(f"{channel}: a message that is no JSON: {short(raw)}")]
        if channel != keys.UPDATES.name:
            return [Line([Part(brief(body))], channel, None, body.get("timestamp"), raw)]
        number, name = int(body["revision"]), str(body["key"])
        lines = self._count(number)
        if not self.wanted or name in self.wanted:
            words = describe(self.values.get(name), body["value"])
            if self.everything or telling(words):
                lines.append(Line(words, name, number, body["time"], raw))
        self.values[name] = body["value"]
        return lines

    def _count(self, number: int) -> list[Line]:
        last, self.revision = self.revision, number
        if last is None or number == last + 1:
            return []
        if number > last:
            missed = number - last - 1
            return [_remark(f"{missed} change{'s' if missed > 1 else ''} missed, revisions {last + 1} to {number - 1}")]
        return [_remark(f"the revision went back from {last} to {number}: the board was lost and is rebuilt")]


def follow(
    connect: Callable[[], redis.Redis], channels: Sequence[str], follower: Follower, stop: Callable[[], bool]
) -> Iterator[Line]:
    """Lines for ever, through every loss of the connection, until `stop`. Raises redis.AuthenticationError."""
    pause_s, lost = FIRST_PAUSE_S, False
    while not stop():
        client = connect()
        try:
            with client.pubsub(ignore_subscribe_messages=True) as listener:  # type: ignore[no-untyped-call]
                listener.subscribe(*channels)
                listener.get_message(timeout=LISTEN_S)
                if lost:
                    yield _remark("connected again")
                else:
                    follower.values.update(standing(client))
                lost = False
                pause_s = FIRST_PAUSE_S
                while not stop():
                    message = listener.get_message(timeout=LISTEN_S)
                    if message is not None:
                        yield from follower.hear(_text(message["channel"]), _text(message["data"]))
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError):
            raise
        except (redis.RedisError, OSError) as error:
            if not lost:
                yield _remark(
                    f"the connection is lost ({short(str(error), 80)}); again in {pause_s:g} s, then seldomer"
                )
            lost = True
            clock.pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        finally:
            client.close()


def standing(client: redis.Redis) -> dict[str, Any]:
    """What the keys hold now, as JSON: what their next change is compared with. Raises redis.RedisError."""
    entries = {key.name: key for key in keys.ENTRIES.values() if not key.pattern}
    values: dict[str, Any] = {}
    for name, found in fetch(client, list(entries.values())).items():
        if found.raw is not None and found.reading.problem is None:
            values[name] = json.loads(as_json(found.raw) if entries[name].text else found.raw)
    return values


def _remark(words: str) -> Line:
    return Line([Part(words)])


def _text(raw: bytes | str) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw
