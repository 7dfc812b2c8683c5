"""Keeps uploads in the folder of the frame store; the gateway itself receives them."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from secrets import token_hex
from typing import TypeVar
from urllib.parse import urlencode

from infra.errors import StoreFullError, StoreUnavailableError
from infra.storage.durable_files import disk_time_s
from infra.storage.file_digests import file_digest
from infra.storage.frames.disk_space import DiskSpace
from infra.storage.frames.folder import UNFINISHED
from infra.storage.originals.errors import UploadInProgressError, WrongContentError, WrongOffsetError
from infra.storage.originals.port import Grant, Upload
from infra.storage.originals.signing import signed_query, signing_key, verified_upload

T = TypeVar("T")

UPLOAD_PATH = "/api/v1/originals/upload"
_FOLDER = ".originals"
_KEY = "key"
_PART, _WHOLE = ".part", ".whole"
_TAKEN = ".taken-"
"""Links to whole uploads that are being announced."""


class FolderUploads:
    """Keeps uploads as files ``<root>/.originals/<device>/<sha256>.part``, and ``.whole`` once all is there."""

    def __init__(self, root: Path, *, max_bytes: int | None = None, min_free_bytes: int = 0) -> None:
        """For the limits see :class:`DiskSpace`."""
        self._root = root.absolute()
        self._folder = self._root / _FOLDER
        self._space = DiskSpace(self._root, max_bytes=max_bytes, min_free_bytes=min_free_bytes)

    async def grant(self, upload: Upload, lasts_s: float) -> Grant:
        """Return an address of this gateway, with a signature that all gateways of the folder verify."""
        key, now_s = await self._run("read", self._key_and_time)
        expires_s = int(now_s + lasts_s)
        query = urlencode(signed_query(key, upload, expires_s))
        url = f"{UPLOAD_PATH}/{upload.device_id}/{upload.sha256}?{query}"
        headers = {"Content-Type": upload.media_type, "Content-Length": str(upload.size_bytes)}
        return Grant(url, headers, datetime.fromtimestamp(expires_s, UTC))

    async def verify(self, device_id: str, sha256: str, query: Mapping[str, str]) -> Upload:
        """Return the upload that an address allows. Raises BadSignatureError."""
        key, now_s = await self._run("read", self._key_and_time)
        return verified_upload(key, device_id, sha256, query, now_s)

    async def offset(self, upload: Upload) -> int:
        """Return how many bytes of ``upload`` are here."""
        return await self._run("read", partial(self._offset, upload))

    async def write(self, upload: Upload, start: int, pieces: AsyncIterator[bytes]) -> int:
        """Write ``pieces`` from the offset ``start`` on, and return how many bytes are here then.

        What was written stays when ``pieces`` end early or raise, so that the upload can be continued. A whole upload
        is checked, and is not written again. Raises WrongOffsetError, UploadInProgressError, WrongContentError (also
        where there are more bytes than were said), and StoreFullError, which leaves nothing.
        """
        if await self._run("read", partial(_size_of, self._path(upload, _WHOLE))) == upload.size_bytes:
            return upload.size_bytes
        descriptor = await self._run("write", partial(self._open_part, upload, start))
        written = start
        try:
            async for piece in pieces:
                if written + len(piece) > upload.size_bytes:
                    await self._run("write", self._path(upload, _PART).unlink)
                    raise WrongContentError(
                        f"more than the {upload.size_bytes} bytes were sent that were said; nothing was kept"
                    )
                await self._run("write", partial(_write_at, descriptor, piece, written))
                written += len(piece)
            if written == upload.size_bytes:
                await self._run("write", partial(self._finish, upload))
        except StoreFullError:
            self._path(upload, _PART).unlink(missing_ok=True)
            raise
        finally:
            if not written:
                # An empty file is nothing to continue, but would count as an original that waits.
                self._path(upload, _PART).unlink(missing_ok=True)
            os.close(descriptor)
        return written

    async def pending(self, upload: Upload, most: int, lasts_s: float) -> int:
        """Count the files of the device that are not of ``upload``; this gateway counts again at each PUT."""
        return await self._run("read", partial(_count_others, self._folder / upload.device_id, upload.sha256, most))

    @asynccontextmanager
    async def received(self, device_id: str, sha256: str) -> AsyncIterator[Path | None]:
        """Give the file under a name of its own, so that it stays when another announcement of it ends first."""
        path = self._folder / device_id / f"{sha256}{_WHOLE}"
        taken = path.with_name(f"{sha256}{_TAKEN}{token_hex(8)}")
        if not await self._run("write", partial(_link, path, taken)):
            yield None
            return
        try:
            # A program on this machine may have changed it.
            found = await self._run("read", partial(_digest_of, taken))
            if found != sha256:
                await self._run("write", partial(path.unlink, missing_ok=True))
                raise _wrong(sha256, found or "none")
            yield taken
        finally:
            await asyncio.to_thread(taken.unlink, missing_ok=True)

    async def discard(self, device_id: str, sha256: str) -> None:
        """Remove the file."""
        path = self._folder / device_id / f"{sha256}{_WHOLE}"
        await self._run("delete in", partial(path.unlink, missing_ok=True))

    async def sweep(self, max_age_s: float) -> int:
        """Remove old files, and folders that are empty then."""
        return await self._run("delete in", partial(self._sweep, max_age_s))

    async def close(self) -> None:
        """Do nothing: no file stays open."""

    async def _run(self, verb: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = StoreFullError if full else StoreUnavailableError
            raise kind(
                f"cannot {verb} {self._folder} (below STANDGALE_FRAMES__FOLDER): {error.strerror or error}; check that "
                "the disk is mounted, writable and not full"
            ) from error

    def _key_and_time(self) -> tuple[bytes, float]:
        """Return the key of all gateways, and the time on which they agree."""
        self._require_mounted()
        self._folder.mkdir(exist_ok=True)
        return signing_key(self._folder / _KEY), disk_time_s(self._folder)

    def _require_mounted(self) -> None:
        """Raise FileNotFoundError where the disk of the store is not mounted."""
        os.lstat(self._root / UNFINISHED)

    def _path(self, upload: Upload, ending: str) -> Path:
        return self._folder / upload.device_id / f"{upload.sha256}{ending}"

    def _offset(self, upload: Upload) -> int:
        whole = _size_of(self._path(upload, _WHOLE))
        return (_size_of(self._path(upload, _PART)) or 0) if whole is None else whole

    def _open_part(self, upload: Upload, start: int) -> int:
        """Return the open and locked file of the part, cut to ``start``."""
        self._require_mounted()
        path = self._path(upload, _PART)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UploadInProgressError(
                    "another request is writing this upload; wait for it to end, or continue it later"
                ) from error
            status = os.fstat(descriptor)
            # Another request may have finished, and renamed, the file between the two calls: it must not be changed.
            if not status.st_nlink or not _is_at(path, status):
                raise UploadInProgressError("another request has just ended this upload; ask how far it is")
            try:
                self._begin_at(descriptor, status.st_size, upload, start)
            except BaseException:
                if not status.st_size:
                    path.unlink(missing_ok=True)
                raise
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _begin_at(self, descriptor: int, size: int, upload: Upload, start: int) -> None:
        if start not in (0, size):
            raise WrongOffsetError(f"the upload continues at byte {start}, but {size} bytes are here", size)
        self._space.require_space(upload.size_bytes - start)
        os.ftruncate(descriptor, start)

    def _finish(self, upload: Upload) -> None:
        part = self._path(upload, _PART)
        found = _digest_of(part)
        if found != upload.sha256:
            part.unlink(missing_ok=True)
            raise _wrong(upload.sha256, found or "none")
        part.rename(self._path(upload, _WHOLE))

    def _sweep(self, max_age_s: float) -> int:
        if not self._folder.is_dir():
            return 0
        oldest, removed = disk_time_s(self._folder) - max_age_s, 0
        for device in [path for path in self._folder.iterdir() if path.is_dir()]:
            for path in device.iterdir():
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    # The last link, or write: what is being announced stays.
                    if max(status.st_mtime, status.st_ctime if _TAKEN in path.name else 0.0) < oldest:
                        path.unlink()
                        removed += 1
            # Not while a new upload has just made a file in it.
            with suppress(OSError):
                device.rmdir()
        return removed


def _size_of(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None


def _is_at(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), status)
    except FileNotFoundError:
        return False


def _link(path: Path, link: Path) -> bool:
    """Give the file another name; return False without a file."""
    try:
        os.link(path, link, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_other(path: Path, sha256: str) -> bool:
    return path.stem != sha256 and _TAKEN not in path.name


def _count_others(folder: Path, sha256: str, most: int) -> int:
    try:
        return sum(1 for _ in islice((path for path in folder.iterdir() if _is_other(path, sha256)), most))
    except FileNotFoundError:
        return 0


def _write_at(descriptor: int, piece: bytes, at: int) -> None:
    rest = memoryview(piece)
    while rest:
        written = os.pwrite(descriptor, rest, at)
        rest, at = rest[written:], at + written


def _digest_of(path: Path) -> str | None:
    """Return the SHA-256 of a file; None without a file."""
    try:
        return file_digest(path)[0].hex()
    except FileNotFoundError:
        return None


def _wrong(expected: str, found: str) -> WrongContentError:
    return WrongContentError(
        f"the original that was uploaded has sha256 {found}, but {expected} was said; it was removed"
    )
