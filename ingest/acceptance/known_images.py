"""Finds images that are stored already by their digests, and takes those that a device proves to have."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from typing import get_args

from infra.errors import ImageCorruptError, ImageMissingError, StoreUnavailableError
from infra.storage.frames.port import StoredObject
from ingest.acceptance.errors import ImageNotStoredError, ValidationFailedError
from ingest.acceptance.fields import FrameFields
from ingest.acceptance.parts import AcceptanceParts
from schemas.events import EXTENSIONS, ImageRef, MediaType
from schemas.possession import proof_of

_HOW_TO_PROVE = (
    'It is the SHA-256 of "standgale-proof:" followed by the image: '
    "(printf standgale-proof:; cat photo.jpg) | sha256sum"
)
_MEDIA_TYPES: dict[str, MediaType] = {EXTENSIONS[kind]: kind for kind in get_args(MediaType)}


class KnownImages:
    """Looks up stored images; they belong to whoever has their bytes, not to the device that sent them first."""

    def __init__(self, parts: AcceptanceParts) -> None:
        self._parts = parts

    async def find(self, digests: Sequence[str]) -> list[str]:
        """Return those of ``digests`` (SHA-256, hex) whose images are stored, in the same order.

        Raises StoreUnavailableError.
        """
        found = await self._find(digests)
        most = self._parts.settings.max_image_bytes
        return [each for each in digests if each in found and found[each].size_bytes <= most]

    async def take(self, fields: FrameFields) -> bytes:
        """Return the image that ``fields`` name by digest and prove to have.

        Raises ImageNotStoredError, also for a wrong proof, ValidationFailedError, or StoreUnavailableError.
        """
        digest, proof = fields.sha256, fields.proof
        assert digest is not None
        if not self._parts.settings.digests_enabled:
            raise ValidationFailedError(
                "this gateway takes no frames by sha256 (gateway.digests_enabled)",
                details="Send the image as the body.",
                field="sha256",
            )
        if proof is None:
            raise ValidationFailedError(
                "there is neither an image nor a proof; sha256 alone does not say that the device has the image",
                details=_HOW_TO_PROVE,
                field="proof",
            )
        found = (await self._find([digest])).get(digest)
        image = None if found is None else await self._read(digest, found)
        if image is None or not hmac.compare_digest(await asyncio.to_thread(proof_of, image), proof):
            # One text for both: who has not the image learns nothing here.
            raise ImageNotStoredError(
                f"no image with sha256 {digest} is stored that the proof belongs to",
                details=f"Send the image as the body. If it was stored, the proof is wrong. {_HOW_TO_PROVE}.",
                field="sha256",
            )
        return image

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

    async def _read(self, digest: str, found: StoredObject) -> bytes | None:
        """Return the stored bytes; None where retention has removed them, the disk has damaged them, or they are too
        many."""
        if not 0 < found.size_bytes <= self._parts.settings.max_image_bytes:
            return None
        kind = _MEDIA_TYPES[found.uri.rpartition(".")[2]]
        # The pixels are counted when the bytes are examined; the store compares size and hash only.
        image = ImageRef(uri=found.uri, sha256=digest, size_bytes=found.size_bytes, media_type=kind, width=1, height=1)
        timeout_s = self._parts.settings.store_timeout_s
        with self._parts.readiness.store.watch():
            try:
                async with asyncio.timeout(timeout_s):
                    return await self._parts.store.get(image)
            except (ImageMissingError, ImageCorruptError):
                return None
            except TimeoutError as error:
                raise StoreUnavailableError(
                    f"the frame store did not return the image within {timeout_s:g} s (gateway.store_timeout_s)"
                ) from error
