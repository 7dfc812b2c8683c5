"""Defines what retention needs of an archive of frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class FrameArchive(Protocol):
    """Removes frames from the archive's present state; earlier commits keep naming them."""

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove the frames at ``paths`` in one commit; it is no error when some, or all, are not there.

        The listing of their folders (``metadata.json``) no longer has them afterwards. Raises TransientError.
        """
        ...
