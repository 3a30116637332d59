"""an intent knows since when, by the uptime of machines: their clocks may jump"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    about = "by boot of a machine: its uptime at the commit, or when it first looked for the order of another's"
    column = sa.Column("since_uptime_s", postgresql.JSONB(), server_default="{}", nullable=False, comment=about)
    op.add_column("intents", column)


def downgrade() -> None:
    op.drop_column("intents", "since_uptime_s")
