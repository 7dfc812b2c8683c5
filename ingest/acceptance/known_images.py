"""Finds images that are stored already by their digests, and takes those that a device proves to have."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

from infra.errors import ImageCorruptError, ImageMissingError, StoreUnavailableError
from infra.http_api.errors.api_errors import ValidationFailedError
from infra.storage.file_digests import file_digest
from infra.storage.frames.port import StoredObject
from ingest.acceptance.errors import ImageNotStoredError
from ingest.acceptance.fields import FrameFields
from ingest.acceptance.parts import AcceptanceParts
from schemas.events import EXTENSIONS, ImageRef, MediaType
from schemas.possession import PROOF_PREFIX, proof_of

_HOW_TO_PROVE = (
    'It is the SHA-256 of "standgale-proof:" followed by the image: '
    "(printf standgale-proof:; cat photo.jpg) | sha256sum"
)
_MEDIA_TYPES: dict[str, MediaType] = {EXTENSIONS[kind]: kind for kind in get_args(MediaType)}


class KnownImages:
    """Looks up stored images. Every device that has their bytes may use them, not only the one that sent them first."""

    def __init__(self, parts: AcceptanceParts) -> None:
        self._parts = parts
        settings = parts.settings
        self._most_bytes = max(settings.max_image_bytes, settings.max_original_bytes if parts.originals else 0)

    async def find(self, digests: Sequence[str]) -> list[str]:
        """Return those of ``digests`` (SHA-256, hex) whose images are stored, in the same order.

        Raises StoreUnavailableError.
        """
        found = await self._find(digests)
        return [each for each in digests if each in found and self._is_allowed(found[each])]

    async def look_up(self, digest: str) -> ImageRef | None:
        """Return the stored image with ``digest``, if there is one of an allowed size. Raises StoreUnavailableError."""
        found = (await self._find([digest])).get(digest)
        if found is None or not self._is_allowed(found):
            return None
        kind = _MEDIA_TYPES[found.uri.rpartition(".")[2]]
        # The pixels are counted when the bytes are examined; the store compares size and hash only.
        return ImageRef(uri=found.uri, sha256=digest, size_bytes=found.size_bytes, media_type=kind, width=1, height=1)

    async def read(self, image: ImageRef, proof: str) -> bytes:
        """Return the bytes of ``image``. Raises ImageNotStoredError, also for a wrong proof, StoreUnavailableError."""
        timeout_s = self._parts.settings.store_timeout_s
        with self._parts.readiness.store.watch():
            try:
                async with asyncio.timeout(timeout_s):
                    data = await self._parts.store.get(image)
            except (ImageMissingError, ImageCorruptError):
                # Retention has removed it, or the disk has damaged it.
                raise not_stored_error(image.sha256) from None
            except TimeoutError as error:
                raise StoreUnavailableError(
                    f"the frame store did not return the image within {timeout_s:g} s (gateway.store_timeout_s)"
                ) from error
        _require_proof(await asyncio.to_thread(proof_of, data), image.sha256, proof)
        return data

    @asynccontextmanager
    async def local(self, image: ImageRef, proof: str) -> AsyncIterator[Path]:
        """Give a local file with the bytes of a large ``image``; the errors are those of :meth:`read`."""
        try:
            async with self._parts.store.local(image) as path:
                found, _ = await asyncio.to_thread(file_digest, path, prefix=PROOF_PREFIX)
                _require_proof(found.hex(), image.sha256, proof)
                yield path
        except (ImageMissingError, ImageCorruptError):
            raise not_stored_error(image.sha256) from None

    def require_proof_given(self, fields: FrameFields) -> str:
        """Return the proof in ``fields``. Raises ValidationFailedError without one, or where digests are not taken."""
        if not self._parts.settings.digests_enabled:
            raise ValidationFailedError(
                "this gateway takes no frames by sha256 (gateway.digests_enabled)",
                details="Send the image as the body.",
                field="sha256",
            )
        if fields.proof is None:
            raise ValidationFailedError(
                "there is neither an image nor a proof; sha256 alone does not say that the device has the image",
                details=_HOW_TO_PROVE,
                field="proof",
            )
        return fields.proof

    def _is_allowed(self, found: StoredObject) -> bool:
        return 0 < found.size_bytes <= self._most_bytes

    async def _find(self, digests: Sequence[str]) -> dict[str, StoredObject]:
        timeout_s = self._parts.settings.store_timeout_s
        with self._parts.readiness.store.watch():
            try:
                async with asyncio.timeout(timeout_s):
                    return dict(await self._parts.store.find(digests))
            except TimeoutError as error:
                raise StoreUnavailableError(
                    f"the frame store did not look up {len(digests)} images within {timeout_s:g} s "
                    "(gateway.store_timeout_s)"
                ) from error


def _require_proof(found: str, digest: str, proof: str) -> None:
    if not hmac.compare_digest(found, proof):
        raise not_stored_error(digest)


def not_stored_error(digest: str) -> ImageNotStoredError:
    """Return one error for an image that is not stored and for a wrong proof: who has not the image learns nothing."""
    return ImageNotStoredError(
        f"no image with sha256 {digest} is stored that the proof belongs to",
        details=f"Send the image as the body. If it was stored, the proof is wrong. {_HOW_TO_PROVE}.",
        field="sha256",
    )
