"""Stores frames in a folder: for a laptop, a ground station, and tests."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from infra.errors import ImageMissingError, StoreFullError, StoreUnavailableError
from infra.storage.durable_files import locked_folder, sweep_files, write_synced
from infra.storage.file_digests import file_digest
from infra.storage.frames.addressing import (
    ContentAddress,
    StoredContent,
    outside_error,
    require_digest,
    verify,
    wrong_size_error,
)
from infra.storage.frames.disk_space import DiskSpace
from infra.storage.frames.folder_group import FrameFile, FrameGroups
from infra.storage.frames.folder_writer import GroupWriter
from infra.storage.frames.port import StoredObject
from schemas.events import ImageRef

T = TypeVar("T")

# They mostly wait for the disk.
_THREADS = 16
UNFINISHED = ".unfinished"
"""The folder of unfinished writes in each store of frames; without it the disk may not be mounted."""
_UNFINISHED_MAX_AGE_S = 3600.0
_LISTING_CHUNK = 256
# More than a file system keeps in its own records, where even a full disk has space for a few bytes.
_PROBE_BYTES = 16_384

_ADVICE = {
    errno.ENOENT: (
        f"mount its disk or put the folder back, with {UNFINISHED} in it; if it was emptied on purpose, restart this "
        "process"
    ),
    errno.ENOTDIR: "a file is where a folder should be; move it away",
    errno.EROFS: "its disk is mounted read-only, as after a disk error; see the system's log, then mount it writable",
    errno.EACCES: "give the user of this process the right to read and write it and all in it",
    errno.EPERM: "give the user of this process the right to read and write it and all in it",
}


class FolderFrameStore:
    """Stores frames as files ``<root>/ab/<sha256>.<ext>``; :class:`FrameStore` has the contract.

    The folder may be moved, because only the content address at the end of an address counts, below the present root.
    So an address cannot name a file outside the root, and the content is checked against its hash.
    """

    def __init__(self, root: Path, *, max_bytes: int | None = None, min_free_bytes: int = 0) -> None:
        """Create ``root`` now or, while its disk is unavailable, at the first call that can do it.

        For the limits see :class:`DiskSpace`.
        """
        self._root = root.absolute()
        self._space = DiskSpace(self._root, max_bytes=max_bytes, min_free_bytes=min_free_bytes)
        self._root_uri = self._root.as_uri()
        # The folder of unfinished writes also marks a store. Without it (an unmounted disk) a missing file proves
        # nothing, and writing would fill the mount point.
        self._unfinished = self._root / UNFINISHED
        self._prepared = False
        # A service starts also while the disk is unavailable; its calls to the store then fail with the reason.
        with suppress(OSError):
            self._prepare()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="frames")
        self._groups = FrameGroups(self._root, self._unfinished, self._space)
        self._writer = GroupWriter(self._groups, self._threads)

    async def put(self, data: bytes, *, sha256: str, media_type: str) -> str:
        """Store ``data`` durably (file and name are on disk) and return its ``file:`` uri."""
        address = ContentAddress.of(sha256, media_type)
        try:
            if not self._prepared:
                await self._run("write", lambda: None)
            await self._writer.write(FrameFile(address.relative, data, len(data)))
        except OSError as error:
            raise self._unavailable("write", error) from error
        return f"{self._root_uri}/{address.relative}"

    async def put_file(self, path: Path, *, sha256: str, media_type: str) -> str:
        """Store a file durably and return its ``file:`` uri; on the same disk its bytes are not copied."""
        address = ContentAddress.of(sha256, media_type)
        await self._run("write", partial(self._take_file, address, path))
        return f"{self._root_uri}/{address.relative}"

    @asynccontextmanager
    async def local(self, image: StoredContent) -> AsyncIterator[Path]:
        """Give the file itself after checking its hash."""
        address = self._address(image.uri)
        if address.sha256 != image.sha256:
            raise outside_error(image.uri, self._root_uri)
        path = self._root / address.relative
        await self._run("read", partial(self._check_file, image, path))
        yield path

    async def get(self, image: ImageRef) -> bytes:
        """Return the bytes of ``image`` after checking their hash."""
        address = self._address(image.uri)
        if address.sha256 != image.sha256:
            raise outside_error(image.uri, self._root_uri)
        return await self._run("read", partial(self._read, image, self._root / address.relative))

    async def find(self, digests: Collection[str]) -> Mapping[str, StoredObject]:
        """Return the objects with ``digests``, by digest; see the port."""
        addresses = {digest: ContentAddress.all_of(digest) for digest in digests}
        return await self._run("read", partial(self._find, addresses))

    async def delete(self, uri: str) -> None:
        """Remove the object at ``uri``; raises ImageMissingError for an address outside this store."""
        path = self._root / self._address(uri).relative
        await self._run("delete", partial(path.unlink, missing_ok=True))

    async def delete_older(self, uri: str, cutoff: datetime) -> bool:
        """Remove the object at ``uri`` unless it is younger than ``cutoff``; see the port."""
        path = self._root / self._address(uri).relative
        return await self._run("delete", partial(_delete_older, path, cutoff.timestamp()))

    async def objects(self) -> AsyncIterator[StoredObject]:
        """Yield every object in the order of the hashes; one that changes at that time may or may not appear."""
        walk = self._walk()
        while chunk := await self._run("list", partial(_take, walk, _LISTING_CHUNK)):
            for stored in chunk:
                yield stored

    async def check(self) -> None:
        """Write a small file as durably as a frame, read it back, and remove it."""
        await self._run("write to", self._probe)

    async def close(self) -> None:
        """Wait for the writes in progress and end the threads."""
        await asyncio.to_thread(self._writer.close)
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, verb: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._prepare_and_run, work)
        except OSError as error:
            raise self._unavailable(verb, error) from error

    def _prepare_and_run(self, work: Callable[[], T]) -> T:
        if not self._prepared:
            self._prepare()
        return work()

    def _prepare(self) -> None:
        # For its user and group; a folder that is there keeps what the operator gave it.
        self._root.mkdir(0o750, parents=True, exist_ok=True)
        self._unfinished.mkdir(exist_ok=True)
        # A new file may belong to a writer that still runs.
        sweep_files(self._unfinished, _UNFINISHED_MAX_AGE_S)
        self._prepared = True

    def _unavailable(self, verb: str, error: OSError) -> StoreUnavailableError:
        kind = StoreFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreUnavailableError
        advice = _ADVICE.get(error.errno or 0, "check that the disk is mounted, writable and not full")
        return kind(
            f"cannot {verb} the frame store folder {self._root} (STANDGALE_FRAMES__FOLDER): {error.strerror or error}; "
            f"{advice}"
        )

    def _address(self, uri: str) -> ContentAddress:
        parts = urlsplit(uri)
        address = ContentAddress.in_path(unquote(parts.path)) if parts.scheme == "file" else None
        if address is None:
            raise outside_error(uri, self._root_uri)
        return address

    def _take_file(self, address: ContentAddress, path: Path) -> None:
        # It may be large, so it is a group by itself: other frames do not wait for it.
        frame = FrameFile(address.relative, path, path.stat().st_size)
        self._groups.store([frame], wait=True)
        if frame.error is not None:
            raise frame.error

    def _check_file(self, image: StoredContent, path: Path) -> None:
        with self._opened(image, path) as descriptor:
            size = os.fstat(descriptor).st_size
        if size != image.size_bytes:
            raise wrong_size_error(image, size)
        require_digest(image, file_digest(path)[0].hex())

    def _read(self, image: StoredContent, path: Path) -> bytes:
        with self._opened(image, path) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            size_bytes = os.fstat(descriptor).st_size
            # Before reading: a damaged object must not take more memory than the event promised.
            if size_bytes != image.size_bytes:
                raise wrong_size_error(image, size_bytes)
            return verify(image, file.read())

    @contextmanager
    def _opened(self, image: StoredContent, path: Path) -> Iterator[int]:
        """Give the open file of ``image``. Raises ImageMissingError."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise outside_error(image.uri, self._root_uri) from error
            if error.errno == errno.ENOENT and self._unfinished.is_dir():
                raise ImageMissingError(
                    f"the frame store {self._root} has no object for {image.uri}: it was removed (retention), or "
                    "STANDGALE_FRAMES__FOLDER is not the folder the gateway writes to"
                ) from error
            raise
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _find(self, addresses: Mapping[str, tuple[ContentAddress, ...]]) -> dict[str, StoredObject]:
        found: dict[str, StoredObject] = {}
        for digest, places in addresses.items():
            for address in places:
                try:
                    status = os.lstat(self._root / address.relative)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    found[digest] = self._stored(address, status)
                    break
        if len(found) < len(addresses):
            # Where the disk is not mounted, a missing file proves nothing.
            os.lstat(self._unfinished)
        return found

    def _stored(self, address: ContentAddress, status: os.stat_result) -> StoredObject:
        modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
        return StoredObject(f"{self._root_uri}/{address.relative}", status.st_size, modified_at)

    def _walk(self) -> Iterator[StoredObject]:
        for folder in _folders(self._root):
            for path in sorted(folder.iterdir()):
                address = ContentAddress.in_path(path.as_posix())
                if address is None:
                    continue
                try:
                    found = path.lstat()
                except FileNotFoundError:
                    continue
                yield self._stored(address, found)

    def _probe(self) -> None:
        self._space.require_space(_PROBE_BYTES)
        probe = self._unfinished / f"probe.{uuid4().hex}"
        data = os.urandom(_PROBE_BYTES)
        try:
            write_synced(probe, data)
            if probe.read_bytes() != data:
                raise OSError("a file that was just written has different content")
        finally:
            probe.unlink(missing_ok=True)


def _take(walk: Iterator[StoredObject], count: int) -> list[StoredObject]:
    return list(islice(walk, count))


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if len(path.name) == 2 and path.is_dir())


def _delete_older(path: Path, cutoff_s: float) -> bool:
    try:
        with locked_folder(path.parent, exclusive=True):
            if path.lstat().st_mtime >= cutoff_s:
                return False
            path.unlink()
    except FileNotFoundError:
        return False
    return True
