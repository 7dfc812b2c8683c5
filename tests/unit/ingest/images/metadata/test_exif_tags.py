"""EXIF blocks with doubled headers, in several segments, damaged, or with an XMP packet inside."""

from __future__ import annotations

import struct

import pytest

from tests.photographs import SECONDS, capture, exif_block, exif_segment, jpeg, packet, segment, texts

BLOCK = exif_block({**SECONDS, 0x9011: "+02:00", 0x920A: 8.8})
OTHER = exif_block({0x9003: "2020:01:01 00:00:00", 0x9011: "Z"})


@pytest.mark.parametrize(
    "segments",
    [
        [exif_segment(b"Exif\0\0" + BLOCK)],
        [exif_segment(b"Exif\0\0" * 3 + BLOCK)],
        [exif_segment(b"\0\0" + BLOCK)],
        [exif_segment(b""), exif_segment(BLOCK)],
        [exif_segment(exif_block()), exif_segment(BLOCK)],
        [exif_segment(BLOCK), exif_segment(BLOCK)],
        [exif_segment(BLOCK[:60]), exif_segment(BLOCK[60:])],
    ],
    ids=["doubled", "more headers", "padding", "empty first", "nothing in the first", "twice", "continued"],
)
def test_exif_is_found_behind_headers_and_in_segments(segments: list[bytes]) -> None:
    found = capture(jpeg(*segments))
    assert found.camera is not None
    assert found.camera.focal_length_mm == 8.8
    assert found.captured_at is not None
    assert found.captured_at.hour == 10


def test_blocks_that_contradict_each_other_warn() -> None:
    found = capture(jpeg(exif_segment(BLOCK), exif_segment(OTHER)))
    assert found.captured_at is not None
    assert found.captured_at.year == 2026
    assert "contradict each other" in texts(found)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (b"no header at all", "does not begin with a TIFF header"),
        (b"II*\0\xff\xff\xff\x00", "the EXIF directory could not be read"),
        (b"II*\0\x08\0\0\0\xff\xff", "claims 65535 entries"),
        (exif_block(main={0x8769: 0})[:-1] + b"", ""),
    ],
)
def test_damaged_block_warns_and_gives_nothing(block: bytes, said: str) -> None:
    found = capture(jpeg(exif_segment(block)))
    assert (found.camera, found.captured_at) == (None, None)
    assert said in texts(found)


def test_value_outside_of_its_block_warns() -> None:
    whole = exif_block({0x920A: 8.8})
    place = whole.index(struct.pack("<HHI", 0x920A, 5, 1)) + 8
    damaged = whole[:place] + struct.pack("<I", 1 << 30) + whole[place + 4 :]
    found = capture(jpeg(exif_segment(damaged)))
    assert found.camera is None
    assert "tag 0x920A" in texts(found)


def test_many_segments_are_read_up_to_a_limit_and_warns() -> None:
    found = capture(jpeg(*[exif_segment(BLOCK)] * 12))
    assert found.captured_at is not None
    assert "12 EXIF segments" in texts(found)


@pytest.mark.parametrize("inner", [True, False])
def test_xmp_inside_of_exif_is_read(inner: bool) -> None:
    tags = {0x2BC: packet('drone-dji:RelativeAltitude="+34.4"').encode()}
    block = exif_block(tags) if inner else exif_block(main=tags)
    camera = capture(jpeg(exif_segment(block))).camera
    assert camera is not None
    assert camera.altitude_m == 34.4


def test_other_app1_segments_are_no_metadata() -> None:
    assert capture(jpeg(segment(b"http://example.org/\0II*\0"))).warnings == ()
