"""Frames of any age in a folder and a database, and an independent reading of the policy to compare with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from infra.broker.port import GroupState
from infra.database.pool import Database
from infra.storage.frames.folder import FolderFrameStore
from infra.storage.frames.port import FrameStore
from sinks.retention.port import FrameArchive
from sinks.retention.run import Retention
from sinks.retention.settings import RetentionSettings

SPACE = UUID("6f1c1c0e-7f0a-4f5e-9a9e-3d9b8f1c2a10")
NOW = datetime.now(UTC)
DEVICE = uuid5(SPACE, "cam-1")
READ = (GroupState("sink.postgres", 1, ("detections",), 0, None, None),)


@dataclass(frozen=True)
class Frame:
    """One frame as a test wants it; its picture is ``number`` repeated."""

    number: int
    age_days: float
    confidence: float | None = None
    """Of its best detection; None: it has none"""
    size: int = 1_000
    status: str = "completed"
    flight: str | None = None
    flagged: bool = False

    @property
    def data(self) -> bytes:
        return f"{self.number:08d}".encode().ljust(self.size, b".")

    @property
    def digest(self) -> str:
        return sha256(self.data).hexdigest()

    @property
    def id(self) -> UUID:
        return uuid5(SPACE, f"frame {self.number} {self.age_days}")

    @property
    def relative(self) -> str:
        return f"{self.digest[:2]}/{self.digest}.jpg"

    @property
    def received_at(self) -> datetime:
        return NOW - timedelta(days=self.age_days)


@dataclass
class Groups:
    """Is an admin of a broker that knows only groups; each call returns the next states, at last the same."""

    states: list[Sequence[GroupState]] = field(default_factory=lambda: [READ])

    async def groups(self) -> Sequence[GroupState]:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    async def close(self) -> None:
        pass


@dataclass
class RetentionSite:
    """A frame store and a database of one installation."""

    folder: Path
    database: Database
    groups: Groups = field(default_factory=Groups)
    store: FrameStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = FolderFrameStore(self.folder)

    def retention(
        self, archive: FrameArchive | None = None, store: FrameStore | None = None, **settings: Any
    ) -> Retention:
        given = RetentionSettings(**{"max_orphan_share": 1.0, **settings})
        groups: Any = self.groups
        return Retention(store or self.store, self.database, groups, given, archive, wait_s=0)

    async def add(self, frames: Iterable[Frame], *, pictures: bool = True) -> None:
        """Write pictures and rows, as old as the frames."""
        listed = list(frames)
        if pictures:
            for frame in listed:
                self.put(frame)
        async with self.database.acquire() as connection:
            await connection.execute(
                "INSERT INTO devices (id, device_id) VALUES ($1, 'cam-1') ON CONFLICT DO NOTHING", DEVICE
            )
            images = ("id", "device_id", "image_uri", "sha256", "captured_at", "uploaded_at", "width", "height")
            more = (
                "format",
                "size_bytes",
                "processing_status",
                "processed_at",
                "has_detections",
                "is_flagged",
                "flight_id",
            )
            await connection.copy_records_to_table(
                "images", records=map(self._image, listed), columns=(*images, *more, "lakefs_path")
            )
            found = [frame for frame in listed if frame.status == "completed"]
            await connection.copy_records_to_table(
                "inference_sessions",
                records=[
                    (uuid5(frame.id, "s"), frame.id, frame.received_at, "m", "1", frame.received_at, frame.confidence)
                    for frame in found
                ],
                columns=(
                    "id",
                    "image_id",
                    "started_at",
                    "model_name",
                    "model_version",
                    "completed_at",
                    "max_confidence",
                ),
            )
            await connection.copy_records_to_table(
                "detections",
                records=[
                    (
                        uuid5(frame.id, "d"),
                        frame.id,
                        uuid5(frame.id, "s"),
                        0.1,
                        0.1,
                        0.2,
                        0.2,
                        frame.confidence,
                        "car",
                        "m",
                        "1",
                    )
                    for frame in found
                    if frame.confidence is not None
                ],
                columns=(
                    *("id", "image_id", "session_id", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"),
                    *("confidence", "label", "model_name", "model_version"),
                ),
            )

    def put(self, frame: Frame) -> Path:
        """Write the picture alone, as old as the frame."""
        path = self.folder / frame.relative
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(frame.data)
        moment = frame.received_at.timestamp()
        os.utime(path, (moment, moment))
        return path

    def _image(self, frame: Frame) -> tuple[object, ...]:
        return (
            frame.id,
            DEVICE,
            f"file:///frames/{frame.relative}",
            frame.digest,
            frame.received_at,
            frame.received_at,
            8,
            8,
            "jpeg",
            frame.size,
            frame.status,
            frame.received_at if frame.status == "completed" else None,
            frame.confidence is not None,
            frame.flagged,
            frame.flight,
            f"images/cam-1/{frame.number}.jpg",
        )

    async def execute(self, statement: str, *values: object) -> None:
        async with self.database.acquire() as connection:
            await connection.execute(statement, *values)

    async def value(self, statement: str, *values: object) -> Any:
        async with self.database.acquire() as connection:
            return await connection.fetchval(statement, *values)

    def stored(self) -> set[str]:
        """The digests of all pictures in the folder."""
        return {path.stem for path in self.folder.glob("??/*.jpg")}

    async def rows(self) -> set[str]:
        """The digests of all frames in the database."""
        async with self.database.acquire() as connection:
            return {row["sha256"] for row in await connection.fetch("SELECT sha256 FROM images")}


def kept_by_policy(frames: Sequence[Frame], *, days: float, max_bytes: int, confidence: float = 0.8) -> set[str]:
    """The digests that stay, as a person reads the policy; each frame has a picture of its own."""

    def is_kept(frame: Frame) -> bool:
        return frame.flagged or (frame.confidence is not None and frame.confidence >= confidence)

    left = [frame for frame in frames if is_kept(frame) or frame.age_days <= days]
    size = sum(frame.size for frame in left)
    oldest_first = sorted(left, key=lambda frame: (frame.received_at, frame.id))
    for empty in (True, False):
        for frame in oldest_first:
            is_empty = frame.status == "completed" and frame.confidence is None
            if size > max_bytes and not is_kept(frame) and is_empty == empty and 1 < frame.age_days <= days:
                left.remove(frame)
                size -= frame.size
    return {frame.digest for frame in left}


def several(count: int, **changes: Any) -> list[Frame]:
    """Frames of one to four months, some without detections and some confident; no two have the same size."""
    confidences = (None, 0.3, None, 0.9, 0.79, None, 0.81)
    return [
        replace(Frame(number, 120 - 118 * number / count, confidences[number % 7], 500 + number % 97), **changes)
        for number in range(count)
    ]
