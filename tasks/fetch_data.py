"""Quotes and bars from the providers."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("data")
def fetch_data() -> None:
    """Quotes and bars from the providers."""
    pipeline.fetch_data(runtime())
