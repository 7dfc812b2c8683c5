"""Creates the tables of the statistics: windows with their classes, and what counting them needs."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_UP = (
    """
    CREATE TABLE statistics_windows (
        id UUID PRIMARY KEY,
        device_id VARCHAR(255) NOT NULL,
        minute TIMESTAMPTZ NOT NULL,
        model_name VARCHAR(100) NOT NULL,
        model_version VARCHAR(50) NOT NULL,
        source VARCHAR(10) NOT NULL CHECK (source IN ('live', 'jobs')),
        revision BIGINT NOT NULL CHECK (revision > 0),
        frames BIGINT NOT NULL,
        frames_with_detections BIGINT NOT NULL,
        frames_per_s DOUBLE PRECISION NOT NULL,
        first_captured_at TIMESTAMPTZ NOT NULL,
        last_captured_at TIMESTAMPTZ NOT NULL,
        last_detected_at TIMESTAMPTZ NOT NULL,
        clock_ahead BIGINT NOT NULL,
        detections BIGINT NOT NULL,
        -- Of labels that have no row in statistics_classes, because the window has too many.
        other_detections BIGINT NOT NULL,
        -- By step: mean_ms, p50_ms, p95_ms, p99_ms and max_ms.
        times JSONB NOT NULL,
        changed_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX statistics_windows_minute ON statistics_windows (minute DESC, id)",
    "CREATE INDEX statistics_windows_device ON statistics_windows (device_id, minute DESC, id)",
    "CREATE INDEX statistics_windows_changed ON statistics_windows (changed_at)",
    """
    CREATE TABLE statistics_classes (
        window_id UUID NOT NULL REFERENCES statistics_windows (id) ON DELETE CASCADE,
        label VARCHAR(100) NOT NULL,
        detections BIGINT NOT NULL,
        frames BIGINT NOT NULL,
        mean_confidence DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (window_id, label)
    )
    """,
    # The state of the counting; a window without counts is only open in a transaction in progress.
    """
    CREATE TABLE statistics_state (
        window_id UUID PRIMARY KEY,
        device_id VARCHAR(255) NOT NULL,
        minute TIMESTAMPTZ NOT NULL,
        model_name VARCHAR(100) NOT NULL,
        model_version VARCHAR(50) NOT NULL,
        source VARCHAR(10) NOT NULL CHECK (source IN ('live', 'jobs')),
        counts JSON,
        revision BIGINT NOT NULL DEFAULT 0,
        published BIGINT NOT NULL DEFAULT 0,
        changed_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX statistics_state_unpublished ON statistics_state (changed_at, window_id) WHERE revision > published",
    "CREATE INDEX statistics_state_changed ON statistics_state (changed_at)",
    """
    CREATE TABLE statistics_counted (
        event_id UUID PRIMARY KEY,
        counted_at TIMESTAMPTZ NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX statistics_counted_at ON statistics_counted USING brin (counted_at)",
)
_GRANT = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        GRANT SELECT ON statistics_windows, statistics_classes TO standgale_reader;
    END IF;
END
$$
"""


def upgrade() -> None:
    """Create the tables; the reading role may read the windows and their classes."""
    for statement in (*_UP, _GRANT):
        op.execute(statement)


def downgrade() -> None:
    """Drop them; they can be counted again as far as the topic ``detections`` goes back."""
    for table in ("statistics_counted", "statistics_state", "statistics_classes", "statistics_windows"):
        op.execute(f"DROP TABLE {table}")
