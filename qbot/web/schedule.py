"""Brings the schedule in the database to what `beat_schedule.py` says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog

from beat_schedule import ENTRIES, PREFIX, Entry
from qbot import clock
from qbot.web.setup import set_up

log = structlog.get_logger(__name__)


def seed(entries: Sequence[Entry] = ENTRIES, speed: float | None = None) -> None:
    """Writes every entry by its name and removes rows of ours that are no longer in the code: those would fire on.

    Rows without our prefix, and whether a human disabled one of ours, stay as they are.
    """
    set_up()
    from django.db import transaction
    from django_celery_beat.models import PeriodicTask, PeriodicTasks

    factor = clock.speed() if speed is None else speed
    names = {PREFIX + entry.name for entry in entries}
    with transaction.atomic():
        gone, _ = PeriodicTask.objects.filter(name__startswith=PREFIX).exclude(name__in=names).delete()
        for entry in entries:
            PeriodicTask.objects.update_or_create(name=PREFIX + entry.name, defaults=_row(entry, factor))
    PeriodicTasks.update_changed()
    log.info("schedule written", entries=len(names), removed=gone, speed=factor)


def _row(entry: Entry, speed: float) -> dict[str, Any]:
    from django_celery_beat.models import IntervalSchedule

    seconds = entry.interval_s(speed)
    every, _ = IntervalSchedule.objects.get_or_create(every=seconds, period=IntervalSchedule.SECONDS)
    row = {
        "task": entry.task,
        "interval": every,
        "queue": entry.queue,
        "expires": None,  # a moment, after which beat would switch the row off
        "expire_seconds": seconds,  # the age at which a waiting tick is dropped
        "args": "[]",
        "kwargs": json.dumps({}),
        "one_off": False,
    }
    if entry.at_start:  # due at once
        row["last_run_at"] = clock.wall_now() - timedelta(seconds=seconds)
    return row
