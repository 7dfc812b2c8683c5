"""Defines what a source gives: items in an order that is the same each time, and the picture or event in each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ingest.files.side_file import SideFile
from ingest.replay.errors import RefusedItemError
from schemas.events import FrameCaptured, VideoPosition
from schemas.geometry import CameraGeometry

NOT_A_FRAME = SideFile()


@dataclass(frozen=True, slots=True)
class Picture:
    """Holds the bytes of a picture and what its source says about it."""

    image: bytes
    name: str | None = None
    """A file name for people"""
    side: SideFile = NOT_A_FRAME
    written_at: datetime | None = None
    """The time of the file, for pictures that say no other"""
    captured_at: datetime | None = None
    """The capture time, where the source knows it"""
    camera: CameraGeometry | None = None
    video: VideoPosition | None = None


Content = Picture | FrameCaptured
"""A picture to store, or the event of one that is stored already."""


@dataclass(frozen=True, slots=True)
class Item:
    """Is one item of a source, which is not read yet."""

    position: str
    """Where it is; :meth:`Source.items` continues after it."""
    name: str
    """What people know it by"""
    load: Callable[[], Awaitable[Content]]
    """Reads it. Raises RefusedItemError, or SourceUnavailableError when a later call may succeed."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Says how much a source has."""

    items: int
    size_bytes: int | None = None
    passed_over: int = 0
    """Files that are no pictures by their names"""


class Source(Protocol):
    """Lists and reads what is replayed."""

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """What must be the same for a checkpoint to be continued."""
        ...

    def items(self, after: str | None) -> AsyncGenerator[Item, None]:
        """Yield all items after the position ``after`` (None: all), always in the same order.

        Raises SourceUnavailableError; call it again after the last item that it yielded. Raises SourceError when it
        cannot be read further.
        """
        ...

    async def count(self) -> Totals | None:
        """Return how much there is, for the progress bar; None where that is not known."""
        ...

    async def close(self) -> None:
        """Release all resources; may be called twice."""
        ...


def refused(position: str, name: str, code: str, message: str) -> Item:
    """Return an item that is refused without being read."""

    async def load() -> Content:
        raise RefusedItemError(code, message)

    return Item(position, name, load)
