"""Downloads a data set into a folder; files that are there with the right content are not downloaded again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from console.datasets.concurrency import all_of
from console.datasets.errors import (
    DatasetBusyError,
    DatasetDamagedError,
    DatasetExistsError,
    DatasetNotFoundError,
    DatasetOptionError,
)
from console.datasets.manifest import (
    FILES,
    MANIFEST,
    MOST_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    read_files,
    read_manifest,
    total_bytes,
)
from console.datasets.names import require_name
from console.datasets.stores.port import DatasetStore, StoredDataset
from infra.regular_files import read_regular
from infra.storage.durable_files import locked_folder
from infra.storage.file_digests import file_digest
from infra.written_files import write_whole

_MOST_FILES_BYTES = 2_000_000_000
_BEGUN = ".dataset-export"
"""Has the id of the data set that is exported into the folder, until all of it is there."""
_TAKEN = 256


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """Says what is exported, and where to."""

    name: str
    folder: Path
    formats: Sequence[str] = ()
    """Label files of these; without one of all that it has"""
    splits: Sequence[str] = ()
    """Pictures of these; without one of all"""
    transfers: int = 8


@dataclass(frozen=True, slots=True)
class Exported:
    """Says what was exported."""

    manifest: Manifest
    files: int
    size_bytes: int
    downloaded: int
    """Files that were not there before"""


async def find_dataset(store: DatasetStore, name: str) -> StoredDataset:
    """Return a data set. Raises DatasetNotFoundError and DatasetNameError."""
    found = await store.open(require_name(name))
    if found is None:
        raise DatasetNotFoundError.of(name, store.where)
    return found


async def export_dataset(store: DatasetStore, request: ExportRequest, progress: Callable[[int, int], None]) -> Exported:
    """Download a data set, and check the hash of each file; the same command goes on where it was stopped.

    Raises the errors of :mod:`console.datasets.errors` and of the store, and OSError.
    """
    dataset = await find_dataset(store, request.name)
    manifest = dataset.manifest
    _require_known("--format", request.formats, manifest.formats)
    _require_known("--split", request.splits, tuple(manifest.splits))
    listed = await dataset.read(FILES, _MOST_FILES_BYTES)
    entries = [entry for entry in await asyncio.to_thread(read_files, listed, manifest) if _is_wanted(entry, request)]
    await asyncio.to_thread(partial(request.folder.mkdir, parents=True, exist_ok=True))
    try:
        with locked_folder(request.folder, exclusive=True, wait=False):
            _require_same(request.folder, manifest)
            write_whole(request.folder / _BEGUN, manifest.id.encode())
            downloaded = await _download(dataset, entries, request, progress)
            await asyncio.to_thread(_end, request.folder, listed, manifest)
    except BlockingIOError as error:
        raise DatasetBusyError(f"another process exports into {request.folder} now; wait for its end") from error
    return Exported(manifest, len(entries), total_bytes(entries), downloaded)


def _end(folder: Path, listed: bytes, manifest: Manifest) -> None:
    write_whole(folder / FILES, listed)
    write_whole(folder / MANIFEST, manifest.to_bytes())
    (folder / _BEGUN).unlink()


def _require_known(option: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for each in wanted:
        if each not in known:
            raise DatasetOptionError(f"{option} is {each[:60]!r}; this data set has {', '.join(known)}")


def _is_wanted(entry: FileEntry, request: ExportRequest) -> bool:
    is_of_split = entry.split is None or not request.splits or entry.split in request.splits
    return is_of_split and (entry.format is None or not request.formats or entry.format in request.formats)


def _require_same(folder: Path, manifest: Manifest) -> None:
    """Raise DatasetExistsError when something else than a part of this data set is in the folder."""
    try:
        before = (folder / _BEGUN).read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        try:
            before = read_manifest(read_regular(folder / MANIFEST, MOST_MANIFEST_BYTES)).id
        except FileNotFoundError:
            if any(folder.iterdir()):
                raise DatasetExistsError(
                    f"{folder} has files and is no export of a data set; give a new or empty folder"
                ) from None
            return
        except DatasetDamagedError:
            before = ""
    if before != manifest.id:
        raise DatasetExistsError(
            f"{folder} has another data set, or another version of {manifest.name}; give a new or empty folder"
        )


async def _download(
    dataset: StoredDataset, entries: Sequence[FileEntry], request: ExportRequest, progress: Callable[[int, int], None]
) -> int:
    slots, downloaded, done = asyncio.Semaphore(request.transfers), 0, 0

    async def one(entry: FileEntry) -> bool:
        async with slots:
            return await _file(dataset, entry, request.folder)

    for start in range(0, len(entries), _TAKEN):
        some = entries[start : start + _TAKEN]
        downloaded += sum(await all_of(one(entry) for entry in some))
        done += len(some)
        progress(done, len(entries))
    return downloaded


async def _file(dataset: StoredDataset, entry: FileEntry, folder: Path) -> bool:
    """Bring one file into the folder; return whether it was not there."""
    target = folder / entry.path
    if await asyncio.to_thread(_is_right, target, entry):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        await dataset.fetch(entry.path, part)
        if not await asyncio.to_thread(_is_right, part, entry):
            raise DatasetDamagedError(
                f"the bytes of {entry.path} in the data set {dataset.manifest.name} are not those that were written; "
                "delete the data set, and make it again"
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return True


def _is_right(path: Path, entry: FileEntry) -> bool:
    try:
        if path.lstat().st_size != entry.size_bytes:
            return False
        digest, _ = file_digest(path)
    except FileNotFoundError:
        return False
    return digest.hex() == entry.sha256
