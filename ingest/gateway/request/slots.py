"""Limits how many uploads, and how many bytes of them, are in memory at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ingest.gateway.errors import OverloadedError


class UploadSlots:
    """Counts uploads in progress; a slot is reserved before a body is read, so that memory is limited."""

    def __init__(self, max_uploads: int, max_bytes: int) -> None:
        self._free_uploads = max_uploads
        self._free_bytes = max_bytes

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        """Reserve a slot for one upload of at most ``size_bytes``; raises OverloadedError when there is none."""
        if self._free_uploads < 1 or self._free_bytes < size_bytes:
            raise OverloadedError(
                "the gateway has as many uploads in progress as it accepts; nothing was read",
                details="Send the frame again after Retry-After seconds.",
            )
        self._free_uploads -= 1
        self._free_bytes -= size_bytes
        try:
            yield
        finally:
            self._free_uploads += 1
            self._free_bytes += size_bytes
