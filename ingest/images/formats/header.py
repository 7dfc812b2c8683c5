"""What every header parser shares: the errors it may raise, and what it found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from schemas.errors import StandgaleError


class ImageError(StandgaleError):
    """These bytes are not a picture Standgale takes; sending them again cannot help."""

    code = "INVALID_FORMAT"


class InvalidFormatError(ImageError):
    """Not JPEG, PNG, TIFF or WebP, or a variant of them that the detectors cannot decode."""


class FileTooLargeError(ImageError):
    """More bytes than the limit."""

    code = "FILE_TOO_LARGE"


class InvalidDimensionsError(ImageError):
    """Too few or too many pixels, by the header."""

    code = "INVALID_DIMENSIONS"


class CorruptedFileError(ImageError):
    """The format is known, but the file is cut off or contradicts itself."""

    code = "CORRUPTED_FILE"


class Span(NamedTuple):
    """Bytes ``start`` (inclusive) to ``end`` (exclusive) of a file."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a scan found: the size in stored pixels, and where the file keeps its metadata."""

    width: int
    height: int
    exif: Span | None = None
    xmp: Span | None = None


Admit = Callable[[int, int], None]
"""Told width and height as soon as they are known, so that a bomb is refused before anything else is read; raises
InvalidDimensionsError."""
