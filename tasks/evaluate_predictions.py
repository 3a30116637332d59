"""How matured forecasts did."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("misc")
def evaluate_predictions() -> None:
    """How matured forecasts did."""
    pipeline.evaluate_predictions(runtime())
