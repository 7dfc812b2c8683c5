"""Leaves out what a PNG decoder would unpack beside the picture: texts, profiles and the frames of an animation."""

from __future__ import annotations

import struct
from typing import Final

from infra.errors import ImageCorruptError

MAGIC: Final = b"\x89PNG\r\n\x1a\n"
_NEEDED: Final = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_MAX_CHUNKS: Final = 65_536


def picture_chunks(data: bytes) -> bytes:
    """Return the PNG ``data`` with the chunks of its picture only; the same object when it has no others.

    A few bytes of compressed text unpack to many megabytes, and a chunk may claim more bytes than the file has, for
    which decoders take memory before they look. Raises ImageCorruptError when a chunk reaches behind the end.
    """
    kept: list[bytes | memoryview] = [MAGIC]
    view = memoryview(data)
    position, start, whole = len(MAGIC), len(MAGIC), True
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(data):
            raise ImageCorruptError("the PNG file ends before its IEND chunk; it was cut short")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ImageCorruptError(
                f"the PNG chunk {kind!r} claims {length} bytes, more than the file has; it is damaged or cut short"
            )
        if kind not in _NEEDED:
            whole = False
            kept.append(view[start:position])
            start = end
        elif kind == b"IEND":
            kept.append(view[start:end])
            return data if whole else b"".join(kept)
        position = end
    raise ImageCorruptError(f"the PNG file has more than {_MAX_CHUNKS} chunks; save it again")
