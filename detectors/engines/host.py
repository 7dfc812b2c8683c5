"""Configures a process that runs an engine: leaves the cores to the engine, and keeps freed memory for next tiles."""

from __future__ import annotations

import ctypes
import logging

import cv2

logger = logging.getLogger(__name__)

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MOST_ARENAS = -1, -3, -8
# The largest value that glibc accepts; tiles and outputs are smaller, whole frames larger.
_KEPT_BLOCK_BYTES = 32 << 20
_KEPT_FREE_BYTES = 128 << 20


# What a process keeps that processes one picture and ends: bands of a raster are larger, batches of tiles smaller.
_KEPT_BLOCK_OF_ONE_BYTES = 4 << 20
_KEPT_FREE_OF_ONE_BYTES = 16 << 20


def configure_process(*, spare_memory: bool = False) -> None:
    """Configure this process to run an engine; later calls change nothing.

    spare_memory: keep little freed memory, and one pool of it for all threads; for a process that sees few pictures.

    OpenCV gets one thread, because its threads would compete with the engine's. glibc returns blocks of some megabytes
    to the kernel as soon as they are free. Every batch of tiles is such a block, and would cost hundreds of page
    faults, three times as much as cutting its tiles. So up to 128 MiB are kept. Other C libraries are not changed.
    """
    cv2.setNumThreads(1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    block, free = _KEPT_BLOCK_BYTES, _KEPT_FREE_BYTES
    if spare_memory:
        block, free = _KEPT_BLOCK_OF_ONE_BYTES, _KEPT_FREE_OF_ONE_BYTES
    wanted = {_MMAP_THRESHOLD: block, _TRIM_THRESHOLD: free} | ({_MOST_ARENAS: 1} if spare_memory else {})
    if mallopt is None or not all(mallopt(parameter, value) for parameter, value in wanted.items()):
        logger.debug("the allocator of this C library cannot be configured; cutting tiles costs a little more")


def release_freed_memory() -> None:
    """Give memory that is free again, such as that of loading a model, back to the kernel; glibc keeps it else."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
