"""Recognises files that are no JPEG, PNG, TIFF or WebP, and says what to send instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_CONVERT: Final = "save it as JPEG or PNG"
FORMATS = ("JPEG", "PNG", "TIFF", "WebP")
"""What is read, as people call it."""
_BYTES: Final = "send the bytes of a picture"
_FRAMES: Final = "send single pictures, for example those of: ffmpeg -i VIDEO -r 2 frame-%04d.jpg"
_PHONE: Final = (
    "save it as JPEG (a phone does so itself with the camera format 'Most compatible'), or convert it with heif-convert"
)
_BY_START: Final[tuple[tuple[bytes, str, str], ...]] = (
    (b"GIF8", "a GIF picture", _CONVERT),
    (b"BM", "a BMP picture", _CONVERT),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "a JPEG 2000 picture", "save it as JPEG, PNG or TIFF"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", "save it as JPEG, PNG or TIFF"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture", _CONVERT),
    (b"\xff\x0a", "a JPEG XL picture", _CONVERT),
    (b"8BPS", "a Photoshop picture (PSD)", _CONVERT),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture", "save it as PNG or TIFF"),
    (b"%PDF", "a PDF document", "save its picture as JPEG or PNG"),
    (b"%!PS", "a PostScript document", "save its picture as JPEG or PNG"),
    (b"II\xbc\x01", "a JPEG XR picture", _CONVERT),
    (b"IIRO", "a camera raw file (ORF)", "send the developed picture as JPEG, PNG or TIFF"),
    (b"IIU\0", "a camera raw file (RW2)", "send the developed picture as JPEG, PNG or TIFF"),
    (b"FUJIFILM", "a camera raw file (RAF)", "send the developed picture as JPEG, PNG or TIFF"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM video", _FRAMES),
    (b"\x00\x00\x01\xba", "an MPEG video", _FRAMES),
    (b"\x00\x00\x01\xb3", "an MPEG video", _FRAMES),
    (b"FLV\x01", "a Flash video", _FRAMES),
    (b"PK\x03\x04", "a ZIP archive", "send the pictures in it one by one"),
    (b"\x1f\x8b", "a gzip archive", "send the pictures in it one by one"),
    (b"\x89HDF\r\n", "an HDF5 or netCDF file", "save its picture as TIFF"),
    (b"CDF", "a netCDF file", "save its picture as TIFF"),
    (b"<svg", "an SVG drawing", "save it as PNG"),
    (b"<?xml", "an XML text", _BYTES),
    (b"<!DOCTYPE", "an HTML page", f"{_BYTES}, not a page about it"),
    (b"<html", "an HTML page", f"{_BYTES}, not a page about it"),
    (b"{", "a JSON text", f"{_BYTES}, not their description"),
    (b"data:image/", "a data URL", "send the bytes of the picture themselves, not Base64 text"),
    (b"/9j/", "Base64 text of a JPEG", "send the bytes of the picture themselves"),
    (b"iVBORw0KGgo", "Base64 text of a PNG", "send the bytes of the picture themselves"),
)
_SHOWN_TEXT: Final = 20
# Brands of ISO media files (after "ftyp"); every other one is a video.
_BRANDS: Final[dict[bytes, tuple[str, str]]] = {
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"hevc", b"hevx"), ("a HEIC picture", _PHONE)
    ),
    **dict.fromkeys((b"avif", b"avis"), ("an AVIF picture", _CONVERT)),
    b"crx ": ("a camera raw file (CR3)", "send the developed picture as JPEG, PNG or TIFF"),
    b"jp2 ": ("a JPEG 2000 picture", "save it as JPEG, PNG or TIFF"),
    b"qt  ": ("a QuickTime video", _FRAMES),
}
_RIFF: Final[dict[bytes, tuple[str, str]]] = {
    b"AVI ": ("an AVI video", _FRAMES),
    b"WAVE": ("a sound file", _BYTES),
}


def refusal_of(data: bytes, formats: Sequence[str] = FORMATS) -> str:
    """Return why ``data``, which does not begin as one of ``formats``, is refused, and what to do."""
    if not data:
        return f"the image is empty; send the bytes of a {_listed(formats, 'or')} file"
    known = _kind_of(data)
    if known is not None:
        return _refused(known, formats)
    return f"not an image: {_listed(formats, 'and')} are accepted, but the content begins with {_beginning(data)}"


def refusal_of_no_video(data: bytes) -> str | None:
    """Return why ``data`` is refused if it is of a known format that no program reads as a video; else None."""
    known = _kind_of(data)
    return None if known is None or known[1] == _FRAMES else _refused(known, FORMATS)


def _refused(known: tuple[str, str], formats: Sequence[str]) -> str:
    return f"this is {known[0]}, and only {_listed(formats, 'and')} are read; {known[1]}"


def _listed(formats: Sequence[str], last: str) -> str:
    return f"{', '.join(formats[:-1])} {last} {formats[-1]}"


def _beginning(data: bytes) -> str:
    """Return the first line of a text, or the first bytes of anything else."""
    lines = data[:_SHOWN_TEXT].splitlines()
    if lines and lines[0].isascii() and lines[0].decode("ascii").isprintable() and lines[0].strip():
        return f"the text {lines[0].decode('ascii').strip()!r}"
    return data[:8].hex(" ")


def _kind_of(data: bytes) -> tuple[str, str] | None:
    """Return name and remedy of a known format, or None."""
    if data[4:8] == b"ftyp":
        # The first brand may be a general one, and the list after it says more.
        brands = [data[at : at + 4] for at in (8, *range(16, min(len(data), 64), 4))]
        if brands[0] in (b"mif1", b"msf1") and b"avif" in brands:
            return _BRANDS[b"avif"]
        return _BRANDS.get(brands[0], ("an MP4 video", _FRAMES))
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12])
    start = data[:64].lstrip() if data[:1].isspace() or data[:1] in (b"<", b"{") else data
    return next(((name, remedy) for mark, name, remedy in _BY_START if start.startswith(mark)), None)
