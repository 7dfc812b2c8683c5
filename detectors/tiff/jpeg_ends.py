"""Recognises JPEG strips and tiles whose data end too early: libtiff fills them with grey, and reports nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg

from infra.errors import ImageCorruptError

# What libjpeg gives where it has no data.
_NO_DATA: Final = 128
_MISSING: Final = re.compile("premature end", re.IGNORECASE)
_MARK_BYTES: Final = 2


def require_all_data(
    chunks: Sequence[bytes], rows: Sequence[int], values: npt.NDArray[np.uint8], bands: int, tables: bytes
) -> None:
    """Raise ImageCorruptError when data are missing at the end of one of ``chunks``, JPEGs of ``rows`` rows each.

    ``values``: what they were decoded into, below each other, ``bands`` for a pixel; ``tables``: what all of them
    share, a JPEG without a picture, or nothing. Only a chunk that ends in grey is decoded again, to be certain.
    """
    ends = np.cumsum(rows) - 1
    for chunk in np.flatnonzero((values[ends, -bands:] == _NO_DATA).all(axis=1)).tolist():
        against = _why_incomplete(chunks[chunk], tables)
        if against is not None:
            raise ImageCorruptError(
                f"a strip or tile of the TIFF is a JPEG that is cut short ({against}); the file is damaged"
            )


def _why_incomplete(chunk: bytes, tables: bytes) -> str | None:
    """Return what a decoder that takes warnings for errors reports about missing data; None without such a report."""
    whole = tables[:-_MARK_BYTES] + chunk[_MARK_BYTES:] if len(tables) > 2 * _MARK_BYTES else chunk
    try:
        simplejpeg.decode_jpeg(whole, colorspace="GRAY", fastdct=True)
    except ValueError as error:
        return str(error) if _MISSING.search(str(error)) else None
    return None
