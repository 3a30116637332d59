"""A look at the database for a human: who answers, what its clock says, and which migrations it has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from alembic.migration import MigrationContext
from sqlalchemy.engine import Engine

from qbot.store import migrate
from qbot.store.engine import transaction


@dataclass(frozen=True, slots=True)
class Probe:
    """`now`: by the server's clock. `revision`: of the last migration; None before the first."""

    version: str
    now: datetime
    revision: str | None

    @property
    def current(self) -> bool:
        """Whether the tables are those of this source."""
        return self.revision == migrate.revisions()[0]

    @property
    def behind(self) -> bool:
        """Whether the tables are of an earlier source; neither this nor `current`: of a newer one, or none."""
        return self.revision in migrate.revisions()[1:]


def look(on: Engine) -> Probe:
    """Raises StoreUnavailable."""
    with transaction(on) as connection:
        version, now = connection.execute(sa.text("SELECT current_setting('server_version'), clock_timestamp()")).one()
        revision = MigrationContext.configure(connection).get_current_revision()
    return Probe(str(version).split()[0], now, revision)


def ping(on: Engine) -> None:
    """One round trip, for measuring its latency. Raises StoreUnavailable."""
    with transaction(on) as connection:
        connection.execute(sa.text("SELECT 1"))
