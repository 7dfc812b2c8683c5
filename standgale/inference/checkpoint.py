"""Finds the model that CHECKPOINT_PATH names, and brings its card and files to this machine."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path, PurePosixPath

from detectors.card.card import ModelCard, default_card_path, read_card
from detectors.card.model_formats import foreign_format
from detectors.errors import ModelLoadError
from detectors.model.inspect import write_card
from detectors.model.inspect_process import InspectRequest, inspect_in_process
from detectors.store.names import CARD, files_of, ref_of, require_safe_file
from detectors.store.open import open_model_store
from infra.storage.objects import ObjectMissingError
from infra.storage.s3_address import S3Address
from schemas.event_base import ModelRef
from standgale.inference.storage import JobStorage
from standgale.inference.variables import Place, place_of
from standgale.settings import Settings

logger = logging.getLogger(__name__)

MODEL_FOLDER = "model"
"""The folder of a job's own files in which its model is"""
_STORE = "model:"
_CARDS = (".yaml", ".yml")
_LARGEST_CARD = 1_000_000
_ADVICE = "or put the ONNX file beside it under the same name"


async def card_of(checkpoint: str, storage: JobStorage, settings: Settings) -> Path:
    """Return the path of the card of the model that ``checkpoint`` names.

    It names a version of the model store (``model:NAME@VERSION``), an ONNX file, a card, or the folder of a card.
    Raises ModelLoadError, ObjectMissingError, ObjectTooLargeError, and the errors of the stores.
    """
    if checkpoint.startswith(_STORE):
        return await _from_store(checkpoint, settings)
    place = place_of(checkpoint)
    fetched = _Fetched(storage, place, settings.models.max_file_bytes)
    ending = PurePosixPath(fetched.name).suffix.lower()
    if ending in _CARDS:
        return await fetched.card(fetched.name)
    if ending == ".onnx":
        return await fetched.card_of_onnx(fetched.name)
    foreign = foreign_format(Path(fetched.name)) if fetched.name else None
    if foreign is None and await fetched.is_folder():
        return await fetched.inside().card(CARD)
    onnx = f"{PurePosixPath(fetched.name).stem}.onnx"
    try:
        card = await fetched.card_of_onnx(onnx)
    except ObjectMissingError as error:
        why = foreign or f"{checkpoint} is neither an ONNX file, nor a card, nor the folder of a card"
        raise ModelLoadError(f"{why}; {_ADVICE} ({onnx})") from error
    logger.info("the ONNX file beside %s is used: %s", checkpoint, onnx)
    return card


async def _from_store(checkpoint: str, settings: Settings) -> Path:
    name, at, version = checkpoint.removeprefix(_STORE).partition("@")
    if not at:
        raise ModelLoadError(f"received {checkpoint!r}; it takes model:NAME@VERSION")
    ref = ref_of(name, version)
    own = settings.detector.model or default_card_path()
    if await asyncio.to_thread(_is_version, own, ref):
        # Jobs for detectors may name it, too; it need not be in the store.
        return own
    store = open_model_store(settings.models, settings.data_dir)
    try:
        return await store.fetch(ref, settings.model_cache)
    finally:
        await store.close()


def _is_version(path: Path, ref: ModelRef) -> bool:
    """Whether the card at ``path`` is that of ``ref``; a card that cannot be read is none."""
    try:
        card = read_card(path)
    except ModelLoadError as error:
        logger.warning("the model of detector.model is not used: %s", error)
        return False
    return (card.name, card.version) == (ref.name, ref.version)


class _Fetched:
    """Brings files of one folder into a folder of this machine, each once and under its own name."""

    def __init__(self, storage: JobStorage, place: Place, most_bytes: int) -> None:
        self._storage = storage
        self._place = place
        self._most_bytes = most_bytes
        self._folder = storage.scratch / MODEL_FOLDER

    @property
    def name(self) -> str:
        """The file that was named; empty for a folder."""
        return self._place.name

    async def is_folder(self) -> bool:
        """Whether a folder was named; in S3 also one without its slash, when it has a card."""
        if isinstance(self._place, Path):
            return await asyncio.to_thread(self._place.is_dir)
        if self._place.is_folder:
            return True
        try:
            await self.inside().file(CARD, _LARGEST_CARD)
        except ObjectMissingError:
            return False
        return True

    def inside(self) -> _Fetched:
        """Return the files inside the folder that was named."""
        if isinstance(self._place, Path):
            return _Fetched(self._storage, self._place / CARD, self._most_bytes)
        key = self._place.key if self._place.is_folder else f"{self._place.key}/"
        return _Fetched(self._storage, S3Address(self._place.bucket, f"{key}{CARD}"), self._most_bytes)

    async def file(self, name: str, most_bytes: int) -> Path:
        """Return the path of the file ``name``. Raises ObjectMissingError, ObjectTooLargeError."""
        target = self._folder / name
        if await asyncio.to_thread(target.exists):
            return target
        place = self._place
        beside: Place = place.beside(name) if isinstance(place, S3Address) else place.parent / name
        path = await self._storage.fetch(beside, most_bytes)
        self._folder.mkdir(exist_ok=True)
        if isinstance(beside, S3Address):
            path.rename(target)
        else:
            target.symlink_to(path.absolute())
        return target

    async def card(self, name: str) -> Path:
        """Return the card ``name`` when all its files are here. Raises ModelLoadError for a wrong card."""
        path = await self.file(name, _LARGEST_CARD)
        await self._files(await asyncio.to_thread(read_card, path))
        return path

    async def card_of_onnx(self, onnx: str) -> Path:
        """Return the card of the file ``onnx``: one beside it, or what the file says of itself."""
        for name in dict.fromkeys((f"{PurePosixPath(onnx).stem}.yaml", CARD)):
            try:
                path = await self.file(name, _LARGEST_CARD)
            except ObjectMissingError:
                continue
            card = await asyncio.to_thread(read_card, path)
            if card.file == onnx:
                await self._files(card)
                return path
        path = await self.file(onnx, self._most_bytes)
        found = await asyncio.to_thread(inspect_in_process, InspectRequest(path))
        for assumed in found.assumed:
            logger.warning("%s has no card beside it; assumed: %s", onnx, assumed)
        return write_card(found, self._folder, "read-from-the-file")

    async def _files(self, card: ModelCard) -> None:
        for name in files_of(card):
            try:
                await self.file(require_safe_file(name, "the card"), self._most_bytes)
            except ObjectMissingError as error:
                raise ModelLoadError(f"{error}; the card of {card.name} {card.version} names it") from error
