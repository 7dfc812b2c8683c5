"""Writes a file as a whole: readers see the old content or the new one, also when the disk is full."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Replace the content of ``path`` by ``data``; when that fails, it is as it was. Raises OSError.

    What is no regular file (a device, a pipe) is written to as it is.
    """
    target = path.resolve() if path.is_symlink() else path
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    unfinished = target.parent / f".{os.getpid()}.unfinished"
    try:
        with unfinished.open("xb") as file:
            file.write(data)
        if target.exists():
            unfinished.chmod(target.stat().st_mode & 0o777)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
