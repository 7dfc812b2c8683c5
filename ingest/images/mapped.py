"""Examines an image in a file without reading all of it into memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import cast

from ingest.images.check import ImageInfo, ImageLimits, inspect_image
from ingest.images.exif import Capture, read_capture


class MappedFile(mmap.mmap):
    """Is the content of a file as the readers of headers use it: like bytes, but the system loads what is read."""

    def startswith(self, prefix: bytes | tuple[bytes, ...], start: int = 0, end: int | None = None) -> bool:
        """Whether the content from ``start`` to ``end`` begins with ``prefix``, or one of them."""
        longest = len(prefix) if isinstance(prefix, bytes) else max(map(len, prefix))
        until = start + longest if end is None else min(end, start + longest)
        return self[start:until].startswith(prefix)


def map_file(path: Path) -> bytes:
    """Return the content of the file at ``path``, which has at least one byte, and which nobody may cut meanwhile.

    It stays mapped until the last reference to it is gone. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Readers only slice, search and unpack it.
        return cast("bytes", MappedFile(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def examine_file(path: Path, limits: ImageLimits) -> tuple[ImageInfo, Capture]:
    """Return what the image in the file at ``path`` says; the errors are those of :func:`inspect_image`."""
    data = map_file(path)
    info = inspect_image(data, limits)
    return info, read_capture(data, info)
