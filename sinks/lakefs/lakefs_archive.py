"""Keeps the archive in LakeFS: links images that lie in S3, uploads others, and commits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from infra.errors import ImageCorruptError, ImageMissingError
from infra.lakefs.access import LakeFsAccess
from infra.lakefs.errors import LakeFsNotFoundError, LakeFsObjectGoneError, LakeFsObjectMissingError
from infra.lakefs.repository import LakeFsRepository
from infra.process.monotonic import monotonic_s
from infra.storage.frames.port import FrameStore
from schemas.events import ImageRef
from sinks.lakefs.listing import ArchiveDamagedError
from sinks.lakefs.port import MAIN, Committed, PlacedImage
from sinks.lakefs.settings import LakeFsSettings
from sinks.metrics import ARCHIVE_IMAGES

logger = logging.getLogger(__name__)

_AT_ONCE = 16
_MOST_DOCUMENT_BYTES = 16 << 20
_TRY_LINKS_AGAIN_S = 600.0
_SHA256 = "sha256"


class LakeFsArchive:
    """Keeps one branch of a repository; :class:`sinks.lakefs.port.Archive` has the contract."""

    def __init__(self, settings: LakeFsSettings, store: FrameStore) -> None:
        """Connect at the first call. Raises SettingsError without address and key."""
        self._settings = settings
        self._store = store
        self._lakefs = LakeFsRepository(access_of(settings))
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._links = settings.link != "never"
        self._links_checked = settings.link == "always"
        self._links_refused_at = 0.0

    @property
    def repository(self) -> str:
        """The name of the repository."""
        return self._settings.repository

    @property
    def branch(self) -> str:
        """The name of the branch."""
        return self._settings.branch

    async def open(self) -> None:
        """Check repository, key and branch; create a branch that is not main from main."""
        await self._lakefs.check()
        try:
            await self._lakefs.refs.branch(self.branch)
        except LakeFsNotFoundError:
            if self.branch == MAIN:
                raise
            await self._lakefs.refs.create_branch(self.branch, MAIN)
            logger.info("created the branch %s from %s", self.branch, MAIN)

    async def begin_batch(self) -> None:
        """Do nothing: what is staged is in LakeFS."""

    async def read(self, path: str) -> bytes | None:
        """Return the document at ``path``, staged or committed."""
        try:
            return await self._lakefs.objects.read(self.branch, path, _MOST_DOCUMENT_BYTES)
        except LakeFsObjectGoneError as error:
            # Not as one that is missing: a new listing in its place would leave out everything that it lists.
            raise ArchiveDamagedError(
                f"{self.repository}/{self.branch}/{path} is listed, but LakeFS does not find its bytes (410); bring "
                "its object storage back, or put the version of an earlier commit back"
            ) from error
        except LakeFsObjectMissingError:
            return None

    async def add_images(self, images: Sequence[PlacedImage]) -> None:
        """Link or upload ``images``, several at a time."""
        in_s3 = [each for each in images if each.image.uri.startswith("s3://")] if self._may_link() else []
        await self._require_stored(in_s3)
        if in_s3 and not self._links_checked:
            await self._try_link(in_s3[0])
        linked = in_s3 if self._may_link() else []
        names = {each.path for each in linked}
        await self._all(
            [
                *(self._link(each) for each in linked),
                *(self._upload(each) for each in images if each.path not in names),
            ]
        )

    async def add_document(self, path: str, data: bytes) -> None:
        """Upload a document."""
        await self._lakefs.objects.upload(self.branch, path, data, media_type="application/json")

    async def add_picture(self, path: str, data: bytes) -> None:
        """Upload a picture."""
        await self._lakefs.objects.upload(self.branch, path, data, media_type="image/jpeg")
        ARCHIVE_IMAGES.labels("drawn").inc()

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects from the branch."""
        await self._lakefs.objects.remove(self.branch, paths)

    async def commit(self, batch: str, message: str, metadata: Mapping[str, str]) -> Committed | None:
        """Commit what is staged; see the port."""
        made = await self._lakefs.commit(self.branch, message, batch, metadata)
        return None if made is None else Committed(made.id, made.created_at)

    async def close(self) -> None:
        """Close all connections."""
        await self._lakefs.close()

    def _may_link(self) -> bool:
        """Whether images are linked; after a refusal it is tried again from time to time."""
        refused = self._links_refused_at
        return self._links and (not refused or monotonic_s() - refused > _TRY_LINKS_AGAIN_S)

    async def _require_stored(self, images: Sequence[PlacedImage]) -> None:
        """Check by HEAD that the frame store has ``images``, because LakeFS links also what is missing."""
        if not images:
            return
        found = await self._store.find({each.image.sha256 for each in images})
        for each in images:
            stored = found.get(each.image.sha256)
            if stored is None:
                raise ImageMissingError(
                    f"the frame store has no object {each.image.uri}: it was removed before it was archived"
                )
            if stored.size_bytes != each.image.size_bytes:
                raise ImageCorruptError(
                    f"the object {each.image.uri} has {stored.size_bytes} bytes, the event names "
                    f"{each.image.size_bytes}; it is not archived"
                )

    async def _try_link(self, image: PlacedImage) -> None:
        """Link one image and read a byte of it through the server, which may not reach the bucket of the frames."""
        await self._link(image)
        if await self._lakefs.objects.can_read(self.branch, image.path):
            self._links_checked, self._links_refused_at = True, 0.0
            return
        self._links_refused_at = monotonic_s()
        logger.warning(
            "LakeFS cannot read %s, so frames are copied into it; let it read the bucket of the frames, or set "
            "%s=never",
            image.image.uri,
            self._settings.variable("link"),
        )

    async def _link(self, placed: PlacedImage) -> None:
        image = placed.image
        await self._lakefs.objects.link(
            self.branch,
            placed.path,
            address=image.uri,
            checksum=image.sha256,
            size_bytes=image.size_bytes,
            media_type=image.media_type,
            metadata=_metadata(image),
        )
        ARCHIVE_IMAGES.labels("linked").inc()

    async def _upload(self, placed: PlacedImage) -> None:
        image = placed.image
        there = await self._lakefs.objects.find(self.branch, placed.path)
        if (
            there is not None
            and (there.size_bytes, there.metadata.get(_SHA256)) == (image.size_bytes, image.sha256)
            and there.physical_address != image.uri
        ):
            return
        async with self._store.local(image) as file:
            await self._lakefs.objects.upload_file(
                self.branch, placed.path, file, media_type=image.media_type, metadata=_metadata(image)
            )
        ARCHIVE_IMAGES.labels("uploaded").inc()

    async def _all(self, calls: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Make ``calls``, some at a time; raise the first error when all have ended."""

        async def in_turn(call: Coroutine[Any, Any, None]) -> None:
            async with self._turns:
                await call

        results = await asyncio.gather(*(in_turn(call) for call in calls), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result


def access_of(settings: LakeFsSettings) -> LakeFsAccess:
    """Return how the archive reaches LakeFS. Raises SettingsError without address and key."""
    return LakeFsAccess.of(settings, settings.repository, settings.timeout_s)


def _metadata(image: ImageRef) -> dict[str, str]:
    return {_SHA256: image.sha256}
