"""Reads from a picture when it was taken, and whether it is complete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from sys import maxsize

from ingest.images.check import CorruptedFileError, ImageError, ImageLimits, inspect_image
from ingest.images.exif import read_capture

# Which pictures are accepted is for the gateway to say.
_NO_LIMITS = ImageLimits(max_image_bytes=maxsize, min_side_px=1, max_side_px=maxsize, max_pixels=maxsize)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ARCHIVED = re.compile(r"(?:^|/)(\d{4}-\d\d-\d\d)/(\d\d-\d\d-\d\d)_[0-9a-f]{4,64}\.[a-z]{3,4}$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Examined:
    """Says what a picture's content tells."""

    captured_at: datetime | None
    """The capture time in EXIF or XMP, as the gateway reads it."""
    is_cut_off: bool
    """It begins as a picture and does not end as one: its writer may still be at work."""


def examine_picture(image: bytes) -> Examined:
    """Examine ``image``; bytes that are no picture are complete, too, and have no capture time."""
    try:
        return Examined(read_capture(image, inspect_image(image, _NO_LIMITS)).captured_at, False)
    except CorruptedFileError:
        return Examined(None, True)
    except ImageError:
        return Examined(None, False)


def time_of_writing(mtime_ns: int) -> datetime:
    """Return when a file was last written, from its ``st_mtime_ns``.

    It belongs to the file: one that is found again after a power cut has the same, so that it is the same frame.
    """
    return _EPOCH + timedelta(microseconds=max(mtime_ns, 0) // 1_000)


def time_in_path(path: str) -> datetime | None:
    """Return the time in the path of a picture of an archive (``…/2026-05-01/12-30-00_1a2b.jpg``, UTC); None without.

    :func:`schemas.archive_paths.archive_path` makes such paths.
    """
    match = _ARCHIVED.search(path)
    if match is None:
        return None
    try:
        return datetime.strptime(f"{match[1]} {match[2]}", "%Y-%m-%d %H-%M-%S").replace(tzinfo=UTC)
    except ValueError:
        return None
