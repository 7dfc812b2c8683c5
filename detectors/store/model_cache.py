"""Keeps fetched models on this machine: files are staged, checked, and moved into place when they are complete."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from uuid import uuid4

from detectors.card.card import read_card, verified_model_file
from detectors.errors import ModelLoadError, ModelStoreUnavailableError
from detectors.store.names import CARD, files_of
from infra.storage.durable_files import make_folder, sync_file, sync_folder
from schemas.event_base import ModelRef

_STAGING = ".fetching"
_STAGING_MAX_AGE_S = 3600.0

logger = logging.getLogger(__name__)


class ModelCache:
    """Manages the folder ``model_cache / name / version``; several processes may put the same files into it at once."""

    def __init__(self, model_cache: Path, model: ModelRef) -> None:
        self._root = model_cache
        self._model = model
        self._folder = model_cache / model.name / model.version

    def path(self, name: str) -> Path:
        """Return the path of file ``name``, which may not exist yet."""
        return self._folder / name

    def find_card(self) -> Path | None:
        """Return the card if all its files exist with the right checksums, else None. Reads all files."""
        path = self.path(CARD)
        if not path.is_file():
            return None
        try:
            card = read_card(path)
            verified_model_file(card, path)
            whole = all(self.path(name).is_file() for name in files_of(card))
        except ModelLoadError as error:
            logger.warning("%s %s is fetched again: %s", self._model.name, self._model.version, error)
            return None
        return path if whole and (card.name, card.version) == (self._model.name, self._model.version) else None

    def has(self, name: str, expected: str | None) -> bool:
        """Return whether file ``name`` exists with the SHA-256 ``expected``; None: with any content."""
        path = self.path(name)
        if not path.is_file():
            return False
        with _translate_errors(self._root), path.open("rb") as file:
            return expected is None or file_digest(file, "sha256").hexdigest() == expected

    @asynccontextmanager
    async def open_stage(self) -> AsyncIterator[StagedVersion]:
        """Make a folder for files in transfer; it is deleted at the end, with all files that were not moved."""
        with _translate_errors(self._root):
            staged = await asyncio.to_thread(self._make_stage)
        try:
            yield staged
        finally:
            staged.close()

    def _make_stage(self) -> StagedVersion:
        staging = self._root / _STAGING
        make_folder(staging)
        _remove_old(staging)
        folder = staging / uuid4().hex
        folder.mkdir()
        return StagedVersion(folder, self._folder)


class StagedVersion:
    """Collects the files of one version until they are complete."""

    def __init__(self, folder: Path, target: Path) -> None:
        self._folder = folder
        self._target = target
        self._files: dict[str, StagedFile] = {}

    def file(self, name: str) -> StagedFile:
        """Create a new, empty file."""
        with _translate_errors(self._folder):
            self._files[name] = StagedFile(self._folder / name)
        return self._files[name]

    def move_into_place(self, *, last: str) -> None:
        """Move all files, which must be finished, into the version's folder; ``last`` after the others are on disk."""
        with _translate_errors(self._target):
            make_folder(self._target)
            for name in sorted(self._files, key=lambda name: name == last):
                if name == last:
                    sync_folder(self._target)
                (self._folder / name).rename(self._target / name)
            sync_folder(self._target)

    def close(self) -> None:
        """Delete the files that were not moved."""
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class StagedFile:
    """Writes a file and computes its checksum.

    Its methods block. A cancelled caller may leave one running in a thread; the file's lock keeps it from writing after
    :meth:`close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb")
        self._digest = sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Append ``chunk``."""
        with _translate_errors(self._path):
            self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> str:
        """Sync the file to disk and return its SHA-256."""
        with _translate_errors(self._path):
            self._file.flush()
            # Before the file gets its final name: after a power cut that name never shows half a file.
            sync_file(self._file.fileno())
            self._file.close()
        return self._digest.hexdigest()

    def fill(self, content: bytes) -> None:
        """Write ``content`` and finish."""
        self.write(content)
        self.finish()

    def close(self) -> None:
        """Close the file, finished or not."""
        with suppress(OSError):  # a full disk; the file is deleted anyway
            self._file.close()


@contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelStoreUnavailableError(
            f"cannot keep models in {folder}: {error.strerror or error}; check that the disk is mounted, writable and "
            "not full, or set models.cache (STANDGALE_MODELS__CACHE)"
        ) from error


def _remove_old(staging: Path) -> None:
    """Delete the folders of fetches that were killed; a folder that was written to lately may still be in use."""
    oldest = time.time() - _STAGING_MAX_AGE_S
    for folder in staging.iterdir():
        with suppress(FileNotFoundError):  # its fetch finished, or another process was faster
            if max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < oldest:
                shutil.rmtree(folder, ignore_errors=True)
