"""Implements the model store on any blobs: checks all files when they are published and when they are fetched."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path

from detectors.card.card import ModelCard, parse_card, read_card, verified_model_file
from detectors.card.onnx_file import read_onnx_file
from detectors.errors import ModelLoadError, ModelStoreError, ModelStoreUnavailableError
from detectors.store.blobs import BlobMissingError, Blobs, Download, OnTransfer, ignore_transfer
from detectors.store.model_cache import ModelCache, StagedFile
from detectors.store.names import CARD, CHECKSUM, card_refs, files_of, key_of, require_safe_file, require_safe_ref
from infra.regular_files import open_regular
from schemas.event_base import ModelRef

_CARD_BYTES = 1_000_000
_CHECKSUM_BYTES = 1_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _CheckedVersion:
    """A version that may be published."""

    card: ModelCard
    content: bytes
    """The bytes of the card."""
    files: Mapping[str, tuple[Path, str]]
    """The path and the SHA-256 of each file."""

    @property
    def ref(self) -> ModelRef:
        return ModelRef(name=self.card.name, version=self.card.version)


class VersionStore:
    """Keeps model versions in ``blobs``; see :class:`detectors.store.port.ModelStore`."""

    def __init__(self, blobs: Blobs, max_file_bytes: int, on_transfer: OnTransfer = ignore_transfer) -> None:
        self._blobs = blobs
        self._max_file_bytes = max_file_bytes
        self._on_transfer = on_transfer

    @property
    def where(self) -> str:
        """The place, as text for people."""
        return self._blobs.where

    async def versions(self) -> Sequence[ModelRef]:
        """Return all versions that have a card."""
        return card_refs(await self._blobs.keys())

    async def card(self, model: ModelRef) -> ModelCard:
        """Return the card of ``model``; its files are not read."""
        return (await self._require_card(require_safe_ref(model)))[0]

    async def fetch(self, model: ModelRef, model_cache: Path) -> Path:
        """Fetch ``model`` into ``model_cache / name / version``; uses no network when it is there and complete."""
        cache = ModelCache(model_cache, require_safe_ref(model))
        cached = await asyncio.to_thread(cache.find_card)
        if cached is not None:
            return cached
        card, content = await self._require_card(model)
        async with cache.open_stage() as stage:
            for name, expected in files_of(card).items():
                if not await asyncio.to_thread(cache.has, name, expected):
                    await self._download(key_of(model, name), stage.file(name), expected)
            await asyncio.to_thread(stage.file(CARD).fill, content)
            # The card is last: a version with a card is complete.
            await asyncio.to_thread(stage.move_into_place, last=CARD)
        return cache.path(CARD)

    async def publish(self, card: Path) -> ModelRef:
        """Publish the model of ``card``; damaged files of a version that exists are replaced."""
        ready = await asyncio.to_thread(_check_version, card)
        card_key = key_of(ready.ref, CARD)
        stored = await self._read_card(ready.ref)
        self._require_same_content(ready, stored)
        for name, (path, expected) in ready.files.items():
            key = key_of(ready.ref, name)
            if await self._digest_of_key(key) != expected:
                await self._blobs.write(key, path, self._on_transfer)
        if stored is None and not await self._blobs.put(card_key, ready.content, new=True):
            # Another publisher was faster by a moment; its content must be the same.
            there = await self._read_card(ready.ref)
            self._require_same_content(ready, there)
            if there is None:
                # It is listed, but its bytes were lost.
                await self._blobs.put(card_key, ready.content, new=False)
        await self._blobs.commit_changes(f"Model {ready.ref.name} {ready.ref.version}")
        return ready.ref

    async def fetch_artefact(self, model: ModelRef, name: str, model_cache: Path) -> Path | None:
        """Fetch artefact ``name``; a damaged one counts as none, so that it is made again."""
        cache = ModelCache(model_cache, require_safe_ref(model))
        key = key_of(model, require_safe_file(name, f"the request for an artefact of {model.name} {model.version}"))
        expected = await self._read_checksum(key)
        if expected is None:
            return None
        if await asyncio.to_thread(cache.has, name, expected):
            return cache.path(name)
        try:
            async with cache.open_stage() as stage:
                await self._download(key, stage.file(name), expected)
                await asyncio.to_thread(stage.move_into_place, last=name)
        except ModelStoreError:
            raise
        except ModelLoadError as error:
            logger.warning("artefact %s of %s %s is ignored: %s", name, model.name, model.version, error)
            return None
        return cache.path(name)

    async def publish_artefact(self, model: ModelRef, file: Path) -> None:
        """Store ``file`` next to the model, then its checksum, which makes it visible."""
        require_safe_ref(model)
        key = key_of(model, require_safe_file(file.name, f"an artefact of {model.name} {model.version}"))
        found = await asyncio.to_thread(_digest_of_file, file)
        if await self._digest_of_key(key) != found:
            await self._blobs.write(key, file, self._on_transfer)
        if await self._read_checksum(key) != found:
            await self._blobs.put(key + CHECKSUM, found.encode(), new=False)
        await self._blobs.commit_changes(f"{file.name} of model {model.name} {model.version}")

    async def close(self) -> None:
        """Close all connections."""
        await self._blobs.close()

    def _at(self, key: str) -> str:
        return f"{self._blobs.where}/{key}"

    async def _require_card(self, model: ModelRef) -> tuple[ModelCard, bytes]:
        """Return the card of ``model`` and its bytes. Raises ModelLoadError when there is none, or another one."""
        content = await self._read_card(model)
        if content is None:
            raise await self._unknown_version(model)
        return self._require_same_model(parse_card(content, self._at(key_of(model, CARD))), model), content

    def _require_same_model(self, card: ModelCard, model: ModelRef) -> ModelCard:
        if (card.name, card.version) != (model.name, model.version):
            raise ModelLoadError(
                f"the card at {self._at(key_of(model, CARD))} is that of {card.name} {card.version}: it was put there "
                "manually; publish it with: standgale model push"
            )
        return card

    def _require_same_content(self, ready: _CheckedVersion, stored: bytes | None) -> None:
        """Raise ModelLoadError when ``stored``, the store's card, differs from the card to be published."""
        where = self._at(key_of(ready.ref, CARD))
        if stored is not None and parse_card(stored, where) != ready.card:
            raise ModelLoadError(
                f"{ready.ref.name} {ready.ref.version} exists with other content ({where}), and a version never "
                "changes; give the new one another version in its card"
            )

    async def _unknown_version(self, model: ModelRef) -> ModelLoadError:
        try:
            known = [ref.version for ref in await self.versions() if ref.name == model.name]
            none = f"it has no version of {model.name}; publish one with: standgale model push CARD"
            there = f"there are {', '.join(known)}" if known else none
        except ModelStoreError as error:
            there = str(error)
        return ModelLoadError(f"the model store {self.where} has no {model.name} {model.version}: {there}")

    async def _read_card(self, model: ModelRef) -> bytes | None:
        return await self._read_small(key_of(model, CARD), _CARD_BYTES)

    async def _read_checksum(self, key: str) -> str | None:
        """Return the stored checksum of the artefact under ``key``, or None when there is none."""
        content = await self._read_small(key + CHECKSUM, _CHECKSUM_BYTES)
        words = (content or b"").decode(errors="replace").split()
        return words[0] if words else None

    async def _read_small(self, key: str, limit: int) -> bytes | None:
        content = b""
        try:
            async with self._blobs.read(key) as download:
                async for chunk in download.chunks:
                    content += chunk
                    if len(content) > limit:
                        raise ModelLoadError(f"{self._at(key)} has more than {limit} bytes: Standgale did not write it")
        except BlobMissingError:
            return None
        self._require_complete(key, download, len(content))
        return content

    async def _digest_of_key(self, key: str) -> str | None:
        """Compute the SHA-256 of the blob under ``key``; None when there is none."""
        digest = sha256()
        size = 0
        try:
            async with self._blobs.read(key) as download:
                async for chunk in download.chunks:
                    size += len(chunk)
                    await asyncio.to_thread(digest.update, chunk)
        except BlobMissingError:
            return None
        self._require_complete(key, download, size)
        return digest.hexdigest()

    async def _download(self, key: str, target: StagedFile, expected: str | None) -> None:
        """Download the blob under ``key`` to ``target``. Raises ModelLoadError when it is missing or damaged."""
        try:
            async with self._blobs.read(key) as download:
                self._require_size(key, download.size or 0)
                async for chunk in download.chunks:
                    await asyncio.to_thread(target.write, chunk)
                    self._require_size(key, target.size)
                    self._on_transfer(key, target.size, download.size)
        except BlobMissingError as error:
            raise ModelLoadError(
                f"{self._at(key)} is missing although the card names it; publish the version again: "
                "standgale model push repairs it"
            ) from error
        self._require_complete(key, download, target.size)
        found = await asyncio.to_thread(target.finish)
        if expected not in (None, found):
            raise ModelLoadError(
                f"{self._at(key)} has SHA-256 {found}, expected is {expected}: it was changed or damaged; "
                "publish the version again: standgale model push repairs it"
            )

    def _require_size(self, key: str, size: int) -> None:
        if size > self._max_file_bytes:
            raise ModelLoadError(
                f"{self._at(key)} has more than {self._max_file_bytes} bytes; if that is right, raise "
                "models.max_file_bytes (STANDGALE_MODELS__MAX_FILE_BYTES)"
            )

    def _require_complete(self, key: str, download: Download, size: int) -> None:
        if download.size is not None and size != download.size:
            raise ModelStoreUnavailableError(
                f"{self._at(key)} was cut off after {size} of {download.size} bytes; it was not kept"
            )


def _check_version(path: Path) -> _CheckedVersion:
    """Check the files of the card ``path`` and return its version. Raises ModelLoadError that says what is wrong."""
    card = read_card(path)
    content = path.read_bytes()
    expected = files_of(card)
    onnx = verified_model_file(card, path)
    for name in read_onnx_file(onnx).external_data:
        if name not in card.files:
            raise ModelLoadError(_missing_checksum(path, name, f"{card.file} has weights in it"))
    files: dict[str, tuple[Path, str]] = {}
    for name, checksum in expected.items():
        if checksum is None:
            raise ModelLoadError(_missing_checksum(path, name, "it is the tokenizer"))
        files[name] = (path.parent / name, checksum)
    return _CheckedVersion(card, content, files)


def _missing_checksum(card: Path, name: str, why: str) -> str:
    found = card.parent / name
    checksum = _digest_of_file(found) if found.is_file() else "its SHA-256"
    return f"the card {card} has no checksum for {name} ({why}); add to it: files: {{{name}: {checksum}}}"


def _digest_of_file(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
