"""Leaves out what a PNG decoder would unpack beside the picture: texts, profiles and the frames of an animation."""

from __future__ import annotations

from typing import Final

from infra.images.png import FIRST_CHUNK, MAGIC, read_chunks

_NEEDED: Final = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


def picture_chunks(data: bytes) -> bytes:
    """Return the PNG ``data`` with the chunks of its picture only; the same object when it has no others.

    A few bytes of compressed text unpack to many megabytes, and a chunk may claim more bytes than the file has, for
    which decoders take memory before they look. Raises DamagedImageError when a chunk reaches behind the end.
    """
    kept: list[bytes | memoryview] = [MAGIC]
    view = memoryview(data)
    start, position, whole = FIRST_CHUNK, FIRST_CHUNK, True
    for chunk in read_chunks(data):
        after = chunk.end + 4
        if chunk.kind not in _NEEDED:
            whole = False
            kept.append(view[start:position])
            start = after
        position = after
    kept.append(view[start:position])
    return data if whole else b"".join(kept)
