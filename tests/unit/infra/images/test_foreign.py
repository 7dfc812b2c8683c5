"""Checks that files of other formats are named, with what to send instead."""

from __future__ import annotations

import pytest

from infra.images.foreign import refusal_of, refusal_of_no_video


@pytest.mark.parametrize(
    ("data", "name", "remedy"),
    [
        (b"GIF89a", "GIF", "JPEG or PNG"),
        (b"BM\x36\0", "BMP", "JPEG or PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC", "Most compatible"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC", "heif-convert"),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF", "JPEG or PNG"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF", "JPEG or PNG"),
        (b"\0\0\0\x18ftypisom\0\0\2\0", "MP4 video", "ffmpeg"),
        (b"\0\0\0\x14ftypqt  ", "QuickTime", "ffmpeg"),
        (b"\0\0\0\x18ftypcrx ", "CR3", "developed"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "TIFF"),
        (b"\xff\x4f\xff\x51", "JPEG 2000", "TIFF"),
        (b"\xff\x0a\0", "JPEG XL", "JPEG or PNG"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI video", "ffmpeg"),
        (b"8BPS", "PSD", "PNG"),
        (b"%PDF-1.7", "PDF", "JPEG or PNG"),
        (b"\n <html>", "HTML", "not a page"),
        (b'{"image": 1}', "JSON", "bytes"),
        (b"/9j/4AAQ", "Base64", "bytes"),
        (b"", "empty", "bytes"),
        (b"hello\nworld", "begins with the text 'hello'", "JPEG, PNG, TIFF and WebP"),
        (b"hello\x1b[2J", "68 65 6c 6c 6f 1b 5b 32", "JPEG, PNG, TIFF and WebP"),
        ("grüße".encode(), "67 72 c3 bc c3 9f 65", "JPEG, PNG, TIFF and WebP"),
    ],
)
def test_refusal_of_names_the_format_and_the_remedy(data: bytes, name: str, remedy: str) -> None:
    text = refusal_of(data)
    assert name in text
    assert remedy in text


def test_refusal_of_no_video_names_pictures_and_leaves_out_videos() -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert refusal_of_no_video(heic) == refusal_of(heic)
    for data in (b"\0\0\0\x18ftypisom\0\0\2\0", b"RIFF\0\0\0\0AVI LIST", b"hello", b""):
        assert refusal_of_no_video(data) is None


@pytest.mark.parametrize(
    "data", [b"GIF89a", b"\n <html>", b'{"image": 1}', b"<?xml ?>", b"RIFF\0\0\0\0WAVE", b"", b"x"]
)
def test_refusal_of_names_no_format_that_is_not_taken(data: bytes) -> None:
    text = refusal_of(data, ("JPEG", "PNG", "TIFF"))
    assert "WebP" not in text
    assert "TIFF" in text
