"""Cuts training crops from photographs, labelled ones and ones without objects; shows again what was hard."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.geometry.boxes import longer_sides
from training.crops import IGNORED, Crop, augment
from training.mixture.light import vary_light
from training.mixture.selection import PhotoSelection, Region, SelectionError
from training.mixture.windows import Picture, Window, cut_window, random_window, window_with
from training.photographs import Photograph, Photographs
from training.scenes.spec import CLASS_NAMES

# The longer side that the chosen object gets in the crop: mostly anything the model is for, often what is common.
_SIZES_PX = (9.0, 250.0)
_COMMON_SIZES_PX = (20.0, 95.0)
_ANY_SIZE = 0.55
_USUAL_PX = 60.0
_SCALES = (0.1, 3.2)
_NEGATIVE_SCALES = (0.12, 1.5)
_NEAR_OBJECT = 0.8

_HARD_SHARE = 0.5
_HARD_MOST = 300
_HARD_KEPT = 200
# A remembered score fades, so that what the net has learnt makes room.
_FADING = 0.97


MemoryRow = tuple[float, int, float, float, float]
"""The score of a negative crop, the number of its picture, and its window's left, top and side."""


@dataclass(frozen=True, eq=False)
class KnownCrop:
    """Holds a crop, and the classes (C,) of which every object in it is labelled."""

    crop: Crop
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class NegativeWindow:
    """Says where on which negative picture a crop was cut, so that it can be cut again."""

    picture: int
    window: Window


@dataclass(frozen=True, eq=False)
class _Known:
    picture: Picture
    known: NDArray[np.bool_]


class PhotoCrops:
    """Keeps the chosen photographs in memory, and how high the net scored on negatives."""

    def __init__(self, photographs: Photographs, selection: PhotoSelection) -> None:
        """Raise SelectionError when the selection names what the folder lacks or may not be trained on."""
        if photographs.classes != CLASS_NAMES:
            raise SelectionError(
                f"{photographs.folder} has the classes {', '.join(photographs.classes)}: the net has "
                f"{', '.join(CLASS_NAMES)}"
            )
        self._sets = [_labelled(photographs, selection, name) for name in selection.labelled]
        shares = np.array(list(selection.labelled.values()))
        self._shares = shares / shares.sum()
        self._negatives = _negatives(photographs, selection)
        # Half of the crops without objects come from the second list.
        self._backgrounds = [_without_objects(one) for pictures in self._sets for one in pictures]
        self._hard: list[tuple[float, NegativeWindow]] = []
        self._noted: list[tuple[float, NegativeWindow]] = []

    def labelled(self, rng: np.random.Generator, size: int) -> KnownCrop:
        """Cut a crop of `size` pixels from a labelled photograph, at a scale that gives an object a random size."""
        pictures = self._sets[int(rng.choice(len(self._sets), p=self._shares))]
        chosen = pictures[int(rng.integers(len(pictures)))]
        picture = chosen.picture
        objects = np.flatnonzero(picture.labels != IGNORED)
        longest = longer_sides(picture.boxes[objects])
        sizes = _SIZES_PX if rng.random() < _ANY_SIZE else _COMMON_SIZES_PX
        goal = _log_uniform(rng, *sizes)
        if len(objects) and rng.random() < _NEAR_OBJECT:
            nth = int(rng.integers(len(objects)))
            side = size / float(np.clip(goal / longest[nth], *_SCALES))
            window = window_with(picture.boxes[objects[nth]], side, rng, _log_uniform(rng, 0.9, 1.1))
        else:
            usual = float(np.median(longest)) if len(objects) else _USUAL_PX
            window = random_window(picture, size / float(np.clip(goal / usual, *_SCALES)), rng)
        return KnownCrop(_vary(cut_window(picture, window.moved_inside(picture), size, _coin(rng)), rng), chosen.known)

    def negative(self, rng: np.random.Generator, size: int) -> tuple[KnownCrop, NegativeWindow]:
        """Cut a crop without objects but for ignored ones, half of the time near one that scored high."""
        if self._hard and rng.random() < _HARD_SHARE:
            _, old = self._hard[int(rng.integers(len(self._hard)))]
            side, number = old.window.side, old.picture
            across, down = rng.uniform(-0.15, 0.15, 2) * side
            window = Window(old.window.left + across, old.window.top + down, side * _log_uniform(rng, 0.8, 1.25))
        else:
            number = self._any_negative(rng)
            picture = self._negative(number).picture
            window = random_window(picture, size / _log_uniform(rng, *_NEGATIVE_SCALES), rng)
        chosen = self._negative(number)
        crop = _vary(cut_window(chosen.picture, window, size, _coin(rng)), rng)
        return KnownCrop(crop, chosen.known), NegativeWindow(number, window)

    def _any_negative(self, rng: np.random.Generator) -> int:
        """Return the number of a picture: negatives first, then labelled ones, whose objects are ignored."""
        if self._negatives and _coin(rng):
            return int(rng.integers(len(self._negatives)))
        return len(self._negatives) + int(rng.integers(len(self._backgrounds)))

    def _negative(self, number: int) -> _Known:
        beyond = number - len(self._negatives)
        return self._negatives[number] if beyond < 0 else self._backgrounds[beyond]

    def remember(self, score: float, where: NegativeWindow) -> None:
        """Note the highest score that the net gave on a negative crop; it counts from the next `settle` on."""
        self._noted.append((score, where))

    def settle(self) -> None:
        """Show the noted crops again from now on; low scores make room for others."""
        for one in self._noted:
            self._hard.append(one)
            if len(self._hard) > _HARD_MOST:
                faded = sorted(((_FADING * old, window) for old, window in self._hard), key=lambda hard: -hard[0])
                self._hard = faded[:_HARD_KEPT]
        self._noted = []

    def memory(self) -> dict[str, list[MemoryRow]]:
        """Return what is remembered, for a checkpoint."""
        return {"hard": _rows(self._hard), "noted": _rows(self._noted)}

    def restore(self, memory: dict[str, list[MemoryRow]]) -> None:
        """Take over what a checkpoint remembered."""
        self._hard, self._noted = _from_rows(memory["hard"]), _from_rows(memory["noted"])


