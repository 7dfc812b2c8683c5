"""Decides from a TIFF's header whether its pixels can be read: by everybody, with the extra geo, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from infra.extras import install_extra
from infra.tiff.layout import (
    CCITT_G3,
    CCITT_G4,
    CCITT_RLE,
    CIELAB,
    DEFLATE,
    DNG_VERSION,
    FAX,
    FLOAT,
    ICCLAB,
    INK_SET,
    JPEG,
    LERC,
    LZMA,
    LZW,
    MINISBLACK,
    MINISWHITE,
    NO_COMPRESSION,
    OLD_DEFLATE,
    OLD_JPEG,
    PACKBITS,
    PALETTE,
    REFERENCE_BLACK_WHITE,
    RGB,
    SEPARATED,
    SIGNED,
    UNDEFINED,
    UNSIGNED,
    WEBP,
    YCBCR,
    ZSTD,
    TiffLayout,
)

Reader = Literal["plain", "geo", "none"]
"""Who can read a TIFF: everybody, only the library of the extra geo, or nobody."""

COMPRESSIONS = {
    NO_COMPRESSION: "none",
    CCITT_RLE: "CCITT",
    CCITT_G3: "CCITT fax 3",
    CCITT_G4: "CCITT fax 4",
    LZW: "LZW",
    JPEG: "JPEG",
    DEFLATE: "deflate",
    OLD_DEFLATE: "deflate",
    PACKBITS: "PackBits",
    LZMA: "LZMA",
    ZSTD: "ZSTD",
    WEBP: "WebP",
}
"""The compressions that are read without an extra."""
_OTHER_COMPRESSIONS = {
    OLD_JPEG: "old-style JPEG",
    LERC: "LERC",
    32809: "ThunderScan",
    34676: "SGI Log",
    34677: "SGI Log 24",
    34712: "JPEG 2000",
    34892: "lossy JPEG of DNG",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_WITH_GEO = (LERC,)
_PHOTOMETRICS = (MINISWHITE, MINISBLACK, RGB, PALETTE, SEPARATED, YCBCR, CIELAB, ICCLAB)
# Tiles at the edges are decoded whole: at most so many times the picture's own pixels, and a free amount.
_PADDING, _FREE_BYTES = 4, 64 << 20
# Up to so many bytes per pixel are always decoded, because pixels have a limit of their own; more only up to a limit.
_BYTES_PER_PIXEL = 4
MOST_DECODED_BYTES = 1 << 30
_GEO_READS = f"`standgale detect` reads it with the extra geo: {install_extra('geo')}"
_WRITE_AGAIN = "write it again, for example with `gdal_translate -co COMPRESS=DEFLATE`"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Says who can read a TIFF, and why others cannot."""

    reader: Reader
    reason: str = ""
    """What cannot be read, and what to do; empty for ``plain``"""


PLAIN = Verdict("plain")


def verdict_of(layout: TiffLayout) -> Verdict:
    """Return who can read the pixels that ``layout`` describes, without reading them."""
    if layout.directory.has(DNG_VERSION):
        return Verdict("none", "this is a camera raw file (DNG); send the developed picture as JPEG, PNG or TIFF")
    if layout.compression not in COMPRESSIONS:
        return _compression(layout.compression)
    return _numbers(layout) or _colours(layout) or _together(layout) or _size(layout) or PLAIN


def _size(layout: TiffLayout) -> Verdict | None:
    """Return why decoding is too much work for a picture of this size; None if it is not."""
    decoded, pixels = layout.decoded_bytes(), layout.width * layout.height
    wanted = (pixels * layout.samples * layout.bits + 7) // 8
    if decoded > _PADDING * wanted + _FREE_BYTES:
        return Verdict(
            "geo",
            f"the TIFF's tiles of {layout.chunk_width}×{layout.chunk_height} pixels are far larger than the picture of "
            f"{layout.width}×{layout.height}; write it again with smaller tiles. {_GEO_READS}",
        )
    if decoded > max(_BYTES_PER_PIXEL * pixels, MOST_DECODED_BYTES):
        return Verdict(
            "geo",
            f"the TIFF's {layout.samples} bands of {layout.bits} bits have {decoded} bytes when they are decoded; at "
            f"most {MOST_DECODED_BYTES} are decoded in memory; leave bands out, or use 8 bits. {_GEO_READS}",
        )
    return None


def _compression(number: int) -> Verdict:
    known = ", ".join(sorted(set(COMPRESSIONS.values())))
    name = f"{number} ({_OTHER_COMPRESSIONS[number]})" if number in _OTHER_COMPRESSIONS else str(number)
    text = f"TIFF compression {name} is not supported; {_WRITE_AGAIN}; read are {known}"
    if number not in _WITH_GEO:
        return Verdict("none", text)
    return Verdict("geo", f"{text}. {_GEO_READS}")


