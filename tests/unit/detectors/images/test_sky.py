"""Checks that sky is found above a landscape, and in no picture from above."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from detectors.geometry.arrays import ImageArray
from detectors.images.sky import has_sky
from tests.paths import real_file


def ground(height: int, width: int = 300, level: float = 90.0) -> ImageArray:
    noise = np.random.default_rng(3).normal(level, 40, (height // 5, width // 5, 3))
    return cv2.resize(np.clip(noise, 0, 255).astype(np.uint8), (width, height))


def sky(height: int, width: int = 300) -> ImageArray:
    levels = np.linspace(190, 230, height).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None], (height, width, 3)).copy()


@pytest.mark.parametrize("share", [0.15, 0.4, 0.6])
def test_has_sky_finds_a_smooth_bright_upper_part(share: float) -> None:
    rows = int(200 * share)
    assert has_sky(np.concatenate((sky(rows), ground(200 - rows))))


def test_has_sky_of_pictures_from_above_is_false() -> None:
    assert not has_sky(ground(200))
    # Water and a field are smooth, but as dark as the rest; a roof is bright, but at the lower edge.
    assert not has_sky(np.concatenate((np.full((60, 300, 3), 70, np.uint8), ground(140))))
    assert not has_sky(np.concatenate((ground(140), sky(60))))
    assert not has_sky(np.zeros((50, 40, 3), np.uint8))
    assert not has_sky(sky(200))


def test_has_sky_of_a_real_picture_from_above_is_false() -> None:
    image = cv2.imread(str(real_file("brighton_DJI_0028.jpg")))
    assert image is not None
    assert not has_sky(image)
