"""Whether a folder takes more frames: what is free on its disk, and how much the frames may be together."""

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
# So a scan of a slow disk takes a twentieth of the time at most.
_PAUSE_PER_SCAN = 20.0
_WHAT_TO_DO = "remove old frames (docs/operations.md: when the frame store is full), give it a larger disk, or"


class DiskSpace:
    """Asked before each write, from any thread.

    Free space is asked for each time. What the frames are together is counted by a scan in a thread of its own, now and
    then, and what this process adds in between is added to it; so it follows other writers and deletions with a delay,
    and before the first scan is done only free space counts.
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
        """Return when ``size_bytes`` more may be written. Raises StoreFullError, or OSError of the disk."""
        found = os.statvfs(self._root)
        # Some network file systems do not tell.
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
        """``size_bytes`` more were written."""
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
                threading.Thread(target=self._scan, name="frames-room", daemon=True).start()
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
            # Away, or it changes too fast: the former count stays until the next scan.
            used_bytes = None
        with self._lock:
            if used_bytes is not None:
                # Some of what was added meanwhile was counted, too: rather too full than too late.
                self._used_bytes = used_bytes + self._added_bytes
                FRAME_STORE.labels("used").set(self._used_bytes)
            self._scanned_at = self._clock()
            self._scan_took_s = self._scanned_at - began_s
            self._scanning = False


def _sizes(root: Path) -> Iterator[int]:
    """The size of each frame; unfinished ones are in another folder, which does not count."""
    with os.scandir(root) as folders:
        for folder in folders:
            if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                yield from _sizes_in(folder)


def _sizes_in(folder: os.DirEntry[str]) -> Iterator[int]:
    with os.scandir(folder) as files:
        for file in files:
            try:
                yield file.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # removed, or moved into place, meanwhile
                continue
