"""Fills a database and a frame store with detected pictures, and makes data sets of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson

from console.datasets.create import Created, DatasetParts, DatasetRequest, create_dataset
from console.datasets.settings import DatasetSettings
from console.datasets.splits import parse_shares
from console.datasets.stores.port import DatasetStore
from infra.database.pool import Connection, Database
from infra.storage.frames.folder import FolderFrameStore
from schemas.ids import device_uuid

DAY = datetime(2026, 5, 1, 10, tzinfo=UTC)
_DEVICE = "INSERT INTO devices (id, device_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_IMAGE = """
INSERT INTO images (id, device_id, image_uri, sha256, captured_at, width, height, format, size_bytes, has_detections,
    processing_status, flight_id)
VALUES ($1, $2, $3, $4, $5, 64, 48, 'jpeg', $6, $7, 'completed', $8)
"""
_SESSION = """
INSERT INTO inference_sessions (id, image_id, model_name, model_version, completed_at, num_detections)
VALUES ($1, $2, $3, $4, $5, $6)
"""
_BOX = """
INSERT INTO detections (id, image_id, session_id, bbox_x1, bbox_y1, bbox_x2, bbox_y2, confidence, label, class_id,
    model_name, model_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11)
"""
_JOB = "INSERT INTO jobs (id, job_id, client_id, config, total_images) VALUES ($1, $2, 'client', '{}', 1)"
_CORRECTION = """
INSERT INTO data_annotations (id, image_id, detection_id, annotation_type, corrected_bbox, corrected_label,
    annotated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


@dataclass
class DatasetSite:
    """Has a frame store, and adds pictures to it and to the database."""

    database: Database
    frames: FolderFrameStore
    added: int = 0
    boxes: dict[int, list[UUID]] = field(default_factory=dict)
    """The ids of the boxes of each picture"""

    async def add(
        self,
        device: str = "cam-1",
        boxes: Sequence[tuple[str, float]] = (("bird", 0.9),),
        *,
        day: int = 0,
        flight: str | None = None,
        like: int | None = None,
        model: str = "finder",
    ) -> UUID:
        """Add a picture with boxes; return the id of its frame. ``like``: with the bytes of that picture."""
        self.added += 1
        number = self.added
        data = f"picture {like or number}".encode() * 50
        sha256 = hashlib.sha256(data).hexdigest()
        uri = await self.frames.put(data, sha256=sha256, media_type="image/jpeg")
        frame, captured = UUID(int=number), DAY + timedelta(days=day, seconds=number)
        async with self.database.acquire() as connection:
            await connection.execute(_DEVICE, device_uuid(device), device)
            await connection.execute(
                _IMAGE, frame, device_uuid(device), uri, sha256, captured, len(data), bool(boxes), flight
            )
            await self.detect(connection, frame, boxes, model=model, at=captured)
        return frame

    async def detect(
        self,
        connection: Connection,
        frame: UUID,
        boxes: Sequence[tuple[str, float]],
        *,
        model: str,
        at: datetime,
        version: str = "1",
    ) -> None:
        """Add a session with boxes."""
        session = uuid4()
        await connection.execute(_SESSION, session, frame, model, version, at, len(boxes))
        for place, (label, confidence) in enumerate(boxes):
            id_ = UUID(int=(frame.int << 16) + place + (1 << 80 if model != "finder" else 0))
            left = 0.1 * place
            await connection.execute(
                _BOX, id_, frame, session, left, 0.25, left + 0.1, 0.75, confidence, label, model, version
            )
            self.boxes.setdefault(frame.int, []).append(id_)

    async def correct(
        self,
        frame: UUID,
        box: int | None,
        kind: str,
        *,
        bbox: Any = None,
        label: str | None = None,
        at: int = 0,
    ) -> None:
        """Add a correction of the ``box``-th box of a frame, or of the frame."""
        async with self.database.acquire() as connection:
            text = None if bbox is None else orjson.dumps(bbox).decode()
            detection = None if box is None else self.boxes[frame.int][box]
            await connection.execute(
                _CORRECTION, uuid4(), frame, detection, kind, text, label, DAY + timedelta(hours=at)
            )

    async def give_to_job(self, frame: UUID, job: str) -> None:
        """Make a frame and what was found in it one of the job, which is made."""
        async with self.database.acquire() as connection:
            await connection.execute("INSERT INTO api_clients (client_id) VALUES ('client') ON CONFLICT DO NOTHING")
            await connection.execute(_JOB, frame, job)
            for table in ("images", "inference_sessions"):
                key = "id" if table == "images" else "image_id"
                await connection.execute(f"UPDATE {table} SET job_id = $1 WHERE {key} = $1", frame)

    def parts(self, store: DatasetStore, **limits: Any) -> DatasetParts:
        """Return what making a data set needs."""
        return DatasetParts(self.database, self.frames, store, DatasetSettings(**limits), "standgale test")

    async def create(self, store: DatasetStore, name: str = "birds", where: str = "width > 0", **given: Any) -> Created:
        """Make a data set."""
        request = DatasetRequest(name, where, given.pop("shares", parse_shares("80/10/10")), **given)
        return await create_dataset(self.parts(store), request, lambda what, done, total: None)


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files in a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
