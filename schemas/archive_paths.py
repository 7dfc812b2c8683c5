"""Computes the path of a frame in the archive, which is known before the archive has the frame."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.events import EXTENSIONS

LEAST_DIGITS = 4


def archive_path(
    device_id: str, captured_at: datetime, sha256: str, media_type: str, digits: int = LEAST_DIGITS
) -> str:
    """Return ``images/{device}/{date}/{time}_{first digits of the SHA-256}.{ext}``, in UTC.

    The archive uses more ``digits`` for the later one of two frames of a device that share second and digits.
    """
    moment = captured_at.astimezone(UTC)
    name = f"{moment:%H-%M-%S}_{sha256[:digits]}.{EXTENSIONS[media_type]}"
    # Not strftime: it writes the year 999 with three digits.
    return f"images/{device_id}/{moment.date().isoformat()}/{name}"
