"""Grok's picks, asked for anew when they are due."""

from tasks.base import tick


@tick("data")
def refresh_candidates() -> None:
    """Grok's picks, asked for anew when they are due."""
    from qbot import pipeline  # late: only the spawned children need it, not the worker that starts them
    from qbot.runtime import runtime

    pipeline.refresh_candidates(runtime())
