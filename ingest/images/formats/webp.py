"""Scans WebP files: reads the RIFF container, its chunks, and the size in the coded image."""

from __future__ import annotations

from infra.images.webp import matches, read_chunks, read_size, require_whole
from ingest.images.formats.header import Admit, CorruptedFileError, Header, Metadata, Span

__all__ = ["matches", "scan"]


def scan(data: bytes, admit: Admit) -> Header:
    """Return the header of a WebP file.

    Raises ImageError or UnreadableImageError if it is animated, refused by ``admit``, or cut off.
    """
    size = None
    canvas: list[tuple[int, int]] = []
    metadata = Metadata()

    def note(width: int, height: int) -> None:
        canvas.append((width, height))
        admit(width, height)

    for chunk in read_chunks(data):
        if chunk.kind == b"EXIF":
            metadata.exif.append(Span(chunk.start, chunk.end))
        elif chunk.kind == b"XMP ":
            metadata.xmp.append(Span(chunk.start, chunk.end))
        elif size is None:
            size = read_size(data, chunk, note)
    if size is None:
        raise CorruptedFileError("the WebP file holds no picture")
    require_whole(canvas[0], size)
    return Header(*size, metadata)
