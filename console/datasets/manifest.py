"""Defines what a data set says about itself: ``dataset.json``, the list of its files, and that of its pictures.

The three documents have the same bytes whenever the same data set is made, so times of making are not in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import orjson

from console.datasets.errors import DatasetDamagedError
from console.datasets.names import require_path

MANIFEST = "dataset.json"
FILES = "files.jsonl"
PICTURES = "pictures.jsonl"
VERSION = 1
MOST_MANIFEST_BYTES = 10_000_000
DatasetFormat = Literal["coco", "yolo", "voc"]
FORMATS: tuple[DatasetFormat, ...] = ("coco", "yolo", "voc")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Describes one file of a data set: a line of ``files.jsonl``."""

    path: str
    sha256: str
    size_bytes: int
    split: str | None = None
    """None: of all splits"""
    format: str | None = None
    """Which format needs it; None: all of them"""

    def line(self) -> bytes:
        """Return its line."""
        return _line(self)


@dataclass(frozen=True, slots=True)
class PictureEntry:
    """Describes one picture and its boxes: a line of ``pictures.jsonl``."""

    file: str
    sha256: str
    width: int
    height: int
    device: str
    captured_at: str
    frame_id: str
    split: str
    flight: str | None = None
    model: str | None = None
    """name@version of the model whose detections it has"""
    boxes: tuple[Mapping[str, Any], ...] = ()
    """label, box, confidence, corners of a rotated one, and by_person where a person corrected or added it"""

    @property
    def name(self) -> str:
        """The name of the file, without its folder."""
        return self.file.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The same without its ending: what its label files are called."""
        return self.name.rpartition(".")[0]

    def line(self) -> bytes:
        """Return its line."""
        return _line(self)


@dataclass(frozen=True, slots=True)
class SplitCount:
    """Says how much is in a split."""

    pictures: int
    boxes: int
    scenes: int
    """Devices and days"""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Holds ``dataset.json``."""

    name: str
    id: str
    """The hash of all the rest but the name: the same for the same content"""
    selection: str
    """The hash of what the query selected, and of the options"""
    where: str
    options: Mapping[str, Any]
    classes: tuple[str, ...]
    """The labels by number, from 0"""
    formats: tuple[str, ...]
    splits: Mapping[str, SplitCount]
    pictures: int
    boxes: int
    corrected: int
    """Boxes that a person corrected or added"""
    duplicates: int
    """Pictures left out, because another one has the same bytes"""
    missing: int
    """Pictures left out, because the frame store no longer has them"""
    models: Mapping[str, int]
    """name@version, and how many pictures it has detected"""
    first_captured: str
    last_captured: str
    files: int
    """How many lines files.jsonl has"""
    files_sha256: str
    size_bytes: int
    """Of all files that are listed"""
    standgale: str
    """The version of Standgale that made it"""
    version: int = field(default=VERSION)

    def to_bytes(self) -> bytes:
        """Return ``dataset.json``."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n"


def content_id(fields: Mapping[str, Any]) -> str:
    """Return the id of a data set from the fields of its manifest."""
    content = {name: value for name, value in fields.items() if name not in ("name", "id", "standgale")}
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def read_manifest(data: bytes) -> Manifest:
    """Return the manifest in ``data``. Raises DatasetDamagedError, also when its id is not that of its content."""
    try:
        fields = orjson.loads(data)
        if fields["version"] != VERSION:
            raise DatasetDamagedError(
                f"{MANIFEST} has version {str(fields['version'])[:20]}, this program reads {VERSION}; update it"
            )
        found = Manifest(
            **{
                **fields,
                "classes": tuple(fields["classes"]),
                "formats": tuple(fields["formats"]),
                "splits": {name: SplitCount(**count) for name, count in fields["splits"].items()},
            }
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(MANIFEST, str(error)) from error
    if found.id != content_id(fields):
        raise _damaged(MANIFEST, "its id is not that of its content")
    return found


def read_files(data: bytes, manifest: Manifest) -> list[FileEntry]:
    """Return the entries of ``files.jsonl`` after checking its hash. Raises DatasetDamagedError."""
    if hashlib.sha256(data).hexdigest() != manifest.files_sha256:
        raise _damaged(FILES, f"its hash is not the one in {MANIFEST}")
    return [_file(line) for line in data.splitlines()]


def read_picture(line: bytes) -> PictureEntry:
    """Return the picture in a line of ``pictures.jsonl``. Raises DatasetDamagedError."""
    try:
        fields = orjson.loads(line)
        return PictureEntry(**{**fields, "boxes": tuple(fields["boxes"])})
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _damaged(PICTURES, str(error)) from error


def pictures_in(file: Path) -> Iterator[PictureEntry]:
    """Yield the pictures of a ``pictures.jsonl``, a line at a time. Raises DatasetDamagedError."""
    with file.open("rb") as lines:
        yield from map(read_picture, lines)


def total_bytes(entries: Iterable[FileEntry]) -> int:
    """Return the bytes of all files."""
    return sum(entry.size_bytes for entry in entries)


def _line(entry: FileEntry | PictureEntry) -> bytes:
    return orjson.dumps({name: value for name, value in asdict(entry).items() if value is not None}) + b"\n"


def _file(line: bytes) -> FileEntry:
    try:
        entry = FileEntry(**orjson.loads(line))
    except (orjson.JSONDecodeError, TypeError) as error:
        raise _damaged(FILES, str(error)) from error
    require_path(entry.path)
    return entry


def _damaged(document: str, why: str) -> DatasetDamagedError:
    return DatasetDamagedError(
        f"{document} of the data set is not what Standgale writes there ({why[:200]}); delete the data set and make it "
        "again, or take its branch back to its last good commit"
    )
