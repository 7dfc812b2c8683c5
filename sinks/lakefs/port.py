"""Defines the port of an archive: images and documents under paths of one branch, and commits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.events import ImageRef

MAIN = "main"
"""The branch from which others begin"""


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """Is an image of the frame store, and the path at which the archive keeps it."""

    path: str
    image: ImageRef


@dataclass(frozen=True, slots=True)
class Committed:
    """Names a commit that was made."""

    id: str
    created_at: datetime


class Archive(Protocol):
    """Keeps one branch.

    All methods raise a TransientError while the archive is unavailable or a person must act first. What was added and
    not committed is added again after a crash; adding the same again changes nothing.
    """

    @property
    def repository(self) -> str:
        """The name of the repository."""
        ...

    @property
    def branch(self) -> str:
        """The name of the branch."""
        ...

    async def open(self) -> None:
        """Check that the branch can be used; create it from main where it is another one and missing."""
        ...

    async def begin_batch(self) -> None:
        """Forget what was added before and not committed; the place itself may keep it, and commit it later."""
        ...

    async def read(self, path: str) -> bytes | None:
        """Return the document at ``path``, also one that is not committed; None when there is none."""
        ...

    async def add_images(self, images: Sequence[PlacedImage]) -> None:
        """Add images. Raises ImageMissingError and ImageCorruptError for one that the frame store does not have."""
        ...

    async def add_document(self, path: str, data: bytes) -> None:
        """Add a JSON document, in place of an older one."""
        ...

    async def add_picture(self, path: str, data: bytes) -> None:
        """Add a picture that is not in the frame store, as JPEG; it is not read again."""
        ...

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove images and documents; earlier commits keep them. One that is missing is no error."""
        ...

    async def commit(self, batch: str, message: str, metadata: Mapping[str, str]) -> Committed | None:
        """Commit what was added, and return a commit that has it; nothing is committed when all is committed already.

        ``batch`` names what is committed: the same text for the same content, so that a commit whose response was lost
        is found again. None: nothing was added, and nothing was ever committed.
        """
        ...

    async def close(self) -> None:
        """Release all resources; may be repeated."""
        ...
