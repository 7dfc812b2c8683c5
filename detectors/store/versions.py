"""The model store over any blobs: checks on the way in and out, the card last, and the same again changes nothing."""

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
from detectors.store.names import CARD, CHECKSUM, card_refs, checked_file, checked_ref, files_of, key_of
from schemas.event_base import ModelRef

_CARD_BYTES = 1_000_000
_CHECKSUM_BYTES = 1_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _CheckedVersion:
    """A version that may be published: its card as it stands, and its files with their checksums."""

    card: ModelCard
    content: bytes
    files: Mapping[str, tuple[Path, str]]

    @property
    def ref(self) -> ModelRef:
        return ModelRef(name=self.card.name, version=self.card.version)


class VersionStore:
    """Models in ``blobs``; the port's contract is on :class:`detectors.store.port.ModelStore`."""

    def __init__(self, blobs: Blobs, max_file_bytes: int, progress: OnTransfer = ignore_transfer) -> None:
        self._blobs = blobs
        self._max_file_bytes = max_file_bytes
        self._progress = progress

    @property
    def where(self) -> str:
        """The place, for people."""
        return self._blobs.where

    async def versions(self) -> Sequence[ModelRef]:
        """All versions whose card is there."""
        return card_refs(await self._blobs.keys())

    async def fetch(self, model: ModelRef, into: Path) -> Path:
        """Bring ``model`` into ``into / name / version``; asks nobody when it is there, whole."""
        shelf = ModelCache(into, checked_ref(model))
        cached = await asyncio.to_thread(shelf.complete)
        if cached is not None:
            return cached
        content = await self._card(model)
        if content is None:
            raise await self._unknown(model)
        card = self._require_same_model(parse_card(content, self._at(key_of(model, CARD))), model)
        async with shelf.open_stage() as stage:
            for name, expected in files_of(card).items():
                if not await asyncio.to_thread(shelf.has, name, expected):
                    await self._download(key_of(model, name), stage.file(name), expected)
            await asyncio.to_thread(stage.file(CARD).fill, content)
            # The card last: what has a card is whole.
            await asyncio.to_thread(stage.place, last=CARD)
        return shelf.path(CARD)

    async def publish(self, card: Path) -> ModelRef:
        """Put the model of ``card`` into the store. A version that is there is mended where its files are damaged."""
        ready = await asyncio.to_thread(_check_version, card)
        card_key = key_of(ready.ref, CARD)
        stored = await self._card(ready.ref)
        self._refuse_other(ready, stored)
        for name, (path, expected) in ready.files.items():
            key = key_of(ready.ref, name)
            if await self._digest(key) != expected:
                await self._blobs.write(key, path, self._progress)
        if stored is None and not await self._blobs.put(card_key, ready.content, new=True):
            # Somebody was faster by a moment; then theirs must be the same.
            self._refuse_other(ready, await self._card(ready.ref))
        await self._blobs.commit_changes(f"Model {ready.ref.name} {ready.ref.version}")
        return ready.ref

    async def fetch_artefact(self, model: ModelRef, name: str, into: Path) -> Path | None:
        """Bring artefact ``name``; one that is damaged counts as none, so that its maker makes it anew."""
        shelf = ModelCache(into, checked_ref(model))
        key = key_of(model, checked_file(name, f"whoever asks for an artefact of {model.name} {model.version}"))
        expected = await self._checksum(key)
        if expected is None:
            return None
        if await asyncio.to_thread(shelf.has, name, expected):
            return shelf.path(name)
        try:
            async with shelf.open_stage() as stage:
                await self._download(key, stage.file(name), expected)
                await asyncio.to_thread(stage.place, last=name)
        except ModelStoreError:
            raise
        except ModelLoadError as error:
            logger.warning("artefact %s of %s %s is passed over: %s", name, model.name, model.version, error)
            return None
        return shelf.path(name)

    async def publish_artefact(self, model: ModelRef, file: Path) -> None:
        """Put ``file`` beside the model, then its checksum, which makes it visible."""
        checked_ref(model)
        key = key_of(model, checked_file(file.name, f"an artefact of {model.name} {model.version}"))
        found = await asyncio.to_thread(_digest_of, file)
        if await self._digest(key) != found:
            await self._blobs.write(key, file, self._progress)
        if await self._checksum(key) != found:
            await self._blobs.put(key + CHECKSUM, found.encode(), new=False)
        await self._blobs.commit_changes(f"{file.name} of model {model.name} {model.version}")

    async def close(self) -> None:
        """Give connections back."""
        await self._blobs.close()

    def _at(self, key: str) -> str:
        return f"{self._blobs.where}/{key}"

    def _require_same_model(self, card: ModelCard, model: ModelRef) -> ModelCard:
        if (card.name, card.version) != (model.name, model.version):
            raise ModelLoadError(
                f"the card at {self._at(key_of(model, CARD))} is that of {card.name} {card.version}: it was put there "
                "by hand; publish it with: standgale model push"
            )
        return card

    def _refuse_other(self, ready: _CheckedVersion, stored: bytes | None) -> None:
        """Raise ModelLoadError when ``stored``, the store's card, says anything else than the one to be published."""
        where = self._at(key_of(ready.ref, CARD))
        if stored is not None and parse_card(stored, where) != ready.card:
            raise ModelLoadError(
                f"{ready.ref.name} {ready.ref.version} is there with other content ({where}), and a version never "
                "changes; give the new one another version in its card"
            )

    async def _unknown(self, model: ModelRef) -> ModelLoadError:
        try:
            known = [ref.version for ref in await self.versions() if ref.name == model.name]
            there = f"there are {', '.join(known)}" if known else f"it has no version of {model.name}"
        except ModelStoreError as error:
            there = str(error)
        return ModelLoadError(f"the model store {self.where} has no {model.name} {model.version}: {there}")

    async def _card(self, model: ModelRef) -> bytes | None:
        return await self._small(key_of(model, CARD), _CARD_BYTES)

    async def _checksum(self, key: str) -> str | None:
        """The checksum beside the artefact under ``key``, or None when there is none."""
        content = await self._small(key + CHECKSUM, _CHECKSUM_BYTES)
        words = (content or b"").decode(errors="replace").split()
        return words[0] if words else None

    async def _small(self, key: str, limit: int) -> bytes | None:
        content = b""
        try:
            async with self._blobs.read(key) as download:
                async for chunk in download.chunks:
                    content += chunk
                    if len(content) > limit:
                        raise ModelLoadError(
                            f"{self._at(key)} has more than {limit} bytes: it is not what Standgale put"
                        )
        except BlobMissingError:
            return None
        self._refuse_cut_off(key, download, len(content))
        return content

    async def _digest(self, key: str) -> str | None:
        """The SHA-256 of what lies under ``key``, or None when nothing does."""
        digest = sha256()
        size = 0
        try:
            async with self._blobs.read(key) as download:
                async for chunk in download.chunks:
                    size += len(chunk)
                    await asyncio.to_thread(digest.update, chunk)
        except BlobMissingError:
            return None
        self._refuse_cut_off(key, download, size)
        return digest.hexdigest()

    async def _download(self, key: str, target: StagedFile, expected: str | None) -> None:
        """Bring what lies under ``key`` to ``target``. Raises ModelLoadError when it is missing or another."""
        try:
            async with self._blobs.read(key) as download:
                self._refuse_large(key, download.size or 0)
                async for chunk in download.chunks:
                    await asyncio.to_thread(target.write, chunk)
                    self._refuse_large(key, target.size)
                    self._progress(key, target.size, download.size)
        except BlobMissingError as error:
            raise ModelLoadError(
                f"{self._at(key)} is missing although the card names it; publish the version again: "
                "standgale model push mends it"
            ) from error
        self._refuse_cut_off(key, download, target.size)
        found = await asyncio.to_thread(target.finish)
        if expected not in (None, found):
            raise ModelLoadError(
                f"{self._at(key)} has SHA-256 {found}, expected is {expected}: it was changed or damaged; "
                "publish the version again: standgale model push mends it"
            )

    def _refuse_large(self, key: str, size: int) -> None:
        if size > self._max_file_bytes:
            raise ModelLoadError(
                f"{self._at(key)} has more than {self._max_file_bytes} bytes; if that is right, raise "
                "models.max_file_bytes (STANDGALE_MODELS__MAX_FILE_BYTES)"
            )

    def _refuse_cut_off(self, key: str, download: Download, size: int) -> None:
        if download.size is not None and size != download.size:
            raise ModelStoreUnavailableError(
                f"{self._at(key)} was cut off after {size} of {download.size} bytes; nothing of it was kept"
            )


def _check_version(path: Path) -> _CheckedVersion:
    """The version at the card ``path``, its files checked. Raises ModelLoadError that says what is amiss."""
    card = read_card(path)
    content = path.read_bytes()
    expected = files_of(card)
    onnx = verified_model_file(card, path)
    for name in read_onnx_file(onnx).external_data:
        if name not in card.files:
            raise ModelLoadError(_unlisted(path, name, f"{card.file} keeps weights in it"))
    files: dict[str, tuple[Path, str]] = {}
    for name, checksum in expected.items():
        if checksum is None:
            raise ModelLoadError(_unlisted(path, name, "it is the tokenizer"))
        files[name] = (path.parent / name, checksum)
    return _CheckedVersion(card, content, files)


def _unlisted(card: Path, name: str, why: str) -> str:
    found = card.parent / name
    checksum = _digest_of(found) if found.is_file() else "its SHA-256"
    return f"the card {card} has no checksum for {name} ({why}); add to it: files: {{{name}: {checksum}}}"


def _digest_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelLoadError(f"{path} cannot be read: {error.strerror}") from error
