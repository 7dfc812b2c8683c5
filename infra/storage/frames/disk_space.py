"""Limits a folder of frames by the free space on its disk and by the size of all its frames."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from infra.errors import StoreFullError
from infra.process.monotonic import monotonic_s
from infra.storage.metrics import FRAME_STORE

_SCAN_EVERY_S = 600.0
_SCAN_WHEN_FULL_S = 30.0
# So a slow disk is scanned for a twentieth of the time at most.
_PAUSE_PER_SCAN = 20.0
_WHAT_TO_DO = "remove old frames (docs/operations.md: when the frame store is full), give it a larger disk, or"


class DiskSpace:
    """Checks before each write, from any thread, whether the folder has enough space.

    Free space is read each time. The size of all frames is counted by a scan in a separate thread from time to time,
    and what this process writes between two scans is added to it. So it follows other writers and deletions with a
    delay, and until the first scan has ended only free space counts.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int | None = None,
        min_free_bytes: int = 0,
        clock: Callable[[], float] = monotonic_s,
    ) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._used_bytes: int | None = None
        self._added_bytes = 0
        self._scanned_at: float | None = None
        self._scan_took_s = 0.0
        self._scanning = False
        self._free = FRAME_STORE.labels("free")

    def require_space(self, size_bytes: int) -> None:
        """Raise StoreFullError unless ``size_bytes`` more may be written; raise OSError when the disk fails."""
        found = os.statvfs(self._root)
        # Some network file systems do not report it.
        if found.f_blocks:
            free_bytes = found.f_bavail * found.f_frsize
            self._free.set(free_bytes)
            if free_bytes - size_bytes < self._min_free_bytes:
                raise StoreFullError(
                    f"the frame store {self._root} is full: {free_bytes} bytes are free on its disk, of which "
                    f"frames.min_free_bytes (STANDGALE_FRAMES__MIN_FREE_BYTES) keeps {self._min_free_bytes}; "
                    f"{_WHAT_TO_DO} lower that setting"
                )
        if self._max_bytes is not None:
            self._require_below(self._max_bytes, size_bytes)

    def add_used(self, size_bytes: int) -> None:
        """Count ``size_bytes`` that were written."""
        with self._lock:
            self._added_bytes += size_bytes
            if self._used_bytes is not None:
                self._used_bytes += size_bytes
                FRAME_STORE.labels("used").set(self._used_bytes)

    def _require_below(self, max_bytes: int, size_bytes: int) -> None:
        with self._lock:
            used_bytes = self._used_bytes
            full = used_bytes is not None and used_bytes + size_bytes > max_bytes
            if not self._scanning and self._scan_is_due(_SCAN_WHEN_FULL_S if full else _SCAN_EVERY_S):
                self._scanning = True
                threading.Thread(target=self._scan, name="frames-disk-space", daemon=True).start()
        if full:
            raise StoreFullError(
                f"the frame store {self._root} is full: its frames are {used_bytes} bytes, and frames.max_bytes "
                f"(STANDGALE_FRAMES__MAX_BYTES) is {max_bytes}; {_WHAT_TO_DO} raise that setting"
            )

    def _scan_is_due(self, pause_s: float) -> bool:
        pause_s = max(pause_s, _PAUSE_PER_SCAN * self._scan_took_s)
        return self._scanned_at is None or self._clock() - self._scanned_at >= pause_s

    def _scan(self) -> None:
        began_s = self._clock()
        with self._lock:
            self._added_bytes = 0
        try:
            used_bytes = sum(_sizes(self._root))
        except OSError:
            # Unavailable, or changing too fast: the former count is kept until the next scan.
            used_bytes = None
        with self._lock:
            if used_bytes is not None:
                # Some files written during the scan count twice: full too early is better than full too late.
                self._used_bytes = used_bytes + self._added_bytes
                FRAME_STORE.labels("used").set(self._used_bytes)
            self._scanned_at = self._clock()
            self._scan_took_s = self._scanned_at - began_s
            self._scanning = False


def _sizes(root: Path) -> Iterator[int]:
    """Yield the size of each frame; the folder of unfinished ones does not count."""
    with os.scandir(root) as folders:
        for folder in folders:
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                yield from _sizes_in(folder)


def _sizes_in(folder: os.DirEntry[str]) -> Iterator[int]:
    with os.scandir(folder) as files:
        for file in files:
            try:
                yield file.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # removed or renamed during the scan
                continue
