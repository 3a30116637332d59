"""Notifications that nobody sent."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("misc")
def send_notifications() -> None:
    """Notifications that nobody sent."""
    pipeline.send_notifications(runtime())
