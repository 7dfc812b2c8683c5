"""Checks that files that are damaged, or are no local TIFF, are refused by name."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from detectors.images.decode import decode_image
from detectors.rasters.file import RasterFile
from detectors.rasters.source import RasterSource
from detectors.tiff.areas import PixelArea
from detectors.tiling.tiles import TileSpec, plan_tiles
from infra.errors import ImageCorruptError, SettingsError
from infra.tiff.layout import layout_of
from tests.raster_files import everything, noise, write
from tests.tiff_bytes import tiff_bytes

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.parametrize(
    "profile", [{}, {"compress": "deflate"}, {"compress": "lzw", "tiled": True, "blockxsize": 64, "blockysize": 64}]
)
def test_a_file_cut_off_in_the_middle_is_named(tmp_path: Path, profile: dict[str, object]) -> None:
    path = write(tmp_path / "cut.tif", noise(400, 400), interleave="pixel", **profile)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ImageCorruptError, match=r"cut\.tif.*damaged or cut short"), RasterFile(path) as file:
        list(RasterSource(file).batches(plan_tiles(400, 400, TileSpec(64, 64, 64, 64, 0.2, whole_frame=False)), 4))


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 64, "blockysize": 64}, {"blockysize": 32}])
@pytest.mark.parametrize("rest", [b"", b"\xff\xd9"])
@pytest.mark.parametrize("level", [logging.NOTSET, logging.CRITICAL])
def test_jpeg_block_that_is_cut_off_is_refused_at_any_log_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: dict[str, object], rest: bytes, level: int
) -> None:
    path = write(tmp_path / "a.tif", noise(128, 128), compress="jpeg", interleave="pixel", **layout)
    data = bytearray(path.read_bytes())
    offsets, sizes = layout_of(bytes(data)).places()
    at, size = offsets[-1], sizes[-1]
    data[at + size // 2 : at + size] = rest.ljust(size - size // 2, b"\0")
    path.write_bytes(data)
    caplog.set_level(level or logging.WARNING)
    # So that its level is restored at the end.
    caplog.set_level(logging.NOTSET, logger="rasterio._err")
    with RasterFile(path) as file:
        assert file.read(PixelArea(0, 0, 128, 30)).image.shape == (30, 128, 3)
        with pytest.raises(ImageCorruptError, match=r"a\.tif: .*rows .*JPEGLib:.*remature end.*damaged or cut short"):
            file.read(everything(file))
    assert bool(caplog.records) == (level == logging.NOTSET)


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


_GREY = {256: 300, 257: 300, 258: 8, 262: 1}
HOSTILE = {
    "a circle of directories": (tiff_bytes(bytes(90_000), _GREY, following=90_008), "circle"),
    "one strip for a million rows": (tiff_bytes(bytes(9), {**_GREY, 257: 2_000_000, 278: 1}), "2000000 strips"),
    "tiles of one pixel": (
        tiff_bytes(b"", {**_GREY, 256: 30_000, 257: 30_000, 322: 1, 323: 1, 324: 8, 325: 1}),
        "tiles",
    ),
    "all strips are the whole file": (
        tiff_bytes(bytes(90_000), {**_GREY, 259: 8, 278: 1, 273: (8,) * 300, 279: (90_000,) * 300}),
        "overlap",
    ),
    "strips behind the end": (tiff_bytes(bytes(9), {**_GREY, 279: 90_000}), "behind the end"),
    "no picture size": (tiff_bytes(bytes(9), {258: 8}), "no picture size"),
}


@pytest.mark.parametrize(("data", "words"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_header_is_refused_before_the_library_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, words: str
) -> None:
    monkeypatch.setattr(RasterFile, "_open", lambda file: pytest.fail("the library was called"))
    (tmp_path / "a.tif").write_bytes(data)
    started = time.process_time()
    with pytest.raises(ImageCorruptError, match=rf"a\.tif: .*{words}"):
        RasterFile(tmp_path / "a.tif")
    assert time.process_time() - started < 2


def test_tiles_far_larger_than_the_picture_are_refused(tmp_path: Path) -> None:
    tiles = {322: 60_000, 323: 60_000, 324: 8, 325: 9, 259: 8}
    data = tiff_bytes(bytes(9), {**_GREY, **tiles})
    with pytest.raises(ImageCorruptError, match="tiles of 60000×60000 pixels are far larger"):
        decode_image(data, max_pixels=10**6)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageCorruptError, match="60000×60000"):
        RasterFile(tmp_path / "a.tif")


def test_progressive_jpeg_of_many_scans_in_a_tiff_is_refused() -> None:
    data = tiff_bytes(b"\xff\xd8" + b"\xff\xda\0\x02" * 400 + b"\xff\xd9", {**_GREY, 259: 7})
    with pytest.raises(ImageCorruptError, match="400 scans"):
        decode_image(data, max_pixels=10**6)


def test_without_the_library_the_file_and_the_extra_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", noise(64, 64))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(SettingsError, match=r"a\.tif: TIFF files .*'rasterio', which is not installed; .*geo"):
        RasterFile(path)
