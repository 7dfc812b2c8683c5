"""Fills a database with generated detections, in SQL, for benchmarks of queries."""

from __future__ import annotations

import asyncpg

PER_IMAGE = 10
"""Detections of one frame."""
_DEVICES = 20

# A year of frames, in the order in which they were captured, of devices that take turns.
_IMAGES = """
INSERT INTO images (device_id, image_uri, sha256, captured_at, uploaded_at, width, height, format, size_bytes,
    processing_status, processed_at, has_detections, lakefs_path, camera)
SELECT d.id, 'file:///frames/' || n || '.jpg', md5(n::text) || md5((-n)::text), at, at, 1280, 960, 'jpeg', 200000,
    'completed', at, TRUE, 'images/' || d.device_id || '/' || n || '.jpg',
    jsonb_build_object('latitude', 50 + random(), 'longitude', 30 + random())
FROM generate_series(1, $1::bigint) AS n
CROSS JOIN LATERAL (SELECT now() - interval '365 days' * (1 - n::float8 / $1) AS at) AS t
JOIN (SELECT id, device_id, row_number() OVER (ORDER BY device_id) - 1 AS place FROM devices) AS d
    ON d.place = n % (SELECT count(*) FROM devices)
ORDER BY n
"""
_SESSIONS = """
INSERT INTO inference_sessions (image_id, started_at, completed_at, duration_ms, model_name, model_version, config,
    num_detections, captured_at, confidence_sum)
SELECT id, captured_at, captured_at, 90, 'drone', '1.0.0', '{}', $1::int, captured_at, $1 * 0.5 FROM images
"""
# The score is nearer to 1 for few of them, as of a detector; the labels are as unequal as those of pictures.
_DETECTIONS = """
INSERT INTO detections (image_id, session_id, bbox_x1, bbox_y1, bbox_x2, bbox_y2, confidence, label, class_id,
    model_name, model_version, created_at)
SELECT s.image_id, s.id, x, y, x + 0.01 + 0.05 * random(), y + 0.01 + 0.05 * random(), 0.25 + 0.75 * c * c,
    (ARRAY['vehicle', 'person', 'bird', 'boat'])[1 + k], k, 'drone', '1.0.0', s.started_at
FROM inference_sessions AS s
CROSS JOIN generate_series(1, $1::int) AS n
CROSS JOIN LATERAL (
    SELECT 0.9 * random() AS x, 0.9 * random() AS y, random() AS c, floor(4 * random() * random())::int AS k, n, s.id
) AS r
"""
_INDEXES = """
SELECT i.indexname, i.indexdef FROM pg_indexes i
WHERE i.schemaname = 'public' AND i.tablename IN ('images', 'inference_sessions', 'detections')
    AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname)
"""


async def fill(dsn: str, detections: int) -> None:
    """Write ``detections`` rows with their images and sessions; indexes are built after them, as a restore does."""
    connection = await asyncpg.connect(dsn)
    try:
        # Foreign keys of generated rows are right; checking ten million of them takes minutes.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute("SET maintenance_work_mem = '512MB'")
        indexes = await connection.fetch(_INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['indexname']}")
        names = [f"drone-{number:02}" for number in range(_DEVICES)]
        await connection.execute("INSERT INTO devices (device_id) SELECT unnest($1::varchar[])", names)
        await connection.execute(_IMAGES, detections // PER_IMAGE)
        await connection.execute(_SESSIONS, PER_IMAGE)
        await connection.execute(_DETECTIONS, PER_IMAGE)
        for index in indexes:
            await connection.execute(index["indexdef"])
        for table in ("images", "inference_sessions", "detections"):
            await connection.execute(f"VACUUM (ANALYZE) {table}")
    finally:
        await connection.close()
