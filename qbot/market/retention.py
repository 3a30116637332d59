"""What is too old to be kept goes, some at a time."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from sqlalchemy.engine import Engine

from qbot import limits
from qbot.store import bar_history, bars, quotas, sources
from qbot.store.engine import transaction

log = structlog.get_logger(__name__)


def oldest_kept(now: datetime) -> datetime:
    """Bars that start before then go."""
    return now - timedelta(days=limits.BARS_KEPT_DAYS)


def prune(engine: Engine, now: datetime, wall: datetime) -> int:
    """Remove bars, counted calls, passes and refusals that are too old; how many bars. `now`: market time.

    Each transaction is a small one, so that whoever writes bars waits for milliseconds; what is left over is the next
    run's. Raises StoreUnavailable.
    """
    gone = 0
    while gone < limits.BARS_PRUNED_MAX:
        with transaction(engine) as connection:
            some = bars.prune(connection, oldest_kept(now), limits.BARS_PRUNED_AT_ONCE)
        gone += some
        if some < limits.BARS_PRUNED_AT_ONCE:
            break
    with transaction(engine) as connection:
        bar_history.forget(connection, oldest_kept(now))
        quotas.prune(connection, wall - timedelta(days=limits.QUOTAS_KEPT_DAYS))
        passes_before = now - timedelta(days=limits.PASSES_KEPT_DAYS)
        sources.prune(connection, passes_before, wall - timedelta(seconds=limits.REFUSED_FOR_S))
    if gone:
        log.info("bars_pruned", count=gone)
    return gone
