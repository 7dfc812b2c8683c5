"""Makes one file of every format that people have, all of the same scene."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.raster_files import UTM, write
from tests.tiff_bytes import tiff_bytes

SIDE = 272


def scene() -> NDArray[np.uint8]:
    """Return a smooth RGB picture, (h, w, 3): dark on the left, bright on the right."""
    x, y = np.meshgrid(np.linspace(20, 235, SIDE), np.linspace(0, 20, SIDE))
    return np.stack((x, x + y, x - y + 20), axis=2).astype(np.uint8)


def _pillow(kind: str, mode: str = "RGB", **options: object) -> Callable[[], bytes]:
    def make() -> bytes:
        out = io.BytesIO()
        Image.fromarray(scene()).convert(mode, dither=Image.Dither.NONE).save(out, kind, **options)
        return out.getvalue()

    return make


def _moving(kind: str) -> Callable[[], bytes]:
    def make() -> bytes:
        out = io.BytesIO()
        pictures = [Image.fromarray(scene()), Image.fromarray(255 - scene())]
        pictures[0].save(out, kind, save_all=True, append_images=pictures[1:])
        return out.getvalue()

    return make


def _twelve_bits() -> bytes:
    data = bytearray(_pillow("JPEG")())
    data[data.index(b"\xff\xc0") + 4] = 12
    return bytes(data)


def _sixteen_bit_png() -> bytes:
    import cv2

    return bytes(cv2.imencode(".png", scene()[..., ::-1].astype(np.uint16) * 257)[1].tobytes())


def _tiff(values: Callable[[], NDArray[np.generic]], **profile: object) -> Callable[[], bytes]:
    def make() -> bytes:
        with TemporaryDirectory() as folder:
            return write(Path(folder) / "a.tif", values(), **profile).read_bytes()

    return make


def _bands(count: int = 3, dtype: str = "uint8", factor: int = 1) -> Callable[[], NDArray[np.generic]]:
    def make() -> NDArray[np.generic]:
        rgb = scene().transpose(2, 0, 1)
        further = [np.full((SIDE, SIDE), 40 * number, np.uint8) for number in range(count - 3)]
        return (np.stack([*rgb[:count], *further]).astype("float64") * factor).astype(dtype)

    return make


def _grey(divisor: int = 1, *, negative: bool = False) -> Callable[[], NDArray[np.generic]]:
    return lambda: ((255 - scene()[None, ..., 0] if negative else scene()[None, ..., 0]) // divisor).astype(np.uint8)


def _inks(dtype: str = "uint8", factor: int = 1) -> Callable[[], NDArray[np.generic]]:
    return lambda: (np.stack([*(255 - scene()).transpose(2, 0, 1), np.zeros((SIDE, SIDE))]) * factor).astype(dtype)


def _lab() -> NDArray[np.generic]:
    values = np.zeros((3, SIDE, SIDE), np.uint8)
    values[0] = scene()[..., 0]
    return values


def _pages() -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene()).save(out, "TIFF", save_all=True, append_images=[Image.new("RGB", (300, 300))])
    return out.getvalue()


def _raw() -> bytes:
    return tiff_bytes(bytes(SIDE * SIDE), {256: SIDE, 257: SIDE, 258: 8, 262: 1, 278: SIDE, 50706: 0x01040000})


FILES: dict[str, Callable[[], bytes]] = {
    "JPEG": _pillow("JPEG", quality=95),
    "JPEG, progressive": _pillow("JPEG", progressive=True),
    "JPEG, grey": _pillow("JPEG", "L"),
    "JPEG, CMYK": _pillow("JPEG", "CMYK"),
    "JPEG, 12 bits": _twelve_bits,
    "PNG": _pillow("PNG"),
    "PNG, 16 bits": _sixteen_bit_png,
    "PNG, palette": _pillow("PNG", "P"),
    "PNG, 1 bit": _pillow("PNG", "1"),
    "PNG, transparent": _pillow("PNG", "RGBA"),
    "WebP": _pillow("WEBP", quality=90),
    "WebP, lossless": _pillow("WEBP", lossless=True),
    "WebP, animated": _moving("WEBP"),
    "GIF": _pillow("GIF"),
    "BMP": _pillow("BMP"),
    "HEIC": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400),
    "AVIF": _pillow("AVIF"),
    "JPEG 2000": _pillow("JPEG2000"),
    "JPEG XL": lambda: b"\xff\x0a" + bytes(400),
    "DNG": _raw,
    "MP4": lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(400),
    "PDF": _pillow("PDF"),
    "TIFF, RGB": _tiff(_bands()),
    "TIFF, LZW": _tiff(_bands(), compress="lzw", predictor=2),
    "TIFF, deflate": _tiff(_bands(), compress="deflate"),
    "TIFF, PackBits": _tiff(_bands(), compress="packbits"),
    "TIFF, ZSTD": _tiff(_bands(), compress="zstd"),
    "TIFF, LZMA": _tiff(_bands(), compress="lzma"),
    "TIFF, JPEG": _tiff(_bands(), compress="jpeg", photometric="ycbcr", interleave="pixel"),
    "TIFF, WebP": _tiff(_bands(), compress="webp", interleave="pixel", WEBP_LOSSLESS="YES"),
    "TIFF, LERC": _tiff(_bands(), compress="lerc"),
    "TIFF, JPEG 2000": lambda: tiff_bytes(bytes(999), {256: SIDE, 257: SIDE, 258: 8, 259: 34712, 278: SIDE}),
    "TIFF, JPEG XL": lambda: tiff_bytes(bytes(999), {256: SIDE, 257: SIDE, 258: 8, 259: 50002, 278: SIDE}),
    "TIFF, tiled": _tiff(_bands(), tiled=True, blockxsize=64, blockysize=64),
    "TIFF, bands apart": _tiff(_bands(), interleave="band"),
    "TIFF, grey": _tiff(_grey()),
    "TIFF, white is zero": _tiff(_grey(negative=True), photometric="miniswhite"),
    "TIFF, palette": _tiff(_grey(), photometric="palette", palette={at: (at, at, at) for at in range(256)}),
    "TIFF, 1 bit": _tiff(_grey(128), nbits=1),
    "TIFF, fax": _tiff(_grey(128), nbits=1, compress="ccittfax4"),
    "TIFF, 4 bits": _tiff(_grey(16), nbits=4),
    "TIFF, 16 bits": _tiff(_bands(3, "uint16", 200)),
    "TIFF, 16 bits with a sign": _tiff(_bands(3, "int16", 100)),
    "TIFF, real numbers": _tiff(_bands(1, "float32", 3)),
    "TIFF, complex numbers": _tiff(_bands(1, "complex64")),
    "TIFF, alpha": _tiff(_bands(4), photometric="rgb"),
    "TIFF, premultiplied alpha": _tiff(_bands(4), photometric="rgb", ALPHA="PREMULTIPLIED"),
    "TIFF, fourth band": _tiff(_bands(4), photometric="rgb", ALPHA="UNSPECIFIED"),
    "TIFF, five bands": _tiff(_bands(5)),
    "TIFF, CMYK": _tiff(_inks(), photometric="cmyk"),
    "TIFF, CMYK, 16 bits": _tiff(_inks("uint16", 257), photometric="cmyk"),
    "TIFF, LAB": _tiff(_lab, photometric="cielab"),
    "TIFF, several pages": _pages,
    "BigTIFF": _tiff(_bands(), BIGTIFF="YES"),
    "GeoTIFF": _tiff(_bands(), **UTM),
    "GeoTIFF, ZSTD": _tiff(_bands(), compress="zstd", **UTM),
    "GeoTIFF, LERC": _tiff(_bands(), compress="lerc", **UTM),
    "GeoTIFF, white is zero": _tiff(_grey(negative=True), photometric="miniswhite", **UTM),
    "GeoTIFF, CMYK, 16 bits": _tiff(_inks("uint16", 257), photometric="cmyk", **UTM),
    "GeoTIFF, LAB": _tiff(_lab, photometric="cielab", **UTM),
}
"""By name, as in docs/formats.md: what makes the file."""
