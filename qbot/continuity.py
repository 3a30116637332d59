"""Whether Redis and Postgres are still the two that QBot left: each holds what tells that the other was set back.

The board names the epoch of the switch (`qbot:sentinel`); Postgres remembers how far the board's counter had come.
Where they do not fit, trading is off, and nothing that stands on the board starts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog
from sqlalchemy.engine import Connection

from qbot import session
from qbot.contract import keys
from qbot.contract.board import Snapshot
from qbot.errors import BoardUnavailable
from qbot.runtime import Runtime
from qbot.session import Event, Inputs, Switch
from qbot.store import state
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
LOST = "Redis lost its data or went back to older ones: what stands there starts nothing, a new start is needed"
LOST_AND_LATCHED = f"an emergency stop stands on a board that was lost. {LOST}"


def sentinel(switch: Switch) -> str:
    """What `qbot:sentinel` says while the board is as QBot left it: FLUSHALL and old backups raise no event."""
    return f"epoch-{switch.epoch}"


def lost(before: Switch, snapshot: Snapshot) -> bool:
    """True when Redis is not the one QBot left: emptied, or set back to an older state."""
    if before.seen is None:
        return False
    return snapshot[keys.SENTINEL].value != sentinel(before) or snapshot.revision < before.revision


def off(before: Switch, inputs: Inputs) -> tuple[Switch, list[Event]]:
    """Off, and everything that stands on the board now is remembered as left over. A latch stays; one that stands on
    the board alone counts: Postgres may be the one that went back, or a human was quick.
    """
    seen = replace(before, seen=inputs.fingerprints())
    if inputs.risk.on is True and not before.latched:
        return session.latch(seen, LOST_AND_LATCHED), [Event.LATCHED]
    after = replace(seen, on=False, reducing=False, reason=LOST, epoch=before.epoch + 1)
    return (replace(after, stopping=True), [Event.STOPPED]) if before.on else (after, [])


def record(
    rt: Runtime, connection: Connection, after: Switch, events: Sequence[Event], *, was_lost: bool = False
) -> Switch:
    """Record the switch, its epoch on the board first: a crash in between leaves trading off, never on.

    A stop is recorded though Redis takes no writes: such a board starts nothing either. It does not wait for the disk
    where the board can tell. Raises BoardUnavailable for anything else.
    """
    stops = Event.STOPPED in events or Event.LATCHED in events
    try:
        if was_lost:
            rt.board.advance(after.revision)
            rt.board.delete(keys.MODEL_TRAINED, now=rt.wall())  # the sign that the board is to be written anew
        revision = rt.board.write(keys.SENTINEL, sentinel(after), now=rt.wall())
    except BoardUnavailable as error:
        if not stops:
            raise
        log.error("stop_not_on_the_board", why=str(error))
    else:
        after = replace(after, revision=max(revision, after.revision))  # a lower one is for the next look to find
        if stops:
            state.commit_unsynced(connection)
    state.save_switch(connection, after, events, rt.wall())
    return after


def note_revision(rt: Runtime) -> None:
    """Record how far the board's counter has come: a lower one later tells that Redis went back in time."""
    with transaction(rt.engine) as connection:
        epoch = state.load_switch(connection).epoch
    revision = rt.board.read_many([keys.SENTINEL]).revision
    with transaction(rt.engine) as connection:
        state.note_revision(connection, revision, epoch)
