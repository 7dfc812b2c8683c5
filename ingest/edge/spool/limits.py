"""Decides whether the spool is full: by its own size, or by the free space of its disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ingest.edge.settings import EdgeSettings

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class SpoolLimits:
    """Compares the spool with its limits before each write."""

    def __init__(self, folder: Path, settings: EdgeSettings) -> None:
        self._folder = folder
        self._max_bytes = settings.max_bytes
        self._max_frames = settings.max_frames
        self._min_free_bytes = settings.min_free_bytes

    def reason(self, frames: int, used_bytes: int, new_bytes: int) -> str | None:
        """Return why a frame of ``new_bytes`` has no room beside ``frames`` of ``used_bytes``, or None if it has."""
        if frames >= self._max_frames:
            return f"the spool is full: it has {frames} frames, as many as edge.max_frames allows"
        if used_bytes + new_bytes > self._max_bytes:
            return f"the spool is full: it has {used_bytes} bytes, and edge.max_bytes is {self._max_bytes}"
        found = os.statvfs(self._folder)
        free_bytes = found.f_bavail * found.f_frsize
        # Some network file systems do not report it.
        if found.f_blocks and free_bytes - new_bytes < self._min_free_bytes:
            return (
                f"the spool is full: its disk has {free_bytes} bytes free, of which edge.min_free_bytes keeps "
                f"{self._min_free_bytes}"
            )
        return None

    def reason_of(self, error: OSError) -> str | None:
        """Return the reason if a write failed because the disk or a quota is full, or None."""
        if error.errno in _FULL_DISK:
            return f"the spool is full: {error.strerror} in {self._folder}"
        return None
