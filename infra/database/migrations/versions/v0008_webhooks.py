"""Creates the tables of web-hooks and of what is to be delivered to them, and lets jobs name one."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE webhooks (
        id UUID PRIMARY KEY,
        webhook_id VARCHAR(40) NOT NULL UNIQUE,
        client_id VARCHAR(255) NOT NULL REFERENCES api_clients (client_id) ON DELETE CASCADE ON UPDATE CASCADE,
        url VARCHAR(2048) NOT NULL,
        events VARCHAR(50)[] NOT NULL,
        conditions JSONB NOT NULL DEFAULT '{}',
        description VARCHAR(255),
        -- Encrypted; it signs, so a hash would not do.
        secret BYTEA NOT NULL,
        former_secret BYTEA,
        former_until TIMESTAMPTZ,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        disabled_at TIMESTAMPTZ,
        disabled_reason VARCHAR(500)
    )
    """,
    "CREATE INDEX webhooks_client ON webhooks (client_id, created_at)",
    """
    CREATE TABLE webhook_deliveries (
        id UUID PRIMARY KEY,
        webhook_id UUID NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
        event VARCHAR(50) NOT NULL,
        payload BYTEA NOT NULL,
        state VARCHAR(20) NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        next_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        finished_at TIMESTAMPTZ,
        last_status INTEGER,
        last_error VARCHAR(500)
    )
    """,
    "CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_at) WHERE state = 'waiting'",
    "CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id, created_at DESC)",
    "CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL",
    "ALTER TABLE jobs ADD COLUMN webhook_id UUID REFERENCES webhooks (id) ON DELETE SET NULL",
)


def upgrade() -> None:
    """Create the tables; the reading role gets no right to them, because addresses may hold secrets."""
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; what was not delivered is lost."""
    op.execute("ALTER TABLE jobs DROP COLUMN webhook_id")
    op.execute("DROP TABLE webhook_deliveries")
    op.execute("DROP TABLE webhooks")
