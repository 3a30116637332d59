"""Forecasts and signals; what became of matured ones."""

from tasks.base import tick


@tick("data")
def generate_predictions() -> None:
    """Forecasts and signals; what became of matured ones."""
    from qbot import pipeline  # late: only the spawned children need it, not the worker that starts them
    from qbot.runtime import runtime

    pipeline.generate_predictions(runtime())
