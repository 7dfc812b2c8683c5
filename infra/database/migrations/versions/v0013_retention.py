"""Creates the tables of retention: what is to be removed, what is pinned, and what was done; counts removed frames."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE retention_intents (
        sha256 VARCHAR(64) PRIMARY KEY,
        image_uri VARCHAR(2048) NOT NULL,
        size_bytes BIGINT NOT NULL,
        reason VARCHAR(20) NOT NULL CHECK (reason IN ('age', 'size', 'orphan')),
        planned_at TIMESTAMPTZ NOT NULL
    )
    """,
    """
    CREATE TABLE retention_owner (
        id BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (id),
        holder UUID NOT NULL,
        leased_until TIMESTAMPTZ NOT NULL
    )
    """,
    """
    CREATE TABLE retention_snapshots (
        taken_at TIMESTAMPTZ PRIMARY KEY,
        read_before TIMESTAMPTZ NOT NULL
    )
    """,
    """
    CREATE TABLE retention_runs (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        began_at TIMESTAMPTZ NOT NULL,
        -- Without one the run was killed, or ended with an error; the next one goes on.
        ended_at TIMESTAMPTZ,
        pictures BIGINT NOT NULL DEFAULT 0,
        frames BIGINT NOT NULL DEFAULT 0,
        bytes BIGINT NOT NULL DEFAULT 0,
        spared BIGINT NOT NULL DEFAULT 0,
        over_bytes BIGINT NOT NULL DEFAULT 0,
        stored_bytes BIGINT NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE retention_pins (
        name VARCHAR(100) PRIMARY KEY,
        reason VARCHAR(1000) NOT NULL,
        device_id VARCHAR(255),
        flight_id VARCHAR(128),
        since TIMESTAMPTZ,
        until TIMESTAMPTZ,
        -- Whether it keeps the pictures of the next table, and not those that fit the columns above.
        by_digest BOOLEAN NOT NULL DEFAULT FALSE,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        expires_at TIMESTAMPTZ,
        CHECK (by_digest OR device_id IS NOT NULL OR flight_id IS NOT NULL OR since IS NOT NULL OR until IS NOT NULL)
    )
    """,
    """
    CREATE TABLE retention_pinned_pictures (
        sha256 VARCHAR(64) NOT NULL,
        pin VARCHAR(100) NOT NULL REFERENCES retention_pins (name) ON DELETE CASCADE,
        PRIMARY KEY (sha256, pin)
    )
    """,
    "CREATE INDEX retention_pinned_pictures_pin ON retention_pinned_pictures (pin)",
    # Frames are removed in this order.
    "CREATE INDEX images_uploaded ON images (uploaded_at, id)",
    "CREATE INDEX media_frames_sha256 ON media_frames (sha256)",
    # Frames of a flight that were removed count as they did before, or the flight would be incomplete.
    "ALTER TABLE flights ADD COLUMN removed INTEGER NOT NULL DEFAULT 0, "
    "ADD COLUMN removed_detected INTEGER NOT NULL DEFAULT 0",
)
_TABLES = (
    "retention_pinned_pictures",
    "retention_pins",
    "retention_runs",
    "retention_snapshots",
    "retention_owner",
    "retention_intents",
)
_IF_READER_EXISTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        GRANT SELECT ON retention_intents, retention_owner, retention_snapshots, retention_runs, retention_pins,
            retention_pinned_pictures TO standgale_reader;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the tables, the indexes and the columns; the reading role may read all of them."""
    for statement in _UP:
        op.execute(statement)
    op.execute(_IF_READER_EXISTS)


def downgrade() -> None:
    """Drop them; frames that were planned and whose bytes are gone keep their rows, and pins are lost."""
    op.execute("ALTER TABLE flights DROP COLUMN removed, DROP COLUMN removed_detected")
    op.execute("DROP INDEX media_frames_sha256")
    op.execute("DROP INDEX images_uploaded")
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
