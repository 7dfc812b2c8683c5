"""Opens files that a person has named, but no pipe, device or folder, which may never begin or never end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


def open_regular(path: Path) -> BufferedReader:
    """Open the regular file at ``path`` for reading. Raises OSError, whose ``strerror`` says what else is there."""
    _require_regular(path, path.stat().st_mode)
    # Another program may have put a pipe there since: opening it does not wait for its writer.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(path, os.fstat(number).st_mode)
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the content of the regular file at ``path``. Raises OSError, also if it has more than ``most_bytes``."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        # The system's own files have a size of 0 whatever they contain.
        content = file.read(most_bytes + 1) if size <= most_bytes else b""
    if content is None:
        # Some of them have content only when something happens, such as the messages of the kernel.
        raise OSError(errno.EAGAIN, "it is a stream of the system, not a file", str(path))
    if max(size, len(content)) > most_bytes:
        raise OSError(
            errno.EFBIG, f"it has {max(size, len(content)):,} bytes, at most {most_bytes:,} are taken", str(path)
        )
    return content


def _require_regular(path: Path, mode: int) -> None:
    for is_kind, text in _KINDS:
        if is_kind(mode):
            raise OSError(errno.EINVAL, text, str(path))
