"""Mixes a batch from crops of drawn scenes and of photographs."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.crops import Crop, augment
from training.mixture.light import vary_light
from training.mixture.photo_crops import KnownCrop, NegativeWindow, PhotoCrops
from training.mixture.windows import Picture, cut_window, random_window, window_with
from training.pool import ScenePool
from training.scenes.spec import CLASS_NAMES

# Of twelve crops four show labelled photographs, three photographs without objects, five drawn scenes.
_PARTS = 12
_LABELLED = 4
_NEGATIVES = 3

# Sides of the crops in turn, as shares of the given one, and how many crops there are, as shares of the batch: each
# batch has about as many pixels.
_SIDES = (0.8, 1.0, 1.3)
_COUNTS = (1.5, 1.0, 0.6)
_CROP_STEP = 16

_DRAWN_AS_IS = 0.55
_DRAWN_SCALES = (0.5, 2.2)


@dataclass(frozen=True, eq=False)
class Batch:
    """Holds crops of one size, the classes known of each (N, C), and where each negative was cut."""

    crops: list[Crop]
    known: NDArray[np.bool_]
    negatives: dict[int, NegativeWindow]


def batch_shape(step: int, crop_px: int, batch: int) -> tuple[int, int]:
    """Return the side of the crops of a step, a multiple of 16, and their number."""
    turn = step % len(_SIDES)
    return round(crop_px * _SIDES[turn] / _CROP_STEP) * _CROP_STEP, max(1, round(batch * _COUNTS[turn]))


def mixed_batch(pool: ScenePool, photos: PhotoCrops, rng: np.random.Generator, size: int, count: int) -> Batch:
    """Cut a batch of `count` crops of `size` pixels from both sources."""
    labelled, negatives = count * _LABELLED // _PARTS, count * (_LABELLED + _NEGATIVES) // _PARTS
    crops: list[KnownCrop] = []
    windows: dict[int, NegativeWindow] = {}
    for place in range(count):
        if place < labelled:
            crops.append(photos.labelled(rng, size))
        elif place < negatives:
            crop, windows[place] = photos.negative(rng, size)
            crops.append(crop)
        else:
            crops.append(KnownCrop(_drawn(pool, rng, size), np.ones(len(CLASS_NAMES), np.bool_)))
    return Batch([one.crop for one in crops], np.stack([one.known for one in crops]), windows)


def drawn_batch(pool: ScenePool, rng: np.random.Generator, size: int, count: int) -> Batch:
    """Cut a batch from drawn scenes alone, at their own scale."""
    crops = [pool.crop(rng, size) for _ in range(count)]
    return Batch(crops, np.ones((count, len(CLASS_NAMES)), np.bool_), {})


def _drawn(pool: ScenePool, rng: np.random.Generator, size: int) -> Crop:
    """Cut from a drawn scene, often at another scale, half of these with the light of photographs."""
    if rng.random() < _DRAWN_AS_IS:
        return pool.crop(rng, size)
    scene = pool.scene(rng)
    picture = Picture(scene.image, scene.boxes, scene.labels)
    side = size / math.exp(rng.uniform(math.log(_DRAWN_SCALES[0]), math.log(_DRAWN_SCALES[1])))
    if len(picture.boxes) and rng.random() < 0.5:
        window = window_with(picture.boxes[int(rng.integers(len(picture.boxes)))], side, rng)
    else:
        window = random_window(picture, side, rng)
    crop = augment(cut_window(picture, window.moved_inside(picture), size), rng)
    return Crop(vary_light(crop.image, rng), crop.boxes, crop.labels) if rng.random() < 0.5 else crop
