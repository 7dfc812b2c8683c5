"""Creates the tables of devices, images, detections, inference sessions, metrics and annotations."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Ids come from schemas.ids, so that the same event written again finds its row. Defaults are for rows that people add.
_CREATE = (
    """
    CREATE TABLE devices (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        device_id VARCHAR(255) NOT NULL UNIQUE,
        name VARCHAR(255),
        location JSONB,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        last_seen TIMESTAMPTZ,
        metadata JSONB
    )
    """,
    """
    CREATE TABLE images (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        device_id UUID NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
        job_id UUID,
        image_uri VARCHAR(2048) NOT NULL,
        sha256 VARCHAR(64) NOT NULL,
        lakefs_path VARCHAR(512),
        lakefs_commit_id VARCHAR(64),
        original_filename VARCHAR(255),
        captured_at TIMESTAMPTZ NOT NULL,
        uploaded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        width INTEGER NOT NULL CHECK (width > 0),
        height INTEGER NOT NULL CHECK (height > 0),
        format VARCHAR(10) NOT NULL,
        size_bytes BIGINT NOT NULL CHECK (size_bytes > 0),
        processing_status VARCHAR(50) NOT NULL DEFAULT 'pending'
            CHECK (processing_status IN ('pending', 'processing', 'completed', 'failed')),
        processed_at TIMESTAMPTZ,
        has_detections BOOLEAN NOT NULL DEFAULT FALSE,
        is_flagged BOOLEAN NOT NULL DEFAULT FALSE,
        camera JSONB,
        metadata JSONB
    )
    """,
    "CREATE INDEX images_device_captured ON images (device_id, captured_at DESC)",
    "CREATE INDEX images_captured ON images (captured_at DESC)",
    "CREATE INDEX images_sha256 ON images (sha256)",
    "CREATE INDEX images_lakefs_path ON images (lakefs_path) WHERE lakefs_path IS NOT NULL",
    "CREATE INDEX images_job ON images (job_id) WHERE job_id IS NOT NULL",
    # Partial, because nearly every row is completed, and an index on a value of nearly all rows is never used.
    "CREATE INDEX images_not_completed ON images (processing_status) WHERE processing_status <> 'completed'",
    "CREATE INDEX images_without_detections ON images (captured_at) WHERE NOT has_detections",
    """
    CREATE TABLE inference_sessions (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        image_id UUID NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        job_id UUID,
        started_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        completed_at TIMESTAMPTZ,
        duration_ms BIGINT,
        model_name VARCHAR(100) NOT NULL,
        model_version VARCHAR(50) NOT NULL,
        text_prompt TEXT,
        config JSONB,
        timings JSONB,
        num_detections INTEGER NOT NULL DEFAULT 0,
        max_confidence REAL,
        status VARCHAR(50) NOT NULL DEFAULT 'success' CHECK (status IN ('success', 'failed', 'timeout')),
        error_message TEXT
    )
    """,
    "CREATE INDEX inference_sessions_image ON inference_sessions (image_id)",
    "CREATE INDEX inference_sessions_started ON inference_sessions (started_at DESC)",
    "CREATE INDEX inference_sessions_not_success ON inference_sessions (status) WHERE status <> 'success'",
    "CREATE INDEX inference_sessions_job ON inference_sessions (job_id) WHERE job_id IS NOT NULL",
    """
    CREATE TABLE detections (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        image_id UUID NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        session_id UUID,
        bbox_x1 REAL NOT NULL CHECK (bbox_x1 >= 0 AND bbox_x1 <= 1),
        bbox_y1 REAL NOT NULL CHECK (bbox_y1 >= 0 AND bbox_y1 <= 1),
        bbox_x2 REAL NOT NULL CHECK (bbox_x2 >= 0 AND bbox_x2 <= 1),
        bbox_y2 REAL NOT NULL CHECK (bbox_y2 >= 0 AND bbox_y2 <= 1),
        confidence REAL NOT NULL CHECK (confidence >= 0 AND confidence <= 1),
        label VARCHAR(100) NOT NULL,
        class_id INTEGER,
        model_name VARCHAR(100) NOT NULL,
        model_version VARCHAR(50) NOT NULL,
        created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        metadata JSONB
    )
    """,
    "CREATE INDEX detections_image ON detections (image_id)",
    "CREATE INDEX detections_confidence ON detections (confidence DESC)",
    "CREATE INDEX detections_label ON detections (label)",
    "CREATE INDEX detections_model ON detections (model_name, model_version)",
    """
    CREATE TABLE system_metrics (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        timestamp TIMESTAMPTZ NOT NULL DEFAULT now(),
        metric_name VARCHAR(100) NOT NULL,
        metric_value REAL NOT NULL,
        labels JSONB
    )
    """,
    "CREATE INDEX system_metrics_timestamp ON system_metrics (timestamp DESC)",
    "CREATE INDEX system_metrics_name ON system_metrics (metric_name, timestamp DESC)",
    """
    CREATE TABLE data_annotations (
        id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
        image_id UUID NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        detection_id UUID REFERENCES detections (id) ON DELETE CASCADE,
        annotation_type VARCHAR(50) NOT NULL,
        corrected_bbox JSONB,
        corrected_label VARCHAR(100),
        annotator VARCHAR(100),
        annotated_at TIMESTAMPTZ NOT NULL DEFAULT now(),
        notes TEXT
    )
    """,
    "CREATE INDEX data_annotations_image ON data_annotations (image_id)",
    "CREATE INDEX data_annotations_detection ON data_annotations (detection_id) WHERE detection_id IS NOT NULL",
    "CREATE INDEX data_annotations_type ON data_annotations (annotation_type)",
)
_TABLES = ("data_annotations", "system_metrics", "detections", "inference_sessions", "images", "devices")


def upgrade() -> None:
    """Create the tables and their indexes."""
    for statement in _CREATE:
        op.execute(statement)


def downgrade() -> None:
    """Drop the tables with their content."""
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
