"""Images are recognised by content, within limits, and cut-off files are found without decoding."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ingest.images.check import (
    CorruptedFileError,
    FileTooLargeError,
    ImageError,
    ImageInfo,
    ImageLimits,
    InvalidDimensionsError,
    InvalidFormatError,
    inspect_image,
)
from tests.png_files import chunk

LIMITS = ImageLimits(max_image_bytes=10_000_000, min_side_px=256, max_side_px=16_384, max_pixels=120_000_000)
ANY_SIZE = ImageLimits(max_image_bytes=10_000_000, min_side_px=1, max_side_px=16_384, max_pixels=120_000_000)

ENCODINGS: dict[str, tuple[str, dict[str, object]]] = {
    "jpeg": ("JPEG", {}),
    "jpeg-progressive": ("JPEG", {"progressive": True}),
    "jpeg-444": ("JPEG", {"subsampling": 0, "quality": 95}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "webp-lossless": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg"}),
}
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff"}


def encode(name: str, width: int = 320, height: int = 272, mode: str = "RGB") -> bytes:
    picture = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    form, options = ENCODINGS[name]
    out = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(out, form, **options)
    return out.getvalue()


def jpeg_header(width: int, height: int, *, marker: int = 0xC0, precision: int = 8, components: int = 3) -> bytes:
    """The start of a JPEG file up to and with its frame header."""
    parts = b"".join(bytes((number + 1, 0x11, 0)) for number in range(components))
    frame = struct.pack(">BHHB", precision, height, width, components) + parts
    return b"\xff\xd8\xff" + bytes((marker,)) + struct.pack(">H", len(frame) + 2) + frame


JPEG_SCAN = b"\xff\xda\0\x0c\x03\x01\0\x02\0\x03\0\0\x3f\0"
"""The header of a scan of three components."""


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"", end: bool = True) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"IDAT", data) if data else b"") + (chunk(b"IEND", b"") if end else b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(entries: dict[int, tuple[int, int, int]], *, tail: bytes = b"", order: str = "<") -> bytes:
    """A TIFF file of one directory; entries are tag: (type, count, value or offset)."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    rows = b""
    for tag, (kind, count, value) in sorted(entries.items()):
        packed = struct.pack(f"{order}H2x", value) if kind == 3 and count == 1 else struct.pack(f"{order}I", value)
        rows += struct.pack(f"{order}HHI", tag, kind, count) + packed
    return magic + struct.pack(f"{order}IH", 8, len(entries)) + rows + b"\0\0\0\0" + tail


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", list(ENCODINGS))
def test_inspect_image_recognises_each_format_and_size(name: str, mode: str) -> None:
    data = encode(name, 320, 272, mode)
    info = inspect_image(data, LIMITS)
    assert (info.media_type, info.width, info.height) == (MEDIA_TYPES[ENCODINGS[name][0]], 320, 272)
    assert info.size_bytes == len(data)


@pytest.mark.parametrize("name", [name for name in ENCODINGS if name != "tiff-jpeg"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_off_file_is_corrupted(name: str, share: float) -> None:
    data = encode(name)
    with pytest.raises(CorruptedFileError):
        inspect_image(data[: int(len(data) * share)], LIMITS)


@pytest.mark.parametrize("name", list(ENCODINGS))
def test_every_cut_of_a_header_is_refused(name: str) -> None:
    data = encode(name)
    for cut in range(1, 400):
        with pytest.raises(ImageError):
            inspect_image(data[:cut], LIMITS)


def test_a_plain_picture_compresses_far_and_is_no_corruption() -> None:
    for name, (form, options) in ENCODINGS.items():
        out = io.BytesIO()
        Image.new("RGB", (2000, 1500), (10, 200, 30)).save(out, form, **options)
        if len(out.getvalue()) <= LIMITS.max_image_bytes:
            assert inspect_image(out.getvalue(), LIMITS).width == 2000, name


@pytest.mark.parametrize(
    "data", [b"", b"hello, I am a text file renamed .jpg", b"GIF89a" + bytes(100), b"BM" + bytes(99)]
)
def test_other_content_is_no_image(data: bytes) -> None:
    with pytest.raises(InvalidFormatError):
        inspect_image(data, LIMITS)


def test_inspect_image_of_no_bytes_raises_invalid_format_error() -> None:
    with pytest.raises(InvalidFormatError, match="empty"):
        inspect_image(b"", LIMITS)


def test_too_many_bytes_are_refused_before_the_content_is_looked_at() -> None:
    with pytest.raises(FileTooLargeError, match=r"10000001.*10000000.*max_image_bytes"):
        inspect_image(bytes(10_000_001), LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        jpeg_header(50_000, 50_000),
        png(50_000, 50_000),
        tiff({256: (4, 1, 50_000), 257: (4, 1, 50_000), 258: (3, 1, 8)}),
    ],
    ids=["jpeg", "png", "tiff"],
)
def test_a_header_that_claims_a_bomb_is_refused_for_its_size(data: bytes) -> None:
    with pytest.raises(InvalidDimensionsError, match="50000x50000"):
        inspect_image(data, LIMITS)


def test_limits_are_for_sides_and_for_the_area() -> None:
    with pytest.raises(InvalidDimensionsError, match="min_side_px"):
        inspect_image(encode("jpeg", 255, 272), LIMITS)
    with pytest.raises(InvalidDimensionsError, match="max_side_px"):
        inspect_image(jpeg_header(16_385, 300), LIMITS)
    with pytest.raises(InvalidDimensionsError, match="max_pixels"):
        inspect_image(jpeg_header(12_000, 12_000), LIMITS)
    assert inspect_image(encode("jpeg", 256, 256), LIMITS).width == 256


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (jpeg_header(300, 300, marker=0xC3), InvalidFormatError, "SOF3"),
        (jpeg_header(300, 300, precision=12), InvalidFormatError, "12 bits"),
        (jpeg_header(300, 300, components=2), InvalidFormatError, "2 components"),
        (jpeg_header(300, 0), InvalidDimensionsError, "0 lines"),
        (b"\xff\xd8\xff\xd9", CorruptedFileError, "no picture"),
        (b"\xff\xd8\xff\xda\0\x04\0\0", CorruptedFileError, "scan before"),
        (jpeg_header(300, 300) + JPEG_SCAN + b"\xff\xd9", CorruptedFileError, "need at least"),
        (png(300, 300, depth=3, data=b"x"), InvalidFormatError, "3 bits"),
        (png(300, 300), CorruptedFileError, "too few"),
        (png(3000, 3000, data=b"x\x9c"), CorruptedFileError, "too few"),
        (png(300, 300, data=b"x\x9c" + bytes(997), end=False), CorruptedFileError, "cut off"),
        (tiff({256: (4, 1, 300)}), CorruptedFileError, "no picture size"),
        (tiff({256: (4, 1, 300), 257: (4, 1, 300), 258: (3, 1, 17)}), InvalidFormatError, "17 bits"),
        (
            tiff({256: (4, 1, 300), 257: (4, 1, 300), 259: (3, 1, 34887)}),
            InvalidFormatError,
            "compression 34887 .LERC.*geo",
        ),
        (tiff({256: (4, 1, 300), 257: (4, 1, 300), 50706: (3, 1, 1)}), InvalidFormatError, "raw"),
        (b"II+\0" + bytes(60), CorruptedFileError, "entries"),
    ],
)
def test_inspect_image_refuses_unsupported_variants_with_reason(
    data: bytes, error: type[ImageError], text: str
) -> None:
    with pytest.raises(error, match=text):
        inspect_image(data, LIMITS)


