"""`market_status`."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("misc")
def market_status() -> None:
    """`market_status`."""
    pipeline.market_status(runtime())
