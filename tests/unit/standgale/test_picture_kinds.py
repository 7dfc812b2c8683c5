"""Checks that detectors read every kind of JPEG, PNG and WebP that the gateway accepts, and refuse what it refuses."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from detectors.images.decode import decode_image
from ingest.images.check import ImageError, ImageLimits, inspect_image
from tests.doors import assert_refused_alike
from tests.jpeg_files import jpeg, noise, scan_bomb
from tests.png_files import chunk

SIDE = 300
LIMITS = ImageLimits(max_image_bytes=10_000_000, min_side_px=1, max_side_px=16_384, max_pixels=1_000_000)
SMOOTH = np.stack([*np.meshgrid(np.arange(SIDE) * 4 // 5, np.arange(SIDE) // 2), np.full((SIDE, SIDE), 90)], axis=2)


def encoded(kind: str, mode: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture = Image.fromarray(SMOOTH.astype(np.uint8))
    image = Image.fromarray(SMOOTH[..., 0].astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
    image.save(out, kind, **options)
    return out.getvalue()


def png(
    depth: int,
    colour: int,
    raw: bytes,
    *,
    interlace: int = 0,
    side: int = 8,
    palette: bytes = bytes(range(48)),
    twice: bool = False,
    skip: int = 0,
) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, interlace)
    colours = chunk(b"PLTE", palette) if colour == 3 else b""
    headers = chunk(b"IHDR", header) * (2 if twice else 1)
    body = [headers, colours, chunk(b"IDAT", zlib.compress(raw)[skip:]), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def rows(depth: int, channels: int, side: int = 8) -> bytes:
    width = -(-side * depth * channels // 8)
    return b"".join(b"\0" + bytes((17 * row + place) % 251 for place in range(width)) for row in range(side))


def interlaced() -> bytes:
    """Return the seven passes (Adam7) of an 8×8 grey picture."""
    sizes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    return b"".join(b"\0" + bytes(range(9, 9 + width)) for width, height in sizes for _ in range(height))


READ = {
    "jpeg": encoded("JPEG", "RGB"),
    "jpeg grey": encoded("JPEG", "L"),
    "jpeg progressive": encoded("JPEG", "RGB", progressive=True),
    "jpeg 4:4:4": encoded("JPEG", "RGB", subsampling=0),
    "jpeg four inks": encoded("JPEG", "CMYK"),
    "jpeg without YCbCr": encoded("JPEG", "RGB", keep_rgb=True),
    "jpeg with several pictures": encoded("JPEG", "RGB") + jpeg(64, 48),
    "jpeg with zeros behind": encoded("JPEG", "RGB") + bytes(4_096),
    "jpeg with stray bytes": encoded("JPEG", "RGB")[:-2] + b"stray\xff\xd9",
    "png": encoded("PNG", "RGB"),
    "png alpha": encoded("PNG", "RGBA"),
    "png grey alpha": encoded("PNG", "LA"),
    "png palette": encoded("PNG", "P"),
    "png palette with transparency": encoded("PNG", "P", transparency=3),
    "png transparent colour": encoded("PNG", "RGB", transparency=(1, 2, 3)),
    "png 1 bit": encoded("PNG", "1"),
    "png 2 bits": png(2, 0, rows(2, 1)),
    "png 4 bits": png(4, 3, bytes(40)),
    "png 16 bits grey": encoded("PNG", "I;16"),
    "png 16 bits colour": png(16, 2, rows(16, 3)),
    "png 16 bits colour alpha": png(16, 6, rows(16, 4)),
    "png interlaced": png(8, 0, interlaced(), interlace=1),
    "png animated": encoded("PNG", "RGB", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))]),
    "webp": encoded("WEBP", "RGB"),
    "webp alpha": encoded("WEBP", "RGBA"),
    "webp lossless": encoded("WEBP", "RGB", lossless=True),
    "webp lossless alpha": encoded("WEBP", "LA", lossless=True),
}
JPEG = encoded("JPEG", "RGB")
FRAME, SCAN = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")
PALETTE = png(8, 3, bytes(72))
PALETTE_AT = PALETTE.index(b"PLTE") - 4


def riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def with_odd_alpha() -> bytes:
    """Return a WebP whose chunk of transparency is of no known kind."""
    side = (SIDE - 1).to_bytes(3, "little")
    header = b"VP8X" + struct.pack("<II", 10, 0x10) + side + side
    return riff(header + b"ALPH\2\0\0\0\xff\0" + encoded("WEBP", "RGB")[12:])


REFUSED = {
    "jpeg lossless": (JPEG[: FRAME + 1] + b"\xc3" + JPEG[FRAME + 2 :], "lossless"),
    "jpeg arithmetic": (JPEG[: FRAME + 1] + b"\xc9" + JPEG[FRAME + 2 :], "arithmetic"),
    "jpeg 12 bits": (JPEG[: FRAME + 4] + b"\x0c" + JPEG[FRAME + 5 :], "12 bits"),
    "jpeg scan bomb": (scan_bomb(900, 900, 2_000), "scans"),
    "webp animated": (
        encoded("WEBP", "RGB", save_all=True, append_images=[Image.new("RGB", (SIDE, SIDE))]),
        "animation",
    ),
    "gif": (encoded("GIF", "P"), "GIF"),
    "bmp": (encoded("BMP", "RGB"), "BMP"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(90), "HEIC"),
    "avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(90), "AVIF"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(90), "MP4"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(90), "JPEG 2000"),
    "jpeg without quantization": (JPEG.replace(b"\xff\xdb", b"\xff\xfe"), "no quantization tables"),
    "jpeg with wrong Huffman tables": (JPEG[: SCAN + 6] + b"\x44" + JPEG[SCAN + 7 :], "Huffman tables above 3"),
    "png without palette": (PALETTE[:PALETTE_AT] + PALETTE[PALETTE_AT + 60 :], "no palette"),
    "png with a palette of 5 bytes": (png(8, 3, bytes(72), palette=bytes(5)), "5 bytes"),
    "png with two headers": (png(8, 0, bytes(72), twice=True), "two headers"),
    "png of changed data": (png(8, 0, bytes(72)).replace(b"IDATx", b"IDATy"), "checksum.*IDAT"),
    "png without zlib": (png(8, 0, bytes(72), skip=2), "zlib header"),
    "webp that begins with a text": (riff(b"EXIF\4\0\0\0abcd" + encoded("WEBP", "RGB")[12:]), "begins with chunk"),
    "webp with odd transparency": (with_odd_alpha(), "transparency"),
    "png cut": (encoded("PNG", "RGB")[:-100], "cut off"),
    "webp cut": (encoded("WEBP", "RGB")[:-100], "cut off"),
}


@pytest.mark.parametrize("name", list(READ))
def test_kinds_that_the_gateway_accepts_are_decoded_in_the_size_of_their_header(name: str) -> None:
    info = inspect_image(READ[name], LIMITS)
    image = decode_image(READ[name], max_pixels=LIMITS.max_pixels)
    assert image.shape == (info.height, info.width, 3)
    if info.width == SIDE and "1 bit" not in name and "palette" not in name:
        grey = "grey" in name or name == "webp lossless alpha"
        wanted = np.asarray(Image.fromarray(SMOOTH.astype(np.uint8)).convert("L").convert("RGB")) if grey else SMOOTH
        wanted = np.repeat(SMOOTH[..., :1], 3, axis=2) if "16 bits grey" in name else wanted
        assert np.abs(image[..., ::-1].astype(int) - wanted).mean() < 5


@pytest.mark.parametrize("name", list(REFUSED))
def test_kinds_that_the_gateway_refuses_are_refused_by_detectors_in_the_same_words(name: str) -> None:
    assert_refused_alike(*REFUSED[name], LIMITS)


def test_a_jpeg_without_end_marker_is_refused_at_upload_as_cut_off() -> None:
    with pytest.raises(ImageError, match="no end marker"):
        inspect_image(JPEG[:-2], LIMITS)


def test_noise_is_no_picture() -> None:
    with pytest.raises(ImageError, match="not an image"):
        inspect_image(b"\x07" + noise().tobytes(), LIMITS)
