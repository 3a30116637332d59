"""The decorator that makes a pipeline function a periodic task."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from celery import Task, signals
from celery.exceptions import SoftTimeLimitExceeded

from qbot import clock, ticks
from qbot.errors import QBotError
from tasks.app import app

SENT_AT = "sent_at"  # message header: when the tick was sent, wall time

log = structlog.get_logger(__name__)


@signals.before_task_publish.connect
def _stamp(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        headers.setdefault(SENT_AT, clock.wall_now().isoformat())


def tick(queue: str, *, needs_postgres: bool = True) -> Callable[[Callable[[], None]], Task]:
    """Makes a function without arguments a Celery task `<module>.<name>` on `queue`.

    Of the ticks that piled up one runs: a tick is skipped while another of its task runs, and when it was sent before
    the last run began. `needs_postgres=False` runs also when that cannot be asked. A named error is logged and the
    tick is over: the next one is the retry.
    """

    def decorate(function: Callable[[], None]) -> Task:
        name = f"{function.__module__}.{function.__name__}"

        @app.task(bind=True, name=name, tick_queue=queue)
        def run(task: Task) -> None:
            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(task=function.__name__, task_id=task.request.id)
            try:
                with ticks.claim(function.__name__, _sent_at(task), needs_postgres=needs_postgres) as claimed:
                    if claimed:
                        _run(function)
                    else:
                        log.debug("tick skipped: another run covers it")
            except QBotError as error:
                log.warning("tick not run", error=type(error).__name__, message=str(error))

        run.__doc__ = function.__doc__
        return run

    return decorate


def _run(function: Callable[[], None]) -> None:
    begun_s = clock.monotonic_s()
    try:
        function()
    except QBotError as error:
        log.warning("tick ended by an error", error=type(error).__name__, message=str(error))
    except SoftTimeLimitExceeded:
        log.error("tick took too long", seconds=round(clock.monotonic_s() - begun_s, 1))
    else:
        log.info("tick done", seconds=round(clock.monotonic_s() - begun_s, 3))


def _sent_at(task: Task) -> datetime:
    sent = task.request.get(SENT_AT)
    return datetime.fromisoformat(sent) if sent else clock.wall_now()
