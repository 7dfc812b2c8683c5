"""Replays the pictures in a zip archive, in the order of its list."""

from __future__ import annotations

import asyncio
import stat
import struct
import threading
import zlib
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

from infra.regular_files import open_regular
from ingest.files.side_file import MOST_BYTES, SideFile, SideFileError, parse_side_file, side_names
from ingest.replay.errors import RefusedItemError, SourceError
from ingest.replay.port import Content, Item, Picture, Totals, refused
from ingest.replay.settings import ReplaySettings
from ingest.replay.sources.names import Unwanted, is_picture, too_large, unsafe, unwanted

# The end of an archive, the longest comment, and the end of a large archive before them.
_TAIL_BYTES = 65_535 + 22 + 76
_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_LIST_ENTRY, _LIST_HEAD_BYTES = b"PK\x01\x02", 46
_MOST_LIST_BYTES_PER_ENTRY = 400
_ENCRYPTED = 0x1
_TIMESTAMPS = 0x5455
# Small entries may compress well: a black picture.
_RATIO_FROM_BYTES = 1_000_000


class ZipSource:
    """Reads one zip file; nothing is unpacked to disk."""

    def __init__(self, path: Path, settings: ReplaySettings, max_bytes: int) -> None:
        """Raise SourceError when it is damaged, or has too many entries or bytes."""
        self._path = path.absolute()
        self._settings = settings
        self._max_bytes = max_bytes
        self._reading = threading.Lock()
        self._file = open_regular(path)
        try:
            found = self._path.stat()
            self._state = found.st_size, found.st_mtime_ns
            self._require_list(found.st_size)
            self._archive = ZipFile(self._file)
        except (BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error, ValueError) as error:
            self._file.close()
            raise SourceError(f"{path} cannot be read as a zip archive: {error}") from error
        except BaseException:
            self._file.close()
            raise
        unpacked = sum(entry.file_size for entry in self._archive.filelist)
        if unpacked > settings.max_archive_bytes:
            self._file.close()
            raise SourceError(
                f"{path} unpacks to {unpacked:,} bytes; at most {settings.max_archive_bytes:,} are taken "
                "(replay.max_archive_bytes)"
            )

    @property
    def identity(self) -> Mapping[str, str | int | None]:
        """Path, size and time of the file."""
        size, written = self._state
        return {"kind": "zip", "address": str(self._path), "size": size, "written": written}

    async def items(self, after: str | None) -> AsyncGenerator[Item, None]:
        """Yield the pictures; a position is the number in the list."""
        first = int(after) + 1 if after else 0
        for number, entry in enumerate(self._archive.filelist[first:], first):
            item = self._item(f"{number:09d}", entry)
            if item is not None:
                yield item
        found = await asyncio.to_thread(self._path.stat)
        if (found.st_size, found.st_mtime_ns) != self._state:
            raise SourceError(f"{self._path} changed while it was read; replay it again with --restart")

    async def count(self) -> Totals | None:
        """Return how many pictures the list has."""
        size = wanted = passed_over = 0
        for entry in self._archive.filelist:
            if self._item("", entry) is not None:
                wanted, size = wanted + 1, size + entry.file_size
            elif not entry.is_dir() and not entry.filename.lower().endswith(".json"):
                passed_over += 1
        return Totals(wanted, size, passed_over)

    async def close(self) -> None:
        """Close the file."""
        self._archive.close()
        self._file.close()

    def _require_list(self, size: int) -> None:
        """Raise SourceError when the list would need much memory; it is read as a whole by the library."""
        begin = max(0, size - _TAIL_BYTES)
        self._file.seek(begin)
        tail = self._file.read(_TAIL_BYTES)
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + 22:
            raise BadZipFile("its end is missing; it was cut off, or is no zip archive")
        entries, list_bytes = struct.unpack("<HI", tail[at + 10 : at + 16])
        # Where the library looks for it, and nowhere else: an entry may contain such bytes.
        if at >= 20 and tail.startswith(_LOCATOR_64, at - 20):
            at -= 76
            if at < 0 or not tail.startswith(_END_64, at):
                raise BadZipFile("the end of a large archive is damaged")
            entries, list_bytes = struct.unpack("<QQ", tail[at + 32 : at + 48])
        most = self._settings.max_archive_entries
        if entries <= most and list_bytes <= most * _MOST_LIST_BYTES_PER_ENTRY:
            entries = max(entries, self._counted(begin + at - list_bytes, begin + at, most))
        self._file.seek(0)
        if entries > most or list_bytes > most * _MOST_LIST_BYTES_PER_ENTRY:
            raise SourceError(
                f"{self._path} has a list of {entries:,} entries in {list_bytes:,} bytes; at most {most:,} entries are "
                "taken (replay.max_archive_entries)"
            )

    def _counted(self, begin: int, end: int, most: int) -> int:
        """Return how many entries are in the list from ``begin`` to ``end``: its end may lie. Stops above ``most``."""
        count = 0
        if (end - begin) // _LIST_HEAD_BYTES <= most:
            return count
        while begin < end and count <= most:
            self._file.seek(max(0, begin))
            head = self._file.read(_LIST_HEAD_BYTES)
            if len(head) < _LIST_HEAD_BYTES or not head.startswith(_LIST_ENTRY):
                break
            begin += _LIST_HEAD_BYTES + sum(struct.unpack("<HHH", head[28:34]))
            count += 1
        return count

    def _item(self, position: str, entry: ZipInfo) -> Item | None:
        if entry.is_dir():
            return None
        name = entry.filename
        picture = is_picture(name, self._settings.suffixes)
        why = self._refusal(entry) if picture else unwanted(name, inside="an archive")
        if why is not None:
            return refused(position, name, why.code, why.reason)
        return Item(position, name, partial(self._load, entry)) if picture else None

    def _refusal(self, entry: ZipInfo) -> Unwanted | None:
        ratio = self._settings.max_archive_ratio
        if (why := unsafe(entry.filename)) is not None:
            return why
        if stat.S_ISLNK(entry.external_attr >> 16):
            return Unwanted("LINK", "it is a link, which is not followed")
        if entry.flag_bits & _ENCRYPTED:
            return Unwanted("ENCRYPTED", "it is encrypted; unpack the archive with its password, and replay the folder")
        if entry.file_size > self._max_bytes:
            return too_large(entry.file_size, self._max_bytes)
        if entry.file_size > max(_RATIO_FROM_BYTES, ratio * entry.compress_size):
            return Unwanted(
                "COMPRESSION_RATIO",
                f"its {entry.compress_size} bytes unpack to {entry.file_size}; replay.max_archive_ratio is {ratio:g}",
            )
        return None

    async def _load(self, entry: ZipInfo) -> Content:
        return await asyncio.to_thread(self._read_picture, entry)

    def _read_picture(self, entry: ZipInfo) -> Picture:
        image = self._read(entry, self._max_bytes)
        side = SideFile()
        for name in side_names(entry.filename):
            if (beside := self._archive.NameToInfo.get(name)) is not None:
                try:
                    side = parse_side_file(self._read(beside, MOST_BYTES), name)
                except SideFileError as error:
                    raise RefusedItemError("SIDE_FILE", str(error)) from error
                break
        return Picture(image, entry.filename, side, _written_at(entry))

    def _read(self, entry: ZipInfo, most: int) -> bytes:
        try:
            with self._reading, self._archive.open(entry) as file:
                data = file.read(most + 1)
        except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
            raise RefusedItemError(
                "CORRUPTED_FILE", f"it cannot be unpacked: {error or type(error).__name__}"
            ) from error
        if len(data) > most:
            why = too_large(len(data), most)
            raise RefusedItemError(why.code, why.reason)
        return data


def _written_at(entry: ZipInfo) -> datetime | None:
    """Return the time of the file: UTC where the archive has it, else its local time taken as UTC."""
    extra = entry.extra
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        if kind == _TIMESTAMPS and size >= 5 and len(extra) >= 9 and extra[4] & 1:
            return datetime.fromtimestamp(max(0, struct.unpack("<i", extra[5:9])[0]), UTC)
        extra = extra[4 + size :]
    try:
        return datetime(*entry.date_time, tzinfo=UTC)
    except ValueError:
        return None
