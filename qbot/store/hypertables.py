"""Bars as a hypertable, where the database has TimescaleDB: a month's bars lie together, and old months go at once.

Everything works the same without it.
"""

from __future__ import annotations

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

log = structlog.get_logger(__name__)

TABLE = "bars"
_INSTALLED = sa.text("SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'timescaledb')")
_ALREADY = sa.text(
    "SELECT EXISTS (SELECT 1 FROM timescaledb_information.hypertables"
    " WHERE hypertable_schema = current_schema() AND hypertable_name = :name)"
)
# Our own index on time stays. A month of a hundred tickers is some 160,000 bars, which fit into memory.
_MAKE = sa.text(
    "SELECT create_hypertable(CAST(:name AS regclass), 'ts', chunk_time_interval => INTERVAL '30 days',"
    " migrate_data => true, create_default_indexes => false, if_not_exists => true)"
)
_PATIENT = sa.text("SET LOCAL statement_timeout = 0")  # years of bars are moved once


def ensure(connection: Connection) -> bool:
    """Make `bars` a hypertable if the extension is there and it is none yet; whether it was made one now."""
    if not connection.scalar(_INSTALLED) or connection.scalar(_ALREADY, {"name": TABLE}):
        return False
    connection.execute(_PATIENT)
    connection.execute(_MAKE, {"name": TABLE})
    log.info("hypertable", table=TABLE)
    return True
