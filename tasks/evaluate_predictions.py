"""How matured forecasts did."""

from tasks.base import tick


@tick("data")
def evaluate_predictions() -> None:
    """How matured forecasts did."""
    from qbot import pipeline  # late: only the spawned children need it, not the worker that starts them
    from qbot.runtime import runtime

    pipeline.evaluate_predictions(runtime())
