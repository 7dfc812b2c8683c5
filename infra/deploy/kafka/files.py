"""Writes the files of a local broker, and explains why a file or folder cannot be used."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.deploy.kafka.errors import KafkaServerError

HOME_OPTION = "--home"
CACHE_OPTION = "--cache"
_NO_FOLDER = "is not a folder, or is below a file; choose a different {option}"
_FULL = "the disk is full; free some space and try again, or choose a different {option}"
_FORBIDDEN = "this user may not read or write it; change its rights, or choose a different {option}"
_TEXTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EEXIST: _NO_FOLDER,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "the disk is mounted read-only; choose a different {option}",
}


@contextmanager
def explained_errors(folder: Path, option: str) -> Iterator[None]:
    """Convert an OSError into a KafkaServerError that names ``folder`` and the ``option`` that chooses it."""
    try:
        yield
    except OSError as error:
        default = f"cannot be used ({error.strerror or error}); choose a different {{option}}"
        text = _TEXTS.get(error.errno or 0, default)
        raise KafkaServerError(f"{folder}: {text.format(option=option)}") from error


def absolute_path(path: Path, option: str) -> Path:
    """Return ``path`` as an absolute path. Raises KafkaServerError when the current folder does not exist any more."""
    try:
        return path.absolute()
    except FileNotFoundError as error:
        raise KafkaServerError(
            f"{path}: the current folder was removed; change to a folder that exists, or give {option} an absolute path"
        ) from error


def write_files(texts: Mapping[Path, str]) -> None:
    """Write files with their new texts: all of them are replaced, or none when one cannot be written."""
    unfinished = {path: path.with_name(f"{path.name}.unfinished") for path in texts}
    try:
        for path, text in texts.items():
            unfinished[path].write_text(text, encoding="utf-8")
        for path, written in unfinished.items():
            written.replace(path)
    finally:
        for written in unfinished.values():
            written.unlink(missing_ok=True)
