"""Checks how large tiles are, by ground, frame, objects and options, and which boxes are too large."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detectors.card.card import ClassCard, ModelCard, TilingCard
from detectors.geometry.arrays import Candidates
from detectors.merging.merge import merge
from detectors.merging.sizes import largest_px, sorted_by_size
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView, Resolved, resolve
from detectors.model.predict import Predictor
from detectors.tiling.tile_sides import TileSides, chosen_sides, sides_of_metres
from schemas.events import DetectOptions
from schemas.geometry import CameraGeometry
from standgale.testing.factories import model_card
from standgale.testing.graphs import COLOURS_BGR, anchors, write_model

DRONE = CameraGeometry(altitude_m=60, focal_length_mm=4.5, sensor_width_mm=6.3)
NATIVE = (640, 640)


def card(width: int = 640, height: int = 640, sizes: tuple[float | None, ...] = (None,), **tiling: object) -> ModelCard:
    classes = [{"name": f"c{n}", "max_size_m": metres} for n, metres in enumerate(sizes)]
    return model_card(input={"width": width, "height": height}, classes=classes, tiling=tiling)


def sides(found: Resolved) -> tuple[int | None, int | None]:
    return found.tile_width, found.tile_height


def test_tiles_show_the_metres_of_the_card_where_the_camera_is_known() -> None:
    model = card(mode="gsd", metres=42)
    view = FrameView.of(4000, 3000, DRONE)
    # 60 m · 6.3 mm / (4.5 mm · 4000 px) = 21 mm per pixel.
    assert view.gsd_m == pytest.approx(0.021)
    found = resolve(model, DetectOptions(), view)
    assert (sides(found), found.tile_metres, found.gsd_m) == ((2000, 2000), 42, view.gsd_m)
    assert found.as_options().tile_metres == 42


def test_without_the_cameras_geometry_tiles_have_the_fixed_sides_and_no_metres() -> None:
    model = card(mode="gsd", metres=42, width=800)
    found = resolve(model, DetectOptions(tile_metres=10), FrameView(4000, 3000))
    assert (sides(found), found.tile_metres) == ((800, 640), None)


def test_options_win_over_the_card_and_metres_over_sides() -> None:
    model, view = card(mode="gsd", metres=42), FrameView(4000, 3000, 0.1)
    assert sides(resolve(model, DetectOptions(tile_metres=30), view)) == (300, 300)
    assert sides(resolve(model, DetectOptions(tile_metres=30, tile_width=700), view)) == (300, 300)
    assert sides(resolve(model, DetectOptions(tile_width=700), view)) == (700, 640)
    assert resolve(model, DetectOptions(tile_width=700), view).tile_metres is None
    assert sides(resolve(card(), DetectOptions(tile_metres=30), view)) == (300, 300)
    assert sides(resolve(card(mode="whole"), DetectOptions(tile_metres=30), view)) == (300, 300)


def test_tiles_keep_the_inputs_shape_and_metres_go_from_left_to_right() -> None:
    found = resolve(card(1280, 640, mode="gsd", metres=100), DetectOptions(), FrameView(4000, 3000, 0.1))
    assert (sides(found), found.tile_metres) == ((1000, 500), 100)


@pytest.mark.parametrize(
    ("metres", "gsd_m", "size", "expected", "shown"),
    [
        (10, 1, (640, 640), (64, 64), 64),
        (10_000, 0.1, (640, 640), (8192, 8192), 819.2),
        (10, 1, (1280, 640), (128, 64), 128),
        (100_000, 0.1, (640, 1280), (4096, 8192), 409.6),
    ],
)
def test_bounded_sides_are_reported_with_the_metres_they_show(
    metres: float, gsd_m: float, size: tuple[int, int], expected: tuple[int, int], shown: float
) -> None:
    found = resolve(card(*size), DetectOptions(tile_metres=metres), FrameView(4000, 3000, gsd_m))
    assert sides(found) == expected
    assert found.as_options().tile_metres == pytest.approx(shown)


@given(
    metres=st.floats(0.01, 100_000),
    gsd_m=st.floats(1e-5, 10_000),
    size=st.tuples(st.integers(32, 8192), st.integers(32, 8192)),
)
def test_sides_by_ground_are_always_allowed(metres: float, gsd_m: float, size: tuple[int, int]) -> None:
    (width, height), shown = sides_of_metres(metres, gsd_m, size)
    assert 64 <= width <= 8192
    assert 64 <= height <= 8192
    assert shown == metres or shown == width * gsd_m
    found = resolve(card(*size), DetectOptions(tile_metres=metres), FrameView(4000, 3000, gsd_m))
    assert resolve(card(*size), found.as_options(), FrameView(4000, 3000, gsd_m)) == found


def test_a_card_with_mode_gsd_needs_metres() -> None:
    with pytest.raises(ValidationError, match="mode gsd needs metres"):
        TilingCard(mode="gsd")


@pytest.mark.parametrize(
    ("frame", "objects", "expected"),
    [
        # Nothing known about objects: native resolution; whole when that saves tiles and costs at most a quarter.
        ((4000, 3000), (), TileSides(NATIVE, 0.2, False)),
        ((640, 480), (), TileSides(NATIVE, 0.2, False)),
        ((800, 600), (), TileSides(None, 0.2, True)),
        ((801, 600), (), TileSides(NATIVE, 0.2, False)),
        # All fit and are visible: native.
        ((4000, 3000), (25, 100), TileSides(NATIVE, 0.2, False)),
        # Common ones of the smallest class have 6 pixels: magnified to 10; or at most twice.
        ((4000, 3000), (12, 60), TileSides((384, 384), 0.2, False)),
        ((4000, 3000), (10, 60), TileSides((320, 320), 0.20625, False)),
        # A class that stays invisible even so is not what tiles are sized for.
        ((4000, 3000), (5, 60), TileSides(NATIVE, 0.2, False)),
        ((4000, 3000), (5, 6), TileSides(NATIVE, 0.2, False)),
        # The largest fits into a fifth of larger tiles, in which the smallest are still seen.
        ((4000, 3000), (50, 200), TileSides((1100, 1100), 0.2, False)),
        # They would not be: as large as they allow, and more overlap; and what does not fit is seen in the whole.
        ((4000, 3000), (30, 300), TileSides((960, 960), 330 / 960, False)),
        ((4000, 3000), (25, 900), TileSides((800, 800), 0.5, True)),
        # Very near the ground: objects are large, and tiles need not be larger than the frame.
        ((4000, 3000), (250, 3000), TileSides((4000, 4000), 0.5, True)),
    ],
)
def test_the_automatic_choice(frame: tuple[int, int], objects: tuple[float, ...], expected: TileSides) -> None:
    found = chosen_sides(frame, NATIVE, NATIVE, objects, 0.2)
    assert (found.sides, found.whole_frame) == (expected.sides, expected.whole_frame)
    assert found.overlap == pytest.approx(expected.overlap)


def test_the_automatic_choice_keeps_the_shape_of_the_fixed_sides() -> None:
    assert chosen_sides((4000, 3000), (1280, 640), (640, 320), (50, 100), 0.2).sides == (1280, 640)
    assert chosen_sides((4000, 3000), (1280, 640), (640, 320), (24, 100), 0.2).sides == (768, 384)


@given(
    frame=st.tuples(st.integers(20, 30_000), st.integers(20, 30_000)),
    objects=st.lists(st.floats(0.01, 1e5), max_size=4),
    overlap=st.floats(0, 0.89),
)
def test_automatic_tiles_fit_the_largest_object_or_add_the_whole_frame(
    frame: tuple[int, int], objects: list[float], overlap: float
) -> None:
    found = chosen_sides(frame, NATIVE, NATIVE, objects, overlap)
    assert found.overlap >= overlap
    if found.sides is None:
        return
    assert all(64 <= side <= 8192 for side in found.sides)
    assert found.whole_frame or max(objects, default=0) <= found.overlap * min(found.sides) + 1


def test_the_automatic_mode_uses_class_sizes_and_options_win_over_it() -> None:
    model = card(sizes=(3.0, 30.0, None), mode="auto")
    # Common small ones have 15 px, so tiles may shrink by 1.5; the overlap takes what is left of 1.1 · 300 px.
    found = resolve(model, DetectOptions(), FrameView(4000, 3000, 0.1))
    assert (sides(found), found.tile_metres, found.whole_frame) == ((960, 960), None, False)
    assert found.overlap == pytest.approx(330 / 960)
    assert resolve(model, found.as_options(), FrameView(4000, 3000, 0.1)) == found
    asked = resolve(model, DetectOptions(overlap=0.1, whole_frame=True), FrameView(4000, 3000, 0.1))
    assert (asked.overlap, asked.whole_frame) == (0.1, True)
    assert sides(resolve(model, DetectOptions(tile_width=500), FrameView(4000, 3000, 0.1))) == (500, 640)
    whole = resolve(model, DetectOptions(), FrameView(700, 500))
    assert (sides(whole), whole.whole_frame) == ((None, None), True)
    assert resolve(model, whole.as_options(), FrameView(700, 500)) == whole


def candidates(sides: list[tuple[float, float]], classes: list[int]) -> Candidates:
    count = len(sides)
    boxes = np.array([(10, 20, 10 + width, 20 + height) for width, height in sides], np.float32)
    kinds = np.array(classes, np.int32)
    return Candidates(
        boxes, np.full(count, 0.9, np.float32), kinds, np.zeros(count, np.int32), np.zeros(count, np.bool_)
    )


CLASSES = (ClassCard(name="person", max_size_m=2.0), ClassCard(name="car", max_size_m=6.0), ClassCard(name="roof"))


def test_boxes_larger_than_their_class_and_tolerance_are_dropped() -> None:
    limits = largest_px(CLASSES, 0.1)
    assert limits is not None
    assert limits.tolist() == [27.0, 77.0, np.inf]
    found = candidates([(27, 5), (5, 27.1), (77, 77), (77.1, 3), (900, 900)], [0, 0, 1, 1, 2])
    kept, large = sorted_by_size(found, limits)
    assert kept.boxes.tolist() == found.boxes[[0, 2, 4]].tolist()
    assert large is not None
    assert large.boxes.tolist() == found.boxes[[1, 3]].tolist()


def test_the_longer_side_of_a_rotated_box_counts() -> None:
    upright = candidates([(60, 60), (60, 60)], [0, 0])
    long, short = (np.array([(10, 20), (10 + d, 20 + d), (4 + d, 26 + d), (4, 26)], np.float32) for d in (30.0, 15.0))
    turned = Candidates(
        upright.boxes, upright.scores, upright.classes, upright.tiles, upright.cut, np.stack([long, short])
    )
    kept, _ = sorted_by_size(turned, largest_px(CLASSES, 0.1))
    assert kept.quads is not None
    assert kept.quads.tolist() == [short.tolist()]


def test_without_geometry_or_largest_size_no_box_is_too_large() -> None:
    found = candidates([(5000, 5000)], [0])
    assert largest_px(CLASSES, None) is None
    assert largest_px(CLASSES[2:], 0.1) is None
    assert sorted_by_size(found, None) == (found, None)


def test_too_large_boxes_are_dropped_from_frames_whole_or_joined(tmp_path: Path) -> None:
    names = [{"name": name, "max_size_m": 10.0} for name in ("one", "two", "three")]
    image = np.zeros((300, 400, 3), np.uint8)
    image[10:60, 20:70] = COLOURS_BGR[0]
    # Longer than a tile: it is seen in pieces only, each of which is small enough.
    image[200:220, 30:380] = COLOURS_BGR[1]
    with Predictor(load_model(LoadRequest(write_model(tmp_path, classes=names), "onnxruntime"))) as predictor:
        everything = predictor.predict(image)
        assert (sorted(everything.classes.tolist()), everything.too_large) == ([0, 1], 0)
        joined = predictor.predict(image, gsd_m=0.08)
        assert (joined.classes.tolist(), joined.too_large) == ([0], 1)
        whole = DetectOptions(tile_width=400, tile_height=300)
        assert predictor.predict(image, whole, gsd_m=0.08).classes.tolist() == [0]
        nothing = predictor.predict(image, whole, gsd_m=0.35)
        assert (nothing.classes.tolist(), nothing.too_large) == ([], 2)
        assert sorted(predictor.predict(image, gsd_m=0.01).classes.tolist()) == [0, 1]


def test_a_too_large_box_suppresses_no_other_box(tmp_path: Path) -> None:
    names = [{"name": name, "max_size_m": 2.0} for name in ("one", "two", "three")]
    model = load_model(LoadRequest(write_model(tmp_path, classes=names), "onnxruntime", 1))
    view = FrameView(128, 128, 0.1)
    options = model.resolved(DetectOptions(), view)
    plan = model.plan(view, options)
    # Rows: centre, size, the scores of three classes; the better box, 30 px long, may have 27 at most.
    outputs = np.zeros((1, 7, anchors(128, 128)), np.float32)
    outputs[0, :, 0] = (50, 50, 30, 30, 0.9, 0, 0)
    outputs[0, :, 1] = (50, 50, 26, 26, 0.8, 0, 0)
    found = model.merge(model.candidates((outputs,), plan, 0, options), plan, options)
    assert (found.boxes.tolist(), found.too_large) == ([[37, 37, 63, 63]], 1)
    model.close()


def test_a_too_large_joined_box_suppresses_no_other_box(tmp_path: Path) -> None:
    names = [{"name": name, "max_size_m": 10.0} for name in ("one", "two", "three")]
    card = write_model(tmp_path, classes=names, merge={"metric": "ios", "class_aware": False})
    image = np.zeros((300, 400, 3), np.uint8)
    image[190:230, 30:380] = COLOURS_BGR[0]
    image[200:220, 210:240] = COLOURS_BGR[1]
    with Predictor(load_model(LoadRequest(card, "onnxruntime"))) as predictor:
        assert predictor.predict(image).classes.tolist() == [0]
        found = predictor.predict(image, gsd_m=0.08)
    assert (found.classes.tolist(), found.boxes.tolist()) == ([1], [[210, 200, 240, 220]])


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("method", ["nmm", "greedy_nmm"])
def test_a_union_larger_than_its_class_can_be_leaves_the_best_box(
    method: Literal["nmm", "greedy_nmm"], turned: bool
) -> None:
    # Two people side by side, 2 m each, whose boxes overlap; and two boxes of one person.
    found = candidates([(20, 9), (20, 9), (20, 9), (20, 9)], [0, 0, 0, 0])
    found.boxes[:, 0::2] += np.array([[0], [12], [200], [203]], np.float32)
    quads = found.boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] if turned else None
    shown = Candidates(found.boxes, np.float32([0.9, 0.8, 0.9, 0.8]), found.classes, found.tiles, found.cut, quads)
    limits = largest_px(CLASSES, 0.1)
    merged = merge(shown, method, "ios", 0.3, True, limits)
    assert merged.boxes.tolist() == [[10, 20, 30, 29], [210, 20, 233, 29]]
    if merged.quads is not None:
        assert np.ptp(merged.quads[..., 0], axis=1) == pytest.approx([20, 23], abs=1e-3)
    assert merge(shown, method, "ios", 0.3, True).boxes[0].tolist() == [10, 20, 42, 29]
