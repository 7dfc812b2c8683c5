"""Keeps media in a real database, and makes the events of their frames, for the sink that posts to Annotations."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from infra.database.pool import Database
from infra.encryption.box import SecretBox
from infra.storage.frames.folder import FolderFrameStore
from schemas.events import Detection, DetectionsMade, VideoPosition
from schemas.geometry import Box
from schemas.ids import detection_id
from sinks.annotations.settings import AnnotationsSettings
from sinks.annotations.sink import AnnotationsSink
from standgale.testing.factories import detections_made

BOX = SecretBox([bytes(32)])
PICTURE = b"\xff\xd8 a picture"
_CLIENT = "INSERT INTO api_clients (id, client_id) VALUES ($1, 'desktop') ON CONFLICT DO NOTHING"
_RUN = """
INSERT INTO media_runs (id, client_id, media_id, state, config, token, refresh_token, refresh_at, annotate)
VALUES ($1, 'desktop', $2, 'processing', '{}', $3, $4, now() + $5::interval, $6)
"""
_FRAME = """
INSERT INTO media_frames (run_id, position, frame_id, device_id, captured_at, image_uri, sha256, size_bytes, media_type,
    width, height, status)
VALUES ($1, $2, $3, 'jobs-00', now(), 'file:///x', 'x', 1, 'image/jpeg', 1, 1, 'detected')
"""


def found_event(number: int, run: UUID | None, scores: Sequence[float] = (0.9,), video: bool = True) -> DetectionsMade:
    """The event of frame ``number`` of a medium, a quarter of a second after the one before it."""
    event = detections_made(number, device=f"jobs-{number % 3:02d}", labels=())
    box = Box(x1=0.25, y1=0.5, x2=0.75, y2=1.0)
    return event.model_copy(
        update={
            "job_id": run,
            "video": VideoPosition(source="clip", presentation_time_s=number / 4, clock="option") if video else None,
            "detections": [
                Detection(id=detection_id(event.id, place), label="bird", class_id=3, confidence=score, box=box)
                for place, score in enumerate(scores)
            ],
        }
    )


@dataclass
class AnnotationSite:
    """Makes media and sinks."""

    database: Database
    folder: Path
    url: str
    admin: asyncpg.Connection | None = None
    """Writes the rows of media; None: the database does"""
    sinks: list[AnnotationsSink] = field(default_factory=list)

    async def execute(self, statement: str, *values: object) -> None:
        if self.admin is not None:
            await self.admin.execute(statement, *values)
            return
        async with self.database.acquire(writing=True) as connection:
            await connection.execute(statement, *values)

    async def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        async with self.database.acquire() as connection:
            return [dict(row) for row in await connection.fetch(query, *values)]

    async def run(
        self,
        media_id: str = "clip",
        token: str | None = "caller",
        *,
        refresh: str | None = None,
        annotate: bool = True,
        frames: Sequence[DetectionsMade] = (),
    ) -> UUID:
        """A medium that is worked on."""
        run = uuid4()
        await self.execute(_CLIENT, uuid4())
        kept = [None if each is None else BOX.encrypt(each, "media") for each in (token, refresh)]
        await self.execute(_RUN, run, media_id, *kept, None if refresh is None else timedelta(hours=1), annotate)
        for place, frame in enumerate(frames):
            await self.execute(_FRAME, run, place, frame.frame_id)
        return run

    def sink(self, **settings: Any) -> AnnotationsSink:
        """A sink; pictures are posted where a test says so."""
        chosen = AnnotationsSettings(**{"image": False, "timeout_s": 1.0, **settings})
        store = FolderFrameStore(self.folder / "frames")
        made = AnnotationsSink(self.database, store, BOX, chosen, self.url)
        self.sinks.append(made)
        return made

    async def keep_picture(self, event: DetectionsMade) -> DetectionsMade:
        """``event`` with a picture that the store has."""
        digest = hashlib.sha256(PICTURE).hexdigest()
        uri = await FolderFrameStore(self.folder / "frames").put(PICTURE, sha256=digest, media_type="image/jpeg")
        image = event.image.model_copy(update={"uri": uri, "sha256": digest, "size_bytes": len(PICTURE)})
        return event.model_copy(update={"image": image})

    async def close(self) -> None:
        await asyncio.gather(*(sink.close() for sink in self.sinks))