def _numbers(layout: TiffLayout) -> Verdict | None:
    """Return why the values cannot be read; None if they can."""
    kind, bits = layout.sample_format, layout.bits
    good = {
        UNSIGNED: (*range(1, 17), 32, 64),
        UNDEFINED: (*range(1, 17), 32, 64),
        SIGNED: (8, 16, 32, 64),
        FLOAT: (16, 32, 64),
    }
    if kind not in good:
        what = "complex numbers" if kind in (5, 6) else f"sample format {kind or 'that differs by band'}"
        return Verdict("none", f"TIFF with {what} is not supported; write whole or real numbers")
    if bits in good[kind]:
        return None
    what = f"{bits} bits per sample" if bits else "bands of different bits per sample"
    names = {UNSIGNED: "1 to 16, 32 or 64", UNDEFINED: "1 to 16, 32 or 64", SIGNED: "8, 16, 32 or 64"}
    return Verdict("none", f"TIFF with {what} is not supported; write {names.get(kind, '16, 32 or 64')}")


def _colours(layout: TiffLayout) -> Verdict | None:
    """Return why the colours cannot be read; None if they can."""
    if layout.photometric not in _PHOTOMETRICS:
        return Verdict(
            "none", f"TIFF with photometric interpretation {layout.photometric} is not supported; write grey or RGB"
        )
    if layout.samples < layout.colours:
        return Verdict(
            "none",
            f"the TIFF has {layout.samples} bands but its photometric interpretation {layout.photometric} needs "
            f"{layout.colours}; write it again",
        )
    if layout.photometric == SEPARATED and layout.directory.integer(INK_SET, 1) != 1:
        return Verdict("none", "TIFF with inks other than CMYK is not supported; write RGB")
    if layout.photometric in (SEPARATED, CIELAB, ICCLAB) and (
        layout.bits not in (8, 16) or layout.sample_format == FLOAT
    ):
        return Verdict("none", f"CMYK or LAB with {layout.bits} bits per sample is not supported; write 8 or 16")
    if layout.photometric == PALETTE and (layout.bits > 16 or layout.sample_format not in (UNSIGNED, UNDEFINED)):
        return Verdict("none", f"TIFF with a palette and {layout.bits} bits is not supported; write RGB")
    return None


def _together(layout: TiffLayout) -> Verdict | None:
    """Return why this compression cannot be read with these values; None if it can."""
    compression, bits = layout.compression, layout.bits
    if layout.predictor not in (1, 2, 3):
        return Verdict("none", f"TIFF predictor {layout.predictor} is not supported; {_WRITE_AGAIN}")
    if layout.predictor == 2 and bits not in (8, 16, 32, 64):
        return Verdict("none", f"TIFF predictor 2 with {bits} bits is not supported; {_WRITE_AGAIN}")
    if layout.predictor == 3 and layout.sample_format != FLOAT:
        return Verdict("none", f"TIFF predictor 3 with whole numbers is not supported; {_WRITE_AGAIN}")
    if compression in FAX and (bits != 1 or layout.samples != 1):
        return Verdict("none", f"CCITT fax with {layout.samples} bands of {bits} bits is damaged or unusual; write RGB")
    if compression == JPEG and (bits != 8 or (layout.chunk_samples not in (1, 3, 4))):
        return Verdict(
            "geo" if bits == 8 else "none",
            f"JPEG in TIFF with {layout.chunk_samples} bands of {bits} bits is not supported; {_WRITE_AGAIN}"
            + (f". {_GEO_READS}" if bits == 8 else ""),
        )
    if compression == WEBP and (bits != 8 or layout.is_planar or layout.samples not in (3, 4)):
        return Verdict("none", f"WebP in TIFF with {layout.samples} bands of {bits} bits is damaged; write deflate")
    if layout.photometric == YCBCR and compression not in (JPEG, WEBP):
        return _ycbcr(layout)
    return None


def _ycbcr(layout: TiffLayout) -> Verdict | None:
    across, down = layout.subsampling
    reference = layout.directory.real(REFERENCE_BLACK_WHITE, 6)
    usual = not reference or [round(value) for value in reference] in ([0, 255, 128, 255, 128, 255],)
    if (
        layout.bits == 8
        and not layout.is_planar
        and layout.samples == 3
        and layout.predictor == 1
        and across in (1, 2, 4)
        and down in (1, 2, 4)
        and usual
    ):
        return None
    return Verdict(
        "geo",
        f"TIFF in YCbCr with {layout.samples} bands of {layout.bits} bits is not supported; write RGB. {_GEO_READS}",
    )
