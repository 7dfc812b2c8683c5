"""Light: crops keep shape and place while colours, sharpness and noise change."""

import numpy as np

from training.mixture.light import vary_light


def test_an_image_keeps_its_shape_and_where_things_are() -> None:
    image = np.full((48, 48, 3), 40, np.uint8)
    image[10:30, 12:36] = (200, 180, 190)
    changed = 0
    for seed in range(60):
        varied = vary_light(image, np.random.default_rng(seed))
        assert varied.shape == image.shape
        assert varied.dtype == np.uint8
        assert varied[14:26, 16:32].mean() > varied[34:].mean() + 40
        changed += not np.array_equal(varied, image)
    assert 25 < changed < 60


def test_the_same_seed_gives_the_same_light() -> None:
    image = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    for seed in range(20):
        first, again = (vary_light(image, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first, again)
