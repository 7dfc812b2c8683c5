"""Creates the tables of API keys, uploads, jobs and their files, and of events that leave with a transaction."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE api_clients (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        client_id VARCHAR(255) NOT NULL UNIQUE,
        name VARCHAR(255),
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        last_seen TIMESTAMPTZ
    )
    """,
    """
    CREATE TABLE api_keys (
        token_id VARCHAR(16) PRIMARY KEY,
        client_id VARCHAR(255) NOT NULL REFERENCES api_clients (client_id) ON DELETE CASCADE ON UPDATE CASCADE,
        token_hash BYTEA NOT NULL CHECK (octet_length(token_hash) = 32),
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        expires_at TIMESTAMPTZ,
        revoked_at TIMESTAMPTZ
    )
    """,
    "CREATE INDEX api_keys_client ON api_keys (client_id, created_at)",
    """
    CREATE TABLE uploads (
        id UUID PRIMARY KEY,
        upload_id VARCHAR(40) NOT NULL UNIQUE,
        client_id VARCHAR(255) NOT NULL REFERENCES api_clients (client_id) ON UPDATE CASCADE,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        expires_at TIMESTAMPTZ NOT NULL,
        -- Until then its files are still coming, or it was refused or cut off; nobody sees it.
        completed_at TIMESTAMPTZ,
        -- When the bytes of its files were removed; the rows stay, so that results keep the names of their files.
        removed_at TIMESTAMPTZ
    )
    """,
    "CREATE INDEX uploads_client ON uploads (client_id, created_at DESC)",
    "CREATE INDEX uploads_expiring ON uploads (expires_at) WHERE removed_at IS NULL",
    "CREATE INDEX uploads_incomplete ON uploads (created_at) WHERE removed_at IS NULL AND completed_at IS NULL",
    """
    CREATE TABLE uploaded_files (
        id UUID PRIMARY KEY,
        file_id VARCHAR(40) NOT NULL UNIQUE,
        upload_id UUID NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
        position INTEGER NOT NULL CHECK (position >= 0),
        filename VARCHAR(255) NOT NULL,
        size_bytes BIGINT NOT NULL CHECK (size_bytes > 0),
        media_type VARCHAR(50) NOT NULL,
        width INTEGER NOT NULL CHECK (width > 0),
        height INTEGER NOT NULL CHECK (height > 0),
        sha256 VARCHAR(64) NOT NULL,
        image_uri VARCHAR(2048) NOT NULL,
        -- From the metadata of the picture; without one the time of the upload stands for it.
        captured_at TIMESTAMPTZ NOT NULL,
        camera JSONB,
        UNIQUE (upload_id, position)
    )
    """,
    "CREATE INDEX uploaded_files_sha256 ON uploaded_files (sha256)",
    """
    CREATE TABLE jobs (
        id UUID PRIMARY KEY,
        job_id VARCHAR(40) NOT NULL UNIQUE,
        client_id VARCHAR(255) NOT NULL REFERENCES api_clients (client_id) ON UPDATE CASCADE,
        upload_id UUID REFERENCES uploads (id) ON DELETE SET NULL,
        retry_of UUID REFERENCES jobs (id) ON DELETE SET NULL,
        status VARCHAR(20) NOT NULL DEFAULT 'queued'
            CHECK (status IN ('queued', 'processing', 'completed', 'failed', 'cancelled')),
        config JSONB NOT NULL,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        updated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        started_at TIMESTAMPTZ,
        finished_at TIMESTAMPTZ,
        total_images INTEGER NOT NULL CHECK (total_images > 0),
        processed_images INTEGER NOT NULL DEFAULT 0,
        failed_images INTEGER NOT NULL DEFAULT 0,
        total_detections BIGINT NOT NULL DEFAULT 0,
        confidence_sum DOUBLE PRECISION NOT NULL DEFAULT 0,
        error_code VARCHAR(100),
        error_message VARCHAR(4000),
        error_details VARCHAR(4000),
        -- Processed are those that have an end, detected or failed; a job cannot count more of them than it has.
        CHECK (failed_images >= 0 AND failed_images <= processed_images AND processed_images <= total_images),
        CHECK ((finished_at IS NULL) = (status IN ('queued', 'processing')))
    )
    """,
    "CREATE INDEX jobs_client ON jobs (client_id, created_at DESC, id)",
    "CREATE INDEX jobs_client_status ON jobs (client_id, status)",
    "CREATE INDEX jobs_open ON jobs (created_at, id) WHERE finished_at IS NULL",
    "CREATE INDEX jobs_finished ON jobs (finished_at DESC) WHERE finished_at IS NOT NULL",
    """
    CREATE TABLE job_files (
        job_id UUID NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        position INTEGER NOT NULL CHECK (position >= 0),
        file_id UUID NOT NULL REFERENCES uploaded_files (id),
        -- As the events of frames have them, so that an answer finds its file; equal pictures of a job have one frame.
        frame_id UUID NOT NULL,
        device_id VARCHAR(255) NOT NULL,
        status VARCHAR(20) NOT NULL DEFAULT 'queued'
            CHECK (status IN ('queued', 'published', 'completed', 'failed', 'cancelled')),
        published_at TIMESTAMPTZ,
        finished_at TIMESTAMPTZ,
        session_id UUID,
        num_detections INTEGER NOT NULL DEFAULT 0,
        error_code VARCHAR(100),
        error_message VARCHAR(4000),
        PRIMARY KEY (job_id, position)
    )
    """,
    "CREATE INDEX job_files_frame ON job_files (job_id, frame_id)",
    "CREATE INDEX job_files_open ON job_files (status, job_id, position) WHERE status IN ('queued', 'published')",
    "CREATE INDEX job_files_finished ON job_files (finished_at DESC) WHERE finished_at IS NOT NULL",
    "CREATE INDEX job_files_file ON job_files (file_id)",
    """
    CREATE TABLE outbox (
        position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        id UUID NOT NULL UNIQUE,
        topic VARCHAR(249) NOT NULL,
        key VARCHAR(255) NOT NULL,
        -- Names and base64 values of the CloudEvents attributes.
        headers JSONB NOT NULL,
        value BYTEA NOT NULL,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
    """,
)
_TABLES = ("outbox", "job_files", "jobs", "uploaded_files", "uploads", "api_keys", "api_clients")
# Not those of keys, and not the outbox.
_IF_READER_EXISTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        GRANT SELECT ON uploads, uploaded_files, jobs, job_files TO standgale_reader;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the tables; the reading role may read uploads and jobs."""
    for statement in _UP:
        op.execute(statement)
    op.execute(_IF_READER_EXISTS)


def downgrade() -> None:
    """Drop the tables with all jobs; detections of their files stay."""
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
