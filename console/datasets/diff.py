"""Compares two data sets: their pictures by content, and the boxes of each picture that both have."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from console.datasets.labels import found_in
from console.datasets.manifest import PICTURES, Manifest, PictureEntry, read_picture
from console.datasets.stores.port import StoredDataset
from console.results.compare import TooManyPairsError, compare

_MOST_NAMED = 20
_SAME = 0.999
"""Boxes that overlap by so much are the same."""


@dataclass(slots=True)
class DatasetDiff:
    """Holds the differences of two data sets; lists name the first pictures only, counts have all of them."""

    first: Manifest
    second: Manifest
    both: int = 0
    """Pictures in both"""
    only_first: int = 0
    only_second: int = 0
    moved: int = 0
    """Pictures in another split"""
    changed: int = 0
    """Pictures whose boxes differ"""
    same_boxes: int = 0
    shifted_boxes: int = 0
    """Of one label, at another place"""
    relabelled_boxes: int = 0
    added: Counter[str] = field(default_factory=Counter)
    """Boxes by label that only the second has, in pictures of both"""
    removed: Counter[str] = field(default_factory=Counter)
    uncompared: int = 0
    """Pictures with so many boxes over each other that they were not compared"""
    only_first_files: list[str] = field(default_factory=list)
    only_second_files: list[str] = field(default_factory=list)
    moved_files: list[str] = field(default_factory=list)
    changed_files: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Whether both have the same pictures in the same splits, with the same boxes."""
        return not any((self.only_first, self.only_second, self.moved, self.changed, self.uncompared))

    @property
    def new_classes(self) -> list[str]:
        """The labels that only the second has."""
        return sorted(set(self.second.classes) - set(self.first.classes))

    @property
    def lost_classes(self) -> list[str]:
        """The labels that only the first has."""
        return sorted(set(self.first.classes) - set(self.second.classes))


async def diff_datasets(first: StoredDataset, second: StoredDataset, *, iou: float) -> DatasetDiff:
    """Return the differences of the data sets; boxes that overlap by at least ``iou`` are compared with each other."""
    with tempfile.TemporaryDirectory(prefix="standgale-dataset-") as folder:
        files = Path(folder) / "first", Path(folder) / "second"
        for dataset, file in zip((first, second), files, strict=True):
            await dataset.fetch(PICTURES, file)
        return await asyncio.to_thread(_diff, DatasetDiff(first.manifest, second.manifest), *files, iou)


def _diff(diff: DatasetDiff, first: Path, second: Path, iou: float) -> DatasetDiff:
    """Compare the lists of pictures; only the places of their lines are in memory."""
    places = _places(second)
    with first.open("rb") as lines, second.open("rb") as others:
        for line in lines:
            one = read_picture(line)
            place = places.pop(one.sha256, None)
            if place is None:
                diff.only_first += 1
                _name(diff.only_first_files, one.file)
                continue
            others.seek(place)
            _compare(diff, one, read_picture(others.readline()), iou)
        diff.only_second = len(places)
        for place in list(places.values())[:_MOST_NAMED]:
            others.seek(place)
            _name(diff.only_second_files, read_picture(others.readline()).file)
    return diff


def _places(file: Path) -> dict[str, int]:
    """Return where the line of each picture begins, by the hash of the picture."""
    places, place = {}, 0
    with file.open("rb") as lines:
        for line in lines:
            places[read_picture(line).sha256] = place
            place += len(line)
    return places


def _compare(diff: DatasetDiff, one: PictureEntry, other: PictureEntry, iou: float) -> None:
    diff.both += 1
    if one.split != other.split:
        diff.moved += 1
        _name(diff.moved_files, f"{one.file} -> {other.file}")
    if one.boxes == other.boxes:
        diff.same_boxes += len(one.boxes)
        return
    try:
        found = compare(found_in(one, {}), found_in(other, {}), iou)
    except TooManyPairsError:
        diff.uncompared += 1
        _name(diff.changed_files, other.file)
        return
    same = sum(overlap >= _SAME for _, _, overlap in found.both)
    diff.same_boxes += same
    diff.shifted_boxes += len(found.both) - same
    diff.relabelled_boxes += len(found.relabelled)
    diff.removed.update(each.label for each in found.only_first)
    diff.added.update(each.label for each in found.only_second)
    if same < max(len(one.boxes), len(other.boxes)):
        diff.changed += 1
        _name(diff.changed_files, other.file)


def _name(files: list[str], file: str) -> None:
    if len(files) < _MOST_NAMED:
        files.append(file)
