"""Gathers what a query selects in a file, so that a data set of any size takes little memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import orjson

from console.datasets.errors import DatasetEmptyError, DatasetOptionError
from console.datasets.query.reader import ReadPicture, SelectedBox, SelectedPicture
from console.datasets.settings import DatasetSettings
from console.datasets.splits import Scenes

MOST_CLASSES = 10_000


@dataclass(slots=True)
class Selection:
    """Holds the pictures of a query, each content once, and what is known of all of them."""

    file: Path
    pictures: int = 0
    boxes: int = 0
    corrected: int = 0
    duplicates: int = 0
    unusable: int = 0
    """Corrections of its pictures with a box that cannot be used, which is left out"""
    labels: set[str] = field(default_factory=set)
    scenes: Scenes = field(default_factory=Scenes)
    digest: str = ""
    """The hash of all of it"""

    async def chunks(self, size: int) -> AsyncIterator[list[SelectedPicture]]:
        """Yield the pictures in order, ``size`` at a time."""
        with self.file.open("rb") as file:
            while chunk := await asyncio.to_thread(_read, file, size):
                yield chunk


async def gather(
    pictures: AsyncIterator[ReadPicture],
    file: Path,
    settings: DatasetSettings,
    progress: Callable[[int], None],
) -> Selection:
    """Return what ``pictures`` are. Raises DatasetOptionError for too many, DatasetEmptyError for none."""
    selection, digest, contents = Selection(file), hashlib.sha256(), set[bytes]()
    with file.open("xb") as out:
        async for read in pictures:
            picture = read.picture
            content = bytes.fromhex(picture.sha256)
            if content in contents:
                # The same picture in two splits would be one scene in two.
                selection.duplicates += 1
                continue
            contents.add(content)
            selection.unusable += read.unusable
            _count(selection, picture, settings)
            line = orjson.dumps(picture) + b"\n"
            digest.update(line)
            out.write(line)
            progress(selection.pictures)
    if not selection.pictures:
        raise DatasetEmptyError(
            "the query selects no picture that was detected; `standgale dataset create … --dry-run` shows what one "
            "selects. A field of a box, such as label, is unknown for pictures without boxes"
        )
    selection.digest = digest.hexdigest()
    return selection


def _count(selection: Selection, picture: SelectedPicture, settings: DatasetSettings) -> None:
    selection.pictures += 1
    selection.boxes += len(picture.boxes)
    selection.corrected += sum(box.by_person for box in picture.boxes)
    selection.labels.update(box.label for box in picture.boxes)
    selection.scenes.add(picture.device, picture.captured_at, picture.flight)
    for what, count, most, name in (
        ("pictures", selection.pictures, settings.max_pictures, "max_pictures"),
        ("boxes", selection.boxes, settings.max_boxes, "max_boxes"),
    ):
        if count > most:
            raise DatasetOptionError(
                f"the query selects more than {most:,} {what} ({settings.named(name)}); select fewer, or raise that "
                "setting"
            )
    if len(selection.labels) > MOST_CLASSES:
        raise DatasetOptionError(
            f"the query selects more than {MOST_CLASSES:,} labels, as the answers of a model with free text have; name "
            "those that are wanted: label in (…)"
        )


def models_of(pictures: list[SelectedPicture]) -> Counter[str]:
    """Return how many pictures each model version has detected."""
    return Counter(name for name in map(model_text, pictures) if name is not None)


def model_text(picture: SelectedPicture) -> str | None:
    """Return name@version of the model that detected a picture; None where only people have."""
    return None if picture.model is None else f"{picture.model}@{picture.version}"


def _read(file: BinaryIO, size: int) -> list[SelectedPicture]:
    return [_picture(line) for line in islice(file, size)]


def _picture(line: bytes) -> SelectedPicture:
    fields = orjson.loads(line)
    boxes = tuple(
        SelectedBox(
            **{
                **box,
                "box": tuple(box["box"]),
                "corners": None if box["corners"] is None else tuple(box["corners"]),
            }
        )
        for box in fields["boxes"]
    )
    return SelectedPicture(
        **{
            **fields,
            "captured_at": datetime.fromisoformat(fields["captured_at"]),
            "boxes": boxes,
        }
    )
