"""Runs jobs over real HTTP and a real database; a test decides what the detectors answer, and when."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from console.ids import new_id
from console.jobs.publisher import JobPublisher
from console.settings import ConsoleSettings
from infra.broker.port import OutRecord
from infra.database.pool import Database
from infra.errors import ImageCorruptError
from infra.failure.dead_letter_records import dead_letter
from infra.failure.settings import RetrySettings
from schemas.cloudevents import decode
from schemas.event_base import ModelRef
from schemas.events import DeadLetter, Detection, DetectionsMade, DetectOptions, FrameCaptured, Timings
from schemas.geometry import Box
from schemas.ids import detection_id, detections_event_id
from schemas.job_events import JobFinished
from schemas.timestamps import utc_now
from sinks.postgres.jobs import JobFailures
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import in_record, out_record
from tests.servers.console import ConsoleResponse, RunningConsole, running_console

CAPTURED = datetime(2026, 5, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Upload:
    """An upload whose files have rows, and no bytes."""

    upload_id: str
    file_ids: list[str]


async def insert_upload(database: Database, count: int = 1, client: str = "desktop", *, equal: bool = False) -> Upload:
    """Write an upload of ``count`` files; ``equal``: all with the same content."""
    upload, found = uuid4(), Upload(new_id("upl"), [new_id("img") for _ in range(count)])
    async with database.acquire(writing=True) as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO uploads (id, upload_id, client_id, expires_at, completed_at) VALUES ($1, $2, $3, $4, now())",
            *(upload, found.upload_id, client, utc_now() + timedelta(days=7)),
        )
        for place, file_id in enumerate(found.file_ids):
            digest = hashlib.sha256(b"equal" if equal else file_id.encode()).hexdigest()
            await connection.execute(
                "INSERT INTO uploaded_files (id, file_id, upload_id, position, filename, size_bytes, media_type, width,"
                " height, sha256, image_uri, captured_at) VALUES ($1, $2, $3, $4, $5, 1000, "
                "'image/jpeg', 800, 600, $6, $7, $8)",
                *(uuid4(), file_id, upload, place, f"picture{place}.jpg", digest, f"file:///frames/{digest}.jpg"),
                CAPTURED,
            )
    return found


@dataclass
class Published:
    """Is a publisher that keeps what is published; ``error`` is raised instead."""

    records: list[OutRecord] = field(default_factory=list)
    error: Exception | None = None

    async def publish(self, records: Sequence[OutRecord]) -> None:
        if self.error is not None:
            raise self.error
        self.records.extend(records)

    def clock_ahead_s(self) -> float | None:
        return None

    async def close(self) -> None:
        """Close nothing."""


def answer_of(frame: FrameCaptured, scores: Sequence[float] = (0.5,)) -> DetectionsMade:
    """The event with a detection per score that a detector makes of ``frame``."""
    own = detections_event_id(frame.frame_id, frame.job_id, "small", "1.0")
    box = Box(x1=0.25, y1=0.5, x2=0.75, y2=1.0)
    shared = frame.model_dump(include={"frame_id", "device_id", "captured_at", "received_at", "camera", "metadata"})
    return DetectionsMade(
        **shared,
        id=own,
        job_id=frame.job_id,
        image=frame.image,
        original_filename=frame.original_filename,
        detected_at=utc_now(),
        model=ModelRef(name="small", version="1.0"),
        options=DetectOptions(),
        detections=[
            Detection(id=detection_id(own, place), label="bird", class_id=0, confidence=score, box=box)
            for place, score in enumerate(scores)
        ],
        timings=Timings(queued_ms=0, fetch_ms=0, decode_ms=0, inference_ms=1.5, merge_ms=0, total_ms=2),
    )


def letter_of(event: FrameCaptured | DetectionsMade, error: Exception, group: str = "detector") -> DeadLetter:
    """The dead letter of ``event``."""
    sent = out_record(event)
    record = in_record(value=sent.value, headers=sent.headers)
    letter = dead_letter(record, group=group, error=error, attempts=1, topic="frames.dead")
    return decode(letter.headers, letter.value, DeadLetter)


@dataclass
class JobSite:
    """A console, what publishes the frames of its jobs, and the sinks that write their results."""

    console: RunningConsole
    settings: ConsoleSettings
    topics: Published
    sink: PostgresSink
    failures: JobFailures

    @property
    def database(self) -> Database:
        return self.console.database

    def publisher(self, topics: Published | None = None) -> JobPublisher:
        return JobPublisher(self.database, topics or self.topics, self.settings, RetrySettings(first_delay_s=0.05))

    async def upload(self, count: int = 1, client: str = "desktop", *, equal: bool = False) -> Upload:
        return await insert_upload(self.database, count, client, equal=equal)

    async def ask(self, upload: Upload | str, *, key: str = "", **body: Any) -> ConsoleResponse:
        """Send a request for a job."""
        upload_id = upload if isinstance(upload, str) else upload.upload_id
        return await self.console.post("/api/v1/inference/predict", json={"upload_id": upload_id, **body}, key=key)

    async def job(self, count: int = 1, **body: Any) -> str:
        """Make a job of an upload of ``count`` files."""
        response = await self.ask(await self.upload(count), **body)
        assert response.status == 202, response.body
        return str(response.json["data"]["job_id"])

    async def publish(self) -> list[FrameCaptured]:
        """Let the publisher work once; the frames that it published."""
        before = len(self.topics.records)
        await self.publisher().publish_some()
        return [decode(record.headers, record.value, FrameCaptured) for record in self.topics.records[before:]]

    async def answer(self, *frames: FrameCaptured, scores: Sequence[float] = (0.5,), **changes: Any) -> None:
        """Let the detectors find something; ``changes`` are to the fields of their events."""
        await self.sink.write([answer_of(frame, scores).model_copy(update=changes) for frame in frames])

    async def fail(self, *frames: FrameCaptured, error: Exception | None = None) -> None:
        reason = error or ImageCorruptError("the JPEG ends early")
        await self.failures.write([letter_of(frame, reason) for frame in frames])

    async def status(self, job_id: str, key: str = "") -> dict[str, Any]:
        response = await self.console.get(f"/api/v1/jobs/{job_id}/status", key=key)
        assert response.status == 200, response.body
        return dict(response.json["data"])

    async def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        async with self.database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query, *values)]

    async def finished(self) -> list[JobFinished]:
        """The ends of jobs in the outbox, the oldest first."""
        rows = await self.rows("SELECT value FROM outbox WHERE topic = 'jobs' ORDER BY position")
        return [JobFinished.from_bytes(row["value"]) for row in rows]


@asynccontextmanager
async def job_site(
    folder: Path, database: Database, settings: ConsoleSettings | None = None, **parts: Any
) -> AsyncIterator[JobSite]:
    """Run a console with everything of jobs."""
    chosen = settings or ConsoleSettings()
    async with running_console(folder, database, settings=chosen, **parts) as console:
        sink, failures = PostgresSink(database), JobFailures(database)
        for opened in (sink, failures):
            await opened.open()
        yield JobSite(console, chosen, Published(), sink, failures)
