"""Gives tests an archive, in a folder or in the LakeFS double, with frames in a frame store and a broker of its own."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import embedded_file
from infra.broker.port import TopicPartition
from infra.storage.frames.addressing import ContentAddress
from infra.storage.frames.folder import FolderFrameStore
from schemas.archive_events import ArchiveCommitted
from schemas.cloudevents import decode
from schemas.events import DetectionsMade
from schemas.ids import detections_event_id, frame_id
from schemas.topics import ARCHIVE_COMMITS, load_topics
from sinks.lakefs.folder_archive import FolderArchive
from sinks.lakefs.lakefs_archive import LakeFsArchive
from sinks.lakefs.port import Archive
from sinks.lakefs.settings import LakeFsSettings
from sinks.lakefs.sink import ArchiveSink
from standgale.testing.factories import detections_made, image_ref
from standgale.testing.gate import Gate
from standgale.testing.sink import SinkHarness
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer
from tests.servers.lakefs_state import Repository

REPOSITORY = "bird-detection"


class ArchiveHarness(SinkHarness):
    """Makes sinks on one archive; the subclass says where it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.frames = folder / "frames"
        self.store = FolderFrameStore(self.frames)
        self.broker = EmbeddedBroker(embedded_file(folder), load_topics())
        self.frames_per_commit = 10
        self._events: dict[UUID, UUID] = {}

    def make_archive(self) -> Archive:
        """Make the archive, as another process would."""
        raise NotImplementedError

    def make_sink(self, **options: Any) -> ArchiveSink:
        """Make a sink on it."""
        options = {"frames_per_commit": self.frames_per_commit, **options}
        return ArchiveSink(self.make_archive(), self.broker, **options)

    def event(self, number: int, *, stored: bool = True, data: bytes | None = None, **changes: Any) -> DetectionsMade:
        """Return the event of a frame whose image is in the frame store, if it is ``stored``."""
        device = changes.pop("device", f"drone-{number % 3}")
        content = data if data is not None else f"{device} {number}".encode()
        digest = hashlib.sha256(content).hexdigest()
        path = self.frames / ContentAddress.of(digest, "image/jpeg").relative
        image = image_ref(content, path.absolute().as_uri())
        if stored and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        made = detections_made(number, device=device)
        captured_at = changes.get("captured_at", made.captured_at)
        frame = frame_id(device, captured_at, digest)
        own = detections_event_id(frame, changes.get("job_id"), "small", "1.0")
        event = made.model_copy(update={"id": own, "frame_id": frame, "image": image, **changes})
        self._events[frame] = own
        return event

    def poison(self, number: int) -> DetectionsMade:
        """Return an event whose image is in no store."""
        return self.event(number, stored=False, data=f"missing {number}".encode())

    def committed(self) -> dict[str, bytes]:
        """Return the committed files of the branch main, by path."""
        raise NotImplementedError

    def commits(self) -> Sequence[dict[str, Any]]:
        """Return message, batch and metadata of each commit, the oldest first."""
        raise NotImplementedError

    def listed(self) -> list[dict[str, Any]]:
        """Return the entries of all listings that are committed; each one's file is committed too."""
        files, entries = self.committed(), []
        for path, data in sorted(files.items()):
            if path.rpartition("/")[2].startswith("metadata"):
                for entry in json.loads(data)["images"]:
                    image = f"{path.rpartition('/')[0]}/{entry['file']}"
                    assert hashlib.sha256(files[image]).hexdigest() == entry["sha256"], image
                    entries.append({**entry, "path": image})
        return entries

    async def stored(self) -> Collection[UUID]:
        """Return the events of the frames that are committed, as often as they are listed."""
        entries = self.listed()
        images = [path for path in self.committed() if path.endswith(".jpg") and path.startswith("images/")]
        assert Counter(images) == Counter({entry["path"] for entry in entries}), "an image is not listed"
        return [self._events[UUID(entry["frame_id"])] for entry in entries]

    async def reported(self) -> list[ArchiveCommitted]:
        """Return the events on archive.commits."""
        reader = await self.broker.reader()
        found = []
        for partition, (first, end) in (await reader.bounds(ARCHIVE_COMMITS)).items():
            offset = first
            while offset < end:
                source = TopicPartition(ARCHIVE_COMMITS, partition)
                records = await reader.read(source, offset, max_records=1_000, timeout_s=0)
                found += [decode(record.headers, record.value, ArchiveCommitted) for record in records]
                offset = records[-1].offset + 1
        await reader.close()
        return found

    async def close(self) -> None:
        """Release everything."""
        await self.store.close()
        await self.broker.close()


