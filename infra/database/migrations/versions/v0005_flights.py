"""Adds flights, the flight of each image, and why an image failed."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE flights (
        device_id UUID NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
        flight_id VARCHAR(128) NOT NULL,
        opened_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        announced_at TIMESTAMPTZ,
        announced INTEGER CHECK (announced >= 0),
        closed_at TIMESTAMPTZ,
        closed_count INTEGER CHECK (closed_count >= 0),
        PRIMARY KEY (device_id, flight_id),
        CHECK ((closed_at IS NULL) = (closed_count IS NULL)),
        CHECK ((announced_at IS NULL) = (announced IS NULL))
    )
    """,
    "CREATE INDEX flights_opened ON flights (device_id, opened_at DESC, flight_id)",
    # Columns without a default change no row, so the table is locked for a moment only.
    "ALTER TABLE images ADD COLUMN flight_id VARCHAR(128), "
    "ADD COLUMN failure_reason VARCHAR(100), ADD COLUMN failure_message VARCHAR(4000)",
    # Of all rows that exist none is in it; building it reads the table once, and writers wait for that.
    "CREATE INDEX images_flight ON images (device_id, flight_id) WHERE flight_id IS NOT NULL",
)
_IF_READER_EXISTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        GRANT SELECT ON flights TO standgale_reader;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the table and add the columns; the reading role may read them."""
    for statement in _UP:
        op.execute(statement)
    op.execute(_IF_READER_EXISTS)


def downgrade() -> None:
    """Drop them; images that never were detected go too, because no older program writes such rows."""
    op.execute("DELETE FROM images WHERE flight_id IS NOT NULL AND processing_status IN ('pending', 'failed')")
    op.execute("DROP INDEX images_flight")
    op.execute("ALTER TABLE images DROP COLUMN flight_id, DROP COLUMN failure_reason, DROP COLUMN failure_message")
    op.execute("DROP TABLE flights")
