"""The emergency switch, and every other stop."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("emergency", needs_postgres=False)
def emergency_handler() -> None:
    """The emergency switch, and every other stop."""
    pipeline.emergency_handler(runtime())
