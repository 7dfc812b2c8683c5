"""Downloads an object of an S3 bucket into a local file, piece by piece."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from infra.errors import StoreFullError, StoreUnavailableError
from infra.storage.durable_files import sweep_files

_PIECE = 1 << 20
_MAX_AGE_S = 3_600.0
LEAST_BYTES_PER_S = 2_000_000
"""The time limit of a transfer grows with its size by this rate: no slower network is expected to the store."""


async def download(response: Any, folder: Path) -> tuple[Path, str]:
    """Write the body of a ``get_object`` response to a new file in ``folder``; return its path and its SHA-256.

    The caller removes the file; those that a killed process left are removed after an hour. Raises
    StoreUnavailableError or StoreFullError for the local disk, and the errors of the client.
    """
    path = folder / uuid4().hex
    found = hashlib.sha256()
    file = await _local(folder, _create, path)
    try:
        async with response["Body"] as body:
            async for piece in body.iter_chunks(_PIECE):
                await _local(folder, _keep, file, found, piece)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        file.close()
    return path, found.hexdigest()


async def _local(folder: Path, work: Any, *arguments: Any) -> Any:
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:
        kind = StoreFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreUnavailableError
        raise kind(
            f"cannot write to {folder}, where large images wait while they are checked: {error.strerror or error}; "
            "check that the disk of STANDGALE_DATA_DIR is writable and not full"
        ) from error


def _create(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep_files(path.parent, _MAX_AGE_S)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=0)


def _keep(file: BinaryIO, found: Any, piece: bytes) -> None:
    found.update(piece)
    rest = memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]
