"""Checks which pieces of rotated boxes at tile edges are dropped, joined, or kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detectors.merging.pieces import resolve_pieces
from tests.pictures import corner_distance, quad_of
from tests.rotated_pieces import look, plan_of, resolved, seen, visible

# Two tiles side by side: 0..100 and 80..180.
PAIR = plan_of(180, 100, 0.2)


@pytest.mark.parametrize("degrees", [-44, -30, -10, 0, 5, 20, 30, 45])
def test_an_object_that_an_edge_cuts_is_joined_within_a_pixel(degrees: float) -> None:
    target = quad_of((90, 50, 110, 14, degrees))
    found = resolved(PAIR, look(PAIR, [target], np.random.default_rng(0)))
    assert len(found) == 1
    assert corner_distance(found[0], target) < 1


@pytest.mark.parametrize("degrees", [-40, -25, 0, 10, 30, 45, 60, 80, 110, 130])
@pytest.mark.parametrize("overlap", [0.2, 0.4])
def test_an_object_across_many_tiles_is_joined_within_two_pixels(degrees: float, overlap: float) -> None:
    plan = plan_of(430, 430, overlap)
    target = quad_of((215, 205, 210, 22, degrees))
    found = resolved(plan, look(plan, [target], np.random.default_rng(1)))
    assert len(found) == 1
    assert corner_distance(found[0], target) < 2


def test_a_poor_piece_is_dropped_for_the_whole_box() -> None:
    target = quad_of((104, 50, 30, 20, 45))
    # The first tile sees a corner, a triangle from 87 to 100; the box around it is upright.
    corner = np.array([[87, 39], [100, 39], [100, 64], [87, 64]], np.float32)
    found = resolved(PAIR, seen(PAIR, [(corner, 0.9, 0), (target, 0.5, 1)]))
    assert [corner_distance(each, target) for each in found] == [0]


def test_a_piece_is_not_dropped_for_the_object_next_to_it() -> None:
    whole = quad_of((112, 50, 70, 8, 45))
    away = np.array([-np.sin(np.pi / 4), np.cos(np.pi / 4)], np.float32) * 11
    piece = visible(PAIR, whole + away, 0)
    assert piece is not None
    candidates = seen(PAIR, [(piece, 0.9, 0), (whole, 0.8, 1)])
    assert candidates.cut.tolist() == [True, False]
    # The upright boxes around them would explain it.
    upright = replace(candidates, quads=None)
    assert len(resolve_pieces(upright, PAIR, True)) == 1
    assert len(resolved(PAIR, candidates)) == 2


@pytest.mark.parametrize("degrees", [0, 20, 45])
def test_objects_cut_by_the_same_edge_are_not_joined(degrees: float) -> None:
    away = np.array([-np.sin(np.radians(degrees)), np.cos(np.radians(degrees))], np.float32) * 14
    objects = [quad_of((90, 44, 110, 10, degrees)), quad_of((90, 44, 110, 10, degrees)) + away]
    found = resolved(PAIR, look(PAIR, objects, np.random.default_rng(3)))
    assert len(found) == 2
    for target in objects:
        assert min(corner_distance(each, target) for each in found) < 1.5


@pytest.mark.parametrize("degrees", [0, 15, 40])
def test_tiles_without_overlap_join_what_meets_at_their_common_edge_in_line(degrees: float) -> None:
    plan = plan_of(200, 100, 0.0)
    target = quad_of((100, 50, 90, 12, degrees))
    joined = resolved(plan, look(plan, [target], np.random.default_rng(4)))
    assert len(joined) == 1
    assert corner_distance(joined[0], target) < 1.5
    # Out of line: two objects that end at the edge.
    one, two = look(plan, [target], np.random.default_rng(4)).quads  # type: ignore[misc]  # it has quads
    assert len(resolved(plan, seen(plan, [(one, 0.9, 0), (two + np.array([0, 20], np.float32), 0.8, 1)]))) == 2


def test_a_piece_without_partner_and_frames_without_pieces_are_kept() -> None:
    lone = seen(PAIR, [(quad_of((95, 50, 30, 14, 20)), 0.9, 0)])
    assert lone.cut.all()
    assert (resolved(PAIR, lone) == lone.quads).all()
    inside = seen(PAIR, [(quad_of((40, 50, 30, 14, 20)), 0.9, 0)])
    assert resolve_pieces(inside, PAIR, True) is inside
    nothing = resolve_pieces(seen(PAIR, []), PAIR, True)
    assert nothing.quads is not None
    assert nothing.quads.shape == (0, 4, 2)


def test_joined_pieces_keep_their_part_outside_the_frame() -> None:
    plan = plan_of(180, 100, 0.2)
    target = quad_of((90, 2, 110, 20, 5))
    parts = [(quad_of((67, 0, 64, 20, 5)), 0.9, 0), (quad_of((113, 4, 64, 20, 5)), 0.8, 1)]
    (found,) = resolved(plan, seen(plan, parts))
    assert corner_distance(found, target) < 1.5
    assert found[:, 1].min() < -10
