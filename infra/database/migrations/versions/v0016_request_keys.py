"""Adds the key of the request that made a job, so that a request that is sent again makes no second one."""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and an index that lets a client use each key once."""
    op.execute("ALTER TABLE jobs ADD COLUMN request_key VARCHAR(255), ADD COLUMN request_sha256 CHAR(64)")
    op.execute("CREATE UNIQUE INDEX jobs_request_key ON jobs (client_id, request_key) WHERE request_key IS NOT NULL")


def downgrade() -> None:
    """Remove both."""
    op.execute("ALTER TABLE jobs DROP COLUMN request_key, DROP COLUMN request_sha256")
