"""What a process that runs an engine sets once: the engine has the cores, and freed memory stays for the next tiles."""

from __future__ import annotations

import ctypes
import logging

import cv2

logger = logging.getLogger(__name__)

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# The largest that glibc takes; tiles and outputs are smaller, whole frames larger.
_KEPT_BLOCK_BYTES = 32 << 20
_KEPT_FREE_BYTES = 128 << 20


def configure_process() -> None:
    """Make this process one in which an engine runs; later calls change nothing.

    OpenCV's own threads would only take turns with the engine's. And glibc gives blocks of some megabytes back to the
    kernel as soon as they are free; as every batch of tiles is one, each would cost hundreds of page faults, which is
    three times what cutting its tiles costs. At most 128 MiB are kept free that way. Elsewhere than on glibc the
    allocator is left as it is.
    """
    cv2.setNumThreads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not (
        mallopt(_MMAP_THRESHOLD, _KEPT_BLOCK_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
    ):
        logger.debug("this C library's allocator takes no hints; tiles cost a little more")
