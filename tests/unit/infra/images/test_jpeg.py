"""Checks which JPEG files are decoded, and that the work of their scans is known before."""

from __future__ import annotations

import time

import pytest

from infra.images.errors import CostlyImageError, DamagedImageError, EmptyImageError, UnsupportedImageError
from infra.images.jpeg import MOST_SCANS_OF_LARGEST, header_of
from tests.jpeg_files import jpeg, scan_bomb

MOST = 10_000_000


def with_frame(data: bytes, at: int, *values: int) -> bytes:
    """Return ``data`` with bytes of its frame header replaced, from its marker on."""
    start = next(place for place in range(len(data)) if data[place] == 0xFF and data[place + 1] in {0xC0, 0xC2})
    changed = bytearray(data)
    changed[start + at : start + at + len(values)] = bytes(values)
    return bytes(changed)


def test_header_of_gives_size_and_pixels_of_the_only_scan_of_a_baseline_picture() -> None:
    frame, pixels = header_of(jpeg(64, 48, subsampling=0), MOST)
    assert (frame.width, frame.height, frame.components, frame.progressive) == (64, 48, 3, False)
    assert pixels == 3 * 64 * 48


@pytest.mark.parametrize(("mode", "most"), [("L", 6), ("RGB", 10), ("CMYK", 18)])
def test_scans_of_ordinary_progressive_pictures_are_accepted(mode: str, most: int) -> None:
    frame, pixels = header_of(jpeg(640, 480, mode, progressive=True), 640 * 480)
    assert frame.progressive
    assert 640 * 480 < pixels <= most * 2 * 640 * 480


def test_scan_bomb_raises_costly_image_error_with_figures() -> None:
    data = scan_bomb(1024, 1024, 400)
    header_of(data, 20_000_000)
    with pytest.raises(CostlyImageError, match=rf"more than \d+ scans of 1024×1024.*{MOST_SCANS_OF_LARGEST} × 1048576"):
        header_of(data, 1024 * 1024)


def test_search_for_scans_ends_at_the_bound() -> None:
    data = scan_bomb(1024, 1024, 100_000)
    start = time.process_time()
    with pytest.raises(CostlyImageError):
        header_of(data, 1024 * 1024)
    assert time.process_time() - start < 0.05


def test_marks_of_scans_without_components_are_counted_and_bounded() -> None:
    data = scan_bomb(256, 256, 12)[:-2] + b"\xff\xda\0\x08\x09" * 1_900_000 + b"\xff\xd9"
    start = time.process_time()
    with pytest.raises(CostlyImageError, match="more than 500 scans of 256×256 px; an ordinary"):
        header_of(data, MOST)
    assert time.process_time() - start < 0.05


def test_a_baseline_picture_of_one_scan_is_not_searched() -> None:
    data = jpeg(64, 48) + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 1_000
    assert header_of(data, 64 * 48)[1] < 3 * 64 * 48 * 2


def test_baseline_pictures_with_a_scan_per_component_are_counted() -> None:
    data = with_frame(scan_bomb(256, 256, 400, components=3), 1, 0xC0)
    with pytest.raises(CostlyImageError):
        header_of(data, 256 * 256)


@pytest.mark.parametrize(
    ("at", "values", "error", "text"),
    [
        (1, (0xC3,), UnsupportedImageError, "lossless.*baseline or progressive"),
        (1, (0xC9,), UnsupportedImageError, "arithmetic-coded"),
        (1, (0xC5,), UnsupportedImageError, "hierarchical"),
        (4, (12,), UnsupportedImageError, "12 bits.*16-bit PNG"),
        (5, (0, 0), EmptyImageError, "height open"),
        (7, (0, 0), EmptyImageError, "width of 0"),
        (9, (2,), UnsupportedImageError, "2 components"),
        (11, (0x51,), DamagedImageError, "sampling factor"),
        (11, (0x31, 1, 2, 0x21), UnsupportedImageError, "fraction"),
        (11, (0x44, 1, 2, 0x44), UnsupportedImageError, "larger than the standard"),
    ],
)
def test_header_of_refuses_kinds_that_are_not_decoded_with_words(
    at: int, values: tuple[int, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        header_of(with_frame(jpeg(), at, *values), MOST)


def test_stray_bytes_and_fill_bytes_between_segments_are_skipped() -> None:
    data = jpeg()
    for stray in (bytes(9), b"\xff" * 200, b"abc\xff\0\xff"):
        assert header_of(data[:20] + stray + data[20:], MOST)[0].width == 64


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\xff\xd8" + b"\xff\0" * 5_000_000, b"\xff\xd8\xff\xd9"])
def test_a_header_without_picture_raises_damaged_image_error_soon(data: bytes) -> None:
    start = time.process_time()
    with pytest.raises(DamagedImageError):
        header_of(data, MOST)
    assert time.process_time() - start < 0.1


def test_components_with_the_same_number_get_new_numbers_as_in_libjpeg() -> None:
    data = jpeg(64, 48)
    same = with_frame(data, 10, 1, 0x22, 0, 1, 0x11, 1, 1, 0x11, 1)
    at = same.index(b"\xff\xda") + 5
    same = same[:at] + b"\1\0\1\x11\1\x11" + same[at + 6 :]
    assert header_of(same, MOST)[0].components == 3
