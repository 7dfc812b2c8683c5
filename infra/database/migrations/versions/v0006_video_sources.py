"""Creates the tables of the cameras that processes pull, and of these processes, which share the cameras."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables. Addresses have no user and no password; those are in files."""
    op.execute(
        """
        CREATE TABLE video_sources (
            name VARCHAR(100) PRIMARY KEY,
            -- One source per device: the frames of two would not be in order.
            device_id VARCHAR(255) NOT NULL UNIQUE,
            address TEXT NOT NULL,
            has_login BOOLEAN NOT NULL,
            options JSONB NOT NULL,
            created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            removed_at TIMESTAMPTZ,
            holder VARCHAR(255),
            -- Counts the holders, so that one that was replaced cannot extend the lease of its successor.
            lease BIGINT NOT NULL DEFAULT 0,
            lease_until TIMESTAMPTZ,
            state VARCHAR(20) NOT NULL DEFAULT 'waiting',
            reason TEXT,
            counts JSONB NOT NULL DEFAULT '{}',
            lag_s DOUBLE PRECISION,
            began_at TIMESTAMPTZ,
            accepted_at TIMESTAMPTZ,
            reported_at TIMESTAMPTZ
        )
        """
    )
    op.execute(
        """
        CREATE TABLE video_pullers (
            puller VARCHAR(255) PRIMARY KEY,
            joined_at TIMESTAMPTZ NOT NULL,
            alive_until TIMESTAMPTZ NOT NULL
        )
        """
    )


def downgrade() -> None:
    """Drop the tables."""
    op.execute("DROP TABLE video_pullers")
    op.execute("DROP TABLE video_sources")
