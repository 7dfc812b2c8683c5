"""Reads a folder of photographs: sets of pictures with YOLO labels, which classes each set labels, and the splits."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detectors.geometry.arrays import ImageArray
from detectors.images.decode import decode_image
from infra.errors import ImageCorruptError
from schemas.errors import StandgaleError
from training.photographs.labels import Labels, LabelsError, read_labels

Split = Literal["train", "val", "test", "unlabelled"]
LABELLED: tuple[Split, ...] = ("train", "val", "test")
MAX_PIXELS = 200_000_000
"""A picture with more is refused before it is decoded."""

_MOST_TEXT_BYTES = 4_000_000
_MOST_PICTURES = 100_000
_PICTURE_KINDS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_UNLABELLED_PREFIX = "unlabelled-"
_ORIGIN = re.compile(r"^Origin: *([^\n]*)", re.MULTILINE)
_LICENCE = re.compile(r"^Licence: *([^\n]*)", re.MULTILINE)
_THROUGHOUT = re.compile(r"^Classes labelled throughout:([^\n]*)", re.MULTILINE)
_NOTHING_THERE = re.compile(r"Nothing of the \w+ classes")


NOT_STATED = "not stated"


class PhotographError(StandgaleError):
    """Says that a folder of photographs cannot be read, or one of its files."""


@dataclass(frozen=True)
class Source:
    """Holds where the pictures of a set come from and what may be done with them, as its README states it."""

    origin: str
    licence: str


@dataclass(frozen=True, eq=False)
class Photograph:
    """Holds what is known about one picture; its pixels are read when they are needed."""

    path: Path
    name: str
    """Its path within the folder, with slashes."""
    set_name: str
    """The subfolder, whose README says where the pictures come from."""
    split: Split
    place: str
    """Where it was taken; all pictures of a place are in one split. Empty for unlabelled pictures."""
    known: NDArray[np.bool_]
    """(C,): the classes of which every object is labelled, or, on a picture without labels, of which there is none."""
    labels: Labels

    def pixels(self) -> ImageArray:
        """Return the picture, uint8 (h, w, 3) BGR as stored. Raises PhotographError when it cannot be decoded."""
        try:
            return decode_image(self.path.read_bytes(), max_pixels=MAX_PIXELS)
        except (OSError, ImageCorruptError) as error:
            raise PhotographError(f"picture {self.path}: {error}; replace the file or leave it out") from error


@dataclass(frozen=True, eq=False)
class Photographs:
    """Holds all pictures of a folder in the order of their names, and the names of the classes of their labels."""

    folder: Path
    classes: tuple[str, ...]
    pictures: tuple[Photograph, ...]

    def of(self, split: Split) -> tuple[Photograph, ...]:
        """Return the pictures of one split. Raises PhotographError when there are none."""
        found = self.of_or_none(split)
        if not found:
            raise PhotographError(f"{self.folder} has no pictures of split {split}; choose another one")
        return found

    def of_or_none(self, split: Split) -> tuple[Photograph, ...]:
        """Return the pictures of one split, which may be none."""
        return tuple(one for one in self.pictures if one.split == split)

    def source(self, set_name: str) -> Source:
        """Return where a set comes from. Raises PhotographError when it has no README."""
        text = _text(self.folder / set_name / "README.md")
        origin, licence = _ORIGIN.search(text), _LICENCE.search(text)
        return Source(
            NOT_STATED if origin is None else origin.group(1).strip(),
            NOT_STATED if licence is None else licence.group(1).strip(),
        )

    def only(self, sets: Collection[str]) -> Photographs:
        """Return the pictures of some sets. Raises PhotographError when a set does not exist."""
        there = sorted({one.set_name for one in self.pictures})
        strange = [name for name in sets if name not in there]
        if strange:
            raise PhotographError(f"{self.folder} has no set {', '.join(strange)}; it has {', '.join(there)}")
        return replace(self, pictures=tuple(one for one in self.pictures if one.set_name in sets))


def read_photographs(folder: Path) -> Photographs:
    """Read which pictures are in ``folder``, their splits and all labels; no picture is decoded.

    The folder holds ``classes.txt`` (a name per line), ``splits.json`` (picture: [split, place]), and per set a folder
    with ``README.md``, ``images`` and ``labels``. The README's line ``Classes labelled throughout: a b.`` says which
    classes are known there. Sets named ``unlabelled-*`` have no labels; where their README says ``Nothing of the four
    classes`` is there, all classes are known. ``labels`` of a picture may name regions to ignore with class -1.
    Raises PhotographError, with file and line, at the first thing that is wrong.
    """
    classes = _classes(folder / "classes.txt")
    known: dict[str, NDArray[np.bool_]] = {}
    pictures = []
    for name, (split, place) in sorted(_splits(folder / "splits.json").items()):
        set_name = name.split("/", 1)[0]
        if set_name not in known:
            known[set_name] = _known(folder / set_name / "README.md", classes)
        path = folder / name
        if not path.is_file():
            raise PhotographError(f"{folder / 'splits.json'} names {name}, which is not in {folder}; add the file")
        pictures.append(
            Photograph(path, name, set_name, split, place, known[set_name], _labels(folder, name, len(classes)))
        )
    pictures += _unlabelled(folder, classes)
    return Photographs(folder, classes, tuple(pictures))


def _unlabelled(folder: Path, classes: tuple[str, ...]) -> Iterator[Photograph]:
    for root in sorted(folder.glob(f"{_UNLABELLED_PREFIX}*")):
        nothing = _NOTHING_THERE.search(_text(root / "README.md")) is not None
        known = np.full(len(classes), nothing)
        images = root / "images"
        if not images.is_dir():
            raise PhotographError(f"{images} is no folder; put the pictures of {root.name} there, or remove {root}")
        for path in sorted(images.iterdir()):
            if path.suffix.lower() in _PICTURE_KINDS:
                yield Photograph(
                    path, f"{root.name}/images/{path.name}", root.name, "unlabelled", "", known, Labels.none()
                )


def _text(path: Path) -> str:
    """Return the text of a small file. Raises PhotographError when it is missing, large or no UTF-8."""
    try:
        if path.stat().st_size > _MOST_TEXT_BYTES:
            raise PhotographError(f"{path} has more than {_MOST_TEXT_BYTES} bytes; it is no file of this kind")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PhotographError(f"{path} cannot be read ({error.strerror}); a folder of photographs has it") from error
    except UnicodeDecodeError as error:
        raise PhotographError(f"{path} is no text in UTF-8 ({error.reason} at byte {error.start})") from error


def _classes(path: Path) -> tuple[str, ...]:
    names = tuple(line.strip() for line in _text(path).splitlines() if line.strip())
    if not names or len(set(names)) < len(names):
        raise PhotographError(f"{path} holds {', '.join(names) or 'nothing'}; write each class once, a name per line")
    return names


def _splits(path: Path) -> dict[str, tuple[Split, str]]:
    try:
        content = json.loads(_text(path))
    except ValueError as error:
        raise PhotographError(f"{path} is no JSON ({error}); correct it") from error
    if not isinstance(content, dict) or len(content) > _MOST_PICTURES:
        raise PhotographError(f"{path} is no object of at most {_MOST_PICTURES} pictures: [split, place]")
    return {name: _split(path, name, value) for name, value in content.items()}


def _split(path: Path, name: str, value: object) -> tuple[Split, str]:
    parts = PurePosixPath(name).parts
    if len(parts) != 3 or parts[1] != "images" or ".." in parts or name.startswith("/"):
        raise PhotographError(f"{path}: {name!r} is no picture; write set/images/file")
    match value:
        case [str(given), str(place)]:
            for split in LABELLED:
                if given == split:
                    return split, place
    raise PhotographError(f"{path}: {name} has {value!r}; write [split, place] with split {', '.join(LABELLED)}")


def _known(readme: Path, classes: tuple[str, ...]) -> NDArray[np.bool_]:
    line = _THROUGHOUT.search(_text(readme))
    if line is None:
        raise PhotographError(
            f"{readme} does not say which classes are complete; add a line like Classes labelled throughout: vehicle."
        )
    named = line.group(1).replace(",", " ").strip().rstrip(".").split()
    strange = [name for name in named if name not in classes]
    if strange:
        raise PhotographError(f"{readme}: {', '.join(strange)} is not in classes.txt ({', '.join(classes)})")
    return np.array([name in named for name in classes], np.bool_)


def _labels(folder: Path, name: str, classes: int) -> Labels:
    set_name, _, file = name.split("/")
    path = folder / set_name / "labels" / f"{Path(file).stem}.txt"
    try:
        return read_labels(_text(path), classes)
    except LabelsError as error:
        raise PhotographError(f"{path}, {error}") from error
