"""Keeps data sets in a folder: each is made beside the others, and gets its name when it is complete and on disk."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from console.datasets.errors import DatasetBusyError, DatasetDamagedError, DatasetExistsError
from console.datasets.manifest import MANIFEST, MOST_MANIFEST_BYTES, Manifest, read_manifest
from console.datasets.names import require_path
from infra.regular_files import read_regular
from infra.storage.durable_files import locked_folder, make_folder, sync_file, sync_folder, write_synced

_UNFINISHED = ".unfinished"
"""Has a folder for each name: it is what processes lock; below it is what is being made, or removed."""
_CONTENT, _REMOVED = "content", "removed"


class FolderDatasets:
    """Keeps each data set in a folder of its name; see :class:`console.datasets.stores.port.DatasetStore`."""

    def __init__(self, root: Path) -> None:
        """Create nothing; the first data set creates ``root``."""
        self._root = root.absolute()

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._root)

    def address(self, name: str) -> str:
        """Return the folder of a data set."""
        return str(self._root / name)

    async def names(self) -> Sequence[str]:
        """Return the names of the folders that have a manifest."""
        return await asyncio.to_thread(self._names)

    async def unfinished(self) -> Sequence[str]:
        """Return the names under which files were written and not completed."""
        return await asyncio.to_thread(self._unfinished)

    async def open(self, name: str) -> FolderDataset | None:
        """Return the data set in the folder ``name``."""
        folder = self._root / name
        try:
            data = await asyncio.to_thread(read_regular, folder / MANIFEST, MOST_MANIFEST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return FolderDataset(folder, read_manifest(data))

    @asynccontextmanager
    async def writing(self, name: str, selection: str) -> AsyncIterator[_Writer]:
        """Give what writes into an unfinished folder; what an earlier process left there is removed."""
        del selection
        own = self._root / _UNFINISHED / name
        await asyncio.to_thread(make_folder, own)
        with _locked(own, name):
            if (self._root / name).exists():
                raise _taken(self._root / name)
            await asyncio.to_thread(_remove, own / _CONTENT)
            await asyncio.to_thread((own / _CONTENT).mkdir)
            try:
                yield _Writer(own / _CONTENT, self._root / name)
            finally:
                await asyncio.to_thread(_remove, own / _CONTENT)

    async def complete(self, name: str) -> None:
        """Do nothing: the last step is one step."""

    async def delete(self, name: str) -> bool:
        """Take the name away first, so that there is never a part of a data set."""
        own = self._root / _UNFINISHED / name
        await asyncio.to_thread(make_folder, own)
        with _locked(own, name):
            return await asyncio.to_thread(self._delete, name, own)

    async def close(self) -> None:
        """Do nothing."""

    def _names(self) -> list[str]:
        if not self._root.is_dir():
            return []
        folders = (path for path in self._root.iterdir() if not path.is_symlink())
        return sorted(path.name for path in folders if (path / MANIFEST).is_file())

    def _unfinished(self) -> list[str]:
        folder = self._root / _UNFINISHED
        return sorted(path.name for path in folder.iterdir() if (path / _CONTENT).exists()) if folder.is_dir() else []

    def _delete(self, name: str, own: Path) -> bool:
        # What a process that was killed here has left behind goes first.
        _remove(own / _REMOVED)
        found = (own / _CONTENT).exists()
        _remove(own / _CONTENT)
        folder = self._root / name
        # Without the file it was never a data set; a link may lead anywhere, and is not taken for one either.
        if not folder.is_symlink() and (folder / MANIFEST).is_file():
            folder.rename(own / _REMOVED)
            sync_folder(self._root)
            _remove(own / _REMOVED)
            found = True
        return found


class FolderDataset:
    """Is a data set in a folder; see :class:`console.datasets.stores.port.StoredDataset`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._manifest = manifest

    @property
    def manifest(self) -> Manifest:
        """What it says about itself."""
        return self._manifest

    async def read(self, path: str, most_bytes: int) -> bytes:
        """Return the bytes of a file."""
        with self._damaged(path):
            return await asyncio.to_thread(read_regular, self._path(path), most_bytes)

    async def fetch(self, path: str, target: Path) -> None:
        """Copy a file."""
        source = self._path(path)
        if not source.is_file() or source.is_symlink():
            raise DatasetDamagedError(f"the file {source} is missing; delete the data set, and make it again")
        await asyncio.to_thread(shutil.copyfile, source, target)

    def _path(self, path: str) -> Path:
        return self._folder / require_path(path)

    @contextmanager
    def _damaged(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DatasetDamagedError(
                f"cannot read {self._folder / path}: {error.strerror}; delete the data set, and make it again"
            ) from error


class _Writer:
    """Writes the files of one data set; each is on disk when its call ends."""

    def __init__(self, content: Path, target: Path) -> None:
        self._content = content
        self._target = target
        self._folders: set[Path] = {content}

    async def add(self, path: str, data: bytes, sha256: str) -> None:
        """Write a file."""
        del sha256
        await asyncio.to_thread(write_synced, self._new(path), data)

    async def add_file(self, path: str, source: Path, sha256: str, media_type: str) -> None:
        """Copy a file."""
        del sha256, media_type
        await asyncio.to_thread(_copy_synced, source, self._new(path))

    async def finish(self, manifest: Manifest) -> None:
        """Write the manifest and all names to disk, and give the folder its name."""
        await asyncio.to_thread(self._finish, manifest)

    def _new(self, path: str) -> Path:
        file = self._content / require_path(path)
        if file.parent not in self._folders:
            file.parent.mkdir(parents=True, exist_ok=True)
            for folder in file.parents:
                self._folders.add(folder)
                if folder == self._content:
                    break
        return file

    def _finish(self, manifest: Manifest) -> None:
        write_synced(self._content / MANIFEST, manifest.to_bytes())
        for folder in self._folders:
            sync_folder(folder)
        try:
            # A folder that is there and not empty is never replaced.
            self._content.rename(self._target)
        except OSError as error:
            if not self._target.exists():
                raise
            raise _taken(self._target) from error
        sync_folder(self._target.parent)


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    try:
        with locked_folder(folder, exclusive=True, wait=False):
            yield
    except BlockingIOError as error:
        raise DatasetBusyError(f"another process makes or deletes the data set {name} now; wait for its end") from error


def _taken(folder: Path) -> DatasetExistsError:
    return DatasetExistsError(f"{folder} is there already, and not what this makes; give another name, or move it away")


def _copy_synced(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        sync_file(file.fileno())


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