def test_an_animation_is_no_frame() -> None:
    out = io.BytesIO()
    pictures = [Image.new("RGB", (300, 300), (shade, 0, 0)) for shade in (10, 200)]
    pictures[0].save(out, "WEBP", save_all=True, append_images=pictures[1:])
    with pytest.raises(InvalidFormatError, match="animation"):
        inspect_image(out.getvalue(), LIMITS)


def test_a_thumbnail_s_end_marker_does_not_hide_a_cut() -> None:
    thumbnail = encode("jpeg", 64, 64)
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 8) + b"Exif\0\0" + thumbnail
    whole = encode("jpeg")
    data = whole[:2] + segment + whole[2:]
    assert inspect_image(data, LIMITS).width == 320
    with pytest.raises(CorruptedFileError, match="no end marker"):
        inspect_image(data[:-500], LIMITS)


def test_bytes_behind_the_end_are_tolerated() -> None:
    for name in ("jpeg", "png", "webp"):
        assert inspect_image(encode(name) + b"a preview, as cameras append it", LIMITS).width == 320


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * 9_000_000,
        b"\xff\xd8" + b"\xff\xe0\0\x02" * 2_000_000,
        b"\xff\xd8" + b"\xff\x01" * 4_000_000,
        png(300, 300)[:33] + chunk(b"tEXt", b"") * 700_000,
        b"RIFF" + struct.pack("<I", 8_000_004) + b"WEBP" + b"JUNK\0\0\0\0" * 1_000_000,
        tiff({256: (4, 1, 300), 257: (4, 1, 300), 258: (3, 1, 8), 273: (4, 2_000_000, 8), 279: (4, 2_000_000, 8)})
        + bytes(9_000_000),
    ],
    ids=["fill", "segments", "markers", "png", "webp", "tiff"],
)
def test_hostile_files_cost_little_time(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(ImageError):
        inspect_image(data, LIMITS)
    # Not a speed test: the worst takes some hundredths of a second, and anything quadratic would take hours.
    assert time.process_time() - started < 5


def _inspect(data: bytes) -> ImageInfo | None:
    try:
        info = inspect_image(data, ANY_SIZE)
    except ImageError:
        return None
    assert 0 < info.width <= ANY_SIZE.max_side_px
    assert 0 < info.height <= ANY_SIZE.max_side_px
    for span in (*info.metadata.exif, *info.metadata.xmp, *info.metadata.extended_xmp):
        assert 0 <= span.start <= span.end <= len(data)
    return info


_MAGICS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBP", b"II*\0", b"MM\0*", b"")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(_MAGICS), st.binary(max_size=600))
def test_no_bytes_at_all_break_the_parser(magic: bytes, rest: bytes) -> None:
    _inspect(magic + rest)


_SMALL = {name: encode(name, 40, 24) for name in ENCODINGS}


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(_SMALL)),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 4000),
)
def test_no_damage_to_a_real_file_breaks_the_parser(name: str, edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(_SMALL[name])
    for position, value in edits:
        data[position % len(data)] = value
    _inspect(bytes(data[: len(data) - cut] if cut < len(data) else data))
