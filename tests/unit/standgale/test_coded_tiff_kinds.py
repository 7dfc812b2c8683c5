"""Checks that a TIFF of JPEG or WebP strips is read by gateway and detectors, or refused by both in the same words."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image

from detectors.images.decode import decode_image
from infra.errors import ImageCorruptError
from ingest.images.check import ImageError, ImageLimits, TooCostlyError, inspect_image
from tests.doors import assert_refused_alike
from tests.jpeg_files import scan_bomb
from tests.tiff_bytes import tiff_bytes

WIDTH, HEIGHT = 64, 48
LIMITS = ImageLimits(max_image_bytes=1_000_000, min_side_px=1, max_side_px=16_384, max_pixels=1_000_000)
SCENE = np.stack(
    [*np.meshgrid(np.arange(WIDTH) * 3, np.arange(HEIGHT) * 4), np.full((HEIGHT, WIDTH), 90)], axis=2
).astype(np.uint8)


def coded(kind: str = "JPEG", mode: str = "RGB", rows: slice = slice(None), wide: int = 0, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.pad(SCENE[rows], ((0, 0), (0, wide), (0, 0)))).convert(mode).save(out, kind, **options)
    return out.getvalue()


def tiff(*strips: bytes, tags: Mapping[int, int | tuple[int, ...]] | None = None) -> bytes:
    starts = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    usual = {256: WIDTH, 257: HEIGHT, 258: (8, 8, 8), 259: 7, 262: 6, 277: 3, 278: -(-HEIGHT // len(strips))}
    places = {273: tuple(starts), 279: tuple(map(len, strips))}
    return tiff_bytes(b"".join(strips), {**usual, **places, **(tags or {})})


FULL = coded(subsampling=0, quality=95)
SHARED = coded(subsampling=2, quality=95)
FRAME = FULL.index(b"\xff\xc0")
UPPER, LOWER = slice(0, 24), slice(24, 48)
GREY = {258: 8, 262: 1, 277: 1}
WEBP = {259: 50001, 262: 2}
ONE_TILE = {322: WIDTH, 323: HEIGHT, 324: 8}
PART = FULL[: len(FULL) * 2 // 3]

READ = {
    "colours shared by four pixels": tiff(SHARED),
    "colours of each pixel, which the header leaves out": tiff(FULL),
    "colours of each pixel, of which the header says the contrary": tiff(FULL, tags={530: (2, 2)}),
    "colours shared by two pixels": tiff(coded(subsampling=1, quality=95)),
    "strips that share colours differently": tiff(
        coded(rows=UPPER, subsampling=2, quality=95), coded(rows=LOWER, subsampling=0, quality=95)
    ),
    "progressive": tiff(coded(progressive=True, quality=95)),
    "bytes after the end marker": tiff(FULL + bytes(30)),
    "webp": tiff(coded("WEBP", lossless=True), tags=WEBP),
}
REFUSED = {
    "scans": (tiff(scan_bomb(WIDTH, HEIGHT, 30), tags=GREY), "31 scans"),
    "scans of the last strip": (tiff(coded(mode="L", rows=UPPER), scan_bomb(WIDTH, 24, 30), tags=GREY), "31 scans"),
    "12 bits": (tiff(FULL[: FRAME + 4] + b"\x0c" + FULL[FRAME + 5 :]), "12 bits"),
    "lossless": (tiff(FULL[: FRAME + 1] + b"\xc3" + FULL[FRAME + 2 :]), "lossless"),
    "other components": (tiff(coded(mode="L")), "1 components.*says 3"),
    "too wide": (tiff(coded(wide=16)), "80 pixels wide.*says 64"),
    "shared colours in rgb": (tiff(SHARED, tags={262: 2}), "only YCbCr"),
    "no jpeg": (tiff(coded(rows=UPPER), b"rubbish"), "begins no JPEG"),
    "strip that is cut off": (tiff(coded(rows=UPPER), coded(rows=LOWER)[:-40]), "tile 1 .* without an end marker"),
    "strip whose last third is zeros": (tiff(PART + bytes(len(FULL) - len(PART))), "without an end marker"),
    "tile that is cut off": (tiff(PART, tags={**ONE_TILE, 325: len(PART)}), "without an end marker"),
    "no frame": (tiff(b"\xff\xd8\xff\xd9"), "without a frame header"),
    "webp of another size": (tiff(coded("WEBP", wide=8), tags=WEBP), "72×48.*says 64×48"),
    "no webp": (tiff(FULL, tags=WEBP), "no WebP"),
    "webp that is cut off": (tiff(coded("WEBP")[:-20], tags=WEBP), "cut off"),
}


@pytest.mark.parametrize("name", list(READ))
def test_strips_that_the_gateway_accepts_are_decoded(name: str) -> None:
    inspect_image(READ[name], LIMITS)
    image = decode_image(READ[name], max_pixels=LIMITS.max_pixels)
    assert np.abs(image[..., ::-1].astype(int) - SCENE).mean() < 4


CUT_SHORT = {
    "strip": tiff(PART + b"\xff\xd9"),
    "second strip": tiff(coded(rows=UPPER), coded(rows=LOWER, subsampling=0, quality=95)[:-300] + b"\xff\xd9"),
    "tile": tiff(PART + b"\xff\xd9", tags={**ONE_TILE, 325: len(PART) + 2}),
    "strip of one band": tiff(coded(mode="L", quality=95)[:-300] + b"\xff\xd9", tags=GREY),
    "strip of four inks": tiff(
        coded(mode="CMYK", quality=95)[:-300] + b"\xff\xd9", tags={258: (8,) * 4, 262: 5, 277: 4}
    ),
}


@pytest.mark.parametrize("name", list(CUT_SHORT))
def test_strip_with_an_end_marker_but_not_all_data_is_refused_by_the_decoder(name: str) -> None:
    with pytest.raises(ImageCorruptError, match=r"cut short .*premature end"):
        decode_image(CUT_SHORT[name], max_pixels=LIMITS.max_pixels)


def test_strip_that_is_as_grey_as_missing_data_is_decoded() -> None:
    out = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (128, 128, 128)).save(out, "JPEG")
    assert (decode_image(tiff(out.getvalue()), max_pixels=LIMITS.max_pixels) == 128).all()


@pytest.mark.parametrize("name", list(REFUSED))
def test_strips_that_no_detector_decodes_are_refused_at_upload_in_the_same_words(name: str) -> None:
    assert_refused_alike(*REFUSED[name], LIMITS)


def test_many_scans_of_a_strip_are_refused_as_too_costly() -> None:
    with pytest.raises(TooCostlyError):
        inspect_image(REFUSED["scans"][0], LIMITS)


def test_of_many_tiles_the_first_and_the_last_have_their_header_read() -> None:
    tile = io.BytesIO()
    Image.fromarray(SCENE[:16, :16]).convert("L").save(tile, "JPEG")
    good, side = tile.getvalue(), 16 * 50
    sizes = [len(good)] * 2_500
    tags = {**GREY, 256: side, 257: side, 322: 16, 323: 16, 325: tuple(sizes)}
    starts = [8 + number % 400 * len(good) for number in range(2_500)]
    content = good * 400
    inspect_image(tiff_bytes(content + b"rubbish" * 99, {259: 7, **tags, 324: tuple(starts)}), LIMITS)
    with pytest.raises(ImageError, match="begins no JPEG"):
        starts[-1] = 8 + len(content)
        inspect_image(tiff_bytes(content + b"rubbish" * 99, {259: 7, **tags, 324: tuple(starts)}), LIMITS)
