"""Checks that tiles read by window equal those cut from the whole picture, with little memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling

from detectors.geometry.arrays import ImageArray
from detectors.geometry.boxes import iou_matrix
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Predictor
from detectors.rasters.file import RasterFile
from detectors.rasters.source import RasterSource, bands
from detectors.tiff.areas import PixelArea
from detectors.tiling.sources import TileBatch
from detectors.tiling.tiles import TilePlan, TileSpec, cut, plan_tiles
from standgale.testing.graphs import write_model
from tests.raster_files import WAYS, bgr, everything, noise, rectangles, write

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


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
        most = band_bytes // 3
        reduced = np.array([each.size is not None for each in bands(plan, most, most, 410) for _ in range(each.count)])
        assert np.array_equal(tiles[~reduced], expected[~reduced])
        assert reduced.all() == reduced.any() == (tile**2 > band_bytes // 3)


def test_a_very_large_tile_is_read_reduced(tmp_path: Path) -> None:
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


def test_few_batches_are_in_memory_at_a_time(tmp_path: Path) -> None:
    alive, most = 0, 0

    class Source:
        width, height = 4000, 3000

        def batches(self, plan: TilePlan, size: int):  # type: ignore[no-untyped-def]  # a generator in a test
            nonlocal alive, most
            for number in range(len(plan)):
                alive += 1
                most = max(most, alive)
                yield TileBatch((number,), self.cut, number + 1)

        def cut(self) -> ImageArray:
            nonlocal alive
            alive -= 1
            return np.zeros((1, 128, 128, 3), np.uint8)

    with Predictor(load_model(LoadRequest(write_model(tmp_path), "onnxruntime", 1))) as predictor:
        found = predictor.find(Source())  # type: ignore[arg-type]  # a test's own source
        assert found.tiles > 500
        assert most <= predictor.model.engine.parallel + 4


def test_reading_by_window_needs_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(2000, 2000), tiled=True, blockxsize=256, blockysize=256)
    plan = plan_tiles(2000, 2000, TileSpec(128, 128, 128, 128, 0.2, whole_frame=True))
    with RasterFile(path) as file:
        tracemalloc.start()
        for batch in RasterSource(file, 3 * 2000 * 128).batches(plan, 4):
            batch.cut()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 5 * 3 * 2000 * 128 < 2000 * 2000 * 3 / 3


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


@pytest.mark.parametrize("way", ["tiled", "strips"])
def test_narrow_bands_give_the_tiles_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    values = noise(700, 900)
    monkeypatch.setattr("detectors.rasters.source._SMALL_BAND_BYTES", 3 * 256 * 400)
    plan = plan_tiles(900, 700, TileSpec(256, 256, 256, 256, 0.2, whole_frame=False))
    assert max(band.area.width for band in bands(plan, 1 << 30, 256 * 400, 900)) < 900
    with RasterFile(write(tmp_path / "a.tif", values, **WAYS[way])) as file:
        found = np.concatenate([batch.cut() for batch in RasterSource(file).batches(plan, 4)])
        # Where neighbours cannot share decoded blocks in memory, bands are as wide as the picture.
        assert (file.keep_rows([(0, 256)], 900), file.keep_rows([(0, 1 << 30)], 900)) == (900, 0)
    assert np.array_equal(found, cut(bgr(values), plan))


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_stripes_give_each_tile_once_and_count_the_empty_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr("detectors.rasters.file.USUAL_CACHE_BYTES", 3 * 128 * 300)
    values = noise(500, 1500)
    values[:, :, : int(1500 * share)] = 0
    path = write(tmp_path / "a.tif", values, nodata=0, tiled=True, blockxsize=64, blockysize=64, interleave="pixel")
    plan = plan_tiles(1500, 500, TileSpec(96, 96, 96, 96, 0.2, whole_frame=False))
    with RasterFile(path) as file:
        assert file.keep_rows([(0, 96)], 96) == 1500 // 4
        source = RasterSource(file)
        found = list(source.batches(plan, 4))
        numbers = [number for each in found for number in each.numbers]
        tiles = np.concatenate([each.cut() for each in found])
    assert numbers != sorted(numbers)
    assert len(set(numbers)) == len(numbers) == len(plan) - source.empty
    assert bool(source.empty) == bool(share)
    assert np.array_equal(tiles, cut(bgr(values), plan)[numbers])
    passed = [each.passed for each in found]
    assert passed == sorted(passed)
    assert passed[-1] == len(plan)