def _rows(remembered: Sequence[tuple[float, NegativeWindow]]) -> list[MemoryRow]:
    # A checkpoint holds no NumPy numbers, so that it can be read without running code.
    return [
        (float(score), one.picture, float(one.window.left), float(one.window.top), float(one.window.side))
        for score, one in remembered
    ]


def _from_rows(rows: Sequence[MemoryRow]) -> list[tuple[float, NegativeWindow]]:
    return [(score, NegativeWindow(picture, Window(left, top, side))) for score, picture, left, top, side in rows]


def _labelled(photographs: Photographs, selection: PhotoSelection, name: str) -> list[_Known]:
    chosen = [one for one in photographs.of("train") if one.set_name == name]
    if not chosen:
        raise SelectionError(f"labelled names {name}, which has no pictures of split train in {photographs.folder}")
    return [_read(one, selection.left_out.get(one.name, ())) for one in chosen]


def _negatives(photographs: Photographs, selection: PhotoSelection) -> list[_Known]:
    unlabelled = {one.name: one for one in photographs.of("unlabelled")} if selection.negatives else {}
    missing = [name for name in selection.negatives if name not in unlabelled]
    if missing:
        raise SelectionError(f"negatives names {missing[0]}, which is no unlabelled picture in {photographs.folder}")
    everything = np.ones(len(photographs.classes), np.bool_)
    return [
        _Known(_read(unlabelled[name], regions).picture, everything) for name, regions in selection.negatives.items()
    ]


def _without_objects(one: _Known) -> _Known:
    picture = Picture(one.picture.image, one.picture.boxes, np.full(len(one.picture.boxes), IGNORED, np.int64))
    return _Known(picture, one.known)


def _read(photograph: Photograph, left_out: Sequence[Region]) -> _Known:
    image = photograph.pixels()
    height, width = image.shape[:2]
    boxes, labels = photograph.labels.boxes(width, height)
    out = np.concatenate([photograph.labels.ignored(width, height), np.array(left_out, np.float32).reshape(-1, 4)])
    ignored = np.full(len(out), IGNORED, np.int64)
    picture = Picture(image, np.concatenate([boxes, out]), np.concatenate([labels, ignored]))
    return _Known(picture, photograph.known)


def _vary(crop: Crop, rng: np.random.Generator) -> Crop:
    turned = augment(crop, rng)
    return Crop(vary_light(turned.image, rng), turned.boxes, turned.labels)


def _coin(rng: np.random.Generator) -> bool:
    return bool(rng.random() < 0.5)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))
