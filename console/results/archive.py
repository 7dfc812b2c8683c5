"""Streams a zip of label files, and of pictures if asked, while it is being made."""

from __future__ import annotations

import asyncio
import re
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable

_UNSAFE = re.compile(r"[^\w.() -]")


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
        """Return a name for what belongs to ``filename``, with another ending."""
        stem = _UNSAFE.sub("_", filename.rpartition(".")[0] or filename).strip(". ")[:150] or "file"
        name, number = stem, 1
        while name.casefold() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return f"{name}.{ending}"


Member = Callable[[], Awaitable[bytes]]


async def zip_of(members: AsyncIterator[tuple[str, Member]]) -> AsyncIterator[bytes]:
    """Yield the bytes of a zip with ``members``: names, and functions that return the content.

    One member is in memory at a time; compressing it does not hold up the event loop.
    """
    out = _Collector()
    # zipfile asks a file only for these two methods when it cannot seek.
    archive = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED)  # type: ignore[call-overload]
    async for name, content in members:
        await asyncio.to_thread(archive.writestr, name, await content())
        if piece := out.take():
            yield piece
    archive.close()
    yield out.take()
