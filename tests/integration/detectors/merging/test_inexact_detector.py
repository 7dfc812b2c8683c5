"""Checks that objects at random places are found once, however tiles cut them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.pictures import corner_distance, quad_of
from tests.rotated_pieces import look, plan_of, resolved


@pytest.mark.parametrize(("overlap", "longest"), [(0.2, 60), (0.2, 240), (0.4, 150), (0.0, 60)])
def test_objects_are_found_once_wherever_tiles_cut_them_with_an_inexact_detector(
    overlap: float, longest: float
) -> None:
    plan = plan_of(430, 430, overlap)
    errors: list[float] = []
    several = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = (float(rng.uniform(longest / 2, longest)), float(rng.uniform(10, 30)))
        middle = rng.uniform(150, 280, 2).tolist()
        target = quad_of((middle[0], middle[1], *size, float(rng.uniform(-45, 135))))
        found = resolved(plan, look(plan, [target], rng, error_px=1.0))
        several += len(found) != 1
        errors.append(min(corner_distance(each, target) for each in found))
    assert several <= 1
    assert np.median(errors) < 1.5
    assert np.quantile(errors, 0.9) < 4
