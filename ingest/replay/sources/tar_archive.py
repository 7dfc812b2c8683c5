"""Replays the pictures in a tar archive, also a compressed one, in the order of the archive."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from infra.regular_files import open_regular
from ingest.files.side_file import MOST_BYTES, SideFile, SideFileError, parse_side_file, side_names
from ingest.replay.errors import RefusedItemError, SourceError
from ingest.replay.port import Content, Item, Picture, Totals, refused
from ingest.replay.settings import ReplaySettings
from ingest.replay.sources.names import Unwanted, is_picture, too_large, unsafe, unwanted
from ingest.replay.sources.threads import in_threads

_BLOCK = 512
_STEP_BYTES = 1 << 20
_MOST_READ_BYTES = 16 << 20
_RATIO_FROM_BYTES = 100_000_000
_MOST_SIDE_BYTES = 64 << 20
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError)

_OPENERS: Mapping[bytes, Callable[[BinaryIO], object]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


class _DamageError(SourceError):
    """The archive cannot be read from some place on; what is before it was read."""


class TarSource:
    """Reads one tar file from its begin to its end; nothing is unpacked to disk."""

    def __init__(self, path: Path, settings: ReplaySettings, max_bytes: int) -> None:
        """Raise OSError when there is no such file."""
        self._path = path.absolute()
        self._settings = settings
        self._max_bytes = max_bytes
        with open_regular(path):
            found = path.stat()
        self._state = found.st_size, found.st_mtime_ns
        self._totals: Totals | None = None
        self._sides: dict[str, bytes] = {}
        self._listing = asyncio.Lock()

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Path, size and time of the file."""
        size, written = self._state
        return {"kind": "tar", "address": str(self._path), "size": size, "written": written}

    async def items(self, after: str | None) -> AsyncGenerator[Item, None]:
        """Yield the pictures with their bytes, which can be read in order only; a position is the entry's number."""
        await self.count()
        async for item in in_threads(self._items(int(after) + 1 if after else 0), 1):
            yield item

    async def count(self) -> Totals | None:
        """Read the whole archive once, for the number of pictures and for the side files, up to damage if there is any.

        Raises SourceError for what becomes too large.
        """
        async with self._listing:
            if self._totals is None:
                self._totals = await asyncio.to_thread(self._list)
            return self._totals

    async def close(self) -> None:
        """Do nothing: the file is open only while it is read."""

    def _list(self) -> Totals:
        size = wanted = passed_over = side_bytes = 0
        # The items before the damage are replayed; reading them ends in this error.
        with suppress(_DamageError), self._opened() as (tar, _):
            for entry in self._entries(tar):
                if self._is_item(entry):
                    wanted, size = wanted + 1, size + entry.size
                elif entry.isreg() and entry.name.lower().endswith(".json") and entry.size <= MOST_BYTES:
                    self._sides[_plain(entry.name)] = _content(tar, entry)
                    side_bytes += entry.size
                    if side_bytes > _MOST_SIDE_BYTES:
                        raise SourceError(f"{self._path} has too many side files; unpack it, and replay the folder")
                elif entry.isreg():
                    passed_over += 1
        return Totals(wanted, size, passed_over)

    def _items(self, first: int) -> Iterator[Item]:
        with self._opened() as (tar, _):
            for number, entry in enumerate(self._entries(tar)):
                if number >= first and self._is_item(entry):
                    yield self._item(f"{number:012d}", tar, entry)

    def _entries(self, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for number, entry in enumerate(tar):
            if number >= self._settings.max_archive_entries:
                raise SourceError(f"{self._path} has more than {number:,} entries, which is replay.max_archive_entries")
            yield entry
            # The library would keep all of them.
            tar.members = []  # type: ignore[attr-defined]

    def _is_item(self, entry: tarfile.TarInfo) -> bool:
        if entry.isdir():
            return False
        return is_picture(entry.name, self._settings.suffixes) or unwanted(entry.name, inside="an archive") is not None

    def _item(self, position: str, tar: tarfile.TarFile, entry: tarfile.TarInfo) -> Item:
        name = entry.name.encode("utf-8", "replace").decode()
        picture = is_picture(entry.name, self._settings.suffixes)
        why = self._refusal(entry) if picture else unwanted(entry.name, inside="an archive")
        if why is not None:
            return refused(position, name, why.code, why.reason)
        # The first of max() is taken where a time is no number.
        moment = datetime.fromtimestamp(min(max(0.0, float(entry.mtime)), 4e9), UTC)
        return Item(position, name, partial(self._load, entry.name, name, _content(tar, entry), moment))

    def _refusal(self, entry: tarfile.TarInfo) -> Unwanted | None:
        if (why := unsafe(entry.name)) is not None:
            return why
        if entry.issym() or entry.islnk():
            return Unwanted("LINK", "it is a link, which is not followed")
        if not entry.isreg():
            return Unwanted("NOT_A_FILE", "it is not a regular file")
        return too_large(entry.size, self._max_bytes) if entry.size > self._max_bytes else None

    async def _load(self, key: str, name: str, image: bytes, moment: datetime) -> Content:
        side = SideFile()
        for each in side_names(_plain(key)):
            if (content := self._sides.get(each)) is not None:
                try:
                    side = parse_side_file(content, each)
                except SideFileError as error:
                    raise RefusedItemError("SIDE_FILE", str(error)) from error
                break
        return Picture(image, name, side, moment)

    @contextmanager
    def _opened(self) -> Iterator[tuple[tarfile.TarFile, _LimitedStream]]:
        """Open the archive for the block; damage raises SourceError, also where the library takes it for the end."""
        with open_regular(self._path) as file:
            found = self._path.stat()
            if (found.st_size, found.st_mtime_ns) != self._state:
                raise SourceError(f"{self._path} changed since the replay began; replay it again with --restart")
            stream = _LimitedStream(file, self._path, self._settings, self._max_bytes)
            try:
                with closing(tarfile.open(fileobj=stream, mode="r:", errorlevel=2)) as tar:
                    yield tar, stream
                    if stream.last_header.strip(b"\0"):
                        raise _DamageError(
                            f"{self._path} is damaged at byte {tar.offset:,}; nothing after it can be read"
                        )
                    stream.read_to_end()
            except GeneratorExit:
                raise
            except _DAMAGED as error:
                raise _DamageError(f"{self._path} is damaged or cut off, or is no tar archive: {error}") from error


class _LimitedStream(io.RawIOBase):
    """Unpacks an archive, and raises SourceError when it becomes much larger than it should."""

    def __init__(self, file: io.BufferedReader, path: Path, settings: ReplaySettings, max_bytes: int) -> None:
        self._file = file
        self._path = path
        self._settings = settings
        self._most_read = max(_MOST_READ_BYTES, max_bytes + 1)
        begin = file.peek(8)[:8]
        opener = next((each for magic, each in _OPENERS.items() if begin.startswith(magic)), None)
        if begin.startswith(b"\x28\xb5\x2f\xfd"):
            raise SourceError(f"{path} is compressed with zstd, which is not read here; unpack it: zstd -d {path.name}")
        self._plain: BinaryIO = file if opener is None else opener(file)  # type: ignore[assignment]
        self._is_packed = opener is not None
        self.last_header = b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self._most_read:
            raise SourceError(f"{self._path} has a header of {size:,} bytes, which is no picture's; it is not read")
        data = self._plain.read(size)
        if size == _BLOCK:
            self.last_header = data
        self._check()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        assert whence == 0
        if not self._is_packed:
            return self._plain.seek(offset)
        left = offset - self._plain.tell()
        if left < 0:
            return self._plain.seek(offset)
        while left > 0 and (data := self._plain.read(min(left, _STEP_BYTES))):
            left -= len(data)
            self._check()
        return self._plain.tell()

    def tell(self) -> int:
        return self._plain.tell()

    def read_to_end(self) -> None:
        """Read what follows the archive's end: only then does the library compare the checksum of what it unpacked.

        Raises _DamageError unless it is filled with zeros: the end may be a hole, or another archive may follow.
        """
        while data := self._plain.read(_STEP_BYTES):
            self._check()
            if data.strip(b"\0"):
                raise _DamageError(
                    f"{self._path} ends before byte {self._plain.tell():,}, but more follows: it is damaged, or has "
                    "several archives in it; unpack it (tar --ignore-zeros), and replay the folder"
                )

    def _check(self) -> None:
        unpacked, settings = self._plain.tell(), self._settings
        if unpacked > settings.max_archive_bytes:
            raise SourceError(
                f"{self._path} unpacks to more than {settings.max_archive_bytes:,} bytes (replay.max_archive_bytes)"
            )
        read = self._file.tell() if self._is_packed else unpacked
        if unpacked > max(_RATIO_FROM_BYTES, settings.max_archive_ratio * read):
            raise SourceError(
                f"{self._path} unpacks to {unpacked:,} bytes from {read:,}, as a bomb does: replay.max_archive_ratio "
                f"is "
                f"{settings.max_archive_ratio:g}"
            )


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry)
    data = file.read() if file is not None else b""
    if len(data) != entry.size:
        raise tarfile.ReadError(f"the entry {entry.name!r} is cut off")
    return data


def _plain(name: str) -> str:
    return name.removeprefix("./")
