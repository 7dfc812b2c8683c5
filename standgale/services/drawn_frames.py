"""Draws the detections of frames for the archive, as the results of jobs are drawn."""

from __future__ import annotations

import asyncio
import logging

from console.results.pictures import DrawOptions, draw_picture
from console.results.records import Found
from infra.errors import ImageCorruptError
from infra.storage.frames.port import FrameStore
from schemas.events import Detection, DetectionsMade

logger = logging.getLogger(__name__)


class FrameDrawer:
    """Draws one frame after the other, in a thread."""

    def __init__(self, store: FrameStore, max_pixels: int) -> None:
        """``max_pixels``: frames with more are not drawn, because of the memory that it takes."""
        self._store = store
        self._max_pixels = max_pixels

    async def draw(self, event: DetectionsMade) -> bytes | None:
        """Return the frame of ``event`` with its boxes as JPEG; None, with a log line, when it cannot be drawn."""
        found = [_found(detection) for detection in event.detections]
        async with self._store.local(event.image) as path:
            try:
                return await asyncio.to_thread(draw_picture, path, self._max_pixels, found, DrawOptions())
            except ImageCorruptError as error:
                # The frame itself is archived all the same.
                logger.warning("frame %s is archived without a drawn picture: %s", event.frame_id, error)
                return None


def _found(detection: Detection) -> Found:
    box = detection.box
    corners = None
    if detection.corners is not None:
        corners = tuple(value for corner in detection.corners for value in (corner.x, corner.y))
    return Found(detection.label, detection.class_id, detection.confidence, (box.x1, box.y1, box.x2, box.y2), corners)
