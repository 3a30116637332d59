"""what each source is asked with"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    of_all = "of key, secret, address, feed and plan: whose refusals stand"
    op.create_table(
        "source_accesses",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="fingerprint of its key: whose quotas are counted"),
        sa.Column("access", sa.Text(), nullable=False, comment=of_all),
        sa.Column("since_wall", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_source_accesses")),
        comment="what each source is asked with, so that a change forgets what was met before it",
    )


def downgrade() -> None:
    op.drop_table("source_accesses")
