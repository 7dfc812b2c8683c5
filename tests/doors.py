"""Asks both doors for pictures, the gateway and the decoder of the detectors, whether one is refused."""

from __future__ import annotations

import pytest

from detectors.images.decode import decode_image
from infra.errors import ImageCorruptError
from ingest.images.check import ImageError, ImageLimits, inspect_image


def assert_refused_alike(data: bytes, words: str, limits: ImageLimits) -> None:
    """Check that gateway and detectors refuse ``data`` in the same text, which has ``words`` (a pattern)."""
    with pytest.raises(ImageError, match=words) as at_upload:
        inspect_image(data, limits)
    with pytest.raises(ImageCorruptError, match=words) as in_detector:
        decode_image(data, max_pixels=limits.max_pixels)
    assert str(at_upload.value) == str(in_detector.value)
