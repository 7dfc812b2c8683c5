"""Adds to clients the devices that they may see in the live stream."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_GRANT = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        GRANT SELECT (devices) ON api_clients TO standgale_reader;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Add the list; clients that are there already see all devices, as before."""
    # Ids of devices, or what they begin with and a star. None: all devices.
    op.execute(
        "ALTER TABLE api_clients ADD COLUMN devices VARCHAR(256)[] CHECK (cardinality(devices) BETWEEN 1 AND 100)"
    )
    op.execute(_GRANT)


def downgrade() -> None:
    """Remove the list: clients that saw some devices see all of them then, as the former version knows no lists."""
    op.execute("ALTER TABLE api_clients DROP COLUMN devices")
