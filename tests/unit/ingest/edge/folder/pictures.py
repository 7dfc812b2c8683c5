"""Makes pictures with EXIF."""

from __future__ import annotations

import io
from datetime import UTC, datetime

from PIL import Image

WHEN = datetime(2026, 4, 1, 7, 30, tzinfo=UTC)


def with_exif_time(jpeg: bytes) -> bytes:
    """Return the picture with WHEN as its capture time, two hours east of Greenwich."""
    exif = Image.Exif()
    inside = exif.get_ifd(0x8769)
    inside[0x9003], inside[0x9011] = "2026:04:01 09:30:00", "+02:00"
    out = io.BytesIO()
    Image.open(io.BytesIO(jpeg)).save(out, "JPEG", exif=exif, quality=60)
    return out.getvalue()
