"""What humans want, taken from the board into Postgres: the effective settings, the switch, the emergency latch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import structlog
from sqlalchemy.engine import Connection

from qbot import configuration, continuity, execution, mirrors, session
from qbot.alerts import alert as alert
from qbot.alerts import raise_alert as raise_alert
from qbot.contract import keys
from qbot.contract.board import Snapshot
from qbot.contract.key import Direction, Key
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.contract.payloads_channels import StrategyConfigChange
from qbot.errors import BrokerError, ConfigError, QBotError, StoreUnavailable
from qbot.mirrors import Mirrors
from qbot.runtime import Runtime
from qbot.session import UNTOUCHED, Event, Inputs, Switch, Touched
from qbot.store import locks, state
from qbot.store.engine import transaction
from qbot.types import TradingConfig

log = structlog.get_logger(__name__)

SWITCH_KEYS: tuple[Key[Any], ...] = (
    keys.AUTOTRADING_ENABLED,
    keys.TRADING_SETTINGS,
    keys.AUTOTRADING_STATUS,
    keys.RISK_SETTINGS,
    keys.SENTINEL,
)
OTHER_INPUTS = tuple(  # what others write and is no setting
    key for key in keys.ENTRIES.values() if key.direction is not Direction.BACKEND and key not in configuration.SOURCES
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The effective configuration with its revision, and the reasons why entries must wait, if there are any.

    Without `read_at_wall` they must wait too.
    """

    config: TradingConfig
    revision: int
    invalid: str | None
    live_problem: str | None
    read_at_wall: datetime | None = None

    @property
    def problem(self) -> str | None:
        """What makes the state CONFIG_ERROR."""
        return self.invalid or self.live_problem


# --- settings --------------------------------------------------------------------------------------------------------


def sync_settings(rt: Runtime) -> Settings:
    """Merge every settings key into the effective configuration; a change makes a new revision and is announced."""
    read_at_wall = rt.wall()
    with transaction(rt.engine) as connection:
        locks.within(connection, locks.SETTINGS)  # as with the switch: no older view after a newer one, no change twice
        snapshot = rt.board.read_many(configuration.SOURCES)
        before = state.newest_settings(connection)
        found = configuration.effective(snapshot, before.get("documents", {}))
        readable = configuration.readable(found.config)
        body = {"config": readable, "documents": found.documents.stored()}
        revision, changed = state.revise_settings(connection, body, rt.wall())
        if found.problem:
            title, about = "Settings are invalid", ", ".join(sorted(found.problems))  # not each new way to be invalid
            alert(rt, connection, AlertType.SYSTEM_ALERT, Severity.WARNING, title, found.problem, about=about)
    if changed:
        _announce(rt, before.get("config", {}), readable, revision)
    return Settings(found.config, revision, found.problem, live_problem(rt, found.config), read_at_wall)


def live_problem(rt: Runtime, config: TradingConfig) -> str | None:
    """Why live trading, asked for in Redis, is not done: this version trades on paper accounts only."""
    if config.paper_mode:
        return None
    if not rt.settings.allow_live:
        return "paper_mode is false, but QBOT_ALLOW_LIVE is not true: QBot stays on paper"
    return "live trading is not offered by this version: QBot stays on paper"


def bad_inputs(rt: Runtime) -> dict[str, str]:
    """What is wrong with the inputs that are no settings, by key, with an alert for each. What they held still holds.

    The alert about an emergency action comes from the one who would have to carry it out.
    """
    problems = rt.board.read_many(OTHER_INPUTS).problems
    for name in sorted(problems.keys() - {keys.EMERGENCY_ACTIONS.name}):
        title, message = "An input is unreadable", f"{name}: {problems[name]}"
        raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.WARNING, title, message, about=name)
    return problems


def _announce(rt: Runtime, before: Mapping[str, Any], after: Mapping[str, Any], revision: int) -> None:
    now = rt.wall()
    changes = [
        StrategyConfigChange(key=name, value=value, revision=revision, timestamp=now)
        for name, value in after.items()
        if before.get(name) != value
    ]
    rt.board.publish(keys.STRATEGY_CONFIG, changes)


