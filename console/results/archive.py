"""Streams a zip of label files, and of pictures if asked, while it is being made."""

from __future__ import annotations

import asyncio
import re
import time
import zipfile
from collections.abc import AsyncIterator, Callable

_UNSAFE = re.compile(r"[^\w.() -]")
# The ending and a number come behind it, and no name may have more than 255 bytes.
_LONGEST_BYTES = 200
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{name}{n}" for name in ("com", "lpt") for n in "0123456789¹²³")})
"""Names that are no files on Windows, whatever ending they have."""


class _Collector:
    """Is a file that cannot seek: what is written to it is taken away in pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing."""

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class Names:
    """Makes the names of a zip's files: no path, none twice, also where two differ only in capital letters."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, filename: str, ending: str) -> str:
        """Return a name for what belongs to ``filename``, with another ending, that all systems can give a file."""
        stem = _UNSAFE.sub("_", filename.rpartition(".")[0] or filename).strip(". ")
        stem = stem.encode()[:_LONGEST_BYTES].decode(errors="ignore").strip(". ") or "file"
        if stem.partition(".")[0].rstrip().casefold() in _DEVICES:
            stem = f"_{stem}"
        name, number = stem, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return f"{name}.{ending}"


Member = Callable[[], AsyncIterator[bytes]]


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, time.localtime()[:6])
    entry.compress_type = zipfile.ZIP_DEFLATED
    # Else programs of Unix extract a file that nobody may read.
    entry.external_attr = 0o644 << 16
    return entry


async def zip_of(members: AsyncIterator[tuple[str, Member]]) -> AsyncIterator[bytes]:
    """Yield the bytes of a zip with ``members``: names, and functions that return the content piece by piece.

    One piece is in memory at a time; compressing it does not hold up the event loop.
    """
    out = _Collector()
    # zipfile asks a file only for these two methods when it cannot seek.
    archive = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED)  # type: ignore[call-overload]
    async for name, content in members:
        with archive.open(_entry(name), "w") as member:
            async for piece in content():
                await asyncio.to_thread(member.write, piece)
                if taken := out.take():
                    yield taken
    archive.close()
    yield out.take()
