"""Reads the directories of TIFF and BigTIFF files, within limits and without recursion."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from mmap import mmap
from typing import Literal, NamedTuple

from infra.errors import ImageCorruptError

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Classic and BigTIFF, in both byte orders."""
MAX_ENTRIES = 512
MAX_DIRECTORIES = 1_000
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# TIFF type → code of array: the types that hold unsigned integers.
_UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_FLOATS = {5: "II", 10: "ii", 11: "f", 12: "d"}

Buffer = bytes | mmap | memoryview
"""A whole file, in memory or mapped."""


class Entry(NamedTuple):
    """Is a directory entry: ``total`` values of ``kind`` (TIFF type number) from ``position`` of the file on."""

    kind: int
    total: int
    position: int


class Directory:
    """Gives the values of one directory. ``following``: where the next one begins, 0 if it is the last."""

    def __init__(self, data: Buffer, at: int | None = None) -> None:
        """Read the directory at ``at``, by default the first. Raises ImageCorruptError if it is not in the file."""
        self.data = data
        if bytes(data[:4]) not in MAGICS:
            raise ImageCorruptError("the bytes begin no TIFF file")
        self.order: Literal["<", ">"] = "<" if bytes(data[:2]) == b"II" else ">"
        self.big = data[2:4] in (b"+\0", b"\0+")
        self._word = "Q" if self.big else "I"
        start = self.unpack(self._word, 8 if self.big else 4)[0] if at is None else at
        self._entries, self.following = self._read(start)

    def has(self, tag: int) -> bool:
        """Return whether there is a value for ``tag``."""
        return tag in self._entries

    def entry(self, tag: int) -> Entry | None:
        """Return where the values of ``tag`` are; None if it has none."""
        return self._entries.get(tag)

    def integers(self, tag: int, most: int) -> array[int]:
        """Return at most ``most`` values of ``tag``; none when it has another type than unsigned integers."""
        entry = self._entries.get(tag)
        if entry is None or entry.kind not in _UNSIGNED:
            return array("Q")
        count = min(entry.total, most)
        values = array(_UNSIGNED[entry.kind])
        values.frombytes(self.data[entry.position : entry.position + count * values.itemsize])
        if self.order != ("<" if sys.byteorder == "little" else ">"):
            values.byteswap()
        return values

    def integer(self, tag: int, default: int = 0) -> int:
        """Return the first value of ``tag``; ``default`` if there is none."""
        values = self.integers(tag, 1)
        return int(values[0]) if values else default

    def real(self, tag: int, most: int) -> list[float]:
        """Return at most ``most`` values of a tag with fractions or real numbers; none when it has another type."""
        entry = self._entries.get(tag)
        if entry is None or entry.kind not in _FLOATS:
            return []
        count = min(entry.total, most)
        code = _FLOATS[entry.kind]
        found = self.unpack(code * count, entry.position)
        if len(code) == 1:
            return [float(value) for value in found]
        return [above / below if below else 0.0 for above, below in zip(found[::2], found[1::2], strict=True)]

    def content(self, tag: int, most: int) -> bytes:
        """Return the bytes of ``tag``, at most ``most`` of them."""
        entry = self._entries.get(tag)
        if entry is None:
            return b""
        return bytes(self.data[entry.position : entry.position + min(_SIZES[entry.kind] * entry.total, most)])

    def unpack(self, code: str, position: int) -> tuple[int, ...]:
        """Return the numbers at ``position``. Raises ImageCorruptError when they are not in the file."""
        code = self.order + code
        if position + struct.calcsize(code) > len(self.data):
            raise ImageCorruptError("a TIFF directory points behind the end of the file; it was cut off")
        return struct.unpack_from(code, self.data, position)

    def _read(self, start: int) -> tuple[dict[int, Entry], int]:
        counter, row, inline = ("Q", 20, 8) if self.big else ("H", 12, 4)
        (count,) = self.unpack(counter, start)
        if count > MAX_ENTRIES:
            raise ImageCorruptError(f"a TIFF directory claims {count} entries; at most {MAX_ENTRIES} are read")
        first = start + struct.calcsize(counter)
        entries: dict[int, Entry] = {}
        for position in range(first, first + row * count, row):
            tag, kind, total = self.unpack("HH" + self._word, position)
            size = _SIZES.get(kind, 0) * total
            if size == 0:
                continue
            at = position + row - inline
            if size > inline:
                at = self.unpack(self._word, at)[0]
            if at + size > len(self.data):
                raise ImageCorruptError(f"TIFF tag {tag} points behind the end of the file; it was cut off")
            entries.setdefault(tag, Entry(kind, total, at))
        end = first + row * count
        # Some writers leave the last four bytes out.
        following = self.unpack(self._word, end)[0] if end + inline <= len(self.data) else 0
        return entries, following


def directories(data: Buffer) -> Iterator[Directory]:
    """Yield all directories in the file's order: pages, overviews and masks.

    Raises ImageCorruptError when they form a circle, or are more than MAX_DIRECTORIES.
    """
    directory = Directory(data)
    seen = set[int]()
    yield directory
    while directory.following:
        if directory.following in seen:
            raise ImageCorruptError("the directories of the TIFF form a circle; the file is damaged")
        if len(seen) >= MAX_DIRECTORIES:
            raise ImageCorruptError(f"the TIFF has more than {MAX_DIRECTORIES} pages; split it")
        seen.add(directory.following)
        directory = Directory(data, directory.following)
        yield directory
