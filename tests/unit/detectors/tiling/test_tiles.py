"""Checks where frames are cut, what the tiles show, and how boxes map back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.errors import TooManyTilesError
from detectors.tiling.letterbox import Placement, letterbox_into, place
from detectors.tiling.tiles import TileSpec, axis_starts, cut, plan_tiles, to_frame, touches_inner_edge


def spec(
    size: tuple[int, int] = (64, 64), tile: tuple[int, int] | None = (64, 64), overlap: float = 0.25, **more: object
) -> TileSpec:
    width, height = tile or (None, None)
    return TileSpec(size[0], size[1], width, height, overlap, **{"whole_frame": False, **more})  # type: ignore[arg-type]  # a test's keywords


@given(length=st.integers(1, 5000), tile=st.integers(16, 900), overlap=st.floats(0, 0.89))
def test_an_axis_is_covered_with_the_overlap_and_nothing_twice(length: int, tile: int, overlap: float) -> None:
    starts = axis_starts(length, tile, overlap)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    if length <= tile:
        assert starts == [0]
        return
    assert starts[-1] == length - tile
    steps = np.diff(starts)
    assert steps.max(initial=0) <= max(1, round(tile * (1 - overlap)))
    # No tile could be left out.
    assert len(starts) == 1 or len(starts) - 1 == -(-(length - tile) // max(1, round(tile * (1 - overlap))))


def test_tiles_are_row_by_row_and_the_last_ones_move_inward() -> None:
    plan = plan_tiles(150, 100, spec())
    assert plan.boxes.dtype == np.int32
    assert plan.boxes.tolist() == [[left, top, left + 64, top + 64] for top in (0, 36) for left in (0, 48, 86)]
    assert plan.inner_edges()[[0, 4]].tolist() == [[False, False, True, True], [True, True, True, False]]


def test_the_whole_frame_is_the_last_tile_and_only_when_needed() -> None:
    plan = plan_tiles(150, 100, spec(whole_frame=True))
    assert plan.boxes[-1].tolist() == [0, 0, 150, 100]
    assert not plan.inner_edges()[-1].any()
    assert len(plan_tiles(64, 50, spec(whole_frame=True))) == 1
    assert plan_tiles(150, 100, spec(tile=None)).boxes.tolist() == [[0, 0, 150, 100]]


def test_a_frame_smaller_than_a_tile_is_magnified_like_any_tile() -> None:
    plan = plan_tiles(40, 20, spec(size=(128, 128)))
    assert plan.boxes.tolist() == [[0, 0, 40, 20]]
    assert plan.placed.tolist() == [[24, 44, 80, 40]]


def test_too_many_tiles_are_refused_before_they_are_made() -> None:
    small = spec(overlap=0.89)
    with pytest.raises(TooManyTilesError, match=r"2000000000×2000000000 .* 64×64 .* 0\.89"):
        plan_tiles(2_000_000_000, 2_000_000_000, small)
    side = 64 + 7 * 500
    assert len(plan_tiles(side, side, small)) == 501**2
    with pytest.raises(TooManyTilesError):
        plan_tiles(side + 7 * 100, side, small)


def test_a_frame_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="0×20"):
        plan_tiles(0, 20, spec())


@pytest.mark.parametrize("anchor", ["center", "top_left"])
def test_cut_equals_resize_and_padding(anchor: str) -> None:
    image = np.random.default_rng(1).integers(0, 256, (90, 131, 3), np.uint8)
    plan = plan_tiles(131, 90, spec(size=(96, 64), tile=(70, 50), anchor=anchor, pad=7, whole_frame=True))
    tiles = cut(image, plan)
    assert (tiles.shape, tiles.dtype) == ((len(plan), 64, 96, 3), np.uint8)
    for tile, box, placed in zip(tiles, plan.boxes.tolist(), plan.placed.tolist(), strict=True):
        left, top, width, height = placed
        expected = np.full((64, 96, 3), 7, np.uint8)
        piece = image[box[1] : box[3], box[0] : box[2]]
        expected[top : top + height, left : left + width] = cv2.resize(piece, (width, height))
        assert (tile == expected).all()
        assert (left, top) == ((0, 0) if anchor == "top_left" else ((96 - width) // 2, (64 - height) // 2))


def test_tiles_of_the_models_size_are_copied_untouched() -> None:
    image = np.random.default_rng(2).integers(0, 256, (100, 150, 3), np.uint8)
    plan = plan_tiles(150, 100, spec())
    some = cut(image, plan, first=2, count=3)
    assert len(some) == 3
    for tile, (left, top, right, bottom) in zip(some, plan.boxes[2:5].tolist(), strict=True):
        assert (tile == image[top:bottom, left:right]).all()


def test_an_image_with_a_different_size_than_the_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="150×100"):
        cut(np.zeros((150, 100, 3), np.uint8), plan_tiles(150, 100, spec()))


@given(
    frame=st.tuples(st.integers(20, 3000), st.integers(20, 3000)),
    size=st.tuples(st.sampled_from([64, 96, 416, 640]), st.sampled_from([64, 320, 640])),
    tile=st.tuples(st.integers(20, 900), st.integers(20, 900)),
    anchor=st.sampled_from(["center", "top_left"]),
)
def test_boxes_map_into_the_tile_and_back_exactly(
    frame: tuple[int, int], size: tuple[int, int], tile: tuple[int, int], anchor: str
) -> None:
    plan = plan_tiles(*frame, spec(size=size, tile=tile, anchor=anchor, whole_frame=True))
    assert (plan.placed[:, :2] >= 0).all()
    assert (plan.placed[:, 0] + plan.placed[:, 2] <= size[0]).all()
    assert (plan.placed[:, 1] + plan.placed[:, 3] <= size[1]).all()
    index = np.arange(len(plan), dtype=np.int32)
    # The placed picture's own corners are the tile's corners: each axis is undone by its own, rounded, scale.
    corners = np.concatenate((plan.placed[:, :2], plan.placed[:, :2] + plan.placed[:, 2:]), axis=1).astype(np.float32)
    assert np.abs(to_frame(plan, corners, index) - plan.boxes).max() < 1e-2
    everything = np.tile(np.array([-50, -50, 5000, 5000], np.float32), (len(plan), 1))
    assert (to_frame(plan, everything, index) == plan.boxes).all()


def test_only_inner_edges_are_touched() -> None:
    plan = plan_tiles(150, 100, spec())
    boxes = np.array([[0, 0, 20, 20], [40, 10, 62, 30], [40, 10, 58, 30], [10, 30, 30, 63]], np.float32)
    assert touches_inner_edge(plan, boxes, np.zeros(4, np.int32)).tolist() == [False, True, False, True]


def test_odd_padding_puts_the_larger_half_right_and_below() -> None:
    assert place((101, 50), (64, 64), 64 / 101, "center") == Placement(0, 16, 64, 32)
    # YOLOX cuts off what Ultralytics rounds: 416 / 640 * 427 is 277.55.
    assert place((640, 427), (416, 416), 416 / 640, "center") == Placement(0, 69, 416, 278)
    assert place((640, 427), (416, 416), 416 / 640, "top_left") == Placement(0, 0, 416, 277)
    assert place((50, 101), (64, 63), 63 / 101, "center") == Placement(16, 0, 31, 63)
    out = np.zeros((4, 5, 3), np.uint8)
    letterbox_into(out, np.full((2, 2, 3), 9, np.uint8), Placement(1, 1, 2, 2), 114)
    assert out[..., 0].tolist() == [[114] * 5, [114, 9, 9, 114, 114], [114, 9, 9, 114, 114], [114] * 5]
