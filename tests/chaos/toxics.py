"""What a bad network does to the bytes of a connection: the eight faults of toxiproxy, with its names and meanings."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

CHUNK_BYTES = 65_536
SLICES_S = 0.05  # bandwidth is kept by sending so often


class Kind(StrEnum):
    """`down`: nobody listens and every connection is gone. `timeout`: nothing gets through, and after `seconds` the
    connection is closed. `reset_peer`: after `seconds` it is reset. The others act on what is sent.
    """

    LATENCY = "latency"
    DOWN = "down"
    BANDWIDTH = "bandwidth"
    SLOW_CLOSE = "slow_close"
    TIMEOUT = "timeout"
    RESET_PEER = "reset_peer"
    SLICER = "slicer"
    LIMIT_DATA = "limit_data"


@dataclass(frozen=True, slots=True)
class Toxic:
    """`seconds`: the delay, or until the end. `jitter_s` goes up and down from it. `kb_s`: of bandwidth. `size_bytes`:
    of a slice, or of all that a connection may carry.
    """

    kind: Kind
    seconds: float = 0.0
    jitter_s: float = 0.0
    kb_s: float = 0.0
    size_bytes: int = 0


class Ended(Exception):
    """This connection carries nothing more. `reset`: it ends by RST instead of FIN."""

    def __init__(self, reset: bool) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


async def pieces(data: bytes, toxics: list[Toxic], carried: int, dice: random.Random) -> AsyncIterator[bytes]:
    """`data` as it comes out of a bad line, piece by piece and as late. `carried`: bytes that went before.

    Raises Ended where the connection breaks.
    """
    for toxic in toxics:
        if toxic.kind is Kind.LATENCY:
            await asyncio.sleep(max(0.0, toxic.seconds + dice.uniform(-toxic.jitter_s, toxic.jitter_s)))
        elif toxic.kind is Kind.TIMEOUT:
            await asyncio.sleep(toxic.seconds)
            raise Ended(reset=False)
        elif toxic.kind is Kind.RESET_PEER:
            await asyncio.sleep(toxic.seconds)
            raise Ended(reset=True)
    limit = min((toxic.size_bytes for toxic in toxics if toxic.kind is Kind.LIMIT_DATA), default=None)
    allowed = data if limit is None else data[: max(0, limit - carried)]
    async for piece in _slowed(allowed, toxics):
        yield piece
    if limit is not None and carried + len(data) > limit:
        raise Ended(reset=False)


async def _slowed(data: bytes, toxics: list[Toxic]) -> AsyncIterator[bytes]:
    size, pause_s = len(data), 0.0
    for toxic in toxics:
        if toxic.kind is Kind.SLICER:
            size, pause_s = min(size, toxic.size_bytes), max(pause_s, toxic.seconds)
        elif toxic.kind is Kind.BANDWIDTH:
            size, pause_s = min(size, max(1, int(toxic.kb_s * 1_000 * SLICES_S))), max(pause_s, SLICES_S)
    for begin in range(0, len(data), max(size, 1)):
        yield data[begin : begin + size]
        if pause_s:
            await asyncio.sleep(pause_s)
