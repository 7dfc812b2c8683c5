"""Writes the label files of a data set: YOLO and Pascal VOC for each picture, COCO for each split."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from console.datasets.manifest import DatasetFormat, FileEntry, PictureEntry
from console.results.formats import CocoAnnotations, as_voc, as_yolo, coco_image
from console.results.records import Found

_COPIED = 1 << 20


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Is a file to be written."""

    path: str
    data: bytes
    split: str | None
    format: DatasetFormat

    def entry(self, sha256: str) -> FileEntry:
        """Return its entry in the list of files."""
        return FileEntry(self.path, sha256, len(self.data), self.split, self.format)


@dataclass(frozen=True, slots=True)
class _Picture:
    """Is what :mod:`console.results.formats` asks for."""

    filename: str
    width: int
    height: int


def found_in(entry: PictureEntry, numbers: Mapping[str, int]) -> list[Found]:
    """Return the boxes of a picture with the numbers of their classes; a label without one gets -1."""
    return [
        Found(
            label=each["label"],
            class_id=numbers.get(each["label"], -1),
            confidence=each["confidence"],
            box=tuple(each["box"]),
            corners=None if each.get("corners") is None else tuple(each["corners"]),
        )
        for each in entry.boxes
    ]


def picture_labels(
    entry: PictureEntry, numbers: Mapping[str, int], formats: Sequence[DatasetFormat]
) -> Iterator[LabelFile]:
    """Yield the label files of one picture."""
    found, picture, split = found_in(entry, numbers), _named(entry), entry.split
    if "yolo" in formats:
        yield LabelFile(f"labels/{split}/{entry.stem}.txt", as_yolo(found, scores=False).encode(), split, "yolo")
    if "voc" in formats:
        yield LabelFile(
            f"voc/{split}/{entry.stem}.xml", as_voc(picture, found, f"images/{split}").encode(), split, "voc"
        )


def missing_in_yolo(splits: Sequence[str]) -> list[str]:
    """Return the splits that programs need and ``splits`` do not have; ``data.yaml`` names another's pictures there."""
    return [split for split in ("train", "val") if split not in splits]


def yolo_document(splits: Sequence[str], classes: Sequence[str]) -> LabelFile:
    """Return ``data.yaml``; without a path in it, programs look beside it."""
    # Each JSON text is a YAML text as well.
    lines = [f"{split}: images/{split}" for split in splits]
    if splits and (missing := missing_in_yolo(splits)):
        lines += [f"{split}: images/{splits[0]}  # {split} is empty; programs need the key" for split in missing]
    lines += ["names:", *(f"  {number}: {json.dumps(name)}" for number, name in enumerate(classes))]
    return LabelFile("data.yaml", ("\n".join(lines) + "\n").encode(), None, "yolo")


class CocoWriter:
    """Writes the COCO document of one split, piece by piece, into a file; pictures and boxes are numbered from 1."""

    def __init__(self, folder: Path, split: str, classes: Sequence[str]) -> None:
        self._paths = [folder / f"{split}.images", folder / f"{split}.annotations"]
        self._document = folder / f"instances_{split}.json"
        self._files = [path.open("wb") for path in self._paths]
        self._annotations = CocoAnnotations({})
        self._classes = classes
        self._count = 0

    def add(self, entry: PictureEntry, numbers: Mapping[str, int]) -> None:
        """Add a picture and its boxes."""
        self._count += 1
        picture = _named(entry)
        image = coco_image(picture, self._count) | {"sha256": entry.sha256, "date_captured": entry.captured_at}
        images, annotations = self._files
        images.write((b",\n" if self._count > 1 else b"") + orjson.dumps(image))
        for each in self._annotations.of(picture, self._count, found_in(entry, numbers)):
            annotations.write((b",\n" if annotations.tell() else b"") + orjson.dumps(each))

    def finish(self) -> Path:
        """Return the file with the whole document."""
        self.close()
        categories = [{"id": number, "name": name} for number, name in enumerate(self._classes)]
        with self._document.open("wb") as document:
            document.write(b'{"categories":' + orjson.dumps(categories))
            for name, path in zip(("images", "annotations"), self._paths, strict=True):
                document.write(f',\n"{name}":[\n'.encode())
                with path.open("rb") as part:
                    while piece := part.read(_COPIED):
                        document.write(piece)
                document.write(b"]")
                path.unlink()
            document.write(b"}\n")
        return self._document

    def close(self) -> None:
        """Close the files; may be repeated."""
        for file in self._files:
            file.close()


def _named(entry: PictureEntry) -> _Picture:
    return _Picture(entry.name, entry.width, entry.height)
