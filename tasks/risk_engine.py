"""What may be risked now, and the circuit breakers."""

from qbot import pipeline
from qbot.runtime import runtime
from tasks.base import tick


@tick("misc")
def risk_engine() -> None:
    """What may be risked now, and the circuit breakers."""
    pipeline.risk_engine(runtime())
