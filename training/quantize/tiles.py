"""Cuts tiles from a user's frames as the card says: some to calibrate a model, others to measure it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detectors.geometry.arrays import ImageArray
from detectors.images.decode import decode_image
from detectors.model.options import FrameView
from detectors.model.predict import Model
from infra.errors import ImageCorruptError
from schemas.events import DetectOptions
from training.quantize.errors import QuantizeError

LEAST_TILES, MOST_TILES = 8, 96
"""Of each part. The ranges of a model's numbers hardly change beyond a hundred tiles."""

_MOST_BYTES = 256 << 20
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Holds tiles of different frames, uint8 (N, height, width, 3) BGR."""

    calibration: ImageArray
    """Tiles to calibrate with"""
    held_out: ImageArray
    """Tiles to measure with"""
    frames: int
    """How many frames were read"""


def read_samples(folder: Path, model: Model, max_pixels: int) -> Samples:
    """Read tiles of the pictures in ``folder``, cut as ``model``'s card says, spread evenly over frames and tiles.

    In the order of their names every other frame is held out, so that no tile shows a scene that the calibration
    used. The same folder gives the same tiles. Raises QuantizeError when it has too few pictures, or one that cannot
    be read.
    """
    files = _pictures(folder)
    card = model.card.input
    most = min(MOST_TILES, max(LEAST_TILES, _MOST_BYTES // (3 * card.width * card.height)))
    parts = [spread_evenly(files[part::2], most) for part in (0, 1)]
    calibration, held_out = (_tiles(each, model, most, max_pixels) for each in parts)
    if min(len(calibration), len(held_out)) < LEAST_TILES:
        raise QuantizeError(
            f"{folder} gives {len(calibration)} tiles to calibrate and {len(held_out)} to measure with; "
            f"{LEAST_TILES} of each are the least: give more frames"
        )
    return Samples(np.stack(calibration), np.stack(held_out), sum(map(len, parts)))


def spread_evenly(items: Sequence[Path], count: int) -> list[Path]:
    """Return at most ``count`` of ``items``, evenly spaced, with the first and the last."""
    return [items[at] for at in _places(len(items), count)]


def _places(length: int, count: int) -> list[int]:
    """Return at most ``count`` positions in a list of ``length``, evenly spaced."""
    found: list[int] = np.unique(np.linspace(0, length - 1, min(length, count)).round().astype(int)).tolist()
    return found if length else []


def _pictures(folder: Path) -> list[Path]:
    try:
        files = sorted(each for each in folder.iterdir() if each.suffix.lower() in _SUFFIXES and each.is_file())
    except OSError as error:
        raise QuantizeError(
            f"--frames {folder} cannot be read ({error.strerror}); give a folder with pictures of what the model is for"
        ) from error
    if len(files) < 2:
        raise QuantizeError(
            f"--frames {folder} holds {len(files)} pictures ({', '.join(sorted(_SUFFIXES))}); 2 are the least, one to "
            "calibrate and one to measure with"
        )
    return files


def _tiles(files: Sequence[Path], model: Model, most: int, max_pixels: int) -> list[ImageArray]:
    """Return at most ``most`` tiles of ``files``, about as many of each."""
    tiles: list[ImageArray] = []
    for done, file in enumerate(files):
        # Frames before this one may have fewer tiles than their share; larger frames get the rest.
        share = -(-(most - len(tiles)) // (len(files) - done))
        image = _decode_picture(file, max_pixels)
        view = FrameView(image.shape[1], image.shape[0])
        plan = model.plan(view, model.resolved(DetectOptions(), view))
        tiles += [model.cut(image, plan, at, 1)[0] for at in _places(len(plan), share)]
    return tiles


def _decode_picture(file: Path, max_pixels: int) -> ImageArray:
    try:
        return decode_image(file.read_bytes(), max_pixels=max_pixels)
    except (OSError, ImageCorruptError) as error:
        raise QuantizeError(f"{file}: {error}; correct it, or move it out of the folder") from error
