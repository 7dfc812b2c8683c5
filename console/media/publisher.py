"""Publishes the frames of media, and again those that nobody has answered for long, with the same ids."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

from console.jobs.config import JobConfig
from console.jobs.options import model_of
from console.media.config import MediaConfig
from console.settings import ConsoleSettings
from infra.broker.event_records import event_record
from infra.broker.limited_publish import publish_acceptable
from infra.broker.port import OutRecord, Publisher
from infra.database.clock_tests import is_older
from infra.database.pool import Database
from infra.database.transaction import transaction
from infra.failure.rounds import Rounds, run_rounds
from infra.failure.settings import RetrySettings
from infra.process.health import HealthPart
from schemas.events import FrameCaptured
from schemas.topics import FRAMES_JOBS

SOURCE = "/standgale/media"
_MOST = 100
_BUSY_S = 0.02
_IDLE_S = 0.1
_PUBLISH_TIMEOUT_S = 10.0
_TAKE = f"""
SELECT f.*, r.media_id, r.config, r.created_at FROM media_frames f JOIN media_runs r ON r.id = f.run_id
WHERE r.finished_at IS NULL AND (f.status = 'queued'
    OR (f.status = 'published' AND {is_older("f.published_at", "$1::interval")}))
ORDER BY r.media_id IS NULL DESC, f.position, r.created_at LIMIT $2 FOR UPDATE OF f SKIP LOCKED
"""  # noqa: S608 (constants)
_MARK = """
UPDATE media_frames AS f SET status = 'published', published_at = clock_timestamp()
FROM unnest($1::uuid[], $2::int[]) AS t (run_id, position)
WHERE f.run_id = t.run_id AND f.position = t.position AND f.status IN ('queued', 'published')
"""
_TOO_LARGE = """
UPDATE media_frames SET status = 'failed', error_code = 'STORAGE_ERROR', error_message = $3
WHERE run_id = $1 AND position = $2
"""


class MediaPublisher:
    """Is the component that publishes. Killed before its note in the database, it publishes frames again."""

    name = "media-frames"

    def __init__(
        self, database: Database, publisher: Publisher, settings: ConsoleSettings, retry: RetrySettings
    ) -> None:
        self._rounds = Rounds("publishing frames of media", "frames of media wait", _IDLE_S, _BUSY_S)
        self._retry = retry
        self._database = database
        self._publisher = publisher
        self._again = timedelta(seconds=settings.publish_again_s)

    async def run(self, stop: asyncio.Event, health: HealthPart) -> None:
        """Publish until ``stop`` is set; an error is shown and tried again."""
        await run_rounds(self._rounds, self.work, stop, health, self._retry)

    async def work(self) -> int:
        """Publish what waits; return how many frames. Raises the errors of database and broker."""
        async with self._database.acquire(writing=True) as connection, transaction(connection):
            rows: list[Any] = await connection.fetch(_TAKE, self._again, _MOST)
            if not rows:
                return 0
            frames = [(row, _record(row)) for row in rows]
            refused = await publish_acceptable(self._publisher, frames, _PUBLISH_TIMEOUT_S)
            await connection.execute(_MARK, [row["run_id"] for row in rows], [row["position"] for row in rows])
            for row, error in refused:
                await connection.execute(_TOO_LARGE, row["run_id"], row["position"], f"It asks for too much: {error}")
        return len(rows)


def _record(row: Any) -> OutRecord:
    config = MediaConfig.model_validate_json(row["config"])
    time_s, source = row["video_time_s"], row["media_id"]
    event = FrameCaptured.model_validate(
        {
            "frame_id": row["frame_id"],
            "device_id": row["device_id"],
            "captured_at": row["captured_at"],
            "received_at": row["created_at"],
            "image": {
                "uri": row["image_uri"],
                "sha256": row["sha256"],
                "size_bytes": row["size_bytes"],
                "media_type": row["media_type"],
                "width": row["width"],
                "height": row["height"],
            },
            "camera": None if row["camera"] is None else json.loads(row["camera"]),
            "original_filename": source,
            "video": None if time_s is None else {"source": source, "presentation_time_s": time_s, "clock": "option"},
            "job_id": row["run_id"],
            "options": config.options.model_dump(exclude_none=True),
            "model": model_of(JobConfig(model=config.model)),
        }
    )
    return event_record(
        FRAMES_JOBS,
        event,
        id=event.frame_id,
        source=SOURCE,
        subject=None,
        time=event.received_at,
        key=event.device_id,
    )
