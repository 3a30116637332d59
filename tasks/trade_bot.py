"""One trading cycle."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("trading")
def trade_bot() -> None:
    """One trading cycle."""
    pipeline.trade_bot(runtime())
