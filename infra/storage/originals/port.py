"""Defines the port of uploads: where a device may put an original, and how the gateway gets it from there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Upload:
    """Describes one original that a device wants to upload."""

    device_id: str
    sha256: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Allows one PUT, to every client that has the address."""

    url: str
    """Absolute, or to be resolved against the address of the request"""
    headers: Mapping[str, str]
    """What the PUT must send"""
    expires_at: datetime


class OriginalUploads(Protocol):
    """Keeps originals that were uploaded and not announced yet, each in a place of its device's own."""

    async def grant(self, upload: Upload, lasts_s: float) -> Grant:
        """Allow ``upload`` for ``lasts_s``; the same upload may be granted again.

        Raises StoreUnavailableError.
        """
        ...

    async def pending(self, upload: Upload, most: int, lasts_s: float) -> int:
        """Return how many other originals of the device wait, whole or in part; counting stops at ``most``.

        Where the store itself receives them, and counts none, those count as well that may be uploaded: an address was
        granted within ``lasts_s``.
        """
        ...

    def received(self, device_id: str, sha256: str) -> AbstractAsyncContextManager[Path | None]:
        """Give a local file with the original, which nobody writes to; None where it was not uploaded.

        Its content is checked: a whole upload that has another SHA-256 is removed, and WrongContentError is raised.
        Raises StoreUnavailableError.
        """
        ...

    async def discard(self, device_id: str, sha256: str) -> None:
        """Remove an original that was taken over; it is no error when there is none."""

    async def sweep(self, max_age_s: float) -> int:
        """Remove uploads that nothing was written to for ``max_age_s``; return how many."""
        ...

    async def close(self) -> None:
        """Release all resources; may be called twice."""
