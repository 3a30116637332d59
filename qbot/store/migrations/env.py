"""Alembic's entry: runs the migrations on the connection that `qbot.store.migrate` hands over."""

from alembic import context

from qbot.store.tables import metadata

with_connection = context.config.attributes["connection"]
OWNED = set(metadata.tables)


def _ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
    """Only the trading tables: Django's are its own."""
    return kind != "table" or name in OWNED


context.configure(connection=with_connection, target_metadata=metadata, include_object=_ours, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
