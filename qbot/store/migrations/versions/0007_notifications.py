"""which alert is owed to which channel; what makes two alerts the same trouble"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    same = "the same for the same trouble, whatever its words"
    op.add_column("alerts", sa.Column("trouble", sa.Text(), comment=same))
    op.execute("UPDATE alerts SET trouble = md5(concat_ws('|', type, title, message, symbol))")
    op.alter_column("alerts", "trouble", nullable=False)
    op.create_table(
        "notifications",
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column(
            "channel",
            sa.Text(),
            nullable=False,
            comment="number and kind of the address; the address is a secret",
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_try_wall", Time, nullable=False),
        sa.Column("problem", sa.Text(), comment="of the last attempt"),
        sa.Column("outcome", sa.Text(), comment="sent|given_up|held|summed; null while it is owed"),
        sa.Column("ended_at_wall", Time),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.alert_id"], name=op.f("fk_notifications_alert_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alert_id", "channel", name=op.f("pk_notifications")),
        comment="which alert is owed to which channel: written with the alert, so that none is lost",
    )
    owed = sa.text("outcome IS NULL")
    op.create_index("ix_notifications_owed", "notifications", ["channel", "next_try_wall"], postgresql_where=owed)
    op.create_index(op.f("ix_notifications_channel_ended_at_wall"), "notifications", ["channel", "ended_at_wall"])


def downgrade() -> None:
    op.drop_table("notifications")
    op.drop_column("alerts", "trouble")
