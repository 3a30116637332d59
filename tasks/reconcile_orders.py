"""The broker's truth into the ledger."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("trading")
def reconcile_orders() -> None:
    """The broker's truth into the ledger."""
    pipeline.reconcile_orders(runtime())
