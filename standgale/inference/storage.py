"""Finds the pictures of a job, fetches them one by one, and writes its results; in S3, or on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, TypeVar

from infra.errors import SettingsError, StoreUnavailableError
from infra.failure.backoff import Backoff, Delays
from infra.storage.objects import ListedObject, ObjectMissingError, ObjectTooLargeError
from infra.storage.s3_address import S3Address
from infra.written_files import write_whole
from ingest.files.suffixes import PICTURE_SUFFIXES
from standgale.inference.errors import JobFailedError
from standgale.inference.variables import Place

if TYPE_CHECKING:
    from infra.storage.s3_objects import S3Objects

T = TypeVar("T")

RESULTS_FILE = "results.json"
LONGEST_PATH = 500
_TRIES = 6


class JobStorage:
    """Reads and writes for one job; what fails for now is tried again some times."""

    def __init__(self, objects: S3Objects | None, scratch: Path, retry: Delays) -> None:
        """``scratch``: a folder for files of this job alone; ``objects``: None when the job names nothing in S3."""
        self.scratch = scratch
        self._opened = objects
        self._retry = retry

    async def pictures(self, images: Sequence[Place], output: Place, most: int) -> list[Place]:
        """Return the pictures that ``images`` name, those of folders in the order of their names, each once.

        Results of former jobs below ``output`` are none of them. Raises JobFailedError when there are none, or more
        than ``most``.
        """
        found: dict[Place, None] = {}
        for place in images:
            for each in await self._expanded(place):
                if not _is_below(each, output):
                    found[each] = None
            if len(found) > most:
                raise JobFailedError(
                    f"there are more than {most} pictures (inference_jobs.max_images); ask for several jobs"
                )
        if not found:
            named = ", ".join(str(place) for place in images[:3])
            raise JobFailedError(f"{named}: there are no pictures; their names end with {' '.join(PICTURE_SUFFIXES)}")
        if long := [place for place in found if len(str(place)) > LONGEST_PATH]:
            raise JobFailedError(f"{long[0]}: has more than {LONGEST_PATH} characters; give the picture another name")
        return list(found)

    @asynccontextmanager
    async def local(self, place: Place, most_bytes: int) -> AsyncIterator[Path]:
        """Give what is at ``place`` as a file for the block. Raises ObjectMissingError and ObjectTooLargeError."""
        path = await self.fetch(place, most_bytes)
        try:
            yield path
        finally:
            if isinstance(place, S3Address):
                path.unlink(missing_ok=True)

    async def fetch(self, place: Place, most_bytes: int) -> Path:
        """Return a file with what is at ``place``; one of S3 is written into ``scratch``. Raises as :meth:`local`."""
        if isinstance(place, S3Address):
            return await self._tried(lambda: self._objects.fetch(place, self.scratch, most_bytes))
        try:
            size = (await asyncio.to_thread(place.stat)).st_size
        except OSError as error:
            raise ObjectMissingError(f"{place}: cannot be read ({error.strerror})") from error
        if size > most_bytes:
            raise ObjectTooLargeError(f"{place}: has {size} bytes; at most {most_bytes} are read")
        return place

    async def require_writable(self, folder: Place) -> None:
        """Raise SettingsError when results cannot be written into ``folder``, before hours of work; not asked of S3."""
        if isinstance(folder, S3Address):
            return
        try:
            await asyncio.to_thread(_try_folder, folder)
        except OSError as error:
            raise _not_writable(folder, error) from error

    async def write(self, folder: Place, data: bytes) -> str:
        """Write the results into ``folder``; return where they are. Raises StoreUnavailableError or SettingsError."""
        if isinstance(folder, S3Address):
            address = folder.beside(RESULTS_FILE)
            await self._tried(lambda: self._objects.put(address, data, "application/json"))
            return str(address)
        try:
            await asyncio.to_thread(_write, folder / RESULTS_FILE, data)
        except OSError as error:
            raise _not_writable(folder, error) from error
        return str(folder / RESULTS_FILE)

    @property
    def _objects(self) -> S3Objects:
        if self._opened is None:
            raise RuntimeError("a job without S3 uses an address of S3")
        return self._opened

    async def _expanded(self, place: Place) -> Sequence[Place]:
        if isinstance(place, Path):
            return await asyncio.to_thread(_in_folder, place)
        if not place.is_folder:
            return [place]
        listed = await self._tried(lambda: self._list(place))
        return [each.address for each in listed if _is_picture(each.address.name)]

    async def _list(self, folder: S3Address) -> list[ListedObject]:
        return [each async for each in self._objects.listed(folder)]

    async def _tried(self, operation: Callable[[], Awaitable[T]]) -> T:
        backoff = Backoff(self._retry)
        for _ in range(_TRIES - 1):
            try:
                return await operation()
            except StoreUnavailableError:
                await asyncio.sleep(backoff.next_delay_s())
        return await operation()


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(PICTURE_SUFFIXES)


def _is_below(place: Place, folder: Place) -> bool:
    if isinstance(place, S3Address):
        return isinstance(folder, S3Address) and place.bucket == folder.bucket and place.key.startswith(folder.key)
    return isinstance(folder, Path) and place.absolute().is_relative_to(folder.absolute())


def _in_folder(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.rglob("*") if _is_picture(each.name) and each.is_file())


def _not_writable(folder: Path, error: OSError) -> SettingsError:
    return SettingsError(f"OUTPUT_PATH: {folder}: cannot be written ({error.strerror})")


def _try_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, prefix="."):
        pass


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
