"""the switch knows whether a stop is finished, and how far the board had come"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "switch",
        sa.Column(
            "stopping",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="entries not yet cancelled",
        ),
    )
    op.add_column(
        "switch",
        sa.Column(
            "revision", sa.BigInteger(), server_default="0", nullable=False, comment="the board's counter, as last seen"
        ),
    )


def downgrade() -> None:
    op.drop_column("switch", "revision")
    op.drop_column("switch", "stopping")
