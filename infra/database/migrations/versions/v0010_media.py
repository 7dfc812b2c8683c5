"""Creates the tables of media that are detected, and of their frames."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE media_runs (
        id UUID PRIMARY KEY,
        client_id VARCHAR(255) NOT NULL REFERENCES api_clients (client_id) ON DELETE CASCADE ON UPDATE CASCADE,
        -- None: a picture whose request waits for the answer.
        media_id VARCHAR(255),
        state VARCHAR(20) NOT NULL DEFAULT 'waiting'
            CHECK (state IN ('waiting', 'processing', 'processed', 'error')),
        config JSONB NOT NULL,
        -- Encrypted, and only until the end of the run: addresses may hold secrets, too.
        source BYTEA,
        token BYTEA,
        refresh_token BYTEA,
        -- When the token is refreshed next; none: never.
        refresh_at TIMESTAMPTZ,
        -- Where the bytes are, once they are here.
        medium_uri VARCHAR(2048),
        medium_sha256 VARCHAR(64),
        medium_bytes BIGINT,
        medium_type VARCHAR(50),
        medium_removed_at TIMESTAMPTZ,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        started_at TIMESTAMPTZ,
        finished_at TIMESTAMPTZ,
        -- Which process works on it, and until when it has to say so again.
        owner UUID,
        leased_until TIMESTAMPTZ,
        -- How often the lease of a process has ended, because it was killed.
        takeovers INTEGER NOT NULL DEFAULT 0,
        -- Whether all frames have a row.
        is_read BOOLEAN NOT NULL DEFAULT FALSE,
        duration_s DOUBLE PRECISION,
        percent INTEGER NOT NULL DEFAULT 0 CHECK (percent BETWEEN 0 AND 100),
        -- How many events it has so far, without the last one.
        events INTEGER NOT NULL DEFAULT 0,
        error_code VARCHAR(100),
        error_message VARCHAR(4000),
        CHECK ((finished_at IS NULL) = (state IN ('waiting', 'processing'))),
        CHECK (finished_at IS NULL OR (source IS NULL AND token IS NULL AND refresh_token IS NULL))
    )
    """,
    "CREATE UNIQUE INDEX media_runs_one ON media_runs (client_id, media_id) WHERE finished_at IS NULL",
    "CREATE INDEX media_runs_client ON media_runs (client_id, created_at DESC)",
    "CREATE INDEX media_runs_open ON media_runs (created_at) WHERE finished_at IS NULL",
    "CREATE INDEX media_runs_finished ON media_runs (finished_at) WHERE finished_at IS NOT NULL",
    "CREATE INDEX media_runs_sha256 ON media_runs (medium_sha256) WHERE medium_sha256 IS NOT NULL",
    """
    CREATE TABLE media_frames (
        run_id UUID NOT NULL REFERENCES media_runs (id) ON DELETE CASCADE,
        position INTEGER NOT NULL CHECK (position >= 0),
        frame_id UUID NOT NULL,
        device_id VARCHAR(255) NOT NULL,
        captured_at TIMESTAMPTZ NOT NULL,
        -- Seconds since the first frame; none of a picture.
        video_time_s DOUBLE PRECISION,
        image_uri VARCHAR(2048) NOT NULL,
        sha256 VARCHAR(64) NOT NULL,
        size_bytes BIGINT NOT NULL CHECK (size_bytes > 0),
        media_type VARCHAR(50) NOT NULL,
        width INTEGER NOT NULL CHECK (width > 0),
        height INTEGER NOT NULL CHECK (height > 0),
        camera JSONB,
        status VARCHAR(20) NOT NULL DEFAULT 'queued'
            CHECK (status IN ('queued', 'published', 'detected', 'failed')),
        published_at TIMESTAMPTZ,
        session_id UUID,
        error_code VARCHAR(100),
        error_message VARCHAR(4000),
        -- The number of its event, and the progress with it; events are in the order of the frames.
        event INTEGER,
        percent INTEGER,
        PRIMARY KEY (run_id, position)
    )
    """,
    "CREATE INDEX media_frames_frame ON media_frames (run_id, frame_id)",
    "CREATE INDEX media_frames_open ON media_frames (status, run_id, position) WHERE status IN ('queued', 'published')",
    "CREATE INDEX media_frames_event ON media_frames (run_id, event) WHERE event IS NOT NULL",
)


def upgrade() -> None:
    """Create the tables; the reading role gets no right to them, because they hold secrets of callers."""
    for statement in _UP:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; detections of their frames stay."""
    op.execute("DROP TABLE media_frames")
    op.execute("DROP TABLE media_runs")
