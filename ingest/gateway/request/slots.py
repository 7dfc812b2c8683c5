"""Admission of uploads: how many, and how many bytes, may be in memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ingest.gateway.errors import OverloadedError


class UploadSlots:
    """Counts what is under way; asked before a body is read, so that memory is bounded whatever comes."""

    def __init__(self, max_uploads: int, max_bytes: int) -> None:
        self._free_uploads = max_uploads
        self._free_bytes = max_bytes

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        """Hold room for one upload of at most ``size_bytes``; raises OverloadedError when there is none."""
        if self._free_uploads < 1 or self._free_bytes < size_bytes:
            raise OverloadedError(
                "the gateway has as many uploads under way as it takes; nothing was read",
                details="Send the frame again after Retry-After seconds.",
            )
        self._free_uploads -= 1
        self._free_bytes -= size_bytes
        try:
            yield
        finally:
            self._free_uploads += 1
            self._free_bytes += size_bytes
