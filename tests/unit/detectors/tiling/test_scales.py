"""Checks grids at several scales, and how scales are chosen by the ground or by what a quick pass finds."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.errors import TooManyTilesError
from detectors.geometry.arrays import Candidates
from detectors.tiling.scales import (
    MOST_COARSE,
    MOST_COMPARED,
    choose_scales,
    coarse_tiles,
    compared_tiles,
    fine_tiles,
    scale_for_ground,
)
from detectors.tiling.tiles import TilePlan, TileSpec, cut, plan_tiles

BOTH = (1.0, 0.5)


def plan_of(width: int, height: int, scales: tuple[float, ...] = BOTH, whole: bool = False) -> TilePlan:
    return plan_tiles(width, height, TileSpec(64, 64, 64, 64, 0.2, whole, scales=scales))


def found(*rows: tuple[float, float, float, float, float], tiles: tuple[int, ...] = ()) -> Candidates:
    """Boxes with their scores."""
    count = len(rows)
    values = np.array(rows, np.float32).reshape(count, 5)
    numbers = np.array(tiles or (0,) * count, np.int32)
    return Candidates(values[:, :4], values[:, 4], np.zeros(count, np.int32), numbers, np.zeros(count, np.bool_))


def test_plan_tiles_at_half_scale_shows_twice_as_much_in_each_tile() -> None:
    plan = plan_of(150, 100)
    fine, coarse = plan_of(150, 100, (1.0,)), plan_of(150, 100, (0.5,))
    assert plan.boxes.tolist() == fine.boxes.tolist() + coarse.boxes.tolist()
    assert plan.grids.tolist() == [1.0] * 6 + [0.5] * 2
    assert coarse.boxes.tolist() == [[0, 0, 128, 100], [22, 0, 150, 100]]
    assert coarse.scales().tolist() == [[0.5, 0.5]] * 2
    # A frame that is smaller than a tile is halved like any other.
    assert plan_of(60, 50, (0.5,)).placed.tolist() == [[17, 19, 30, 25]]


def test_a_whole_frame_tile_is_left_out_only_where_a_grid_shows_as_much() -> None:
    def whole(width: int, height: int, scales: tuple[float, ...]) -> bool:
        grids = plan_of(width, height, scales, whole=True).grids
        return bool((grids == 0).any())

    assert whole(150, 100, BOTH)
    # One tile at half scale shows all of 100 pixels in 50, the whole-frame tile in 64.
    assert whole(100, 100, BOTH)
    assert not whole(128, 128, BOTH)
    assert not whole(60, 50, BOTH)


def test_tiles_of_a_reduced_scale_are_averaged() -> None:
    """Stripes of one pixel become grey; bilinear sampling would keep some of them."""
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, ::4] = 255
    plan = plan_of(256, 256, (0.25,))
    (tile,) = cut(image, plan)
    assert (tile == 64).all()
    bilinear = cut(image, plan_tiles(256, 256, TileSpec(64, 64, 256, 256, 0.2, whole_frame=False)))
    assert not (bilinear == 64).any()


def test_too_many_tiles_at_all_scales_together_are_refused() -> None:
    spec = TileSpec(64, 64, 64, 64, 0.89, whole_frame=False, scales=(1.0, 2.0))
    with pytest.raises(TooManyTilesError, match=r"32×32 .* at scales 1, 2 are \d+ tiles"):
        plan_tiles(3000, 3000, spec)


@pytest.mark.parametrize(
    ("gsd_m", "scale"),
    [(0.1, 1.0), (0.05, 1.0), (0.2, 1.0), (0.04, 0.5), (0.02, 0.25), (0.001, 0.125), (0.3, 2.0), (3.0, 2.0)],
)
def test_scale_for_ground_is_the_one_nearest_to_native_that_fits(gsd_m: float, scale: float) -> None:
    assert scale_for_ground(gsd_m, (0.05, 0.2)) == scale


def test_a_quick_pass_is_limited_in_a_picture_of_any_size() -> None:
    plan = plan_of(20_000, 20_000)
    coarse = coarse_tiles(plan)
    assert len(coarse) == MOST_COARSE
    compared = compared_tiles(plan, coarse, found())
    assert len(compared) == MOST_COMPARED
    fine = fine_tiles(plan, compared)
    assert 0 < len(fine) <= 9 * MOST_COMPARED
    assert set(plan.grids[fine].tolist()) == {1.0}


def test_both_scales_are_compared_where_the_coarse_one_finds_most() -> None:
    plan = plan_of(2000, 2000)
    coarse = coarse_tiles(plan)
    best = int(coarse[7])
    box = plan.boxes[best].tolist()
    seen = found((*box, 0.9), tiles=(best,))
    assert best in compared_tiles(plan, coarse, seen).tolist()


@pytest.mark.parametrize(
    ("coarse", "fine", "chosen"),
    [
        ([(10, 10, 20, 20, 0.9)], [(10, 10, 20, 20, 0.8)], BOTH),
        ([(10, 10, 20, 20, 0.9)], [(10, 10, 20, 20, 0.4)], (0.5,)),
        ([(10, 10, 20, 20, 0.3)], [(10, 10, 20, 20, 0.4), (40, 40, 50, 50, 0.5)], (1.0,)),
        # Many parts of one large thing do not count against it.
        ([(10, 10, 90, 90, 0.9)], [(10, 10, 40, 40, 0.9), (50, 50, 80, 80, 0.9), (20, 60, 40, 80, 0.9)], (0.5,)),
        # Outside the compared tiles nothing counts: there the fine scale was not tried.
        ([(10, 10, 20, 20, 0.9), (140, 90, 150, 99, 0.9)], [(10, 10, 20, 20, 0.8)], BOTH),
        ([], [], BOTH),
    ],
)
def test_choose_scales_leaves_out_what_finds_clearly_less(
    coarse: list[tuple[float, float, float, float, float]],
    fine: list[tuple[float, float, float, float, float]],
    chosen: tuple[float, ...],
) -> None:
    plan = plan_of(150, 100)
    compared = np.array([6])
    assert plan.boxes[6].tolist() == [0, 0, 128, 100]
    assert choose_scales(plan, compared, found(*coarse), found(*fine)) == chosen
