"""Writes TIFF files of every layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from detectors.geometry.arrays import ImageArray
from detectors.rasters.file import RasterFile
from detectors.tiff.areas import PixelArea
from standgale.testing.graphs import COLOURS_BGR


def write(path: Path, values: NDArray[np.generic], **profile: object) -> Path:
    """Write ``values`` ((bands, h, w)) as a TIFF."""
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype.name}
    palette, colours = profile.pop("palette", None), profile.pop("colours", None)
    with rasterio.open(path, "w", driver="GTiff", **{**shape, **profile}) as file:
        if colours is not None:
            file.colorinterp = colours
        if palette is not None:
            file.write_colormap(1, palette)
        file.write(values)
    return path


def noise(height: int, width: int, count: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width + count).integers(0, 256, (count, height, width), np.uint8)


def bgr(values: NDArray[np.uint8]) -> ImageArray:
    return np.ascontiguousarray(values[:3][::-1].transpose(1, 2, 0))


def everything(file: RasterFile) -> PixelArea:
    return PixelArea(0, 0, file.width, file.height)


WAYS = {
    "tiled": {"tiled": True, "blockxsize": 64, "blockysize": 48, "interleave": "pixel"},
    "tiled by band": {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band", "compress": "deflate"},
    "strips": {"blockysize": 7, "interleave": "pixel", "compress": "lzw"},
    "one strip": {"blockysize": 301, "interleave": "pixel", "compress": "deflate", "predictor": 2},
    "bare": {"interleave": "band"},
    "big": {"BIGTIFF": "YES", "tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "zstd"},
}


def rectangles(height: int, width: int, step: int) -> ImageArray:
    """Return grey noise with a rectangle in each cell of ``step``, in the three colours of the test model."""
    rng = np.random.default_rng(4)
    image = np.repeat(rng.integers(0, 60, (height, width, 1), np.uint8), 3, axis=2)
    for number, (top, left) in enumerate(
        (y, x) for y in range(5, height - 60, step) for x in range(5, width - 60, step)
    ):
        tall, wide = rng.integers(12, 50, 2)
        image[top : top + tall, left : left + wide] = COLOURS_BGR[number % 3]
    return image


UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.25, 0, 500_000, 0, -0.25, 5_000_000)}


def ground_file(path: Path, crs: str, transform: rasterio.Affine, size: tuple[int, int] = (100, 80)) -> Path:
    return write(path, noise(size[1], size[0]), crs=crs, transform=transform)
