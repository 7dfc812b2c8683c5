"""Defines the errors and the result of all header parsers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.errors import StandgaleError


class ImageError(StandgaleError):
    """These bytes are not an image that Standgale accepts; sending them again does not help."""

    code = "INVALID_FORMAT"


class InvalidFormatError(ImageError):
    """It is not JPEG, PNG, TIFF or WebP, or it is a variant that detectors cannot decode."""


class FileTooLargeError(ImageError):
    """It has more bytes than an image may have in one request; an original may have more."""

    code = "FILE_TOO_LARGE"


class InvalidDimensionsError(ImageError):
    """It has too few or too many pixels, by its header."""

    code = "INVALID_DIMENSIONS"


class CorruptedFileError(ImageError):
    """The format is known, but the file is cut off or contradictory."""

    code = "CORRUPTED_FILE"


class TooCostlyError(ImageError):
    """Decoding it takes far more work than a picture of its size needs."""

    code = "TOO_COSTLY"


class Span(NamedTuple):
    """Is a range of bytes of a file, from ``start`` (inclusive) to ``end`` (exclusive)."""

    start: int
    end: int


@dataclass(slots=True)
class Metadata:
    """Holds where a file has EXIF blocks and XMP packets, in the file's order; a scanner adds to the lists."""

    exif: list[Span] = field(default_factory=list)
    xmp: list[Span] = field(default_factory=list)
    extended_xmp: list[Span] = field(default_factory=list)
    """The parts of XMP that does not fit into one JPEG segment, each with its GUID, full length and offset before."""
    unread: set[str] = field(default_factory=set)
    """Names metadata in a form that is not read."""


@dataclass(frozen=True, slots=True)
class Header:
    """Holds the result of a scan: the size in stored pixels, and the positions of metadata."""

    width: int
    height: int
    metadata: Metadata = field(default_factory=Metadata)


Admit = Callable[[int, int], None]
"""Is called with width and height as soon as they are known, so that a decompression bomb is refused before more is
read; raises InvalidDimensionsError."""