# --- the switch ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """One step of the switch, recorded. `ended`: trading was stopped by it. `entries`: broker's ids of what to cancel,
    as far as the ledger knows. `waits`: a start is put off until they are cancelled.
    """

    switch: Switch
    events: tuple[Event, ...]
    snapshot: Snapshot
    mirrors: Mirrors
    entries: tuple[str, ...]
    waits: bool
    lost: bool

    @property
    def ended(self) -> bool:
        return Event.STOPPED in self.events or Event.LATCHED in self.events


class Watcher(Protocol):
    """Who knows what frontends wrote, whatever the bytes."""

    def touched(self, before: Switch, shown: Inputs) -> Touched:
        """Asked under the switch's lock, for what was written before `shown` was read; it counts as acted upon."""
        ...

    def undo(self) -> None:
        """It was not acted upon after all."""
        ...


def sync_switch(rt: Runtime, watcher: Watcher | None = None) -> Switch:
    """The switch after a look at the board: block → cancel → the rest. A stop cancels the open entries at once, and
    what waited for that, as the start of another session, comes after it.

    Raises BrokerError when a stop is recorded and its entries could not be cancelled; then `finish_stop` is due.
    """
    return _follow(rt, look(rt, watcher), watcher)


def finish_stop(rt: Runtime, switch: Switch, watcher: Watcher | None = None) -> Switch:
    """Cancel what is open of a switch that is off: what a stop left over, or an order that was on its way.

    While one still may be, the switch stays `stopping`. Raises BrokerError when nothing can be asked for.
    """
    arriving = _arriving(rt, switch)
    execution.cancel_entries(rt.broker, automatic_only=not switch.latched)
    if not switch.stopping:
        return switch
    return _follow(rt, look(rt, watcher, settled=None if arriving else switch.epoch), watcher)


def _follow(rt: Runtime, first: Look, watcher: Watcher | None = None) -> Switch:
    looks = [first]
    failed: BrokerError | None = None
    settled = True
    while settled and (looks[-1].ended or looks[-1].waits):
        failed, settled = _cancel(rt, looks[-1])
        looks.append(look(rt, watcher, settled=looks[-1].switch.epoch if settled else None))
    _show(rt, looks)
    if failed is not None and any(one.ended for one in looks):
        raise failed
    return looks[-1].switch


def look(rt: Runtime, watcher: Watcher | None = None, settled: int | None = None) -> Look:
    """One step from what the board shows now, under the switch's lock: no worker acts upon an older view than another
    before it. `settled`: the epoch of a stop whose entries are cancelled.
    """
    try:
        return _look(rt, watcher, settled)
    except QBotError:
        if watcher is not None:
            watcher.undo()
        raise


def _look(rt: Runtime, watcher: Watcher | None, settled: int | None) -> Look:
    with transaction(rt.engine) as connection:
        recorded = state.load_switch(connection, for_update=True)
        before = replace(recorded, stopping=False) if settled == recorded.epoch else recorded
        snapshot = rt.board.read_many(SWITCH_KEYS)
        inputs = mirrors.observed(snapshot)
        lost = continuity.lost(before, snapshot)
        if lost:
            after, events = continuity.off(before, inputs)
        else:
            after, events = session.step(before, inputs, watcher.touched(before, inputs) if watcher else UNTOUCHED)
        found = Look(after, tuple(events), snapshot, [], (), session.put_off(after, inputs), lost)
        if found.ended:  # what is mirrored is for the next look to say: cancels come first
            found = replace(found, entries=tuple(execution.open_entries(connection, automatic_only=not after.latched)))
        else:
            wanted = mirrors.wanted(after, snapshot, rt.wall())
            after = session.awaiting(after, mirrors.fingerprints(wanted))
            found = replace(found, mirrors=wanted)
        if after != recorded:
            after = continuity.record(rt, connection, after, events, was_lost=lost)
    for event in events:
        log.info("switch", what=str(event), session_id=after.session_id, reason=after.reason)
    return replace(found, switch=after)


def block(rt: Runtime, reason: str, unless: Callable[[Connection, Switch], bool]) -> list[str] | None:
    """Latch the emergency stop where it is not latched yet; broker's ids of the open entries, for whoever cancels them.

    None, and nothing done, when `unless` says so of the recorded switch. Without Redis it is latched all the same.
    """
    with transaction(rt.engine) as connection:
        before = state.load_switch(connection, for_update=True)
        if unless(connection, before):
            return None
        if not before.latched or before.reducing:  # a human's stop ends the exits that a breaker let go on
            continuity.record(rt, connection, session.latch(before, reason), [Event.LATCHED])
        return execution.open_entries(connection, automatic_only=False)


def latch(rt: Runtime, reason: str) -> Switch:
    """Latch the emergency stop in Postgres and on the board. Open orders are the caller's business."""
    block(rt, reason, unless=lambda _connection, _switch: False)
    return show_stop(rt)


