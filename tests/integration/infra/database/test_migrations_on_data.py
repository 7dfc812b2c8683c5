"""Migrations up, down and up on data: rows stay, and what a step adds is computed from them."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from infra.database import migrate

pytestmark = pytest.mark.integration

_IMAGE = """
INSERT INTO images (device_id, image_uri, sha256, captured_at, width, height, format, size_bytes, processing_status,
    flight_id)
VALUES ($1, 'file:///x', 'x', $2::text::timestamptz, 1, 1, 'jpeg', 1, $3, $4) RETURNING id
"""
_SESSION = """
INSERT INTO inference_sessions (image_id, model_name, model_version, status, num_detections)
VALUES ($1, 'drone', '1.0', $2, $3) RETURNING id
"""
_DETECTION = """
INSERT INTO detections (image_id, session_id, bbox_x1, bbox_y1, bbox_x2, bbox_y2, confidence, label, model_name,
    model_version)
VALUES ($1, $2, 0, 0, 1, 1, $3, 'bird', 'drone', '1.0')
"""
_SUMS = "SELECT captured_at::date::text, confidence_sum FROM inference_sessions ORDER BY 1, 2"


async def test_sessions_get_their_capture_times_and_sums_on_the_way_up(empty_dsn: str) -> None:
    """C-S1-066"""
    await asyncio.to_thread(migrate.migrate_up, empty_dsn, "0010")
    admin = await asyncpg.connect(empty_dsn)
    try:
        device = await admin.fetchval("INSERT INTO devices (device_id) VALUES ('drone-1') RETURNING id")
        for day, scores in ((1, (0.5, 0.25)), (2, ())):
            image = await admin.fetchval(_IMAGE, device, f"2026-05-0{day}T12:00Z", "completed", None)
            session = await admin.fetchval(_SESSION, image, "success", len(scores))
            for score in scores:
                await admin.execute(_DETECTION, image, session, score)
        for _ in range(2):
            await asyncio.to_thread(migrate.migrate_up, empty_dsn)
            assert [tuple(row) for row in await admin.fetch(_SUMS)] == [("2026-05-01", 0.75), ("2026-05-02", 0.0)]
            await asyncio.to_thread(migrate.migrate_down, empty_dsn, "0010")
            assert await admin.fetchval("SELECT count(*) FROM detections") == 2
            await admin.reload_schema_state()
    finally:
        await admin.close()


async def test_a_step_back_from_failed_frames_keeps_detected_images_and_flights(empty_dsn: str) -> None:
    """An older program knows no failed frame without a flight, and no session that failed."""
    await asyncio.to_thread(migrate.migrate_up, empty_dsn)
    admin = await asyncpg.connect(empty_dsn)
    try:
        device = await admin.fetchval("INSERT INTO devices (device_id) VALUES ('drone-1') RETURNING id")
        for status, flight in (("completed", None), ("failed", None), ("failed", "north"), ("pending", "north")):
            image = await admin.fetchval(_IMAGE, device, "2026-05-01T12:00Z", status, flight)
            await admin.execute(_SESSION, image, "failed" if status == "failed" else "success", 0)
        await asyncio.to_thread(migrate.migrate_down, empty_dsn, "0010")
        found = await admin.fetch("SELECT processing_status, flight_id FROM images ORDER BY 1, 2")
        assert [tuple(row) for row in found] == [("completed", None), ("failed", "north"), ("pending", "north")]
        assert await admin.fetchval("SELECT count(*) FROM inference_sessions WHERE status <> 'success'") == 0
        await asyncio.to_thread(migrate.migrate_up, empty_dsn)
        assert await admin.fetchval("SELECT count(*) FROM images") == 3
    finally:
        await admin.close()


async def test_a_step_back_from_annotations_forgets_kept_tokens_and_keeps_rows(empty_dsn: str) -> None:
    """An older program removes tokens with the end of a run."""
    await asyncio.to_thread(migrate.migrate_up, empty_dsn)
    admin = await asyncpg.connect(empty_dsn)
    try:
        await admin.execute("INSERT INTO api_clients (client_id) VALUES ('desktop')")
        device = await admin.fetchval("INSERT INTO devices (device_id) VALUES ('drone-1') RETURNING id")
        image = await admin.fetchval(_IMAGE, device, "2026-05-01T12:00Z", "completed", None)
        await admin.execute(
            "INSERT INTO media_runs (id, client_id, media_id, state, config, token, annotate, finished_at)"
            " VALUES (gen_random_uuid(), 'desktop', 'clip', 'processed', '{}', 'secret', TRUE, now())"
        )
        await admin.execute(
            "INSERT INTO annotation_posts SELECT id, $1, TRUE, 'a-1', NULL, now() FROM media_runs", image
        )
        await admin.execute("INSERT INTO data_annotations (image_id, annotation_type) VALUES ($1, 'confirmed')", image)
        await asyncio.to_thread(migrate.migrate_down, empty_dsn, "0014")
        assert await admin.fetchval("SELECT count(*) FROM media_runs WHERE token IS NULL") == 1
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute("UPDATE media_runs SET token = 'secret'")
        await asyncio.to_thread(migrate.migrate_up, empty_dsn)
        assert await admin.fetchval("SELECT count(*) FROM media_runs WHERE NOT annotate") == 1
        assert await admin.fetchval("SELECT count(*) FROM data_annotations") == 1
    finally:
        await admin.close()
