"""Checks that a PNG decoder gets the chunks of the picture only."""

from __future__ import annotations

import io
import resource
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from detectors.images.decode import decode_image
from detectors.images.png import bounded_png
from infra.errors import ImageCorruptError
from infra.images.errors import DamagedImageError
from infra.images.png import read_header
from tests.png_files import chunk


def png(**options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(3072, dtype=np.uint8).reshape(32, 32, 3)).save(out, "PNG", **options)
    return out.getvalue()


def of_picture(data: bytes) -> bytes:
    return bounded_png(data, read_header(data))


def test_bounded_png_of_a_plain_picture_returns_the_same_object() -> None:
    data = png()
    assert of_picture(data) is data


def test_texts_and_profiles_are_not_unpacked() -> None:
    plain = png()
    bomb = zlib.compress(bytes(8_000_000), 9)
    extras = [chunk(b"zTXt", b"a\0\0" + bomb)] * 50 + [chunk(b"iCCP", b"a\0\0" + bomb)]
    data = plain[:33] + b"".join(extras) + plain[33:]
    assert of_picture(data) == plain
    assert np.array_equal(decode_image(data, max_pixels=2_000), decode_image(plain, max_pixels=2_000))


def test_an_animated_png_gives_its_first_picture() -> None:
    first = Image.new("RGB", (32, 32), (10, 200, 30))
    out = io.BytesIO()
    first.save(out, "PNG", save_all=True, append_images=[Image.new("RGB", (32, 32), (0, 0, 0))])
    assert (decode_image(out.getvalue(), max_pixels=2_000) == (30, 200, 10)).all()


@pytest.mark.parametrize("kind", [b"IDAT", b"PLTE", b"zTXt", b"abCd"])
def test_a_chunk_that_claims_more_than_the_file_has_costs_no_memory(kind: bytes) -> None:
    data = png()[:33] + struct.pack(">I", 0x7FFF_FFFF) + kind + bytes(300)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageCorruptError, match="claims 2147483647 bytes"):
        decode_image(data, max_pixels=2_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_picture_without_end_chunk_is_cut_short() -> None:
    with pytest.raises(DamagedImageError, match="IEND"):
        of_picture(png()[:-12])


def test_metadata_of_cameras_and_programs_is_left_out() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a")
    data = png(pnginfo=info, dpi=(72, 72))
    assert np.array_equal(decode_image(data, max_pixels=2_000), decode_image(png(), max_pixels=2_000))


def packed(megabytes: int) -> bytes:
    """Return zeros as zlib data; the megabytes are packed once and repeated."""
    packing = zlib.compressobj(9, wbits=-15)
    block = packing.compress(bytes(1 << 20)) + packing.flush(zlib.Z_FULL_FLUSH)
    checksum = ((megabytes << 20) % 65_521) << 16 | 1
    return b"\x78\xda" + block * megabytes + b"\x03\x00" + struct.pack(">I", checksum)


def of_pixels(side: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return png()[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_picture_data_that_unpack_to_far_more_than_the_pixels_are_refused_at_once() -> None:
    # Its decoder would unpack all of it, 300 MB, and 50 GB of a file of 50 MB.
    data = of_pixels(100, packed(300))
    before = time.process_time()
    with pytest.raises(ImageCorruptError, match="far more picture data than its 100×100 pixels"):
        decode_image(data, max_pixels=100_000)
    assert time.process_time() - before < 1


def test_picture_data_with_few_bytes_too_many_are_read() -> None:
    assert decode_image(of_pixels(100, packed(1)), max_pixels=100_000).shape == (100, 100, 3)


def test_large_pictures_are_unpacked_to_their_end() -> None:
    values = np.random.default_rng(1).integers(0, 255, (400, 400, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    assert len(out.getvalue()) * 1_032 > 256 << 20
    assert np.array_equal(decode_image(out.getvalue(), max_pixels=200_000), values[..., ::-1])
