"""Keeps blobs in a folder: on a disk of this machine, or on one that many machines mount."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import uuid4

from detectors.errors import ModelStoreUnavailableError
from detectors.store.blobs import CHUNK_BYTES, BlobMissingError, CountingReader, Download, OnTransfer
from infra.storage.durable_files import make_folder, sweep_files, sync_file, sync_folder

T = TypeVar("T")

_UNFINISHED = ".unfinished"
_UNFINISHED_MAX_AGE_S = 3600.0
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class FolderBlobs:
    """Keeps files ``<root>/name/version/file``; see :class:`detectors.store.blobs.Blobs`."""

    def __init__(self, root: Path) -> None:
        """Raises ModelStoreUnavailableError when ``root`` does not exist and cannot be created."""
        self._root = root.absolute()
        self._unfinished = self._root / _UNFINISHED
        with self._translate_errors("make"):
            # Only the root: a store that is read-only can still be read.
            make_folder(self._root)

    @property
    def where(self) -> str:
        """The folder's path."""
        return str(self._root)

    async def keys(self) -> Sequence[str]:
        """Return all files two folders below the root."""
        return await self._run("list", self._keys)

    @asynccontextmanager
    async def read(self, key: str) -> AsyncIterator[Download]:
        """Read the file as it was when it was opened."""
        file = await self._run("read", lambda: self._open(key))
        try:
            yield Download(os.fstat(file.fileno()).st_size, self._chunks(file))
        finally:
            file.close()

    async def write(self, key: str, file: Path, on_transfer: OnTransfer) -> None:
        """Copy the file to a temporary one, sync it to disk, and rename it."""
        total = file.stat().st_size

        def copy(target: BinaryIO) -> None:
            with CountingReader(file, lambda moved: on_transfer(key, moved, total)) as source:
                shutil.copyfileobj(source, target, CHUNK_BYTES)

        await self._run("write to", lambda: self._put(key, copy, new=False))

    async def put(self, key: str, data: bytes, *, new: bool) -> bool:
        """Write the bytes in the same way; with ``new`` the file system refuses an existing file."""
        return await self._run("write to", lambda: self._put(key, lambda target: _write(target, data), new=new))

    async def commit_changes(self, message: str) -> None:
        """Do nothing: each file was synced to disk before it got its name."""

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    async def _run(self, verb: str, work: Callable[[], T]) -> T:
        with self._translate_errors(verb):
            return await asyncio.to_thread(work)

    @contextmanager
    def _translate_errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ModelStoreUnavailableError(
                f"cannot {verb} the model store folder {self._root} (STANDGALE_MODELS__FOLDER): "
                f"{error.strerror or error}; check that the disk is mounted, writable and not full"
            ) from error

    def _keys(self) -> list[str]:
        # Raises when the folder no longer exists: it would look like an empty one.
        self._root.stat()
        return sorted(path.relative_to(self._root).as_posix() for path in self._root.glob("[!.]*/[!.]*/[!.]*"))

    def _open(self, key: str) -> BufferedReader:
        try:
            return (self._root / key).open("rb")
        except (FileNotFoundError, NotADirectoryError) as error:
            self._root.stat()
            raise BlobMissingError(key) from error

    async def _chunks(self, file: BufferedReader) -> AsyncIterator[bytes]:
        while chunk := await self._run("read", lambda: file.read(CHUNK_BYTES)):
            yield chunk

    def _put(self, key: str, fill: Callable[[BinaryIO], None], *, new: bool) -> bool:
        self._root.stat()
        self._unfinished.mkdir(exist_ok=True)
        sweep_files(self._unfinished, _UNFINISHED_MAX_AGE_S)
        unfinished, target = self._unfinished / uuid4().hex, self._root / key
        try:
            with unfinished.open("xb") as file:
                fill(file)
                file.flush()
                sync_file(file.fileno())
            make_folder(target.parent)
            if new:
                _link(unfinished, target)
            else:
                unfinished.rename(target)
            sync_folder(target.parent)
        except FileExistsError:
            return False
        finally:
            unfinished.unlink(missing_ok=True)
        return True


def _link(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target``; unlike a rename this raises FileExistsError where a file is."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A file system without links (FAT, some network ones): here two publishers at the same moment are not noticed.
        if target.exists():
            raise FileExistsError(target) from error
        source.rename(target)


def _write(target: BinaryIO, data: bytes) -> None:
    target.write(data)
