"""Checks that every file layout, band and number format gives the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from detectors.images.decode import decode_image
from detectors.rasters.file import RasterFile
from detectors.rasters.source import RasterSource
from detectors.tiff.areas import PixelArea, parts
from detectors.tiling.tiles import TileSpec, plan_tiles
from tests.raster_files import WAYS, bgr, everything, noise, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_file_layout_gives_the_same_pixels(tmp_path: Path, way: dict[str, object]) -> None:
    values = noise(301, 223)
    with RasterFile(write(tmp_path / "a.tif", values, **way)) as file:
        assert (file.width, file.height, file.ground, file.gsd_m) == (223, 301, None, None)
        pixels = file.read(everything(file))
        assert pixels.content is None
        assert np.array_equal(pixels.image, bgr(values))
        some = PixelArea(13, 40, 200, 280)
        assert np.array_equal(file.read(some).image, bgr(values)[40:280, 13:200])


@given(
    area=st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 120), st.integers(1, 120)),
    block=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    most=st.integers(8, 5_000),
)
def test_parts_cover_an_area_once_and_meet_on_block_edges(
    area: tuple[int, int, int, int], block: tuple[int, int], most: int
) -> None:
    left, top, width, height = area
    whole = PixelArea(left, top, left + width, top + height)
    seen = np.zeros((height, width), np.int32)
    found = list(parts(whole, block, most))
    for part in found:
        seen[part.top - top : part.bottom - top, part.left - left : part.right - left] += 1
    assert (seen == 1).all()
    if block[0] * block[1] <= most:
        assert all(part.bottom == whole.bottom or part.bottom % block[0] == 0 for part in found)
        assert all(part.right == whole.right or part.right % block[1] == 0 for part in found)
        assert max(part.width * part.height for part in found) <= most


def test_grey_palette_and_further_bands(tmp_path: Path) -> None:
    grey = noise(40, 50, 1)
    with RasterFile(write(tmp_path / "grey.tif", grey)) as file:
        assert np.array_equal(file.read(everything(file)).image, np.repeat(grey[0][..., None], 3, axis=2))
    with RasterFile(write(tmp_path / "alpha.tif", grey, colours=(ColorInterp.alpha,))) as file:
        # Transparency without a colour is a picture, too.
        assert np.array_equal(file.read(everything(file)).image, np.repeat(grey[0][..., None], 3, axis=2))
    palette = {0: (255, 0, 0, 255), 1: (0, 255, 0, 255), 2: (10, 20, 30, 255)}
    index = (noise(40, 50, 1) % 3).astype(np.uint8)
    with RasterFile(write(tmp_path / "palette.tif", index, palette=palette, photometric="palette")) as file:
        table = np.array([(0, 0, 255), (0, 255, 0), (30, 20, 10)], np.uint8)
        assert np.array_equal(file.read(everything(file)).image, table[index[0]])
    five = noise(40, 50, 5)
    with RasterFile(write(tmp_path / "five.tif", five, photometric="rgb")) as file:
        assert np.array_equal(file.read(everything(file)).image, bgr(five))
    turned = (ColorInterp.undefined, ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    path = write(tmp_path / "turned.tif", five[:4], photometric="minisblack", colours=turned)
    with RasterFile(path) as file:
        # Bands say what they are: here the first is infrared.
        assert np.array_equal(file.read(everything(file)).image, five[1:4].transpose(1, 2, 0))


def test_sixteen_bits_are_scaled_by_the_range_of_the_file(tmp_path: Path) -> None:
    ramp = np.linspace(300, 2300, 200 * 300).reshape(1, 200, 300)
    values = np.concatenate((ramp, ramp, ramp + 100)).astype(np.uint16)
    values[:, :10] = 0
    values[:, 0, 50] = 65_535
    with RasterFile(write(tmp_path / "deep.tif", values, nodata=0)) as file:
        assert file.scaled_from is not None
        low, high = file.scaled_from
        assert 300 < low < 460
        assert 2250 < high < 2400
        pixels = file.read(everything(file))
        expected = np.clip(np.rint((values[::-1].transpose(1, 2, 0).astype(float) - low) * 255 / (high - low)), 0, 255)
        assert np.abs(pixels.image.astype(float) - expected).max() <= 1
        # One range for all bands: a colour stays one.
        assert pixels.image[100, 100, 0] > pixels.image[100, 100, 1] == pixels.image[100, 100, 2]
        assert pixels.content is not None
        assert np.array_equal(pixels.content, (values != 0).any(axis=0))


@pytest.mark.parametrize("dtype", ["int16", "uint32", "float32", "float64"])
def test_other_numbers_are_scaled_too_and_nan_is_empty(tmp_path: Path, dtype: str) -> None:
    values = np.linspace(100, 1100, 100 * 80).reshape(1, 100, 80).astype(dtype)
    real = np.dtype(dtype).kind == "f"
    if real:
        values[:, 10:20, 10:20] = np.nan
    with RasterFile(write(tmp_path / "a.tif", values)) as file:
        pixels = file.read(everything(file))
    assert pixels.image[0, 0].tolist() == [0, 0, 0]
    assert pixels.image[-1, -1].tolist() == [255, 255, 255]
    assert int(pixels.image[50, 40, 0]) == pytest.approx(128, abs=4)
    assert (pixels.content is None) != real
    if pixels.content is not None:
        assert (~pixels.content).sum() == 100


@pytest.mark.parametrize(
    ("dtype", "dark", "bright"),
    [
        ("float32", -3.4e38, 3.4e38),
        ("float64", -1.7e308, 1.7e308),
        ("float32", 1e30, 1e30),
        ("float64", 1e300, 1e300),
        ("float32", 1e-45, 3e-45),
        ("float64", 1e-310, 3e-310),
    ],
)
def test_the_largest_and_the_smallest_numbers_are_scaled_too(
    tmp_path: Path, dtype: str, dark: float, bright: float
) -> None:
    values = np.full((1, 100, 80), dark, dtype)
    values[:, 50:] = bright
    path = write(tmp_path / "a.tif", values)
    with RasterFile(path) as file:
        image = file.read(everything(file)).image
    assert image[0, 0].tolist() == [0, 0, 0]
    assert image[-1, -1].tolist() == [255 if bright > dark else 0] * 3
    assert np.array_equal(decode_image(path.read_bytes(), max_pixels=8000), image)


def test_fewer_than_8_bits_use_the_whole_range(tmp_path: Path) -> None:
    with RasterFile(write(tmp_path / "a.tif", noise(40, 40, 1) // 128, nbits=1)) as file:
        assert set(np.unique(file.read(everything(file)).image).tolist()) == {0, 255}


EMPTY = {
    "alpha": ({"colours": (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)}, 4),
    "nodata": ({"nodata": 7}, 3),
    "mask": ({}, 3),
}


def with_hole(path: Path, kind: str, values: NDArray[np.uint8], hole: tuple[slice, slice]) -> Path:
    """``values`` (3 bands) as a TIFF whose ``hole`` has no content."""
    profile, count = EMPTY[kind]
    values = values.copy()
    if kind == "nodata":
        values[values == 7] = 8
        values[(slice(None), *hole)] = 7
    if count == 4:
        alpha = np.full(values.shape[1:], 255, np.uint8)
        alpha[hole] = 0
        values = np.concatenate((values, alpha[None]))
    write(path, values, **profile)
    if kind == "mask":
        present = np.full(values.shape[1:], 255, np.uint8)
        present[hole] = 0
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(path, "r+") as file:
            file.write_mask(present)
    return path


@pytest.mark.parametrize("kind", EMPTY)
def test_tiles_without_content_are_left_out(tmp_path: Path, kind: str) -> None:
    values = noise(300, 400)
    hole = (slice(0, 200), slice(0, 160))
    plan = plan_tiles(400, 300, TileSpec(100, 100, 100, 100, 0.2, whole_frame=True))
    with RasterFile(with_hole(tmp_path / "a.tif", kind, values, hole)) as file:
        stored = file.read(everything(file))
        assert stored.content is not None
        assert (~stored.content).sum() == 200 * 160
        source = RasterSource(file)
        found = {number for batch in source.batches(plan, 4) for number in batch.numbers}
        inside = {
            number for number, (_, _, right, bottom) in enumerate(plan.boxes.tolist()) if right <= 160 and bottom <= 200
        }
        assert inside
        assert found == set(range(len(plan))) - inside
        assert source.empty == len(inside)
