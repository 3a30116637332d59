"""The autotrading session."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("trading")
def monitor_autotrading_frontend() -> None:
    """The autotrading session."""
    pipeline.monitor_autotrading_frontend(runtime())
