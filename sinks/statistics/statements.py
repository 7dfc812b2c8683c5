"""Defines the SQL statements of the statistics."""

from __future__ import annotations

CHECK_STATE = """
SELECT event_id, counted_at FROM statistics_counted LIMIT 0;
SELECT window_id, device_id, minute, model_name, model_version, source, revision, published, changed_at, counts
FROM statistics_state LIMIT 0
"""
# Sorted, so that two writers lock in the same order. An event that another writer has counted and not committed yet is
# waited for.
COUNT_NEW = """
INSERT INTO statistics_counted (event_id) SELECT id FROM unnest($1::uuid[]) AS given (id) ORDER BY id
ON CONFLICT DO NOTHING RETURNING event_id
"""
# Before the rows are locked: of two writers that begin the same window, one would overwrite the other's counts.
OPEN_WINDOWS = """
INSERT INTO statistics_state (window_id, device_id, minute, model_name, model_version, source)
SELECT * FROM unnest($1::uuid[], $2::varchar[], $3::timestamptz[], $4::varchar[], $5::varchar[], $6::varchar[])
ON CONFLICT DO NOTHING
"""
LOCK_WINDOWS = """
SELECT window_id, counts FROM statistics_state WHERE window_id = ANY($1) ORDER BY window_id FOR UPDATE
"""
WRITE_COUNTS = """
UPDATE statistics_state s SET counts = given.counts::json, revision = given.revision, changed_at = now()
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS given (id, counts, revision) WHERE s.window_id = given.id
"""
UNPUBLISHED = """
SELECT window_id, device_id, minute, model_name, model_version, source, counts FROM statistics_state
WHERE revision > published ORDER BY changed_at, window_id LIMIT $1
"""
# Another process may have published a later revision meanwhile.
NOTE_PUBLISHED = """
UPDATE statistics_state s SET published = given.revision
FROM unnest($1::uuid[], $2::bigint[]) AS given (id, revision)
WHERE s.window_id = given.id AND s.published < given.revision
"""

CHECK_TABLES = """
SELECT id, device_id, minute, model_name, model_version, source, revision, frames, frames_with_detections, frames_per_s,
    first_captured_at, last_captured_at, last_detected_at, clock_ahead, detections, other_detections, times, changed_at
FROM statistics_windows LIMIT 0;
SELECT window_id, label, detections, frames, mean_confidence FROM statistics_classes LIMIT 0
"""
WRITE_WINDOWS = """
INSERT INTO statistics_windows (id, device_id, minute, model_name, model_version, source, revision, frames,
    frames_with_detections, frames_per_s, first_captured_at, last_captured_at, last_detected_at, clock_ahead,
    detections, other_detections, times)
SELECT * FROM unnest($1::uuid[], $2::varchar[], $3::timestamptz[], $4::varchar[], $5::varchar[], $6::varchar[],
    $7::bigint[], $8::bigint[], $9::bigint[], $10::float8[], $11::timestamptz[], $12::timestamptz[],
    $13::timestamptz[], $14::bigint[], $15::bigint[], $16::bigint[], $17::jsonb[])
ON CONFLICT (id) DO UPDATE SET
    revision = EXCLUDED.revision, frames = EXCLUDED.frames, frames_with_detections = EXCLUDED.frames_with_detections,
    frames_per_s = EXCLUDED.frames_per_s, first_captured_at = EXCLUDED.first_captured_at,
    last_captured_at = EXCLUDED.last_captured_at, last_detected_at = EXCLUDED.last_detected_at,
    clock_ahead = EXCLUDED.clock_ahead, detections = EXCLUDED.detections,
    other_detections = EXCLUDED.other_detections, times = EXCLUDED.times, changed_at = now()
WHERE statistics_windows.revision < EXCLUDED.revision
RETURNING id
"""
REMOVE_CLASSES = "DELETE FROM statistics_classes WHERE window_id = ANY($1)"
WRITE_CLASSES = """
INSERT INTO statistics_classes (window_id, label, detections, frames, mean_confidence)
SELECT * FROM unnest($1::uuid[], $2::varchar[], $3::bigint[], $4::bigint[], $5::float8[])
"""

FORGET_COUNTED = """
DELETE FROM statistics_counted WHERE event_id IN (
    SELECT event_id FROM statistics_counted WHERE counted_at < now() - $1::interval ORDER BY counted_at LIMIT $2
)
"""
FORGET_STATE = """
DELETE FROM statistics_state WHERE window_id IN (
    SELECT window_id FROM statistics_state
    WHERE changed_at < now() - $1::interval AND revision = published ORDER BY changed_at LIMIT $2
)
"""
FORGET_WINDOWS = """
DELETE FROM statistics_windows WHERE id IN (
    SELECT id FROM statistics_windows WHERE changed_at < now() - $1::interval ORDER BY changed_at LIMIT $2
)
"""
