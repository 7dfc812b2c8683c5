"""Where fetched models lie on this machine: files are gathered aside, checked, and put in place whole."""

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
    """The folder ``into / name / version``; several processes may fill it at once, with the same."""

    def __init__(self, into: Path, model: ModelRef) -> None:
        self._into = into
        self._model = model
        self._home = into / model.name / model.version

    def path(self, name: str) -> Path:
        """Where file ``name`` lies, or will lie."""
        return self._home / name

    def complete(self) -> Path | None:
        """The card, when all its files are there with the right checksums; else None. Reads them all."""
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
        """Whether ``name`` is there with the SHA-256 ``expected``, or just there when none is known."""
        path = self.path(name)
        if not path.is_file():
            return False
        with _disk(self._into), path.open("rb") as file:
            return expected is None or file_digest(file, "sha256").hexdigest() == expected

    @asynccontextmanager
    async def open_stage(self) -> AsyncIterator[StagedVersion]:
        """A folder aside for files on their way, gone at the end with all that was not put in place."""
        with _disk(self._into):
            stage = await asyncio.to_thread(self._make_stage)
        try:
            yield stage
        finally:
            stage.close()

    def _make_stage(self) -> StagedVersion:
        aside = self._into / _STAGING
        make_folder(aside)
        _remove_old(aside)
        folder = aside / uuid4().hex
        folder.mkdir()
        return StagedVersion(folder, self._home)


class StagedVersion:
    """Files on their way into one version's folder."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._folder = folder
        self._home = home
        self._files: dict[str, StagedFile] = {}

    def file(self, name: str) -> StagedFile:
        """A new, empty file."""
        with _disk(self._folder):
            self._files[name] = StagedFile(self._folder / name)
        return self._files[name]

    def place(self, *, last: str) -> None:
        """Move all files, which must be finished, to where they belong, ``last`` after all others are on disk."""
        with _disk(self._home):
            make_folder(self._home)
            for name in sorted(self._files, key=lambda name: name == last):
                if name == last:
                    sync_folder(self._home)
                (self._folder / name).rename(self._home / name)
            sync_folder(self._home)

    def close(self) -> None:
        """Remove what is left."""
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class StagedFile:
    """A file being written, and its checksum. Its methods block; a cancelled caller may leave one running in a thread,
    which the file's own lock keeps from writing after :meth:`close`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb")
        self._digest = sha256()
        self.size = 0

    def write(self, chunk: bytes) -> None:
        """Add ``chunk``."""
        with _disk(self._path):
            self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def finish(self) -> str:
        """Bring it to disk and return its SHA-256."""
        with _disk(self._path):
            self._file.flush()
            # Before the name is where it is looked for: after a power cut it never names half a file.
            sync_file(self._file.fileno())
            self._file.close()
        return self._digest.hexdigest()

    def fill(self, content: bytes) -> None:
        """Write ``content`` and finish."""
        self.write(content)
        self.finish()

    def close(self) -> None:
        """Give the file back, finished or not."""
        with suppress(OSError):  # a full disk; what was written is removed anyway
            self._file.close()


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelStoreUnavailableError(
            f"cannot keep models in {folder}: {error.strerror or error}; check that the disk is mounted, writable and "
            "not full, or set models.cache (STANDGALE_MODELS__CACHE)"
        ) from error


def _remove_old(aside: Path) -> None:
    """Remove what fetches that were killed left behind; a folder that was written to lately has a living owner."""
    oldest = time.time() - _STAGING_MAX_AGE_S
    for folder in aside.iterdir():
        with suppress(FileNotFoundError):  # its owner finished, or another sweep was faster
            if max(path.stat().st_mtime for path in (folder, *folder.iterdir())) < oldest:
                shutil.rmtree(folder, ignore_errors=True)