def break_off(rt: Runtime, reason: str) -> bool:
    """A circuit breaker tripped: latch, so that only a human's resume releases it, and cancel every open entry.

    False, and nothing done, where a breaker latched before. What could not be cancelled is asked for by the next ticks.
    """
    with transaction(rt.engine) as connection:
        before = state.load_switch(connection, for_update=True)
        if before.breaker:
            return False
        continuity.record(rt, connection, session.trip(before, reason), [Event.LATCHED])
        entries = execution.open_entries(connection, automatic_only=False)
    asked = execution.cancel_known(rt.broker, entries)
    try:
        execution.cancel_entries(rt.broker, automatic_only=False, asked=asked)
    except BrokerError as error:
        title = "Entries could not be cancelled"
        raise_alert(rt, AlertType.TRADE_ALERT, Severity.CRITICAL, title, str(error))
    show_stop(rt)
    return True


def show_stop(rt: Runtime) -> Switch:
    """A latch on the board, recorded as it is. The second look finds it there: only now may a frontend release it."""
    rt.board.write(keys.AUTOTRADING_STOPPED_AT, rt.wall(), now=rt.wall())
    for _ in range(2):
        found = look(rt)
        _show(rt, [found])
    return found.switch


def release(rt: Runtime) -> Switch:
    """A human's release of the latch; trading needs a new start afterwards: what stands on the board is none."""
    _show(rt, [look(rt)])  # a start that nobody has looked at yet meets the latch
    with transaction(rt.engine) as connection:
        before = state.load_switch(connection, for_update=True)
        after = session.release(before, "released by a human; a new start is needed")
        continuity.record(rt, connection, after, [Event.RELEASED])
    return sync_switch(rt)


def rehearse(rt: Runtime) -> None:
    """Go the way of a stop and take all of it back: the first real one must not be the first ever, and slow."""
    rt.board.read_many(SWITCH_KEYS)
    rt.board.advance(0)
    with transaction(rt.engine) as connection, connection.begin_nested() as taken_back:
        switch = state.load_switch(connection, for_update=True)
        state.commit_unsynced(connection)
        execution.open_entries(connection, automatic_only=True)
        state.save_switch(connection, switch, [Event.STOPPED], rt.wall())
        taken_back.rollback()


def _cancel(rt: Runtime, found: Look) -> tuple[BrokerError | None, bool]:
    """Cancel the entries of what ended: what failed, which is told to a human, and whether none can arrive any more."""
    try:
        broker = rt.broker
    except ConfigError:
        return None, True  # without keys of a broker nothing was ever sent
    asked = execution.cancel_known(broker, found.entries)
    arriving = _arriving(rt, found.switch)
    try:
        count = execution.cancel_entries(broker, automatic_only=not found.switch.latched, asked=asked)
    except BrokerError as error:
        title = "Entries could not be cancelled"
        raise_alert(rt, AlertType.TRADE_ALERT, Severity.CRITICAL, title, str(error))
        return error, False
    log.info("entries_cancelled", count=count, arriving=arriving, reason=found.switch.reason)
    return None, not arriving


def _arriving(rt: Runtime, switch: Switch) -> bool:
    """Whether an entry of what ended may be on its way. To be asked before the broker's list: what is not, is on that.

    No longer than a sender may need: of one that died, or whose answer was lost, reconciliation takes care.
    """
    if not switch.stopping:
        return False
    try:
        with transaction(rt.engine) as connection:
            return execution.entries_on_their_way(connection, rt.wall(), automatic_only=not switch.latched)
    except StoreUnavailable:
        return True


def _show(rt: Runtime, looks: Sequence[Look]) -> None:
    """On the board and to humans what the looks led to."""
    if any(one.lost for one in looks):
        raise_alert(rt, AlertType.SYSTEM_ALERT, Severity.CRITICAL, "The board was lost", continuity.LOST)
    last = looks[-1]
    if last.mirrors:
        _mirror(rt, last)
    if any(one.ended for one in looks):
        rt.board.write(keys.AUTOTRADING_STOPPED_AT, rt.wall(), now=rt.wall())


def _mirror(rt: Runtime, found: Look) -> None:
    """Write the mirrors under the lock, unless another look came in between, which has its own; over the very bytes
    seen, for what a frontend has written meanwhile is for the next look to judge.

    Not within the look itself: that QBot is about to write must be recorded before it does.
    """
    with transaction(rt.engine) as connection:
        recorded = state.load_switch(connection, for_update=True)
        if replace(recorded, revision=found.switch.revision) == found.switch:
            rt.board.write_over(found.snapshot, found.mirrors, now=rt.wall())
