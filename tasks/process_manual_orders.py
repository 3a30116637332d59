"""Orders a human asks for."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("trading")
def process_manual_orders() -> None:
    """Orders a human asks for."""
    pipeline.process_manual_orders(runtime())
