"""`backend:*` projections."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("misc", needs_postgres=False)
def update_backend_responses() -> None:
    """`backend:*` projections."""
    pipeline.update_backend_responses(runtime())
