"""Computes the hash of a file in pieces, so that memory does not grow with its size."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_PIECE = 1 << 20


def file_digest(path: Path, algorithm: str = "sha256", prefix: bytes = b"") -> tuple[bytes, int]:
    """Return the hash of ``prefix`` and the file at ``path``, and the file's size. Raises OSError, also for a link."""
    found, size = hashlib.new(algorithm, prefix, usedforsecurity=False), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            found.update(piece)
            size += len(piece)
    return found.digest(), size
