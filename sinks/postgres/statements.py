"""Defines the SQL statements of the PostgreSQL sink and the tables that it fills."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetTable:
    """Describes a table as the sink fills it."""

    table: str
    columns: tuple[str, ...]
    """In the order of the sink's rows"""
    on_conflict: str = "DO NOTHING"
    """What to do with a row that exists"""

    @property
    def staging(self) -> str:
        """The temporary table that COPY fills; it lives as long as the connection."""
        return f"new_{self.table}"

    @property
    def check(self) -> str:
        """A statement that fails when the table or one of the columns is missing."""
        return f"SELECT {', '.join(self.columns)} FROM {self.table} LIMIT 0"  # noqa: S608 - constants

    @property
    def create_staging(self) -> str:
        """A statement that creates :attr:`staging` with the types of the table, without its indexes and checks."""
        return f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.staging} (LIKE {self.table}) ON COMMIT DELETE ROWS"

    @property
    def merge(self) -> str:
        """A statement that inserts the new rows of :attr:`staging` into the table."""
        columns = ", ".join(self.columns)
        return (
            f"INSERT INTO {self.table} ({columns}) SELECT {columns} FROM {self.staging} "  # noqa: S608 - constants
            f"ON CONFLICT (id) {self.on_conflict}"
        )


IMAGES = TargetTable(
    "images",
    (
        "id",
        "device_id",
        "job_id",
        "image_uri",
        "sha256",
        "original_filename",
        "captured_at",
        "uploaded_at",
        "width",
        "height",
        "format",
        "size_bytes",
        "processing_status",
        "processed_at",
        "has_detections",
        "is_flagged",
        "camera",
        "metadata",
        "flight_id",
    ),
    # A frame may get another event from a different model or job: the row stays, but it counts as having detections
    # when any event has some, and a row that was pending or had failed becomes complete.
    """DO UPDATE SET
        has_detections = images.has_detections OR EXCLUDED.has_detections,
        processing_status = 'completed',
        processed_at = coalesce(images.processed_at, EXCLUDED.processed_at),
        flight_id = coalesce(images.flight_id, EXCLUDED.flight_id),
        failure_reason = NULL,
        failure_message = NULL
    WHERE (EXCLUDED.has_detections AND NOT images.has_detections) OR images.processing_status <> 'completed'
        OR (images.flight_id IS NULL AND EXCLUDED.flight_id IS NOT NULL)""",
)

_PENDING = tuple(column for column in IMAGES.columns if column != "processed_at")

ARRIVED = TargetTable(
    "images",
    _PENDING,
    # A frame that was sent before without a flight, or detected before it was read here, only gets its flight.
    """DO UPDATE SET flight_id = EXCLUDED.flight_id
    WHERE images.flight_id IS NULL""",
)
"""Frames of flights as they arrive."""

FAILED = TargetTable(
    "images",
    (*_PENDING, "failure_reason", "failure_message"),
    """DO UPDATE SET
        processing_status = 'failed',
        flight_id = coalesce(images.flight_id, EXCLUDED.flight_id),
        failure_reason = EXCLUDED.failure_reason,
        failure_message = EXCLUDED.failure_message
    WHERE images.processing_status <> 'completed'""",
)
"""Frames that no detector could process."""

OPEN_FLIGHTS = """
INSERT INTO flights (device_id, flight_id, opened_at)
SELECT * FROM unnest($1::uuid[], $2::varchar[], $3::timestamptz[])
ON CONFLICT (device_id, flight_id) DO NOTHING
"""

SESSIONS = TargetTable(
    "inference_sessions",
    (
        "id",
        "image_id",
        "job_id",
        "started_at",
        "completed_at",
        "duration_ms",
        "model_name",
        "model_version",
        "text_prompt",
        "config",
        "timings",
        "num_detections",
        "max_confidence",
        "status",
        "captured_at",
        "confidence_sum",
    ),
)

FAILED_SESSIONS = TargetTable(
    "inference_sessions",
    (
        "id",
        "image_id",
        "job_id",
        "started_at",
        "completed_at",
        "model_name",
        "model_version",
        "text_prompt",
        "config",
        "num_detections",
        "status",
        "error_message",
        "captured_at",
        "confidence_sum",
    ),
)
"""What was tried with a frame that failed; a session has the id of its dead letter."""

DETECTIONS = TargetTable(
    "detections",
    (
        "id",
        "image_id",
        "session_id",
        "bbox_x1",
        "bbox_y1",
        "bbox_x2",
        "bbox_y2",
        "corners",
        "confidence",
        "label",
        "class_id",
        "model_name",
        "model_version",
        "created_at",
        "metadata",
    ),
)

TARGETS = (IMAGES, SESSIONS, DETECTIONS)
"""All tables, in the order of their foreign keys."""

CHECK_TABLES = ";\n".join(target.check for target in TARGETS)
CREATE_STAGING = ";\n".join(target.create_staging for target in TARGETS)

UPSERT_DEVICES = """
INSERT INTO devices (id, device_id, last_seen, location)
SELECT * FROM unnest($1::uuid[], $2::varchar[], $3::timestamptz[], $4::jsonb[])
ON CONFLICT (device_id) DO UPDATE SET
    last_seen = EXCLUDED.last_seen,
    location = coalesce(EXCLUDED.location, devices.location)
WHERE devices.last_seen IS NULL OR devices.last_seen < EXCLUDED.last_seen
"""

# A device that a person entered has an id that is not computed.
DEVICE_IDS = "SELECT device_id, id FROM devices WHERE device_id = ANY($1)"
