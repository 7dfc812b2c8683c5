"""Writes the files of a data set, a few pictures at a time, and the lists of them."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from console.datasets.concurrency import all_of
from console.datasets.errors import DatasetEmptyError, DatasetPictureError
from console.datasets.labels import CocoWriter, LabelFile, picture_labels, yolo_document
from console.datasets.manifest import (
    FILES,
    PICTURES,
    DatasetFormat,
    FileEntry,
    Manifest,
    PictureEntry,
    SplitCount,
    content_id,
)
from console.datasets.query.reader import SelectedPicture
from console.datasets.selection import model_text, models_of
from console.datasets.splits import SPLITS, Scene, scene_of
from console.datasets.stores.port import DatasetWriter
from infra.errors import ImageCorruptError, ImageMissingError
from infra.storage.file_digests import file_digest
from infra.storage.frames.port import FrameStore
from schemas.events import EXTENSIONS, ImageRef
from schemas.timestamps import format_utc

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_DEVICE = 80
_JSON, _LINES = "application/json", "application/x-ndjson"


class DatasetFiles:
    """Writes one data set; use it once. The same pictures in the same order give the same bytes."""

    def __init__(
        self,
        frames: FrameStore,
        writer: DatasetWriter,
        folder: Path,
        classes: Sequence[str],
        formats: Sequence[DatasetFormat],
        splits: Mapping[Scene, str],
        *,
        skip_missing: bool,
        transfers: int,
    ) -> None:
        """``folder`` is for files that grow until the end."""
        self._frames = frames
        self._writer = writer
        self._classes = classes
        self._numbers = {label: number for number, label in enumerate(classes)}
        self._formats = formats
        self._splits = splits
        self._used = [name for name in SPLITS if name in set(splits.values())]
        self._skip_missing = skip_missing
        self._slots = asyncio.Semaphore(transfers)
        self._stack = ExitStack()
        self._folder = folder
        self._pictures: BinaryIO = self._stack.enter_context((folder / PICTURES).open("xb"))
        self._files: BinaryIO = self._stack.enter_context((folder / FILES).open("xb"))
        self._coco: dict[str, CocoWriter] = {}
        if "coco" in formats:
            for split in self._used:
                self._coco[split] = CocoWriter(folder, split, classes)
                self._stack.callback(self._coco[split].close)
        self._voc: dict[str, list[str]] = {split: [] for split in self._used}
        self._counts: dict[str, list[int]] = {split: [0, 0] for split in self._used}
        self._scenes: dict[str, set[Scene]] = {split: set() for split in self._used}
        self._models: Counter[str] = Counter()
        self._captured: list[str] = []
        self._listed = 0
        self._listed_bytes = 0
        self._corrected = 0
        self._missing = 0
        self.done = 0
        """Pictures so far, with those that were left out"""

    async def add(self, pictures: Sequence[SelectedPicture]) -> None:
        """Copy pictures, and write their label files. Raises DatasetPictureError."""
        entries = await asyncio.to_thread(lambda: [self._entry(picture) for picture in pictures])
        copied = await all_of(self._copy(*pair) for pair in zip(pictures, entries, strict=True))
        kept = [pair for pair, is_there in zip(zip(pictures, entries, strict=True), copied, strict=True) if is_there]
        self._missing += len(pictures) - len(kept)
        labels = await asyncio.to_thread(self._labels, [entry for _, entry in kept])
        await all_of(self._add(label, digest) for some in labels for label, digest in some)
        await asyncio.to_thread(self._note, kept, labels)
        self.done += len(pictures)

    async def complete(self, **fields: Any) -> Manifest:
        """Write the documents of all pictures, and return the manifest, of which ``fields`` are a part."""
        pictures = sum(count for count, _ in self._counts.values())
        if not pictures:
            raise DatasetEmptyError("the frame store has none of the pictures that the query selects")
        for split, coco in self._coco.items():
            await self._add_document(f"annotations/instances_{split}.json", coco.finish(), _JSON, split, "coco")
        if "yolo" in self._formats:
            document = yolo_document([split for split in self._used if self._counts[split][0]], self._classes)
            await self._add_text(document)
        if "voc" in self._formats:
            for split, stems in self._voc.items():
                text = "".join(f"{stem}\n" for stem in stems)
                await self._add_text(LabelFile(f"voc/{split}.txt", text.encode(), split, "voc"))
        self._pictures.close()
        await self._add_document(PICTURES, self._folder / PICTURES, _LINES, None, None)
        self._files.close()
        digest, _ = await asyncio.to_thread(file_digest, self._folder / FILES)
        await self._writer.add_file(FILES, self._folder / FILES, digest.hex(), _LINES)
        captured = sorted(self._captured)
        splits = {
            split: SplitCount(images, boxes, len(self._scenes[split]))
            for split, (images, boxes) in self._counts.items()
            if images
        }
        given = {
            **fields,
            "corrected": self._corrected,
            "classes": tuple(self._classes),
            "formats": tuple(self._formats),
            "splits": splits,
            "pictures": pictures,
            "boxes": sum(count for _, count in self._counts.values()),
            "missing": self._missing,
            "models": dict(sorted(self._models.items())),
            "first_captured": captured[0],
            "last_captured": captured[-1],
            "files": self._listed,
            "files_sha256": digest.hex(),
            "size_bytes": self._listed_bytes,
        }
        unnamed = Manifest(**given, id="")
        return Manifest(**given, id=content_id(asdict(unnamed)))

    def close(self) -> None:
        """Close the files; may be repeated."""
        self._stack.close()

    def _entry(self, picture: SelectedPicture) -> PictureEntry:
        split = self._splits[scene_of(picture.device, picture.captured_at)]
        return PictureEntry(
            file=f"images/{split}/{_file_name(picture)}",
            sha256=picture.sha256,
            width=picture.width,
            height=picture.height,
            device=picture.device,
            captured_at=format_utc(picture.captured_at),
            frame_id=picture.id,
            split=split,
            flight=picture.flight,
            model=model_text(picture),
            boxes=tuple(
                {
                    "label": box.label,
                    "box": box.box,
                    "confidence": box.confidence,
                    **({} if box.corners is None else {"corners": box.corners}),
                    **({"by_person": True} if box.by_person else {}),
                }
                for box in picture.boxes
            ),
        )

    async def _copy(self, picture: SelectedPicture, entry: PictureEntry) -> bool:
        image = ImageRef(
            uri=picture.uri,
            sha256=picture.sha256,
            size_bytes=picture.size_bytes,
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
        )
        try:
            async with self._slots, self._frames.local(image) as path:
                await self._writer.add_file(entry.file, path, picture.sha256, picture.media_type)
        except (ImageMissingError, ImageCorruptError) as error:
            if not self._skip_missing:
                raise DatasetPictureError(
                    f"a picture of {picture.device} at {entry.captured_at} cannot be read: {error}. Retention removes "
                    "old pictures; --skip-missing leaves them out"
                ) from error
            return False
        return True

    def _labels(self, entries: Sequence[PictureEntry]) -> list[list[tuple[LabelFile, str]]]:
        return [
            [
                (label, hashlib.sha256(label.data).hexdigest())
                for label in picture_labels(entry, self._numbers, self._formats)
            ]
            for entry in entries
        ]

    async def _add(self, label: LabelFile, digest: str) -> None:
        async with self._slots:
            await self._writer.add(label.path, label.data, digest)

    async def _add_text(self, label: LabelFile) -> None:
        digest = hashlib.sha256(label.data).hexdigest()
        await self._writer.add(label.path, label.data, digest)
        self._list(label.entry(digest))

    async def _add_document(
        self, path: str, source: Path, media_type: str, split: str | None, wanted: DatasetFormat | None
    ) -> None:
        digest, size = await asyncio.to_thread(file_digest, source)
        await self._writer.add_file(path, source, digest.hex(), media_type)
        self._list(FileEntry(path, digest.hex(), size, split, wanted))

    def _note(
        self,
        kept: Sequence[tuple[SelectedPicture, PictureEntry]],
        labels: Sequence[Sequence[tuple[LabelFile, str]]],
    ) -> None:
        for (picture, entry), written in zip(kept, labels, strict=True):
            self._list(FileEntry(entry.file, entry.sha256, picture.size_bytes, entry.split))
            for label, digest in written:
                self._list(label.entry(digest))
            self._pictures.write(entry.line())
            if entry.split in self._coco:
                self._coco[entry.split].add(entry, self._numbers)
            self._voc[entry.split].append(entry.stem)
            self._counts[entry.split][0] += 1
            self._counts[entry.split][1] += len(entry.boxes)
            self._corrected += sum(box.by_person for box in picture.boxes)
            self._scenes[entry.split].add(scene_of(picture.device, picture.captured_at))
            # Only the first and the last are needed.
            self._captured = [min([*self._captured, entry.captured_at]), max([*self._captured, entry.captured_at])]
        self._models.update(models_of([picture for picture, _ in kept]))

    def _list(self, entry: FileEntry) -> None:
        self._listed += 1
        self._listed_bytes += entry.size_bytes
        self._files.write(entry.line())


def _file_name(picture: SelectedPicture) -> str:
    """Return a name that no other picture has, and that every system takes."""
    device = _UNSAFE.sub("_", picture.device)[:_LONGEST_DEVICE]
    taken = f"{picture.captured_at:%Y%m%dT%H%M%S%f}"
    # A device id begins with a letter or a digit.
    return f"{device}_{taken}_{picture.sha256[:16]}.{EXTENSIONS[picture.media_type]}"
