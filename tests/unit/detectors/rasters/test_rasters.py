"""TIFF files read by window: the same pixels, tiles and detections as of the whole, wherever and however they lie."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling

from detectors.geometry.arrays import ImageArray
from detectors.geometry.boxes import iou_matrix
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Predictor
from detectors.rasters.areas import PixelArea, parts
from detectors.rasters.file import RasterFile
from detectors.rasters.source import RasterSource, bands
from detectors.tiling.sources import TileBatch
from detectors.tiling.tiles import TilePlan, TileSpec, cut, plan_tiles
from infra.errors import ImageCorruptError
from tests.support_graphs import COLOURS_BGR, write_model

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write(path: Path, values: NDArray[np.generic], **profile: object) -> Path:
    """``values`` ((bands, h, w)) as a TIFF."""
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


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_to_lay_out_a_file_gives_the_same_pixels(tmp_path: Path, way: dict[str, object]) -> None:
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


def test_sixteen_bits_are_scaled_by_the_range_that_is_there(tmp_path: Path) -> None:
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
def test_other_numbers_are_scaled_too_and_what_is_none_is_empty(tmp_path: Path, dtype: str) -> None:
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


@pytest.mark.parametrize("batch", [1, 3, 16])
@pytest.mark.parametrize("band_bytes", [1 << 30, 3 * 150 * 80, 3 * 90 * 90])
@pytest.mark.parametrize("tile", [80, 130])
def test_tiles_equal_those_cut_from_the_whole(tmp_path: Path, tile: int, band_bytes: int, batch: int) -> None:
    values = noise(290, 410)
    plan = plan_tiles(410, 290, TileSpec(80, 80, tile, tile, 0.3, whole_frame=False))
    with RasterFile(write(tmp_path / "a.tif", values, tiled=True, blockxsize=64, blockysize=64)) as file:
        found = list(RasterSource(file, band_bytes).batches(plan, batch))
        expected = cut(bgr(values), plan)
        assert [number for each in found for number in each.numbers] == list(range(len(plan)))
        assert max(len(each.numbers) for each in found) == min(batch, len(plan))
        tiles = np.concatenate([each.cut() for each in found])
        reduced = np.array([each.size is not None for each in bands(plan, band_bytes // 3) for _ in range(each.count)])
        assert np.array_equal(tiles[~reduced], expected[~reduced])
        assert reduced.all() == reduced.any() == (tile**2 > band_bytes // 3)


def test_a_tile_too_large_to_be_read_as_it_is_is_read_reduced(tmp_path: Path) -> None:
    rows = np.linspace(0, 255, 600).astype(np.uint8)
    values = np.broadcast_to(rows[None, :, None], (3, 600, 800)).copy()
    plan = plan_tiles(800, 600, TileSpec(100, 80, 200, 160, 0.1, whole_frame=True))
    with RasterFile(write(tmp_path / "a.tif", values)) as file:
        (*_, last) = RasterSource(file, 3 * 400 * 400).batches(plan, 1)
        whole = last.cut()[0].astype(int)
    left, top, width, height = plan.placed[-1].tolist()
    shown = whole[top : top + height, left : left + width]
    expected = rows.reshape(height, -1).mean(axis=1)
    assert np.abs(shown - expected[:, None, None]).max() <= 1
    assert (whole[:, :left] == 114).all()


def test_bands_are_read_from_top_to_bottom_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_tiles(300, 400, TileSpec(80, 80, 80, 80, 0.25, whole_frame=False))
    with RasterFile(write(tmp_path / "a.tif", noise(400, 300))) as file:
        read: list[PixelArea] = []
        original = file.read
        monkeypatch.setattr(file, "read", lambda area: (read.append(area), original(area))[1])
        list(RasterSource(file).batches(plan, 8))
    assert [(area.left, area.right) for area in read] == [(0, 300)] * len(read)
    assert [area.top for area in read][1:] == [area.bottom for area in read][:-1]
    assert (read[0].top, read[-1].bottom) == (0, 400)


def rectangles(height: int, width: int, step: int) -> ImageArray:
    """Rectangles in the three colours the test model knows, one to a cell of ``step``, on grey noise."""
    rng = np.random.default_rng(4)
    image = np.repeat(rng.integers(0, 60, (height, width, 1), np.uint8), 3, axis=2)
    for number, (top, left) in enumerate(
        (y, x) for y in range(5, height - 60, step) for x in range(5, width - 60, step)
    ):
        tall, wide = rng.integers(12, 50, 2)
        image[top : top + tall, left : left + wide] = COLOURS_BGR[number % 3]
    return image


@pytest.mark.parametrize("way", ["tiled", "strips", "one strip"])
def test_detections_equal_those_of_the_whole_picture(tmp_path: Path, way: str) -> None:
    image = rectangles(1100, 1500, 170)
    path = write(tmp_path / "a.tif", image[..., ::-1].transpose(2, 0, 1).copy(), **WAYS[way])
    with Predictor(load_model(LoadRequest(write_model(tmp_path / "model"), "onnxruntime"))) as predictor:
        whole = predictor.predict(image)
        with RasterFile(path) as file:
            seen: list[tuple[int, int]] = []
            found = predictor.find(
                RasterSource(file, 3 * 700 * 128), progress=lambda done, total: seen.append((done, total))
            )
    assert len(whole) > 40
    assert len(found.detections) == len(whole)
    assert found.detections.classes.tolist() == whole.classes.tolist()
    assert np.diagonal(iou_matrix(found.detections.boxes, whole.boxes)).min() >= 0.999
    assert (found.tiles, found.empty) == (len(predictor.model.plan(FrameView(1500, 1100), found.options)), 0)
    assert seen[-1] == (found.tiles, found.tiles)
    assert seen == sorted(seen)


def test_few_batches_are_alive_at_a_time(tmp_path: Path) -> None:
    alive, most = 0, 0

    class Source:
        width, height = 4000, 3000

        def batches(self, plan: TilePlan, size: int):  # type: ignore[no-untyped-def]  # a generator in a test
            nonlocal alive, most
            for number in range(len(plan)):
                alive += 1
                most = max(most, alive)
                yield TileBatch((number,), self.cut)

        def cut(self) -> ImageArray:
            nonlocal alive
            alive -= 1
            return np.zeros((1, 128, 128, 3), np.uint8)

    with Predictor(load_model(LoadRequest(write_model(tmp_path), "onnxruntime", 1))) as predictor:
        found = predictor.find(Source())  # type: ignore[arg-type]  # a test's own source
        assert found.tiles > 500
        assert most <= 4 * (predictor.model.engine.parallel + 1)


def test_reading_by_window_holds_little(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(2000, 2000), tiled=True, blockxsize=256, blockysize=256)
    plan = plan_tiles(2000, 2000, TileSpec(128, 128, 128, 128, 0.2, whole_frame=True))
    with RasterFile(path) as file:
        tracemalloc.start()
        for batch in RasterSource(file, 3 * 2000 * 128).batches(plan, 4):
            batch.cut()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 5 * 3 * 2000 * 128 < 2000 * 2000 * 3 / 3


UTM = {"crs": "EPSG:32633", "transform": rasterio.Affine(0.25, 0, 500_000, 0, -0.25, 5_000_000)}


def ground_file(path: Path, crs: str, transform: rasterio.Affine, size: tuple[int, int] = (100, 80)) -> Path:
    return write(path, noise(size[1], size[0]), crs=crs, transform=transform)


def test_metres_per_pixel_from_a_projection(tmp_path: Path) -> None:
    with RasterFile(write(tmp_path / "a.tif", noise(80, 100), **UTM)) as file:
        # On the central meridian a metre of UTM is 1 / 0.9996 metres.
        assert file.gsd_m == pytest.approx(0.25 / 0.9996, rel=1e-5)
        assert file.ground is not None
        lon, lat = file.ground.lonlat(np.array([0.0, 0.0])).tolist()
        assert (lon, lat) == pytest.approx((15.0, 45.153477183), abs=1e-7)


def test_metres_per_pixel_from_degrees_feet_mercator_and_turned_rows(tmp_path: Path) -> None:
    degrees = rasterio.Affine(1e-5, 0, 13.4, 0, -1e-5, 60.0)
    with RasterFile(ground_file(tmp_path / "degrees.tif", "EPSG:4326", degrees)) as file:
        assert file.ground is not None
        along_row, along_column = file.ground.pixel_sides_m(50, 40)
        assert (along_row, along_column) == pytest.approx((0.5580, 1.1141), abs=2e-4)
        assert file.gsd_m == along_row
    feet = rasterio.Affine(1, 0, 984_000, 0, -1, 200_000)
    with RasterFile(ground_file(tmp_path / "feet.tif", "EPSG:2263", feet)) as file:
        assert file.gsd_m == pytest.approx(0.3048, rel=1e-3)
    mercator = rasterio.Affine(1, 0, 1_500_000, 0, -1, 8_399_737.9)
    with RasterFile(ground_file(tmp_path / "mercator.tif", "EPSG:3857", mercator)) as file:
        # At 60 degrees a metre of web Mercator is half a metre on the ground.
        assert file.gsd_m == pytest.approx(0.5, rel=5e-3)
    cosine, sine = 0.1 * np.cos(0.5), 0.1 * np.sin(0.5)
    turned = rasterio.Affine(cosine, sine, 500_000, sine, -cosine, 5_000_000)
    with RasterFile(ground_file(tmp_path / "turned.tif", "EPSG:32633", turned)) as file:
        assert file.gsd_m == pytest.approx(0.1, rel=1e-3)


def test_a_place_on_no_earth_is_no_georeference(tmp_path: Path) -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    path = ground_file(tmp_path / "a.tif", local, rasterio.Affine(0.1, 0, 0, 0, -0.1, 0))
    with RasterFile(path) as file:
        assert (file.ground, file.gsd_m) == (None, None)


def test_a_pixel_beyond_the_earths_edge_has_no_place(tmp_path: Path) -> None:
    seen_from_space = "+proj=geos +h=35785831 +lon_0=0 +sweep=y"
    path = ground_file(tmp_path / "a.tif", seen_from_space, rasterio.Affine(1e5, 0, -5e6, 0, -1e5, 4e6))
    with RasterFile(path) as file:
        assert file.ground is not None
        found = file.ground.lonlat(np.array([[50.0, 40.0], [0.0, 0.0], [51.0, 40.0]]))
    assert np.isnan(found[:, 0]).tolist() == [False, True, False]
    assert found[0] == pytest.approx([0, 0], abs=1e-6)


def test_the_grounds_resolution_sizes_tiles_and_bounds_things(tmp_path: Path) -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    image[50:90, 60:100] = COLOURS_BGR[0]
    image[300:500, 300:500] = COLOURS_BGR[1]
    path = write(tmp_path / "a.tif", image[..., ::-1].transpose(2, 0, 1).copy(), **UTM)
    classes = [{"name": name, "max_size_m": 30.0} for name in ("one", "two", "three")]
    card = write_model(tmp_path / "model", classes=classes, tiling={"mode": "gsd", "metres": 60})
    with Predictor(load_model(LoadRequest(card, "onnxruntime"))) as predictor, RasterFile(path) as file:
        found = predictor.find(RasterSource(file), gsd_m=file.gsd_m)
        assert (found.options.tile_width, found.options.tile_metres) == (240, 60)
        # The second is 50 m long.
        assert found.detections.classes.tolist() == [0]


def test_nothing_but_the_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(400, 400, 1), tiled=True, blockxsize=64, blockysize=64)
    plain = _read_all(path)
    other = noise(200, 200, 1)
    write(tmp_path / "a.tif.ovr", other)
    write(tmp_path / "a.tif.msk", np.zeros((1, 400, 400), np.uint8))
    (tmp_path / "a.tfw").write_text("0.1\n0\n0\n-0.1\n500000\n5000000\n")
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS>"
        '<PAMRasterBand band="1"><NoDataValue>5</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    again = _read_all(path)
    assert again[0] is None
    assert again[1:] == plain[1:]


def _read_all(path: Path) -> tuple[object, ...]:
    with RasterFile(path) as file:
        pixels = file.read(everything(file))
        assert pixels.content is None
        return file.ground, pixels.image.tobytes(), file.reduced(everything(file), 100, 100).image.tobytes()


def test_overviews_inside_the_file_are_used(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(512, 512), tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([4], Resampling.average)
    with RasterFile(path) as raster:
        assert raster.reduced(everything(raster), 64, 64).image.std() < 20


@pytest.mark.parametrize(
    "profile", [{}, {"compress": "deflate"}, {"compress": "lzw", "tiled": True, "blockxsize": 64, "blockysize": 64}]
)
def test_a_file_cut_off_in_the_middle_is_named(tmp_path: Path, profile: dict[str, object]) -> None:
    path = write(tmp_path / "cut.tif", noise(400, 400), interleave="pixel", **profile)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ImageCorruptError, match=r"cut\.tif.*damaged or cut short"), RasterFile(path) as file:
        list(RasterSource(file).batches(plan_tiles(400, 400, TileSpec(64, 64, 64, 64, 0.2, whole_frame=False)), 4))


def test_what_is_no_local_tiff_is_refused(tmp_path: Path) -> None:
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


def test_values_that_are_no_pixels_are_refused(tmp_path: Path) -> None:
    complex_values = np.ones((1, 20, 20), np.complex64)
    with pytest.raises(ImageCorruptError, match="complex64"):
        RasterFile(write(tmp_path / "a.tif", complex_values))
