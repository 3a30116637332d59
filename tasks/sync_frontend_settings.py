"""Frontend settings into the effective configuration."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("misc")
def sync_frontend_settings() -> None:
    """Frontend settings into the effective configuration."""
    pipeline.sync_frontend_settings(runtime())
