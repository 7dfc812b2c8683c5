"""Writes files and folders so that they survive a power cut, and locks folders."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SYNC_FILE_RANGE_WRITE = 2


def _c_function() -> Callable[[int, int, int, int], int] | None:
    """Return Linux's ``sync_file_range``, which Python does not have."""
    function = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function


_sync_file_range = _c_function()
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def sync_file(descriptor: int) -> None:
    """Write the content of the open file or folder to disk.

    On macOS ``fsync`` may leave it in the disk's cache. ``F_FULLFSYNC`` does not, but not every file system has it.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        with suppress(OSError):
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def begin_sync(descriptor: int) -> None:
    """Let the kernel begin to write the content of the open file to disk; where it cannot, this does nothing.

    A hint alone: only :func:`sync_file` says that the content is on disk.
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data`` to the open file."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file, and its content to disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, data)
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Write the names in ``folder`` to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path | str, *, exclusive: bool, wait: bool = True) -> Iterator[int]:
    """Hold a lock on ``folder`` against other threads and processes; yield its open descriptor.

    Several may hold it at a time unless one is ``exclusive``. When another holds it, this waits, or, without ``wait``,
    raises BlockingIOError. On a file system without locks, nothing is held.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            how = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield descriptor
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its missing parents, and write each name to disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def disk_time_s(folder: Path) -> float:
    """Return the time by which the disk of ``folder`` dates files, in seconds since 1970.

    Machines that share a disk agree on it, whatever their own clocks say.
    """
    os.utime(folder)
    return folder.stat().st_mtime


def sweep_files(folder: Path, max_age_s: float) -> None:
    """Remove the files in ``folder`` that were not written to for ``max_age_s``: those of writers that were killed."""
    oldest = disk_time_s(folder) - max_age_s
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # its writer finished, or another process removed it
            if path.stat().st_mtime < oldest:
                path.unlink()
