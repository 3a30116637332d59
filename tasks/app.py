"""The Celery application. Beat's ticks come in, one function of the pipeline runs, nothing is returned."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, signals
from kombu.entity import Queue

from beat_schedule import ENTRIES, LONGEST_RUN_S
from qbot import clock, log
from qbot.settings import settings
from qbot.stack import child, environment

QUEUES = ("emergency", "trading", "data", "misc", "training")
QUEUE_ENV = "QBOT_QUEUE"  # the queue of this worker process
# LightGBM's threads do not survive a fork: a child of a parent that trained hangs for ever. Spawned children are new.
# Training itself happens in a process that its task starts.
SPAWNED = frozenset({"data"})
MEMORY_MAX_KB = {"data": 1_500_000, "training": 1_500_000}  # a child above it is replaced after its task
MEMORY_MAX_OTHERS_KB = 500_000
TASKS_PER_CHILD = 1_000  # leaks of libraries end with the child
SOFT_SHUTDOWN_S = 2.0  # for what runs to end; slept in full while anything is active


def _annotations(speed: float) -> dict[str, dict[str, float]]:
    limits = {entry.task: entry.limits_s(speed) for entry in ENTRIES}
    return {task: {"soft_time_limit": soft, "time_limit": hard} for task, (soft, hard) in limits.items()}


def _configuration() -> dict[str, Any]:
    queue = os.environ.get(QUEUE_ENV, "")
    return {
        "broker_url": settings().redis_url,
        "broker_transport_options": {
            # half-open connections are noticed; `retry_on_timeout` stays unset, it loses messages
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 5,
            "visibility_timeout": int(LONGEST_RUN_S) + 600,  # a longer run would be delivered a second time
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
        },
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "task_serializer": "json",
        "event_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "result_expires": None,
        "task_store_errors_even_if_ignored": False,
        # a tick that is lost is replaced by the next one; one that kills its worker must not come back
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_default_queue": "misc",
        "task_create_missing_queues": False,
        "task_queues": [Queue(name) for name in QUEUES],
        "task_routes": {entry.task: {"queue": entry.queue} for entry in ENTRIES},
        "task_annotations": _annotations(clock.speed()),
        "worker_prefetch_multiplier": 1,
        "worker_pool_start_method": "spawn" if queue in SPAWNED else "fork",
        "worker_max_tasks_per_child": TASKS_PER_CHILD,
        "worker_max_memory_per_child": MEMORY_MAX_KB.get(queue, MEMORY_MAX_OTHERS_KB),
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_S,
        "worker_redirect_stdouts": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "beat_enable_remote_control": True,
        "beat_max_loop_interval": 1,  # seconds until beat sees a signal, or a change of its rows
        "timezone": "UTC",
        "enable_utc": True,
    }


def _modules() -> list[str]:
    """What this process imports: the tasks of its queue. Others (beat, Flower) send by name and import none."""
    queue = os.environ.get(QUEUE_ENV, "")
    return ["tasks.base", *(f"tasks.{entry.name}" for entry in ENTRIES if entry.queue == queue)]


app = Celery("qbot", include=_modules())
app.conf.update(_configuration())


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    log.configure(os.environ.get(QUEUE_ENV))


@signals.worker_process_init.connect
def _in_pool_child(**_: Any) -> None:
    child.end_with_parent()
    log.configure(os.environ.get(QUEUE_ENV))


@signals.worker_ready.connect
def _worker_is_ready(**_: Any) -> None:
    environment.tell_ready()
