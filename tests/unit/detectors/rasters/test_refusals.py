"""Checks that files that are damaged, or are no local TIFF, are refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from detectors.rasters.file import RasterFile
from detectors.rasters.source import RasterSource
from detectors.tiling.tiles import TileSpec, plan_tiles
from infra.errors import ImageCorruptError
from tests.raster_files import noise, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.parametrize(
    "profile", [{}, {"compress": "deflate"}, {"compress": "lzw", "tiled": True, "blockxsize": 64, "blockysize": 64}]
)
def test_a_file_cut_off_in_the_middle_is_named(tmp_path: Path, profile: dict[str, object]) -> None:
    path = write(tmp_path / "cut.tif", noise(400, 400), interleave="pixel", **profile)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ImageCorruptError, match=r"cut\.tif.*damaged or cut short"), RasterFile(path) as file:
        list(RasterSource(file).batches(plan_tiles(400, 400, TileSpec(64, 64, 64, 64, 0.2, whole_frame=False)), 4))


def test_a_file_that_is_no_local_tiff_is_refused(tmp_path: Path) -> None:
    for name, data in {"text.tif": b"no picture", "stub.tif": b"II*\0\xff\xff", "short.tif": b"II"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageCorruptError, match=name):
            RasterFile(tmp_path / name)
    vrt = tmp_path / "list.tif"
    vrt.write_text("<VRTDataset rasterXSize='9' rasterYSize='9'/>")
    with pytest.raises(ImageCorruptError, match="no TIFF"):
        RasterFile(vrt)
    write(tmp_path / "a.tif", noise(20, 20))
    for odd in (
        f"GTIFF_DIR:1:{tmp_path}/a.tif",
        f"/vsizip/{tmp_path}/a.tif",
        "http://127.0.0.1:9/a.tif",
        str(tmp_path),
    ):
        with pytest.raises(ImageCorruptError, match="no TIFF"):
            RasterFile(Path(odd))


def test_values_that_cannot_become_pixels_are_refused(tmp_path: Path) -> None:
    complex_values = np.ones((1, 20, 20), np.complex64)
    with pytest.raises(ImageCorruptError, match="complex numbers"):
        RasterFile(write(tmp_path / "a.tif", complex_values))
