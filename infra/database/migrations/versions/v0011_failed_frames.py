"""Adds capture times and sums of scores to sessions, for summaries of days, and lets the reading role read more."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_COLUMNS = "ADD COLUMN captured_at TIMESTAMPTZ, ADD COLUMN confidence_sum DOUBLE PRECISION"
# Of ten million detections it takes about a minute. A session without detections has the sum 0.
_FILL = """
UPDATE inference_sessions AS s SET captured_at = i.captured_at, confidence_sum = f.total
FROM images AS i, (
    SELECT one.id, coalesce(sum(d.confidence), 0) AS total
    FROM inference_sessions AS one LEFT JOIN detections AS d ON d.session_id = one.id GROUP BY one.id
) AS f
WHERE i.id = s.image_id AND f.id = s.id
"""
# Summaries are read from the index alone, a fortieth of what they take from the detections.
_INDEX = (
    "CREATE INDEX inference_sessions_captured ON inference_sessions (captured_at) "
    "INCLUDE (image_id, num_detections, confidence_sum) WHERE num_detections > 0"
)
# All columns that hold no secret: no tokens, no hashes, no addresses that may have a password in them.
_READABLE = {
    "api_clients": "id, client_id, name, created_at, last_seen",
    "inference_uploads": "id, client_id, created_at, expires_at",
    "media_runs": (
        "id, client_id, media_id, state, config, medium_uri, medium_sha256, medium_bytes, medium_type, "
        "medium_removed_at, created_at, started_at, finished_at, takeovers, is_read, duration_s, percent, events, "
        "error_code, error_message"
    ),
    "media_frames": (
        "run_id, position, frame_id, device_id, captured_at, video_time_s, image_uri, sha256, size_bytes, media_type, "
        "width, height, camera, status, published_at, session_id, error_code, error_message, event, percent"
    ),
    "video_sources": (
        "name, device_id, created_at, removed_at, holder, state, reason, counts, lag_s, began_at, accepted_at, "
        "reported_at"
    ),
    "video_pullers": "puller, joined_at, alive_until",
}
_IF_READER_EXISTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'standgale_reader') THEN
        {statements}
    END IF;
END
$$
"""


def upgrade() -> None:
    """Add and fill the columns; other writers of the table wait until that is done."""
    op.execute(f"ALTER TABLE inference_sessions {_COLUMNS}")
    op.execute(_FILL)
    op.execute(_INDEX)
    _for_reader("GRANT SELECT ({columns}) ON {table} TO standgale_reader;")


def downgrade() -> None:
    """Drop them; failed frames without a flight go, because no older program writes or expects such rows."""
    _for_reader("REVOKE SELECT ({columns}) ON {table} FROM standgale_reader;")
    op.execute("DELETE FROM inference_sessions WHERE status <> 'success'")
    op.execute("DELETE FROM images WHERE flight_id IS NULL AND processing_status = 'failed'")
    op.execute("DROP INDEX inference_sessions_captured")
    op.execute("ALTER TABLE inference_sessions DROP COLUMN captured_at, DROP COLUMN confidence_sum")


def _for_reader(statement: str) -> None:
    made = [statement.format(table=table, columns=columns) for table, columns in _READABLE.items()]
    op.execute(_IF_READER_EXISTS.format(statements="\n        ".join(made)))
