"""Creates the table of device tokens, which holds only their hashes."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.execute(
        """
        CREATE TABLE device_tokens (
            token_id VARCHAR(16) PRIMARY KEY,
            device_id VARCHAR(255) NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE ON UPDATE CASCADE,
            token_hash BYTEA NOT NULL CHECK (octet_length(token_hash) = 32),
            created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
            expires_at TIMESTAMPTZ,
            revoked_at TIMESTAMPTZ
        )
        """
    )
    op.execute("CREATE INDEX device_tokens_device ON device_tokens (device_id, created_at)")


def downgrade() -> None:
    """Drop the table; no device can authenticate until it has a new token."""
    op.execute("DROP TABLE device_tokens")
