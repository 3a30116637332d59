"""New artifacts when they are due."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("training")
def train_models() -> None:
    """New artifacts when they are due."""
    pipeline.train_models(runtime())
