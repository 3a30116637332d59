"""Forecasts and signals; what became of matured ones."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("data")
def generate_predictions() -> None:
    """Forecasts and signals; what became of matured ones."""
    pipeline.generate_predictions(runtime())
