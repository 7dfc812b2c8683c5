"""Keeps the archive's commits of frames whose rows are not written yet."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_GRANT = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        GRANT SELECT ON archive_pending TO standgale_reader;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the table; it is nearly always empty."""
    op.execute(
        """
        CREATE TABLE archive_pending (
            frame_id UUID PRIMARY KEY,
            lakefs_path VARCHAR(512) NOT NULL,
            lakefs_commit_id VARCHAR(64) NOT NULL,
            noted_at TIMESTAMPTZ NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX archive_pending_noted ON archive_pending (noted_at)")
    op.execute(_GRANT)


def downgrade() -> None:
    """Drop the table; what waits in it is written again when the group of the sink is set back."""
    op.execute("DROP TABLE archive_pending")
