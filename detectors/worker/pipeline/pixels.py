"""Memory for decoded frames, used again and again: fresh pages from the kernel cost half as much as the decoding."""

from __future__ import annotations

import threading

import numpy as np

from detectors.geometry.arrays import ImageArray

# A buffer serves frames down to this share of its size, so that small frames do not hold large memory.
_LEAST_USED = 0.5


class PixelPool:
    """Buffers that frames are decoded into. May be used from several threads at once."""

    def __init__(self, keep_bytes: int) -> None:
        """``keep_bytes``: how much may lie idle; what is given back beyond that is let go."""
        self._keep_bytes = keep_bytes
        self._idle: list[ImageArray] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> ImageArray:
        """A buffer, uint8 (n,) with n >= ``size`` bytes, whose content is whatever was there."""
        with self._lock:
            for place, buffer in enumerate(self._idle):
                if size <= buffer.size <= size / _LEAST_USED:
                    return self._idle.pop(place)
        return np.empty(size, np.uint8)

    def give(self, buffer: ImageArray) -> None:
        """``buffer`` is needed no more; nobody may look into it after this."""
        with self._lock:
            self._idle.append(buffer)
            # The oldest go first: sizes that no longer come would stay for ever.
            while sum(each.size for each in self._idle) > self._keep_bytes:
                del self._idle[0]
