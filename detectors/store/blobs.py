"""What a model store is built on: a place that keeps bytes under keys, in a folder or behind a network."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Protocol

CHUNK_BYTES = 1_048_576

OnTransfer = Callable[[str, int, int | None], None]
"""Told of each transfer's key, how many bytes of it have moved, and how many there are (None: nobody knows)."""


def ignore_transfer(_key: str, _moved: int, _total: int | None) -> None:
    """For those who do not watch."""


class BlobMissingError(Exception):
    """There is nothing under the key; stays inside this package."""


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes on their way here. size: what was promised, None where nothing was. chunks: raises as the blobs do."""

    size: int | None
    chunks: AsyncIterator[bytes]


class Blobs(Protocol):
    """Bytes under keys ``name/version/file``. Every method raises ModelStoreUnavailableError when the place is away,
    and ModelStoreError when somebody must change a setting first.
    """

    @property
    def where(self) -> str:
        """The place, for people."""
        ...

    async def keys(self) -> Sequence[str]:
        """The keys there are. Raises ModelStoreError where the place cannot tell."""
        ...

    def read(self, key: str) -> AbstractAsyncContextManager[Download]:
        """What lies under ``key``. Raises BlobMissingError when nothing does."""
        ...

    async def write(self, key: str, file: Path, progress: OnTransfer) -> None:
        """Put a file under ``key``, in place of what is there; never visible half-written."""
        ...

    async def put(self, key: str, data: bytes, *, new: bool) -> bool:
        """Put a few bytes under ``key``; with ``new`` only where nothing is, and False when something is.

        Where the place has no way to refuse, ``new`` changes nothing.
        """
        ...

    async def commit_changes(self, message: str) -> None:
        """Make what was put last, where that takes a step of its own (a commit); may be repeated."""
        ...

    async def close(self) -> None:
        """Give connections back; may be repeated."""
        ...


class CountingReader(BufferedReader):
    """A file that tells how far it has been read; of this type, because HTTP clients ask such files for their size."""

    def __init__(self, path: Path, moved: Callable[[int], None]) -> None:
        super().__init__(FileIO(path), CHUNK_BYTES)
        self._moved = moved

    def read(self, size: int | None = -1, /) -> bytes:
        """As any file; then tells."""
        data = super().read(size)
        self._moved(self.tell())
        return data
