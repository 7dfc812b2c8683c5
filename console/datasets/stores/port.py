"""Defines the port of a store of data sets, in which a data set is complete or absent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from console.datasets.manifest import Manifest


class StoredDataset(Protocol):
    """Is one data set, as it was made."""

    @property
    def manifest(self) -> Manifest:
        """What it says about itself."""
        ...

    async def read(self, path: str, most_bytes: int) -> bytes:
        """Return the bytes of a file. Raises DatasetDamagedError when it is missing or longer."""
        ...

    async def fetch(self, path: str, target: Path) -> None:
        """Write the bytes of a file to ``target``, in place of what is there. Raises DatasetDamagedError."""
        ...


class DatasetWriter(Protocol):
    """Takes the files of a data set that is being made; several at the same time."""

    async def add(self, path: str, data: bytes, sha256: str) -> None:
        """Add a file."""
        ...

    async def add_file(self, path: str, source: Path, sha256: str, media_type: str) -> None:
        """Add a file with the content of ``source``, which is copied."""
        ...

    async def finish(self, manifest: Manifest) -> None:
        """Make the data set visible, with what was added. Raises DatasetExistsError."""
        ...


class DatasetStore(Protocol):
    """Keeps data sets by name.

    All methods raise the errors of the store, such as LakeFsUnavailableError and OSError. The next call of
    :meth:`writing` continues what was begun before, or begins again.
    """

    @property
    def where(self) -> str:
        """The store, for texts."""
        ...

    def address(self, name: str) -> str:
        """Return where a data set is, for texts."""
        ...

    async def names(self) -> Sequence[str]:
        """Return the names of all data sets, sorted."""
        ...

    async def unfinished(self) -> Sequence[str]:
        """Return the names under which something is being made, or was when its process was killed."""
        ...

    async def open(self, name: str) -> StoredDataset | None:
        """Return a data set; None when there is none."""
        ...

    def writing(self, name: str, selection: str) -> AbstractAsyncContextManager[DatasetWriter]:
        """Give what takes the files of a new data set; without :meth:`DatasetWriter.finish` there is none afterwards.

        ``selection`` is the hash of what it is made from. Raises DatasetBusyError and DatasetExistsError.
        """
        ...

    async def complete(self, name: str) -> None:
        """Do the last step of a data set that is visible, which a process that was killed may have left out."""

    async def delete(self, name: str) -> bool:
        """Remove a data set, and what is left of unfinished ones of that name; return whether there was something."""
        ...

    async def close(self) -> None:
        """Release all resources; may be repeated."""
