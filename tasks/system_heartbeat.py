"""`system_status`."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("misc", needs_postgres=False)
def system_heartbeat() -> None:
    """`system_status`."""
    pipeline.system_heartbeat(runtime())
