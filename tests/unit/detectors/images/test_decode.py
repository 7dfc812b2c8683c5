"""Checks that encoded images of many kinds become BGR pixels, and broken ones raise one clear error."""

from __future__ import annotations

import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from detectors.images.decode import decode_image, image_size
from infra.errors import ImageCorruptError

WIDTH, HEIGHT = 61, 40
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")


def picture() -> NDArray[np.uint8]:
    """A smooth RGB picture whose corners differ, so that turned or swapped channels show."""
    x, y = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    return np.stack((x, y, 255 - x), axis=2).astype(np.uint8)


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    out = BytesIO()
    Image.fromarray(picture()).convert(mode).save(out, kind, **options)
    return out.getvalue()


def decoded(data: bytes) -> NDArray[np.uint8]:
    image = decode_image(data, max_pixels=10_000)
    assert (image.dtype, image.shape) == (np.uint8, (HEIGHT, WIDTH, 3))
    return image


def assert_near(image: NDArray[np.uint8], rgb: NDArray[np.uint8], within: float) -> None:
    assert np.abs(image[..., ::-1].astype(int) - rgb).mean() <= within


@pytest.mark.parametrize("kind", FORMATS)
def test_colour_is_decoded_as_bgr(kind: str) -> None:
    assert_near(decoded(encoded(kind)), picture(), 0 if kind in {"PNG", "TIFF"} else 4)


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "L", {}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("PNG", "L", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("TIFF", "L", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("WEBP", "RGBA", {"lossless": False}),
    ],
)
def test_grey_palette_alpha_and_compressions(kind: str, mode: str, options: dict[str, object]) -> None:
    image = decoded(encoded(kind, mode, **options))
    if mode in {"L", "LA"}:
        assert (image[..., 0] == image[..., 2]).all()
    elif mode in {"RGB", "RGBA"}:
        assert_near(image, picture(), 4)


def test_four_ink_jpeg() -> None:
    assert_near(decoded(encoded("JPEG", "CMYK", quality=95)), picture(), 6)


def test_transparent_pixels_keep_their_colour() -> None:
    rgba = np.dstack((picture(), np.zeros((HEIGHT, WIDTH), np.uint8)))
    out = BytesIO()
    Image.fromarray(rgba).save(out, "PNG")
    assert_near(decoded(out.getvalue()), picture(), 0)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_are_cut_to_their_upper_eight(suffix: str, channels: int) -> None:
    wide = picture()[..., ::-1].astype(np.uint16) * 257
    done, data = cv2.imencode(suffix, wide if channels == 3 else wide[..., 0])
    assert done
    image = decoded(data.tobytes())
    expected = picture()[..., ::-1] if channels == 3 else picture()[..., 2:]
    assert np.abs(image.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_not_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(kind, exif=exif)
    assert image_size(data) == (WIDTH, HEIGHT)
    assert_near(decoded(data), picture(), 4)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_header_gives_the_size(kind: str) -> None:
    for options in [{}, {"lossless": True}] if kind == "WEBP" else [{}]:
        assert image_size(encoded(kind, **options)) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", FORMATS)
def test_too_many_pixels_are_refused_before_decoding(kind: str) -> None:
    with pytest.raises(ImageCorruptError, match=r"61×40 pixels.*max_pixels = 2439"):
        decode_image(encoded(kind), max_pixels=WIDTH * HEIGHT - 1)


def test_a_header_of_fifty_thousand_squared_allocates_nothing() -> None:
    data = bytearray(encoded("PNG"))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageCorruptError, match="50000×50000"):
        decode_image(bytes(data), max_pixels=200_000_000)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_images_are_corrupt(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    out = BytesIO()
    Image.fromarray(noise).save(out, kind)
    data = out.getvalue()
    with pytest.raises(ImageCorruptError):
        decode_image(data[: int(len(data) * share)], max_pixels=10_000)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"hello world, this is text", b"GIF89a" + bytes(40), b"RIFF\0\0\0\0WEBPVP9 "]
)
def test_bytes_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(ImageCorruptError):
        decode_image(data, max_pixels=10_000)


@settings(deadline=None)
@given(kind=st.sampled_from(FORMATS), place=st.integers(0, 300), value=st.binary(min_size=1, max_size=6))
def test_damaged_bytes_give_a_picture_or_image_corrupt_error(kind: str, place: int, value: bytes) -> None:
    data = bytearray(encoded(kind))
    data[place : place + len(value)] = value
    try:
        image = decode_image(bytes(data), max_pixels=1_000_000)
    except ImageCorruptError:
        return
    assert image.dtype == np.uint8
    assert image.shape[2] == 3
