"""Draws what was found into the pictures of a job, a limited number at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from console.results.records import Found
from console.settings import ConsoleSettings
from detectors.card.card import ClassCard
from detectors.geometry.arrays import Detections, ImageArray
from detectors.images.decode import decode_image
from detectors.images.draw import class_colour, draw_detections
from infra.http_api.errors.api_errors import OverloadedError
from infra.storage.frames.port import FrameStore
from schemas.events import ImageRef

THUMBNAIL_PX = 320
_QUALITY = 90
# A picture of 8192×8192 takes 200 MB while it is drawn, and its copy as much again.
_AT_ONCE = 1
_WAITING = 64


@dataclass(frozen=True, slots=True)
class DrawOptions:
    """Says what is written beside each box."""

    labels: bool = True
    scores: bool = True


Draw = Callable[[ImageRef, Sequence[Found], DrawOptions], AbstractAsyncContextManager[bytes]]


class PictureDrawer:
    """Draws pictures in a thread, one after the other, and limits how many bytes of them are in memory."""

    def __init__(self, store: FrameStore, settings: ConsoleSettings) -> None:
        self._store = store
        self._max_pixels = settings.max_side_px**2
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0
        self._most_bytes = settings.max_in_flight_bytes
        self._held_bytes = 0

    def annotated(
        self, image: ImageRef, found: Sequence[Found], options: DrawOptions
    ) -> AbstractAsyncContextManager[bytes]:
        """Give the picture with its boxes, as JPEG, for a block.

        Raises ImageMissingError, OverloadedError and store errors.
        """
        return self._held(image, found, options, None)

    def thumbnail(
        self, image: ImageRef, found: Sequence[Found], options: DrawOptions
    ) -> AbstractAsyncContextManager[bytes]:
        """Give the picture with its boxes, its longer side at most THUMBNAIL_PX, as JPEG, for a block."""
        return self._held(image, found, options, THUMBNAIL_PX)

    @asynccontextmanager
    async def _held(
        self, image: ImageRef, found: Sequence[Found], options: DrawOptions, most_px: int | None
    ) -> AsyncIterator[bytes]:
        """Count the bytes of a picture as long as it is in memory: receivers may be slow, and many."""
        content = await self._drawn(image, found, options, most_px)
        try:
            yield content
        finally:
            self._held_bytes -= len(content)

    async def _drawn(self, image: ImageRef, found: Sequence[Found], options: DrawOptions, most_px: int | None) -> bytes:
        """Return a picture that is counted; the caller takes it from the count."""
        if self._waiting >= _WAITING:
            raise OverloadedError(
                f"{_WAITING} pictures wait to be drawn already", details="Ask again after Retry-After seconds."
            )
        self._waiting += 1
        try:
            async with self._turn, self._store.local(image) as path:
                if self._held_bytes >= self._most_bytes:
                    raise OverloadedError(
                        f"pictures of {self._held_bytes:,} bytes are being sent already (console.max_in_flight_bytes)",
                        details="Ask again after Retry-After seconds.",
                    )
                content = await asyncio.to_thread(draw_picture, path, self._max_pixels, found, options, most_px)
                self._held_bytes += len(content)
                return content
        finally:
            self._waiting -= 1


def draw_picture(
    path: Path, max_pixels: int, found: Sequence[Found], options: DrawOptions, most_px: int | None = None
) -> bytes:
    """Return the picture in the file ``path`` with boxes drawn, as JPEG, its longer side at most ``most_px``.

    Raises ImageCorruptError, also for one with more than ``max_pixels``.
    """
    picture = decode_image(path.read_bytes(), max_pixels=max_pixels)
    share = 1.0 if most_px is None else min(1.0, most_px / max(picture.shape[:2]))
    if share < 1.0:
        height, width = picture.shape[:2]
        size = max(1, round(width * share)), max(1, round(height * share))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        options = DrawOptions(labels=False, scores=False)
    names = {each.class_id: each.label for each in found}
    # A class keeps its colour in all pictures of a job, because the colour follows its number.
    classes = [_class(number, name) for number, name in names.items()]
    detections = _detections(picture, found, {number: place for place, number in enumerate(names)})
    drawn = draw_detections(picture, detections, classes, labels=options.labels, scores=options.scores)
    encoded, content = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not encoded:
        raise ValueError(f"OpenCV could not encode an image of shape {drawn.shape}")
    return content.tobytes()


def _class(number: int, name: str) -> ClassCard:
    blue, green, red = class_colour(number, ClassCard(name=name))
    return ClassCard(name=name, color=f"#{red:02x}{green:02x}{blue:02x}")


def _detections(picture: ImageArray, found: Sequence[Found], places: Mapping[int, int]) -> Detections:
    height, width = picture.shape[:2]
    sides = np.array([width, height, width, height], np.float32)
    boxes = np.array([each.box for each in found], np.float32).reshape(-1, 4) * sides
    quads = None
    if found and all(each.corners is not None for each in found):
        points = np.array([each.corners for each in found], np.float32).reshape(-1, 4, 2)
        quads = points * np.array([width, height], np.float32)
    return Detections(
        boxes,
        np.array([each.confidence for each in found], np.float32),
        np.array([places[each.class_id] for each in found], np.int32),
        quads,
    )
