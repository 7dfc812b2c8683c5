"""Checks detection at several scales: the same boxes from a picture, from a raster and in the worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectors.geometry.arrays import Detections, ImageArray
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Model, Predictor
from detectors.tiling.sources import ArraySource
from detectors.worker.pipeline.pipeline import FrameResult, InferencePipeline
from schemas.events import DetectOptions
from standgale.testing.graphs import COLOURS_BGR, write_model

BOTH = DetectOptions(scales=(1.0, 0.5))
# Red fits into a tile of scale 1, green only into one of scale 0.5.
RECTANGLES = {0: (10, 20, 41, 37), 1: (150, 30, 350, 190), 2: (420, 300, 470, 330)}


def frame() -> ImageArray:
    image = np.zeros((400, 520, 3), np.uint8)
    for index, (left, top, right, bottom) in RECTANGLES.items():
        image[top:bottom, left:right] = COLOURS_BGR[index]
    return image


def model_in(folder: Path, **card: object) -> Model:
    return load_model(LoadRequest(write_model(folder, **card), "onnxruntime"))


def assert_found(found: Detections, within_px: float) -> None:
    assert sorted(found.classes.tolist()) == sorted(RECTANGLES)
    for box, index in zip(found.boxes, found.classes.tolist(), strict=True):
        assert np.abs(box - RECTANGLES[index]).max() <= within_px


async def in_worker(model: Model, frames: list[tuple[ImageArray, DetectOptions]]) -> list[FrameResult]:
    pipeline = InferencePipeline(model, host_threads=2, max_pixels=10**7)
    try:
        return await asyncio.gather(
            *(pipeline.detect(cv2.imencode(".png", image)[1].tobytes(), asked) for image, asked in frames)
        )
    finally:
        pipeline.close()


def test_boxes_of_all_scales_are_merged_as_one(tmp_path: Path) -> None:
    with Predictor(model_in(tmp_path)) as predictor:
        found = predictor.find(ArraySource(frame()), BOTH)
        assert_found(found.detections, 2.0)
        alone = predictor.find(ArraySource(frame()))
    assert found.options.scales == (1.0, 0.5)
    assert [(each.scale, each.tiles) for each in found.by_scale] == [(1.0, 20), (0.5, 6)]
    assert found.tiles == 26
    assert [(each.scale, each.tiles) for each in alone.by_scale] == [(1.0, 20)]


def test_the_card_chooses_the_scale_by_the_ground(tmp_path: Path) -> None:
    model = model_in(tmp_path, tiling={"scales": "auto", "gsd_m": [0.05, 0.2]})
    for gsd_m, scales in ((0.1, (1.0,)), (0.03, (0.5,)), (0.3, (2.0,))):
        assert model.resolved(DetectOptions(), FrameView(520, 400, gsd_m)).scales == scales
    # The ground decides the size of tiles already, or the frame is not cut.
    ground = model.resolved(DetectOptions(tile_metres=20), FrameView(520, 400, 0.03))
    whole = model.resolved(DetectOptions(mode="whole"), FrameView(520, 400))
    assert ground.scales == whole.scales == (1.0,)
    assert whole.as_options().mode == "whole"
    assert model.resolved(whole.as_options(), FrameView(520, 400)) == whole
    model.close()


def test_auto_scales_without_ground_give_what_the_chosen_scales_give(tmp_path: Path) -> None:
    with Predictor(model_in(tmp_path)) as predictor:
        seen: list[tuple[int, int]] = []
        auto = predictor.find(
            ArraySource(frame()), DetectOptions(scales="auto"), progress=lambda *state: seen.append(state)
        )
        asked = predictor.find(ArraySource(frame()), DetectOptions(scales=auto.options.scales))
    assert auto.detections.boxes.tolist() == asked.detections.boxes.tolist()
    assert auto.detections.classes.tolist() == asked.detections.classes.tolist()
    assert auto.options == asked.options
    assert sorted(seen) == seen
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize("asked", [BOTH, DetectOptions(scales="auto"), DetectOptions(scales=(0.5,))])
def test_a_worker_finds_the_same_with_frames_of_several_scales_in_a_batch(tmp_path: Path, asked: DetectOptions) -> None:
    model = model_in(tmp_path)
    alone = Predictor(model).find(ArraySource(frame()), asked)
    small = frame()[:200, :260].copy()
    frames = [(frame(), asked), (small, DetectOptions()), (frame(), asked), (small, asked)] * 2
    results = asyncio.run(in_worker(model, frames))
    model.close()
    for place in (0, 2, 4, 6):
        assert results[place].detections.boxes.tolist() == alone.detections.boxes.tolist()
        assert results[place].options == alone.options
        assert results[place].tiles == alone.tiles


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_raster_is_cut_at_several_scales_like_a_picture_in_memory(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    from detectors.rasters.file import RasterFile
    from detectors.rasters.source import RasterSource

    path = tmp_path / "a.tif"
    image = frame()
    with rasterio.open(path, "w", driver="GTiff", width=520, height=400, count=3, dtype="uint8") as file:
        file.write(image[..., ::-1].transpose(2, 0, 1))
    with Predictor(model_in(tmp_path / "model")) as predictor:
        memory = predictor.find(ArraySource(image), BOTH)
        with RasterFile(path) as raster:
            windows = predictor.find(RasterSource(raster), BOTH)
        with RasterFile(path) as raster:
            auto = predictor.find(RasterSource(raster), DetectOptions(scales="auto"))
    assert windows.detections.boxes.tolist() == memory.detections.boxes.tolist()
    assert windows.by_scale == memory.by_scale
    assert sorted(auto.detections.classes.tolist()) == [0, 1, 2]


def test_sizes_are_limited_in_metres_at_every_scale(tmp_path: Path) -> None:
    """Green is 200 pixels long, which is 20 m at 0.1 m per pixel; 10 m with tolerance are 127 pixels."""
    limited = [{"name": "red"}, {"name": "green", "max_size_m": 10}, {"name": "blue"}]
    with Predictor(model_in(tmp_path, classes=limited)) as predictor:
        for options in (DetectOptions(scales=(0.5,)), BOTH):
            assert_found(predictor.predict(frame(), options), 2.0)
            near = predictor.predict(frame(), options, gsd_m=0.1)
            green = near.boxes[near.classes == 1]
            assert near.too_large
            assert (green[:, 2:] - green[:, :2]).max(initial=0.0) <= 127