class FolderHarness(ArchiveHarness):
    """Keeps the archive in a folder."""

    @property
    def root(self) -> Path:
        """The folder of the archive."""
        return self.folder / "archive"

    def make_archive(self) -> FolderArchive:
        return FolderArchive(self.root, REPOSITORY, "main", self.store)

    def committed(self) -> dict[str, bytes]:
        repository = self.root / REPOSITORY
        changed: dict[str, str] = {}
        for commit in self._log():
            for change in commit["changes"]:
                if change.get("removed"):
                    del changed[change["path"]]
                else:
                    changed[change["path"]] = change["sha256"]
        files = {path: (repository / "main" / path).read_bytes() for path in changed}
        assert {path: hashlib.sha256(data).hexdigest() for path, data in files.items()} == changed
        return files

    def commits(self) -> Sequence[dict[str, Any]]:
        return self._log()

    def _log(self) -> list[dict[str, Any]]:
        repository, found = self.root / REPOSITORY, []
        head = repository / ".heads" / "main"
        following = head.read_text() if head.exists() else None
        while following is not None:
            found.append(json.loads((repository / ".commits" / f"{following}.json").read_text()))
            following = found[-1]["parent"]
        return found[::-1]

    async def take_away(self) -> None:
        self.root.rename(self.folder / "away")
        self.root.write_text("")

    async def bring_back(self) -> None:
        self.root.unlink()
        (self.folder / "away").rename(self.root)


class LakeFsHarness(ArchiveHarness):
    """Keeps the archive in the double, behind a gate."""

    def __init__(self, folder: Path, server: LakeFsServer, gate: Gate) -> None:
        super().__init__(folder)
        self.server = server
        self.gate = gate
        self.repository = server.repositories[REPOSITORY]

    def make_archive(self, **changes: object) -> LakeFsArchive:
        fields = {
            "kind": "lakefs",
            "endpoint_url": self.gate.url,
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "timeout_s": 2.0,
        }
        return LakeFsArchive(LakeFsSettings.model_validate({**fields, **changes}), self.store)

    def committed(self) -> dict[str, bytes]:
        return {path: self.server.file_of(entry).read_bytes() for path, entry in self.repository.head.objects.items()}

    def commits(self) -> Sequence[dict[str, Any]]:
        return [
            {"message": each.message, "metadata": each.metadata, "batch": each.metadata.get("standgale-batch")}
            for each in self.repository.log("main")[::-1][1:]
        ]

    def start_again(self) -> None:
        """Begin with an empty repository."""
        self.repository = self.server.repositories[REPOSITORY] = Repository(REPOSITORY)

    async def take_away(self) -> None:
        self.gate.shut()

    async def bring_back(self) -> None:
        self.gate.reopen()


@asynccontextmanager
async def archive_harness(kind: str, folder: Path) -> AsyncIterator[ArchiveHarness]:
    """Open a harness: "folder" or "lakefs"."""
    if kind == "folder":
        harness: ArchiveHarness = FolderHarness(folder / "site")
        yield harness
        await harness.close()
        return
    async with lakefs_harness(folder) as lakefs:
        yield lakefs


@asynccontextmanager
async def lakefs_harness(folder: Path) -> AsyncIterator[LakeFsHarness]:
    """Open a harness on the LakeFS double."""
    with LakeFsServer(folder / "lakefs") as server, Gate(server.port) as gate:
        harness = LakeFsHarness(folder / "site", server, gate)
        yield harness
        await harness.close()
