"""Scans TIFF files: accepts those that every detector can read, with all strips or tiles of the picture in the file."""

from __future__ import annotations

from infra.errors import ImageCorruptError
from infra.tiff.coded_chunks import check_coded_chunks
from infra.tiff.directory import MAGICS
from infra.tiff.layout import layout_of
from infra.tiff.verdict import verdict_of
from ingest.images.formats.header import Admit, CorruptedFileError, Header, InvalidFormatError, Metadata, Span

__all__ = ["MAGICS", "scan"]


def scan(data: bytes, admit: Admit) -> Header:
    """Return the header of a TIFF file (its first page).

    Raises ImageError or UnreadableImageError if it is cut off, or of a kind that detectors refuse: they decide by the
    same functions, so none refuses by its headers what is accepted here.
    """
    try:
        layout = layout_of(data)
        admit(layout.width, layout.height)
        verdict = verdict_of(layout)
        if verdict.reader != "plain":
            raise InvalidFormatError(verdict.reason)
        layout.places()
        check_coded_chunks(layout)
    except ImageCorruptError as error:
        raise CorruptedFileError(str(error)) from error
    # EXIF readers know classic TIFF only.
    is_classic = not layout.directory.big
    return Header(layout.width, layout.height, Metadata(exif=[Span(0, len(data))] if is_classic else []))
