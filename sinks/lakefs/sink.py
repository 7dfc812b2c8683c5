"""Archives the frames of detections events: the images, ``metadata.json`` in each folder, and a commit per batch.

Per batch of frames, in this order: place each image → add the images → list them in ``metadata.json`` → commit →
publish on ``archive.commits`` where they are. A crash after any step leaves a batch that is written again, and each
step finds what was done: an image is added under the same name, a listed frame is not listed again, what is committed
is not committed again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TypeVar
from uuid import UUID

from infra.broker.event_records import event_record
from infra.broker.port import Broker, Publisher
from infra.errors import TransientError
from infra.texts import counted
from schemas.archive_events import MAX_IMAGES, ArchiveCommitted, ArchivedImage
from schemas.events import DetectionsMade
from schemas.ids import archive_commit_id, frame_batch_id
from schemas.topics import ARCHIVE_COMMITS
from schemas.topics import DETECTIONS as DETECTIONS_TOPIC
from sinks.lakefs.listing import (
    ArchiveDamagedError,
    Listing,
    Part,
    drawn_path,
    entry_of,
    folder_of,
    read_listing,
    read_part,
)
from sinks.lakefs.port import Archive, Committed, PlacedImage
from sinks.metrics import ARCHIVE_COMMITS as COMMITS_METRIC

_SOURCE = "/standgale/archive"
_CACHED_ENTRIES = 200_000

Draw = Callable[[DetectionsMade], Awaitable[bytes | None]]
"""Returns the frame with its boxes as JPEG, None when it cannot be drawn."""
T = TypeVar("T")


class ArchiveRaceError(TransientError):
    """Another process listed other images in the same folder at the same moment; the batch is written again."""

    code = "ARCHIVE_RACE"


class ArchiveSink:
    """Archives frames; the frames of a batch that a device sent are one commit, others are committed together."""

    name: str = "lakefs"
    event: type[DetectionsMade] = DetectionsMade
    topics: tuple[str, ...] = (DETECTIONS_TOPIC,)

    def __init__(
        self,
        archive: Archive,
        broker: Broker,
        *,
        frames_per_commit: int,
        jobs: bool = False,
        draw: Draw | None = None,
    ) -> None:
        """``jobs``: whether frames of jobs are archived too. ``draw`` draws boxes; None: there are no such pictures."""
        self._draw = draw
        self._archive = archive
        self._broker = broker
        self._frames_per_commit = frames_per_commit
        self._jobs = jobs
        self._publisher: Publisher | None = None
        self._parts = _PartCache()

    async def open(self) -> None:
        """Check the archive and reach the broker. Raises the errors of both, which are transient."""
        await self._archive.open()
        if self._publisher is None:
            self._publisher = await self._broker.publisher()

    async def write(self, events: Sequence[DetectionsMade]) -> None:
        """Archive the frames of ``events`` and commit them.

        Raises TransientError while the archive or the broker is unavailable, ImageMissingError and ImageCorruptError
        for a frame whose image the frame store does not have.
        """
        for batch, frames in self._batches(events):
            await self._archive.begin_batch()
            paths = await self._add(frames)
            committed = await self._commit(batch, frames)
            await self._publish(batch, paths, committed)

    async def close(self) -> None:
        """Close all connections."""
        await self._archive.close()
        if self._publisher is not None:
            await self._publisher.close()
            self._publisher = None

    def _batches(self, events: Sequence[DetectionsMade]) -> Iterable[tuple[UUID, list[DetectionsMade]]]:
        """Yield the frames of each commit, with the id of their batch: batches of devices first, then the others."""
        sent: dict[UUID, dict[UUID, DetectionsMade]] = {}
        alone: dict[UUID, DetectionsMade] = {}
        for event in events:
            if event.job_id is not None and not self._jobs:
                continue
            if event.batch is None:
                alone.setdefault(event.frame_id, event)
            else:
                sent.setdefault(event.batch.id, {}).setdefault(event.frame_id, event)
        for batch, frames in sent.items():
            yield batch, list(frames.values())
        for some in _chunks(alone.values(), self._frames_per_commit):
            yield frame_batch_id(event.frame_id for event in some), list(some)

    async def _add(self, frames: Sequence[DetectionsMade]) -> dict[UUID, str]:
        """Add images and listings of ``frames``; return the path of each frame."""
        by_folder: dict[str, list[DetectionsMade]] = {}
        for event in frames:
            by_folder.setdefault(folder_of(event), []).append(event)
        paths: dict[UUID, str] = {}
        new: dict[str, PlacedImage] = {}
        unlisted: dict[str, list[tuple[DetectionsMade, str]]] = {}
        for folder, events in by_folder.items():
            listing = await self._listing(folder)
            for event in events:
                file = listing.file_of(event.frame_id)
                if file is None:
                    file = listing.place(event)
                    listing.add(entry_of(event, file))
                    new[f"{folder}/{file}"] = PlacedImage(f"{folder}/{file}", event.image)
                    unlisted.setdefault(folder, []).append((event, file))
                paths[event.frame_id] = f"{folder}/{file}"
        if new:
            await self._archive.add_images(list(new.values()))
            await self._add_drawn([event for event in frames if paths[event.frame_id] in new], paths)
        for folder, placed in unlisted.items():
            await self._list(folder, placed)
        return paths

    async def _add_drawn(self, frames: Sequence[DetectionsMade], paths: Mapping[UUID, str]) -> None:
        """Add pictures with boxes of the ``frames`` that have detections."""
        if self._draw is None:
            return
        for event in frames:
            if event.detections and (picture := await self._draw(event)) is not None:
                await self._archive.add_picture(drawn_path(paths[event.frame_id]), picture)

    async def _list(self, folder: str, placed: Sequence[tuple[DetectionsMade, str]]) -> None:
        """List images that were added.

        The listing is read again directly before it is written: a process that lost the partition meanwhile must not
        put an older one in place of its successor's.
        """
        listing = await self._listing(folder)
        for event, file in placed:
            if listing.file_of(event.frame_id) is not None:
                continue
            if listing.place(event) != file:
                raise ArchiveRaceError(f"{folder}/{file} was taken by another image meanwhile")
            listing.add(entry_of(event, file))
        for path, data in listing.documents():
            await self._archive.add_document(path, data)

    async def _listing(self, folder: str) -> Listing:
        listing = await read_listing(self._archive, folder)
        for name in listing.parts:
            path = f"{folder}/{name}"
            part = self._parts.get(path)
            if part is None:
                part = await read_part(self._archive, path)
                self._parts.add(path, part)
            listing.earlier.append(part)
        return listing

    async def _commit(self, batch: UUID, frames: Sequence[DetectionsMade]) -> Committed:
        devices = sorted({event.device_id for event in frames})
        named = ", ".join(devices[:3]) + (f" and {len(devices) - 3} more" if len(devices) > 3 else "")
        message = f"{counted(len(frames), 'image')} of {named}"
        metadata = {
            "source": "standgale",
            "images": str(len(frames)),
            "first_captured_at": _iso(min(event.captured_at for event in frames)),
            "last_captured_at": _iso(max(event.captured_at for event in frames)),
        }
        committed = await self._archive.commit(str(batch), message, metadata)
        if committed is None:
            raise ArchiveDamagedError(
                f"{self._archive.repository}/{self._archive.branch} lists frames, but has no commit: put those back"
            )
        COMMITS_METRIC.inc()
        return committed

    async def _publish(self, batch: UUID, paths: Mapping[UUID, str], committed: Committed) -> None:
        assert self._publisher is not None
        records = []
        for part, some in enumerate(_chunks(paths.items(), MAX_IMAGES)):
            event = ArchiveCommitted(
                id=archive_commit_id(batch, committed.id, part),
                batch_id=batch,
                repository=self._archive.repository,
                branch=self._archive.branch,
                commit_id=committed.id,
                committed_at=committed.created_at,
                images=[ArchivedImage(frame_id=frame, path=path) for frame, path in some],
            )
            records.append(
                event_record(
                    ARCHIVE_COMMITS,
                    event,
                    id=event.id,
                    source=_SOURCE,
                    subject=committed.id,
                    time=committed.created_at,
                    key=str(batch),
                )
            )
        await self._publisher.publish(records)


class _PartCache:
    """Keeps full parts of listings, which never change; drops those that were not used for longest."""

    def __init__(self) -> None:
        self._parts: OrderedDict[str, Part] = OrderedDict()
        self._entries = 0

    def get(self, path: str) -> Part | None:
        """Return the part at ``path``, if it is kept."""
        part = self._parts.get(path)
        if part is not None:
            self._parts.move_to_end(path)
        return part

    def add(self, path: str, part: Part) -> None:
        """Keep a part."""
        self._parts[path] = part
        self._entries += len(part.files)
        while self._entries > _CACHED_ENTRIES and len(self._parts) > 1:
            _, dropped = self._parts.popitem(last=False)
            self._entries -= len(dropped.files)


def _iso(moment: datetime) -> str:
    return moment.isoformat()


def _chunks(values: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    rest = iter(values)
    while some := tuple(islice(rest, size)):
        yield some
