"""Brings the trading tables to the newest form. `python -m qbot.store.migrate` does it by the environment."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from qbot.settings import settings
from qbot.store import hypertables, locks, trades
from qbot.store.engine import make_engine
from qbot.store.tables import metadata

MIGRATIONS = Path(__file__).parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def upgrade(url: str) -> None:
    """Run what is missing up to head, and work out what new tables hold. Safe to call by several processes at once."""
    on = make_engine(url, pool_size=1)
    try:
        with on.begin() as connection:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": locks.MIGRATIONS})
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            trades.complete(connection)
            hypertables.ensure(connection)
    finally:
        on.dispose()


def revisions() -> list[str]:
    """The migrations of this source by their ids, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def differences(url: str) -> list[str]:
    """What `tables.py` has and the migrations do not make, or the reverse, as readable lines. Empty when they agree."""
    on = make_engine(url, pool_size=1)
    try:
        with on.connect() as connection:
            options = {"include_object": lambda _o, name, kind, *_: kind != "table" or name in metadata.tables}
            context = MigrationContext.configure(connection, opts=options)
            return [str(difference) for difference in compare_metadata(context, metadata)]
    finally:
        on.dispose()


def new_revision(url: str, message: str) -> None:
    """Write the next migration from the difference between the tables here and those in the database."""
    on = make_engine(url, pool_size=1)
    try:
        with on.begin() as connection:
            config = _config()
            config.attributes["connection"] = connection
            command.revision(config, message=message, autogenerate=True)
    finally:
        on.dispose()


if __name__ == "__main__":
    upgrade(settings().postgres_url)
