"""One run at a time for each periodic task, and one run for all the ticks that piled up before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

from sqlalchemy.engine import Engine

from qbot import clock
from qbot.errors import StoreUnavailable
from qbot.store import ticks as store


@contextmanager
def claim(
    name: str, sent_at_wall: datetime, *, needs_postgres: bool = True, on: Engine | None = None
) -> Iterator[bool]:
    """True when this tick of task `name` is to run; the claim ends with the block, or with the process.

    False while another run is under way, or when the last run began after `sent_at_wall`: it saw all this one would.
    Raises StoreUnavailable when Postgres cannot be asked; without `needs_postgres` it is True then, unclaimed.
    """
    with ExitStack() as held:
        try:
            claimed = held.enter_context(store.claimed(name, sent_at_wall, clock.wall_now(), on))
        except StoreUnavailable:
            if needs_postgres:
                raise
            claimed = True
        yield claimed
