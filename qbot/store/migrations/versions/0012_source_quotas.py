"""what was used of each data source's quota"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    used = "calls or symbols, as the vendor counts; reserved ones too"
    op.create_table(
        "source_quotas",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("span", sa.Text(), nullable=False, comment="day|month"),
        sa.Column("begins_wall", Time, nullable=False, comment="begin of the vendor's own day or month"),
        sa.Column("used", sa.Integer(), nullable=False, comment=used),
        sa.Column("changed_wall", Time, nullable=False),
        sa.PrimaryKeyConstraint("source", "span", "begins_wall", name=op.f("pk_source_quotas")),
        comment="what was used of each source's quota, by all workers and over restarts",
    )


def downgrade() -> None:
    op.drop_table("source_quotas")
