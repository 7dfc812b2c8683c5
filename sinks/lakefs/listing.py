"""Reads and writes ``metadata.json``, which lists the images of one folder of the archive.

It has the last images of the folder. When it is full, they move to ``metadata-0001.json`` and so on, so that a commit
writes as much in a folder of ninety thousand images as in one of ten. These parts never change again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from infra.errors import RefusedError
from schemas.archive_paths import LEAST_DIGITS, archive_path
from schemas.events import DetectionsMade
from schemas.timestamps import format_utc
from sinks.lakefs.port import Archive

VERSION = 1
DOCUMENT = "metadata.json"
MOST_ENTRIES = 1_000
MOST_BYTES = 1_000_000
Entry = dict[str, Any]
_HASH_DIGITS = 64
_PART = re.compile(r"metadata-(\d{4,9})\.json")


class ArchiveDamagedError(RefusedError):
    """A document of the archive cannot be read as what this program wrote; a person must look at it."""

    code = "ARCHIVE_DAMAGED"


def folder_of(event: DetectionsMade) -> str:
    """Return the folder of the frame: ``images/{device}/{date}``."""
    path = archive_path(event.device_id, event.captured_at, event.image.sha256, event.image.media_type)
    return path.rpartition("/")[0]


def drawn_path(path: str) -> str:
    """Return where the frame at ``path`` is with its boxes drawn: beside ``images``, and always as JPEG."""
    return f"with-detections/{path.removeprefix('images/').rpartition('.')[0]}.jpg"


def entry_of(event: DetectionsMade, file: str) -> Entry:
    """Return what ``metadata.json`` says about a frame: only what is the same in every event of it."""
    entry: Entry = {
        "file": file,
        "frame_id": str(event.frame_id),
        "sha256": event.image.sha256,
        "size_bytes": event.image.size_bytes,
        "media_type": event.image.media_type,
        "width": event.image.width,
        "height": event.image.height,
        "captured_at": format_utc(event.captured_at),
        "received_at": format_utc(event.received_at),
        "original_filename": event.original_filename,
        "flight_id": event.flight_id,
        "camera": None if event.camera is None else event.camera.model_dump(mode="json", exclude_none=True),
        "metadata": event.metadata or None,
    }
    return {name: value for name, value in entry.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Part:
    """Holds what is needed of the entries of a part: the file of each frame, and the hash of each file."""

    files: dict[UUID, str]
    hashes: dict[str, str]

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Part:
        """Return the part with ``entries``."""
        files = {UUID(entry["frame_id"]): str(entry["file"]) for entry in entries}
        return cls(files, {str(entry["file"]): str(entry["sha256"]) for entry in entries})


@dataclass(slots=True)
class Listing:
    """Holds the images of one folder."""

    folder: str
    entries: list[Entry] = field(default_factory=list)
    """Those of metadata.json itself, in the order in which they came"""
    parts: list[str] = field(default_factory=list)
    """The names of the full parts, the oldest first"""
    earlier: list[Part] = field(default_factory=list)
    """What is in the full parts"""
    _own: Part = field(default_factory=lambda: Part({}, {}))

    def __post_init__(self) -> None:
        self._own = Part.of(self.entries)

    @property
    def path(self) -> str:
        """The path of metadata.json."""
        return f"{self.folder}/{DOCUMENT}"

    def file_of(self, frame: UUID) -> str | None:
        """Return the name of the file of ``frame`` when it is listed."""
        return next((part.files[frame] for part in self._all() if frame in part.files), None)

    def place(self, event: DetectionsMade) -> str:
        """Return the name for the image of ``event``, which is not listed.

        It ends in the first 4 digits of its SHA-256, and in more when another image of that second has those.
        """
        image = event.image
        for digits in range(LEAST_DIGITS, _HASH_DIGITS + 1):
            path = archive_path(event.device_id, event.captured_at, image.sha256, image.media_type, digits)
            name = path.rpartition("/")[2]
            taken = next((part.hashes[name] for part in self._all() if name in part.hashes), None)
            if taken in (None, image.sha256):
                return name
        raise AssertionError("two different hashes differ in a digit")

    def add(self, entry: Entry) -> None:
        """List an image."""
        self.entries.append(entry)
        self._own.files[UUID(entry["frame_id"])] = entry["file"]
        self._own.hashes[entry["file"]] = entry["sha256"]

    def documents(self) -> list[tuple[str, bytes]]:
        """Return what to write, in this order: a new part when metadata.json is full, then metadata.json."""
        written, lines = [], [_line(entry) for entry in self.entries]
        parts = list(self.parts)
        while full := _first_part(lines):
            name = _next_part(parts)
            written.append((f"{self.folder}/{name}", _document_of({"version": VERSION}, lines[:full])))
            parts.append(name)
            lines = lines[full:]
        written.append((self.path, self._head_with(parts, lines)))
        return written

    def document(self) -> bytes:
        """Return metadata.json as it is, without making a part of it."""
        return self._head_with(self.parts, [_line(entry) for entry in self.entries])

    def new_part(self, entries: Sequence[Entry]) -> tuple[str, bytes]:
        """Return name and content of a part with ``entries``; no part has had that name."""
        return _next_part(self.parts), _document_of({"version": VERSION}, [_line(entry) for entry in entries])

    def _head_with(self, parts: Sequence[str], lines: Sequence[bytes]) -> bytes:
        return _document_of({"version": VERSION, "folder": self.folder, "parts": list(parts)}, lines)

    def _all(self) -> Iterator[Part]:
        yield self._own
        yield from self.earlier


async def read_listing(archive: Archive, folder: str) -> Listing:
    """Return the listing of ``folder``, without what is in its parts. Raises ArchiveDamagedError."""
    path = f"{folder}/{DOCUMENT}"
    data = await archive.read(path)
    if data is None:
        return Listing(folder)
    document = _document(path, data)
    parts = document.get("parts") or []
    try:
        return Listing(folder, document["images"], [str(name) for name in parts])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, str(error)) from error


async def read_part(archive: Archive, path: str) -> Part:
    """Return the part at ``path``. Raises ArchiveDamagedError, also when it is missing."""
    entries = await read_entries(archive, path)
    try:
        return Part.of(entries)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, str(error)) from error


async def read_entries(archive: Archive, path: str) -> list[Entry]:
    """Return the entries of the part at ``path``; raises as :func:`read_part`."""
    data = await archive.read(path)
    if data is None:
        raise _damaged(path, "it is missing although metadata.json names it")
    images = _document(path, data).get("images")
    if not isinstance(images, list):
        raise _damaged(path, "it has no images")
    return images


def _document(path: str, data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise _damaged(path, f"its version is not {VERSION}")
    return document


def _damaged(path: str, why: str) -> ArchiveDamagedError:
    return ArchiveDamagedError(
        f"{path} in the archive is not what Standgale writes there ({why}); put the version of an earlier commit back, "
        "or move it away, and its images are listed anew as they come"
    )


def _first_part(lines: Sequence[bytes]) -> int:
    """Return how many of ``lines`` become a part: none while all of them may stay where they are."""
    if len(lines) > MOST_ENTRIES:
        return MOST_ENTRIES
    return len(lines) - 1 if len(lines) > 1 and sum(map(len, lines)) > MOST_BYTES else 0


def _next_part(parts: Sequence[str]) -> str:
    """Return the name of the next part: with a number above all that are in use."""
    numbers = [int(found[1]) for name in parts if (found := _PART.fullmatch(name))]
    return f"metadata-{max(numbers, default=0) + 1:04}.json"


def _line(entry: Entry) -> bytes:
    try:
        return orjson.dumps(entry)
    except TypeError:
        return orjson.dumps(_writable(entry))


def _writable(value: object) -> object:
    """Return ``value`` with numbers that are too large, and texts that have no encoding, as other texts."""
    if isinstance(value, dict):
        return {str(_writable(name)): _writable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_writable(each) for each in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)
    return value


def _document_of(head: Mapping[str, Any], lines: Sequence[bytes]) -> bytes:
    # One entry per line, so that a difference between two commits can be read.
    return orjson.dumps(head)[:-1] + b',"images":[\n' + b",\n".join(lines) + b"\n]}\n"
