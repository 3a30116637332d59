"""Sends what is owed to the channels: at once, each alert once, not too many an hour, and never for ever.

The listener has a lane for each channel; the beat task does what was left lying. Should a process die between sending
and writing that down, a message comes twice, and its id tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache

import structlog

from qbot import alerts, channels, limits
from qbot.channels import Channel, Message
from qbot.contract.payloads_backend import AlertType, Severity
from qbot.runtime import Runtime
from qbot.settings import Settings
from qbot.store import notifications as store
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)
HOUR = timedelta(hours=1)
LEASE = timedelta(seconds=limits.NOTIFY_LEASE_S)
TITLES_SHOWN = 8


def deliver(rt: Runtime, channel: Channel) -> int:
    """Send everything that is due to a channel, the most urgent first, until one is not taken. The number sent.

    Raises StoreUnavailable: what was owed then still is.
    """
    sent = 0
    while (row := _next(rt, channel)) is not None:
        if _held_back(rt, channel, row):
            continue
        problem = channel.send(alerts.message_of(row))
        if problem is not None:
            _not_taken(rt, channel, row, problem)
            return sent
        sent += 1
        _end(rt, channel, [row["alert_id"]], store.SENT)
        log.info("notified", channel=channel.name, alert_id=row["alert_id"], attempts=row["attempts"])
    _sum_up(rt, channel)
    return sent


def deliver_overdue(rt: Runtime) -> None:
    """The net under the listener's lanes: sends what nobody sent, and clears away what is old."""
    names = channels.names_of(rt.settings)
    wall = rt.wall()
    with transaction(rt.engine) as connection:
        pruned = store.prune(connection, wall - timedelta(days=limits.ALERTS_KEPT_DAYS))
        store.give_up_on_others(connection, names, wall)
        late = store.overdue(connection, names, wall - timedelta(seconds=limits.NOTIFY_OVERDUE_S))
    if pruned:
        log.info("alerts_pruned", count=pruned)
    if late:
        log.warning("notifications_overdue", why="the listener did not send them")
        for channel in made(rt.settings):
            deliver(rt, channel)


@lru_cache(maxsize=4)
def made(settings: Settings) -> tuple[Channel, ...]:
    """The channels of this process."""
    return channels.channels_of(settings)


def test(settings: Settings) -> list[tuple[str, str | None]]:
    """Send a test message to every channel; its name, and what went wrong or None."""
    message = Message("INFO", "QBot can reach you", "This is a test. Alerts will come here as they arise.")
    return [(channel.name, channel.send(message)) for channel in channels.channels_of(settings)]


def _next(rt: Runtime, channel: Channel) -> store.Row | None:
    with transaction(rt.engine) as connection:
        return store.claim(connection, channel.name, rt.wall(), LEASE)


def _held_back(rt: Runtime, channel: Channel, row: store.Row) -> bool:
    """Whether it is not sent: it is no news any more, or the hour's number is used up."""
    wall = rt.wall()
    if (wall - row["triggered_at_wall"]).total_seconds() > limits.NOTIFY_MAX_AGE_S:
        _end(rt, channel, [row["alert_id"]], store.GIVEN_UP, "too old to be news")
        return True
    most = limits.NOTIFY_PER_HOUR
    if row["severity"] == Severity.CRITICAL:
        most = limits.NOTIFY_CRITICAL_PER_HOUR
    with transaction(rt.engine) as connection:
        full = store.sent_since(connection, channel.name, wall - HOUR) >= most
    if full:
        _end(rt, channel, [row["alert_id"]], store.HELD, "too many within an hour")
    return full


def _not_taken(rt: Runtime, channel: Channel, row: store.Row, problem: str) -> None:
    """Put it off or give it up. After some attempts the board, and the other channels, say that this one fails."""
    attempts, wall = row["attempts"], rt.wall()
    log.warning("not_notified", channel=channel.name, alert_id=row["alert_id"], attempts=attempts, why=problem)
    with transaction(rt.engine) as connection:
        if attempts >= limits.NOTIFY_ATTEMPTS:
            store.end(connection, [row["alert_id"]], channel.name, store.GIVEN_UP, wall, problem)
        else:
            pause = timedelta(seconds=min(2.0 ** (attempts - 1), limits.NOTIFY_PAUSE_MAX_S))
            store.put_off(connection, row["alert_id"], channel.name, wall + pause, problem)
        if attempts in (limits.NOTIFY_TELL_AFTER, limits.NOTIFY_ATTEMPTS):
            message = f"Channel {channel.name} of QBOT_NOTIFY_URLS does not take messages: {problem}"
            alerts.alert(
                rt, connection, AlertType.SYSTEM_ALERT, Severity.WARNING, "Notifications do not arrive", message,
                about=channel.name, without=[channel.name],
            )  # fmt: skip


def _sum_up(rt: Runtime, channel: Channel) -> None:
    """One message about all that was held back, a while after the first of it."""
    with transaction(rt.engine) as connection:
        held = store.held_back(connection, channel.name)
    if not held or (rt.wall() - held[0]["held_at_wall"]).total_seconds() < limits.NOTIFY_SUMMARY_S:
        return
    taken = channel.send(summary(held)) is None
    # What was not taken waits as long again.
    _end(rt, channel, [row["alert_id"] for row in held], store.SUMMED if taken else store.HELD)


def summary(held: Sequence[store.Row]) -> Message:
    """What was held back, in one message as severe as the worst of it."""
    worst = max((row["severity"] for row in held), key=channels.SEVERITIES.index)
    titles = Counter(row["title"] for row in held).most_common()
    lines = [f"{count} × {title}" for title, count in titles[:TITLES_SHOWN]]
    if len(titles) > TITLES_SHOWN:
        lines.append(f"and {len(titles) - TITLES_SHOWN} others")
    return Message(worst, f"{len(held)} more alerts were held back", "\n".join([*lines, "All are on the board."]))


def _end(rt: Runtime, channel: Channel, alert_ids: Sequence[str], outcome: str, problem: str | None = None) -> None:
    with transaction(rt.engine) as connection:
        store.end(connection, alert_ids, channel.name, outcome, rt.wall(), problem)
