"""Reads the directories of EXIF blocks, within limits and without recursion."""

from __future__ import annotations

import struct
from mmap import mmap
from typing import NamedTuple

from ingest.images.formats.header import CorruptedFileError, InvalidFormatError, Span

MAX_ENTRIES = 512
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I"}
_RATIONALS = {5: "I", 10: "i"}
_TEXT_TYPES = (1, 2, 7)


class IfdEntry(NamedTuple):
    """Is a directory entry: ``total`` values of ``kind`` (TIFF type number) from ``position`` of the data on."""

    kind: int
    total: int
    position: int


class Block:
    """Reads a TIFF structure in ``data`` at ``span``; offsets count from ``span.start`` and stay inside."""

    def __init__(self, data: bytes | mmap, span: Span) -> None:
        """Raise InvalidFormatError when ``span`` does not begin with a classic TIFF header."""
        order = data[span.start : span.start + 2]
        if order not in (b"II", b"MM"):
            raise InvalidFormatError("a TIFF block must begin with II or MM")
        self._data = data
        self._span = span
        self._order = "<" if order == b"II" else ">"
        self.outside: set[int] = set()
        """Tags that were left out because their values are outside of the span."""
        magic, self.first = self._unpack("HI", span.start + 2)
        if magic != 42:
            raise InvalidFormatError(f"TIFF version {magic} is not supported; write classic TIFF (version 42)")

    def directory(self, offset: int) -> dict[int, IfdEntry]:
        """Return the entries at ``offset``, by tag; leave out values outside of the span and note them.

        Raises CorruptedFileError when the directory is outside of the span or has more than MAX_ENTRIES entries.
        """
        start = self._span.start + offset
        (count,) = self._unpack("H", start)
        if count > MAX_ENTRIES:
            raise CorruptedFileError(f"a TIFF directory claims {count} entries; at most {MAX_ENTRIES} are read")
        entries: dict[int, IfdEntry] = {}
        first, end = start + 2, start + 2 + 12 * count
        if end > self._span.end:
            raise CorruptedFileError("a TIFF directory points behind the end of the file")
        rows = struct.iter_unpack(f"{self._order}HHII", self._data[first:end])
        for position, (tag, kind, values, place) in zip(range(first, end, 12), rows, strict=True):
            size = _SIZES.get(kind, 0) * values
            if size == 0:
                continue
            at = position + 8 if size <= 4 else self._span.start + place
            if at + size <= self._span.end:
                entries.setdefault(tag, IfdEntry(kind, values, at))
            else:
                self.outside.add(tag)
        return entries

    def numbers(self, entry: IfdEntry, most: int) -> list[float]:
        """Return at most ``most`` values as floats; a rational with denominator zero ends the list."""
        count = min(entry.total, most)
        if entry.kind in _CODES:
            return [float(value) for value in self._unpack(f"{count}{_CODES[entry.kind]}", entry.position)]
        if entry.kind not in _RATIONALS:
            return []
        parts = self._unpack(f"{2 * count}{_RATIONALS[entry.kind]}", entry.position)
        found: list[float] = []
        for numerator, denominator in zip(parts[::2], parts[1::2], strict=True):
            if denominator == 0:
                break
            found.append(numerator / denominator)
        return found

    def raw(self, entry: IfdEntry, most: int) -> bytes:
        """Return at most ``most`` bytes of the entry's values."""
        return self._data[entry.position : entry.position + min(entry.total * _SIZES[entry.kind], most)]

    def text(self, entry: IfdEntry, most: int = 64) -> str:
        """Return the text of an ASCII entry up to its first NUL, at most ``most`` characters, others as ``?``."""
        if entry.kind not in _TEXT_TYPES:
            return ""
        raw = self._data[entry.position : entry.position + min(entry.total, most)]
        return raw.split(b"\0", 1)[0].decode("ascii", "replace").strip()

    def _unpack(self, code: str, position: int) -> tuple[int, ...]:
        code = self._order + code
        if position + struct.calcsize(code) > self._span.end:
            raise CorruptedFileError("a TIFF directory points behind the end of the file")
        return struct.unpack_from(code, self._data, position)
