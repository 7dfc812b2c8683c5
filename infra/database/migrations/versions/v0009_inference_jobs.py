"""Creates the tables of inference jobs: processes that read pictures from S3 and report by a call-back."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_UP = (
    # Pictures can be uploaded before there is a job: their folder has the id that the job will have.
    "CREATE SEQUENCE inference_job_ids AS integer",
    """
    CREATE TABLE inference_jobs (
        id INTEGER PRIMARY KEY DEFAULT nextval('inference_job_ids'),
        -- A number that the client gives; the table training_jobs does not exist yet, so nothing checks it.
        training_job_id INTEGER,
        checkpoint_path VARCHAR(500) NOT NULL,
        inference_type VARCHAR(20) NOT NULL CHECK (inference_type IN ('single', 'batch', 'dataset')),
        input_data JSON NOT NULL,
        status VARCHAR(20) NOT NULL DEFAULT 'pending'
            CHECK (status IN ('pending', 'running', 'completed', 'failed')),
        error_message TEXT,
        total_images INTEGER NOT NULL DEFAULT 0 CHECK (total_images >= 0),
        total_inference_time_ms DOUBLE PRECISION,
        avg_inference_time_ms DOUBLE PRECISION,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        started_at TIMESTAMPTZ,
        completed_at TIMESTAMPTZ,
        client_id VARCHAR(255) NOT NULL REFERENCES api_clients (client_id) ON UPDATE CASCADE,
        -- Encrypted; the process of the job gets it in its environment and shows it with the call-back.
        callback_token BYTEA NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        -- Who starts and watches its process, and until when nobody else does.
        runner UUID,
        leased_until TIMESTAMPTZ,
        CHECK ((completed_at IS NULL) = (status IN ('pending', 'running')))
    )
    """,
    "ALTER SEQUENCE inference_job_ids OWNED BY inference_jobs.id",
    "CREATE INDEX inference_jobs_client ON inference_jobs (client_id, created_at DESC, id)",
    "CREATE INDEX inference_jobs_open ON inference_jobs (id) WHERE completed_at IS NULL",
    """
    CREATE TABLE inference_results (
        id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        inference_job_id INTEGER NOT NULL REFERENCES inference_jobs (id) ON DELETE CASCADE,
        image_path VARCHAR(500) NOT NULL,
        image_name VARCHAR(200) NOT NULL,
        predictions JSON NOT NULL,
        inference_time_ms DOUBLE PRECISION,
        num_detections INTEGER NOT NULL,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        -- Why the picture has no result.
        error_message TEXT
    )
    """,
    "CREATE INDEX inference_results_job ON inference_results (inference_job_id, id)",
    """
    CREATE TABLE inference_uploads (
        id INTEGER PRIMARY KEY,
        client_id VARCHAR(255) NOT NULL REFERENCES api_clients (client_id) ON UPDATE CASCADE,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        expires_at TIMESTAMPTZ NOT NULL
    )
    """,
    "CREATE INDEX inference_uploads_client ON inference_uploads (client_id)",
    "CREATE INDEX inference_uploads_expiring ON inference_uploads (expires_at)",
)
# Not the secrets of the call-backs.
_COLUMNS = (
    "id, training_job_id, checkpoint_path, inference_type, input_data, status, error_message, total_images, "
    "total_inference_time_ms, avg_inference_time_ms, created_at, started_at, completed_at, client_id, attempts"
)
_IF_READER_EXISTS = f"""
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        GRANT SELECT ({_COLUMNS}) ON inference_jobs TO standgale_reader;
        GRANT SELECT ON inference_results TO standgale_reader;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the tables; the reading role may read jobs and their results, without secrets."""
    for statement in _UP:
        op.execute(statement)
    op.execute(_IF_READER_EXISTS)


def downgrade() -> None:
    """Drop the tables with all inference jobs and their results."""
    for table in ("inference_uploads", "inference_results", "inference_jobs"):
        op.execute(f"DROP TABLE {table}")
