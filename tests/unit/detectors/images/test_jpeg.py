"""Checks that JPEG files with warnings give the pixels of every other program, and that cut ones are refused."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.geometry.arrays import ImageArray
from detectors.images.decode import decode_image
from infra.errors import ImageCorruptError
from tests.jpeg_files import jpeg, scan_bomb

MOST = 100_000


def opencv(data: bytes) -> NDArray[np.uint8]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_BGR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert image is not None
    return image.astype(np.uint8)


def before_end(data: bytes) -> bytes:
    return data[:-2] + b"stray bytes." + data[-2:]


def before_restart(data: bytes) -> bytes:
    at = data.index(b"\xff\xd1")
    return data[:at] + b"abc\0\0" + data[at:]


def without_restart(data: bytes) -> bytes:
    at = data.index(b"\xff\xd1")
    return data[:at] + data[at + 2 :]


def damaged_inside(data: bytes) -> bytes:
    at = data.index(b"\xff\xd1")
    return data[: at - 60] + data[at:]


def odd_revision(data: bytes) -> bytes:
    at = data.index(b"JFIF\0") + 5
    return data[:at] + b"\3\7" + data[at + 2 :]


def stray_in_header(data: bytes) -> bytes:
    return data[:20] + bytes(7) + data[20:]


def with_preview(data: bytes) -> bytes:
    return data + bytes(100) + jpeg(32, 16)


def odd_sampling(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0") + 11
    return data[:at] + b"\x11" + data[at + 1 : at + 3] + b"\x11" + data[at + 4 :]


@pytest.mark.parametrize(
    "change",
    [
        before_end,
        before_restart,
        without_restart,
        damaged_inside,
        odd_revision,
        stray_in_header,
        with_preview,
    ],
)
def test_decode_image_of_a_jpeg_with_warnings_gives_the_pixels_of_opencv(change: Callable[[bytes], bytes]) -> None:
    data = change(jpeg(160, 120, restart_marker_rows=1))
    assert np.array_equal(decode_image(data, max_pixels=MOST), opencv(data))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}])
def test_decode_image_reads_grey_colour_and_four_inks(mode: str, options: dict[str, object]) -> None:
    data = jpeg(61, 43, mode, **options)
    assert np.array_equal(decode_image(data, max_pixels=MOST), opencv(data))


def test_decode_image_reads_sampling_that_only_opencv_knows() -> None:
    data = odd_sampling(jpeg(64, 48, subsampling=0))
    assert decode_image(data, max_pixels=MOST).shape == (48, 64, 3)
    uncommon = bytearray(jpeg(64, 48, subsampling=0))
    at = uncommon.index(b"\xff\xc0") + 11
    # Brightness at half the height of the colours.
    uncommon[at], uncommon[at + 3], uncommon[at + 6] = 0x21, 0x12, 0x12
    assert np.array_equal(decode_image(bytes(uncommon), max_pixels=MOST), opencv(bytes(uncommon)))


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"progressive": True}])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"])
def test_decode_image_of_a_cut_jpeg_raises_image_corrupt_error(
    options: dict[str, object], share: float, end: bytes
) -> None:
    data = jpeg(160, 120, **options)
    start = data.index(b"\xff\xda")
    # Of a progressive picture only the first scan has every place; without the others it is coarse and complete.
    stop = data.index(b"\xff\xc4", start) if "progressive" in options else len(data)
    with pytest.raises(ImageCorruptError, match=r"cut short: the lower \d+ of its 120 rows"):
        decode_image(data[: start + int((stop - start) * share)] + end, max_pixels=MOST)


@pytest.mark.parametrize("left_over", [0, 7, 255])
def test_an_error_after_a_warning_does_not_show_what_the_memory_held_before(left_over: int) -> None:
    data = jpeg(64, 48, progressive=True)
    frame, tables = data.index(b"\xff\xc2"), data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    length = 2 + int.from_bytes(data[frame + 2 : frame + 4])
    broken = data[:tables] + b"stray" + data[frame : frame + length] + data[tables:]

    def memory(size: int) -> ImageArray:
        return np.full(size, left_over, np.uint8)

    with pytest.raises(ImageCorruptError, match=r"the lower 48 of its 48 rows.*two SOF markers"):
        decode_image(broken, max_pixels=MOST, memory=memory)


def test_a_whole_picture_without_end_marker_is_decoded() -> None:
    data = jpeg(160, 120)
    assert np.array_equal(decode_image(data[:-2], max_pixels=MOST), decode_image(data, max_pixels=MOST))


@pytest.mark.parametrize("stray", [b"", b"stray"])
def test_a_picture_that_is_grey_at_its_end_is_no_cut_picture(stray: bytes) -> None:
    grey = np.full((48, 64, 3), 128, np.uint8)
    grey[:16] = 10
    data = cv2.imencode(".jpg", grey)[1].tobytes()
    image = decode_image(data[:-2] + stray + data[-2:], max_pixels=MOST)
    assert (image[-8:] == 128).all()


def test_a_scan_bomb_is_refused_before_memory_is_taken() -> None:
    def memory(size: int) -> ImageArray:
        raise AssertionError(size)

    with pytest.raises(ImageCorruptError, match="scans of 512×512"):
        decode_image(scan_bomb(512, 512, 5_000), max_pixels=512 * 512, memory=memory)
