"""`backend:trading_performance`."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("misc")
def performance_calculator() -> None:
    """`backend:trading_performance`."""
    pipeline.performance_calculator(runtime())
