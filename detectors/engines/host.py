"""Configures a process that runs an engine: leaves the cores to the engine, and keeps freed memory for next tiles."""

from __future__ import annotations

import ctypes
import logging

import cv2

logger = logging.getLogger(__name__)

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest value that glibc accepts; tiles and outputs are smaller, whole frames larger.
_KEPT_BLOCK_BYTES = 32 << 20
_KEPT_FREE_BYTES = 128 << 20


def configure_process() -> None:
    """Configure this process to run an engine; later calls change nothing.

    OpenCV gets one thread, because its threads would compete with the engine's. glibc returns blocks of some megabytes
    to the kernel as soon as they are free. Every batch of tiles is such a block, and would cost hundreds of page
    faults, three times as much as cutting its tiles. So up to 128 MiB are kept. Other C libraries are not changed.
    """
    cv2.setNumThreads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not (
        mallopt(_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
    ):
        logger.debug("the allocator of this C library cannot be configured; cutting tiles costs a little more")
