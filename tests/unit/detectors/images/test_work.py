"""Checks which images are decoded in the worker's own threads."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from detectors.images.work import has_bounded_work
from tests.jpeg_files import jpeg, noise, scan_bomb

MOST = 200_000_000


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise()).convert(mode).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [jpeg(), jpeg(progressive=True), jpeg(mode="CMYK"), encoded("PNG"), encoded("WEBP"), b"\xff\xd8\xff"],
)
def test_ordinary_and_refused_images_are_bounded(data: bytes) -> None:
    assert has_bounded_work(data, MOST)


def test_a_large_png_and_many_scans_are_not_bounded() -> None:
    large = bytearray(encoded("PNG"))
    large[16:24] = (9_000).to_bytes(4) * 2
    assert not has_bounded_work(bytes(large), MOST)
    # It is refused for its size.
    assert has_bounded_work(bytes(large), 9_000)
    assert not has_bounded_work(scan_bomb(9_600, 9_600, 20), MOST)


@pytest.mark.parametrize(
    "data",
    [
        encoded("WEBP", lossless=True),
        encoded("WEBP", "LA", exact=True, alpha_quality=50, lossless=True),
        encoded("TIFF"),
        encoded("TIFF", compression="tiff_lzw"),
    ],
)
def test_compression_of_unknown_cost_is_not_bounded(data: bytes) -> None:
    assert not has_bounded_work(data, MOST)
