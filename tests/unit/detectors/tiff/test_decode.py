"""Checks that every kind of TIFF is decoded without a library for rasters, and to the same pixels as with one."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp

from detectors.geometry.arrays import ImageArray
from detectors.images.decode import decode_image
from detectors.rasters.file import RasterFile
from detectors.tiff.decode import decode_tiff
from infra.errors import ImageCorruptError
from infra.tiff.layout import layout_of
from tests.raster_files import bgr, everything, write
from tests.tiff_bytes import tiff_bytes

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

WIDTH, HEIGHT = 83, 61
TILES = {"tiled": True, "blockxsize": 32, "blockysize": 16}


def scene(bands: int, dtype: str = "uint8", factor: float = 1, offset: float = 0) -> NDArray[np.generic]:
    """Return bands that differ and are smooth enough to compress."""
    steps = np.random.default_rng(5).integers(-3, 4, (bands, HEIGHT, WIDTH))
    return ((np.cumsum(steps, axis=2) % 256) * factor + offset).astype(dtype)


EXACT = {
    f"{compression} by {interleave}{' in tiles' if tiles else ''}": (
        scene(3),
        {"compress": compression, "interleave": interleave, **tiles},
    )
    for compression in ("lzw", "deflate", "packbits", "zstd", "lzma")
    for interleave, tiles in (("pixel", {}), ("band", TILES))
} | {
    "bare": (scene(3), {}),
    "bare tiles": (scene(3), TILES),
    "left out tiles": (np.where(np.arange(WIDTH) < 40, scene(3), 0).astype(np.uint8), {**TILES, "SPARSE_OK": "TRUE"}),
    "lossless WebP": (scene(3), {"compress": "webp", "interleave": "pixel", "WEBP_LOSSLESS": "YES"}),
    "differences": (scene(3), {"compress": "lzw", "predictor": 2, "interleave": "pixel"}),
    "differences of 5 bands": (scene(5), {"compress": "deflate", "predictor": 2, "interleave": "pixel"}),
    "BigTIFF": (scene(3), {"BIGTIFF": "YES", "compress": "zstd", **TILES}),
    "a fourth band called alpha": (scene(4), {"photometric": "rgb"}),
    "premultiplied alpha": (scene(4), {"photometric": "rgb", "ALPHA": "PREMULTIPLIED"}),
    "a fourth band without a meaning": (scene(4), {"photometric": "rgb", "ALPHA": "UNSPECIFIED"}),
    "differences of a fourth band": (
        scene(4),
        {"compress": "lzw", "predictor": 2, "interleave": "pixel", "photometric": "rgb"},
    ),
    "differences of a fourth band without a meaning": (
        scene(4),
        {"compress": "deflate", "predictor": 2, "interleave": "pixel", "photometric": "rgb", "ALPHA": "UNSPECIFIED"},
    ),
    "alpha apart": (scene(4), {"ALPHA": "YES", "interleave": "band", "compress": "deflate"}),
    "five bands": (scene(5), {}),
}
SAME = {
    "grey": (scene(1), {}),
    "grey with alpha": (scene(2), {"ALPHA": "YES"}),
    "named bands": (
        scene(4),
        {
            "photometric": "minisblack",
            "colours": (ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red),
        },
    ),
    "white is zero": (scene(1), {"photometric": "miniswhite"}),
    "white is zero, 16 bits": (scene(1, "uint16", 50), {"photometric": "miniswhite"}),
    "1 bit": (scene(1) // 128, {"nbits": 1}),
    "1 bit, white is zero": (scene(1) // 128, {"nbits": 1, "photometric": "miniswhite"}),
    "2 bits": (scene(3) // 64, {"nbits": 2}),
    "4 bits": (scene(1) // 16, {"nbits": 4, "compress": "lzw"}),
    "12 bits": (scene(1, "uint16", 10), {"nbits": 12}),
    "fax": (scene(1) // 128, {"nbits": 1, "compress": "ccittfax4"}),
    "fax 3": (scene(1) // 128, {"nbits": 1, "compress": "ccittfax3"}),
    "palette": (scene(1), {"photometric": "palette", "palette": {at: (at, 255 - at, 7) for at in range(256)}}),
    "CMYK": (scene(4), {"photometric": "cmyk"}),
    "CMYK, 16 bits": (scene(4, "uint16", 257), {"photometric": "cmyk"}),
    "LAB, 16 bits": (scene(3, "uint16", 257), {"photometric": "cielab"}),
    "16 bits, big end first": (
        scene(3, "uint16", 37, 500),
        {"ENDIANNESS": "BIG", "compress": "lzw", "predictor": 2},
    ),
    "16 bits, six bands": (scene(6, "uint16", 90), {"nodata": 0}),
    "with a sign": (scene(3, "int16", 100, -9000), {"compress": "zstd"}),
    "8 bits with a sign": (scene(1, "int8", 1, -128), {}),
    "real numbers": (scene(3, "float32", 0.37, -5), {"compress": "deflate", "predictor": 3, **TILES}),
    "half": (scene(1, "float32", 0.25), {"nbits": 16}),
    "double, big end first": (scene(2, "float64", 0.4), {"ENDIANNESS": "BIG", "predictor": 3, "compress": "zstd"}),
    "32 bits": (scene(1, "uint32", 37_777), {"compress": "deflate", "predictor": 2}),
    "JPEG": (scene(3), {"compress": "jpeg", "interleave": "pixel"}),
    "JPEG by band": (scene(5), {"compress": "jpeg", "interleave": "band"}),
    "JPEG of CMYK": (scene(4), {"compress": "jpeg", "interleave": "pixel", "photometric": "cmyk"}),
}


def decoded(path: Path) -> ImageArray:
    return decode_image(path.read_bytes(), max_pixels=WIDTH * HEIGHT)


@pytest.mark.parametrize(("values", "profile"), EXACT.values(), ids=EXACT)
def test_colours_are_those_that_were_written(
    tmp_path: Path, values: NDArray[np.uint8], profile: dict[str, object]
) -> None:
    assert np.array_equal(decoded(write(tmp_path / "a.tif", values, **profile)), bgr(values))


@pytest.mark.parametrize(("values", "profile"), SAME.values(), ids=SAME)
def test_pixels_are_those_that_the_library_for_rasters_gives(
    tmp_path: Path, values: NDArray[np.uint8], profile: dict[str, object]
) -> None:
    path = write(tmp_path / "a.tif", values, **profile)
    with RasterFile(path) as file:
        assert np.array_equal(decoded(path), file.read(everything(file)).image)
        assert decode_tiff(layout_of(path.read_bytes())).scaled_from == file.scaled_from


def test_white_is_zero_gives_no_negative(tmp_path: Path) -> None:
    values = scene(1)
    path = write(tmp_path / "a.tif", values, photometric="miniswhite", crs="EPSG:32633")
    for image in (decoded(path), RasterFile(path).read(everything(RasterFile(path))).image):
        assert np.array_equal(image[..., 1], 255 - values[0])


def test_four_inks_become_red_green_and_blue(tmp_path: Path) -> None:
    inks = np.zeros((4, 1, 4), np.uint16)
    inks[:, 0] = np.array([[65535, 0, 0, 0], [0, 65535, 0, 0], [0, 0, 0, 65535], [0, 0, 0, 0]]).T
    for dtype, values in (("uint16", inks), ("uint8", (inks >> 8).astype(np.uint8))):
        image = decoded(write(tmp_path / f"{dtype}.tif", values, photometric="cmyk"))
        assert image[0].tolist() == [[255, 255, 0], [255, 0, 255], [0, 0, 0], [255, 255, 255]]


def test_lab_greys_stay_grey(tmp_path: Path) -> None:
    values = np.zeros((3, 4, 51), np.uint8)
    values[0] = np.arange(51) * 5
    for photometric, middle in (("cielab", 0), ("icclab", 128)):
        values[1:] = middle
        image = decoded(write(tmp_path / f"{photometric}.tif", values, photometric=photometric))
        assert np.ptp(image.astype(int), axis=2).max() <= 1
        assert image[0, :, 0].tolist() == sorted(image[0, :, 0].tolist())
        assert (image[0, 0, 0], image[0, -1, 0]) == (0, pytest.approx(250, abs=6))


def test_jpeg_whose_colours_are_stored_coarsely(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    values = np.stack((x, y, 255 - x)).astype(np.uint8)
    for tiles in ({}, TILES):
        path = write(tmp_path / "a.tif", values, compress="jpeg", photometric="ycbcr", interleave="pixel", **tiles)
        assert np.abs(decoded(path).astype(int) - bgr(values)).mean() < 2


@pytest.mark.parametrize("shared", [(1, 1), (2, 1), (2, 2), (4, 4)])
@pytest.mark.parametrize("compression", [1, 8])
def test_colours_that_neighbours_share_without_jpeg(shared: tuple[int, int], compression: int) -> None:
    across, down = shared
    x, y = np.meshgrid(np.linspace(90, 130, 32), np.linspace(90, 130, 16))
    picture = np.stack((x, y, 220 - x), axis=2).astype(np.uint8)
    light, red, blue = cv2.split(cv2.cvtColor(picture, cv2.COLOR_RGB2YCrCb))
    lights = light.reshape(16 // down, down, 32 // across, across).transpose(0, 2, 1, 3)
    lights = lights.reshape(16 // down, 32 // across, down * across)
    coarse = [plane[::down, ::across, None] for plane in (blue, red)]
    packed = np.concatenate((lights, *coarse), axis=2).tobytes()
    data = tiff_bytes(
        zlib.compress(packed) if compression == 8 else packed,
        {256: 32, 257: 16, 258: (8, 8, 8), 259: compression, 262: 6, 277: 3, 278: 16, 530: shared},
    )
    image = decode_image(data, max_pixels=10_000)
    assert np.abs(image[..., ::-1].astype(int) - picture).mean() < 6


@pytest.mark.parametrize("compression", ["lzw", "deflate", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("tiled", [False, True])
def test_strip_or_tile_with_half_of_its_data_is_refused(
    tmp_path: Path, compression: str, predictor: int, tiled: bool
) -> None:
    values = np.random.default_rng(3).integers(0, 256, (3, 64, 64), np.uint8)
    how = {"tiled": True, "blockxsize": 64, "blockysize": 64} if tiled else {"blockysize": 64}
    predicted = {} if compression == "packbits" else {"predictor": predictor}
    path = write(tmp_path / "a.tif", values, compress=compression, interleave="pixel", **how, **predicted)
    layout = layout_of(path.read_bytes())
    (at,), (size,) = layout.places()
    half = path.read_bytes()[at : at + size // 2]
    place = {322: 64, 323: 64, 324: 8, 325: len(half)} if tiled else {278: 64}
    tags = {256: 64, 257: 64, 258: (8, 8, 8), 259: layout.compression, 262: 2, 277: 3, 317: layout.predictor, **place}
    with pytest.raises(ImageCorruptError, match="strip or tile"):
        decode_image(tiff_bytes(half, tags), max_pixels=10_000)


@pytest.mark.parametrize("kind", ["tiff_lzw", "tiff_deflate", "group4", "jpeg", "lzma", "zstd", "raw"])
def test_broken_chunks_are_refused_and_never_another_error(kind: str) -> None:
    out = io.BytesIO()
    mode = "1" if kind == "group4" else "RGB"
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 255, (40, 50, 3), np.uint8)).convert(mode)
    picture.save(out, "TIFF", compression=None if kind == "raw" else kind)
    whole = out.getvalue()
    rng = np.random.default_rng(8)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
        try:
            image = decode_image(bytes(data), max_pixels=100_000)
        except ImageCorruptError:
            continue
        assert image.dtype == np.uint8
    with pytest.raises(ImageCorruptError):
        decode_image(whole[: len(whole) // 2], max_pixels=100_000)
