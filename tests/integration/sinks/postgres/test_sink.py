"""The PostgreSQL sink on a real server: every row once, in any batch and at any repetition."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from infra.database import migrate
from infra.database.error_translation import RowRefusedError, WriteRefusedError
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import DatabaseUnavailableError, RefusedError
from schemas.events import DetectionsMade
from schemas.geometry import Point
from schemas.ids import device_uuid
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made

pytestmark = pytest.mark.integration

LABELS = ("car", "car", "car")


@pytest.fixture
async def sink(database: Database) -> PostgresSink:
    opened = PostgresSink(database)
    await opened.open()
    return opened


async def counts(database: Database) -> dict[str, int]:
    tables = ("devices", "images", "inference_sessions", "detections")
    async with database.acquire() as connection:
        return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables}


async def rows(database: Database, query: str, *arguments: object) -> list[dict[str, object]]:
    async with database.acquire(writing=True) as connection:
        return [dict(row) for row in await connection.fetch(query, *arguments)]


def summary(devices: int, images: int, sessions: int, detections: int) -> dict[str, int]:
    return {"devices": devices, "images": images, "inference_sessions": sessions, "detections": detections}


async def test_one_detections_event_fills_all_four_tables(sink: PostgresSink, database: Database) -> None:
    event = detections_made(0)
    await sink.write([event])
    (device,) = await rows(database, "SELECT id, device_id, last_seen, location->>'latitude' AS lat FROM devices")
    assert device == {
        "id": device_uuid("drone-1"),
        "device_id": "drone-1",
        "last_seen": event.received_at,
        "lat": "50.5",
    }
    (image,) = await rows(database, "SELECT *, metadata->'wind'->>1 AS wind, camera->>'altitude_m' AS alt FROM images")
    assert image["id"] == event.frame_id
    assert image["device_id"] == device["id"]
    assert (image["image_uri"], image["sha256"]) == (event.image.uri, event.image.sha256)
    assert (image["captured_at"], image["uploaded_at"], image["processed_at"]) == (
        event.captured_at,
        event.received_at,
        event.detected_at,
    )
    assert (image["width"], image["height"], image["format"], image["size_bytes"]) == (4000, 3000, "jpeg", 3 * 10**9)
    assert (image["processing_status"], image["has_detections"], image["is_flagged"]) == ("completed", True, False)
    assert (image["wind"], image["alt"], image["original_filename"]) == ("2.5", "80.0", "DJI_0001.JPG")
    (session,) = await rows(database, "SELECT *, config->>'confidence' AS asked FROM inference_sessions")
    assert (session["id"], session["image_id"], session["duration_ms"]) == (event.id, event.frame_id, 250)
    assert (session["started_at"], session["completed_at"]) == (event.received_at, event.detected_at)
    assert (session["num_detections"], session["max_confidence"], session["asked"]) == (2, 0.5, "0.25")
    found = await rows(database, "SELECT * FROM detections ORDER BY confidence DESC")
    assert [row["id"] for row in found] == [detection.id for detection in event.detections]
    assert [found[0][f"bbox_{corner}"] for corner in ("x1", "y1", "x2", "y2")] == [0.25, 0.5, 0.75, 1.0]
    assert (found[0]["label"], found[0]["class_id"], found[0]["model_name"]) == ("car", 3, "small")
    assert (found[0]["session_id"], found[0]["created_at"]) == (event.id, event.detected_at)


async def test_writing_again_changes_nothing(sink: PostgresSink, database: Database) -> None:
    events = [
        detections_made(number, labels=LABELS[: number % 3], device=f"drone-{number % 2}") for number in range(20)
    ]
    await sink.write(events)
    before = await everything(database)
    await sink.write(events)
    await sink.write(events[5:9])
    await sink.write(list(reversed(events)))
    assert await everything(database) == before
    assert await counts(database) == summary(2, 20, 20, sum(number % 3 for number in range(20)))


async def everything(database: Database) -> list[list[dict[str, object]]]:
    tables = ("devices", "images", "inference_sessions", "detections")
    return [await rows(database, f"SELECT * FROM {table} ORDER BY id") for table in tables]


async def test_same_event_twice_in_one_batch_is_one_row(sink: PostgresSink, database: Database) -> None:
    await sink.write([detections_made(0), detections_made(1), detections_made(0)])
    assert await counts(database) == summary(1, 2, 2, 4)


async def test_a_frame_without_detections_is_recorded(sink: PostgresSink, database: Database) -> None:
    await sink.write([detections_made(0, labels=(), camera=None, metadata={}, original_filename=None)])
    (image,) = await rows(database, "SELECT has_detections, metadata, camera FROM images")
    assert image == {"has_detections": False, "metadata": None, "camera": None}
    (session,) = await rows(database, "SELECT num_detections, max_confidence FROM inference_sessions")
    assert session == {"num_detections": 0, "max_confidence": None}


@pytest.mark.parametrize("together", [True, False])
async def test_event_of_second_model_adds_to_the_same_frame(
    sink: PostgresSink, database: Database, together: bool
) -> None:
    events = [
        detections_made(0, labels=()),
        detections_made(0, labels=LABELS, version="2.0"),
        detections_made(0, labels=(), version="3.0"),
    ]
    for batch in [events] if together else [[event] for event in events]:
        await sink.write(batch)
    assert await counts(database) == summary(1, 1, 3, 3)
    assert await rows(database, "SELECT has_detections FROM images") == [{"has_detections": True}]


async def test_last_seen_never_goes_back(sink: PostgresSink, database: Database) -> None:
    for number in (5, 1, 3):
        await sink.write([detections_made(number)])
    assert await rows(database, "SELECT last_seen FROM devices") == [{"last_seen": detections_made(5).received_at}]


async def test_device_that_a_person_entered_keeps_its_row(sink: PostgresSink, database: Database) -> None:
    (made,) = await rows(database, "INSERT INTO devices (device_id, name) VALUES ('drone-1', 'By hand') RETURNING id")
    await sink.write([detections_made(0)])
    (device,) = await rows(database, "SELECT id, name, last_seen FROM devices")
    assert device == {"id": made["id"], "name": "By hand", "last_seen": detections_made(0).received_at}
    assert await rows(database, "SELECT device_id FROM images") == [{"device_id": made["id"]}]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"metadata": {"note": "a\u0000b"}}, "images.metadata"),
        ({"metadata": {"speed": float("nan")}}, "images.metadata"),
        ({"original_filename": "a\u0000b"}, "images.original_filename"),
        ({"image": detections_made(1).image.model_copy(update={"width": 2**31})}, "int32"),
    ],
)
async def test_a_value_the_database_refuses_is_named_and_leaves_nothing(
    sink: PostgresSink, database: Database, change: dict[str, object], field: str
) -> None:
    bad = detections_made(1)
    with pytest.raises(RowRefusedError, match=field):
        await sink.write([detections_made(0), bad.model_copy(update=change), detections_made(2)])
    assert await counts(database) == summary(0, 0, 0, 0)
    await sink.write([detections_made(0), detections_made(2)])
    assert await counts(database) == summary(1, 2, 2, 4)


async def test_numbers_that_need_more_than_64_bits_are_kept(sink: PostgresSink, database: Database) -> None:
    await sink.write([detections_made(0, metadata={"serial": 2**70})])
    assert await rows(database, "SELECT (metadata->>'serial')::numeric = 2::numeric ^ 70 AS same FROM images") == [
        {"same": True}
    ]


async def test_batch_is_written_again_after_lost_connection(sink: PostgresSink, database: Database) -> None:
    await sink.write([detections_made(0)])
    async with database.acquire() as other:
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    events = [detections_made(0), detections_made(1)]
    for _ in range(5):
        try:
            await sink.write(events)
        except DatabaseUnavailableError:
            continue
        break
    assert await counts(database) == summary(1, 2, 2, 4)


async def test_postgres_sink_without_tables_is_refused_with_remedy(empty_dsn: str, tmp_path: Path) -> None:
    database = Database.open(DatabaseSettings(url=empty_dsn), tmp_path)
    with pytest.raises(RefusedError, match="standgale migrate up"):
        await PostgresSink(database).open()
    await database.close()


async def test_postgres_sink_waits_for_missing_migration_then_writes(empty_dsn: str, tmp_path: Path) -> None:
    await asyncio.to_thread(migrate.migrate_up, empty_dsn, "0003")
    database = Database.open(DatabaseSettings(url=empty_dsn, pool_max=1), tmp_path)
    sink = PostgresSink(database)
    with pytest.raises(RefusedError, match=r"column is missing .*; run: standgale migrate up"):
        await sink.open()
    await asyncio.to_thread(migrate.migrate_up, empty_dsn)
    await sink.open()
    await sink.write([detections_made(0)])
    assert await counts(database) == summary(1, 1, 1, 2)
    await database.close()


async def test_rotated_boxes_keep_their_corners_and_upright_ones_have_none(
    sink: PostgresSink, database: Database
) -> None:
    event = detections_made(0)
    points = tuple(Point(x=x, y=y) for x, y in ((0.5, -0.1), (1.1, 0.4), (0.9, 0.6), (0.3, 0.1)))
    turned = event.detections[0].model_copy(update={"corners": points})
    await sink.write([event.model_copy(update={"detections": [turned, event.detections[1]]})])
    found = await rows(database, "SELECT corners FROM detections ORDER BY confidence DESC")
    assert found == [{"corners": [0.5, -0.1, 1.1, 0.4, 0.9, 0.6, 0.3, 0.1]}, {"corners": None}]


async def test_the_database_refuses_corners_that_are_not_four(database: Database, sink: PostgresSink) -> None:
    await sink.write([detections_made(0)])
    for corners in ("{0.5,0.5}", "{0,0,1,0,1,1,0,NULL}", "{}"):
        with pytest.raises(WriteRefusedError, match="detections_corners_check"):
            await rows(database, "UPDATE detections SET corners = $1::text::float8[]", corners)


async def test_the_queries_of_data_scientists_find_what_was_written(sink: PostgresSink, database: Database) -> None:
    events: Sequence[DetectionsMade] = [detections_made(number, labels=LABELS[:number]) for number in range(4)]
    await sink.write(events)
    found = await rows(
        database,
        """
        SELECT i.id, count(d.id) AS things FROM images i JOIN detections d ON d.image_id = i.id
        WHERE d.confidence > 0.3 GROUP BY i.id HAVING count(d.id) >= 2 ORDER BY i.captured_at DESC
        """,
    )
    assert found == [{"id": event.frame_id, "things": 2} for event in (events[3], events[2])]
    ids = await rows(
        database,
        "SELECT i.id FROM images i JOIN devices v ON v.id = i.device_id WHERE v.device_id = $1 ORDER BY captured_at",
        "drone-1",
    )
    assert [UUID(str(row["id"])) for row in ids] == [event.frame_id for event in events]
