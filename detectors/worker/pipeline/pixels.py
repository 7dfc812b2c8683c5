"""Reuses the memory of decoded frames: new pages from the kernel cost half as much time as the decoding."""

from __future__ import annotations

import threading

import numpy as np

from detectors.geometry.arrays import ImageArray

# A buffer serves frames down to this share of its size, so that small frames do not hold large memory.
_LEAST_USED = 0.5


class PixelPool:
    """Keeps buffers that frames are decoded into. Several threads may use it at the same time."""

    def __init__(self, keep_bytes: int) -> None:
        """``keep_bytes``: how many unused bytes are kept; buffers beyond that are released."""
        self._keep_bytes = keep_bytes
        self._idle: list[ImageArray] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> ImageArray:
        """Return a buffer, uint8 (n,) with n >= ``size`` bytes, with any content."""
        with self._lock:
            for index, buffer in enumerate(self._idle):
                if size <= buffer.size <= size / _LEAST_USED:
                    return self._idle.pop(index)
        return np.empty(size, np.uint8)

    def give(self, buffer: ImageArray) -> None:
        """Take back ``buffer``; the caller must not read or write it after this."""
        with self._lock:
            self._idle.append(buffer)
            # The oldest are released first: sizes that no longer occur would stay for ever.
            while sum(each.size for each in self._idle) > self._keep_bytes:
                del self._idle[0]
