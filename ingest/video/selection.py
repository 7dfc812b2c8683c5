"""Chooses frames of a video by number, by time, or by how much the picture changed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ingest.video.options import Selection

Thumbnail = NDArray[np.uint8]
"""uint8 (THUMBNAIL_PX[1], THUMBNAIL_PX[0]): the frame's brightness"""
THUMBNAIL_PX = (48, 27)


class FrameSelector:
    """Decides frame by frame, in the order of presentation."""

    def __init__(self, selection: Selection) -> None:
        """Begin before the first frame, which is always chosen."""
        self._selection = selection
        self._next_tick: int | None = None
        self._last: Thumbnail | None = None

    def is_wanted(self, number: int, time_s: float, *, is_key: bool, thumbnail: Callable[[], Thumbnail]) -> bool:
        """Return whether the frame ``number`` at ``time_s`` is chosen; ``thumbnail`` is called only for scenes."""
        mode = self._selection.mode
        if mode == "nth":
            return number % self._selection.every == 0
        if mode == "key":
            return is_key
        if mode == "rate":
            return self._is_due(time_s)
        if mode == "scene":
            return self._has_changed(thumbnail())
        return True

    def _is_due(self, time_s: float) -> bool:
        """Whether a tick has passed: ticks do not shift when frames come late, so the rate is kept on average."""
        # Times are rounded to microseconds by containers, ticks are not.
        tick = math.floor(time_s * self._selection.per_second + 1e-6)
        behind = 0 if self._next_tick is None else self._next_tick - tick
        # Far behind: the stream's time went back to its start.
        if 0 < behind <= max(2, math.ceil(self._selection.per_second)):
            return False
        self._next_tick = tick + 1
        return True

    def _has_changed(self, thumbnail: Thumbnail) -> bool:
        last = self._last
        if last is not None:
            difference = np.abs(thumbnail.astype(np.int16) - last.astype(np.int16))
            # The largest of nine parts, so that a change in one corner counts although the rest stays.
            rows = np.array_split(difference, 3, axis=0)
            parts = [part for row in rows for part in np.array_split(row, 3, axis=1)]
            if max(float(part.mean()) for part in parts) < self._selection.change * 255:
                return False
        self._last = thumbnail
        return True
