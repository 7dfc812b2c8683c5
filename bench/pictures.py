"""Renders the scenes that benchmarks send as JPEG, and makes copies of them that no frame store has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training.scenes.render import render_scene
from training.scenes.spec import SceneSpec

_JPEG_QUALITY = 90
_SEED = 930_000
_COMMENT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """Holds an encoded picture and its size in pixels."""

    data: bytes
    width: int
    height: int


@cache
def scene(width: int, height: int, number: int) -> Picture:
    """Return scene ``number`` of this size, not one that the shipped model was trained with; the same each time."""
    return Picture(jpeg(render_scene(SceneSpec(width, height, _SEED + number)).image), width, height)


@cache
def of_size(size_bytes: int) -> Picture:
    """Return a JPEG of ``size_bytes``, within a few percent: noise of the right strength on 1280×960 pixels."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, (960, 1280, 3)).astype(np.float32)
    low, high = 0.0, 64.0
    data = b""
    for _ in range(12):
        strength = (low + high) / 2
        data = jpeg(np.clip(120 + strength * noise, 0, 255).astype(np.uint8))
        low, high = (strength, high) if len(data) < size_bytes else (low, strength)
    return Picture(data, 1280, 960)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return ``image`` (uint8 (h, w, 3) BGR) as JPEG."""
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape}")
    return data.tobytes()


def numbered(data: bytes, number: int) -> tuple[bytes, bytes, bytes]:
    """Return the JPEG ``data`` with ``number`` in an added comment, in three parts to be joined or sent in turn.

    The pixels are the same, but the bytes and so the hash differ: a content-addressed store has to write it.
    """
    comment = number.to_bytes(_COMMENT_BYTES, "big")
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    return data[:2], segment, data[2:]
