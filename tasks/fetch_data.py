"""Quotes and bars from the providers."""

from tasks.base import tick


@tick("data")
def fetch_data() -> None:
    """Quotes and bars from the providers."""
    from qbot import pipeline  # late: only the spawned children need it, not the worker that starts them
    from qbot.runtime import runtime

    pipeline.fetch_data(runtime())
