"""Keeps blobs in a LakeFS repository, and commits what was published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

from detectors.errors import ModelStoreError, ModelStoreUnavailableError
from detectors.settings import ModelStoreSettings
from detectors.store.blobs import BlobMissingError, CountingReader, Download, OnTransfer
from detectors.store.progress_deadline import progress_deadline
from infra.errors import SettingsError
from infra.lakefs.access import LakeFsAccess
from infra.lakefs.errors import (
    LakeFsNotFoundError,
    LakeFsObjectMissingError,
    LakeFsRefusedError,
    LakeFsRequestError,
    LakeFsUnavailableError,
)
from infra.lakefs.repository import LakeFsRepository


class LakeFsBlobs:
    """Keeps objects ``<prefix>/name/version/file`` of one ref; see :class:`detectors.store.blobs.Blobs`.

    Reading a branch includes its uncommitted objects. A tag or a commit can be read, but not written.
    """

    def __init__(self, settings: ModelStoreSettings) -> None:
        """Connects at the first call."""
        try:
            access = LakeFsAccess.of(settings, settings.repository, settings.timeout_s)
        except SettingsError as error:
            raise ModelStoreError(str(error)) from error
        self._settings = settings
        self._ref = settings.ref
        self._prefix = f"{settings.prefix.strip('/')}/".lstrip("/")
        self._repository = LakeFsRepository(access)
        self._branch_checked = False

    @property
    def where(self) -> str:
        """Repository, ref and prefix, as LakeFS writes them."""
        return f"lakefs://{self._settings.repository}/{self._ref}/{self._prefix}".rstrip("/")

    async def keys(self) -> Sequence[str]:
        """Return all objects below the prefix."""
        with self._translated("list"):
            found = self._repository.objects.listed(self._ref, self._prefix)
            return [each.path.removeprefix(self._prefix) async for each in found]

    @asynccontextmanager
    async def read(self, key: str) -> AsyncIterator[Download]:
        """Read the object's bytes through the server; those that were deleted from it are missing."""
        with self._translated(f"read {key}"):
            await self._repository.check()
            try:
                opened = self._repository.objects.download(self._ref, self._prefix + key)
                download = await opened.__aenter__()
            except LakeFsObjectMissingError as error:
                raise BlobMissingError(key) from error
        try:
            yield Download(download.size_bytes, self._chunks(key, download.chunks))
        finally:
            await opened.__aexit__(None, None, None)

    async def write(self, key: str, file: Path, on_transfer: OnTransfer) -> None:
        """Upload the file; the object appears on the branch when it is complete."""
        total = file.stat().st_size
        with self._translated(f"write {key}"):
            await self._check_branch()
            async with progress_deadline(self._settings.timeout_s) as on_progress:

                def on_read(count: int) -> None:
                    on_progress()
                    on_transfer(key, count, total)

                with CountingReader(file, on_read) as reader:
                    await self._repository.objects.send(
                        self._ref, self._prefix + key, reader, metadata=_different_identity()
                    )

    async def put(self, key: str, data: bytes, *, new: bool) -> bool:
        """Upload the bytes; with ``new`` the server refuses an existing object."""
        with self._translated(f"write {key}"):
            await self._check_branch()
            return await self._repository.objects.upload(
                self._ref, self._prefix + key, data, metadata=_different_identity(), only_new=new
            )

    async def commit_changes(self, message: str) -> None:
        """Commit what is on the branch; a branch without changes is fine."""
        with self._translated("commit"):
            await self._repository.commit(self._ref, message, message, {"source": "standgale"})

    async def close(self) -> None:
        """Close all connections."""
        await self._repository.close()

    async def _chunks(self, key: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            with self._translated(f"read {key}"):
                chunk = await anext(chunks, b"")
            if not chunk:
                return
            yield chunk

    async def _check_branch(self) -> None:
        """Raise LakeFsNotFoundError, before a long upload, when the ref cannot be written to."""
        if not self._branch_checked:
            await self._repository.refs.branch(self._ref)
            self._branch_checked = True

    @contextmanager
    def _translated(self, verb: str) -> Iterator[None]:
        """Turn the errors of LakeFS into those of a model store."""
        try:
            yield
        except LakeFsNotFoundError as error:
            raise ModelStoreError(
                f"{error}; {self.where} does not exist: correct STANDGALE_MODELS__REPOSITORY and __REF (to publish, "
                "a branch)"
            ) from error
        except (LakeFsRefusedError, LakeFsRequestError, LakeFsObjectMissingError) as error:
            raise ModelStoreError(f"the model store {self.where} refuses: {error}") from error
        except LakeFsUnavailableError as error:
            raise ModelStoreUnavailableError(f"the model store {self.where} is not available: {error}") from error
        except TimeoutError as error:
            raise ModelStoreUnavailableError(
                f"cannot {verb} in the model store {self.where}: no progress for {self._settings.timeout_s} s "
                "(STANDGALE_MODELS__TIMEOUT_S); is it up and reachable?"
            ) from error


def _different_identity() -> dict[str, str]:
    """Return metadata that no other upload has.

    LakeFS keeps the old bytes of an object whose size, checksum, metadata and type are those of the new one; so bytes
    that were lost or damaged would never be replaced by the same bytes.
    """
    return {"upload": uuid4().hex}
