"""Checks the boxes and classes of many scenes of full size."""

import numpy as np

from training.scenes import CLASS_NAMES, SceneSpec, render_scene
from training.scenes.spec import MAX_OBJECT_PX, MIN_OBJECT_PX


def test_boxes_are_inside_in_the_size_range_and_all_classes_occur() -> None:
    seen: set[int] = set()
    for seed in range(6):
        scene = render_scene(SceneSpec(720, 540, seed, 8.0))
        assert scene.image.shape == (540, 720, 3)
        assert scene.image.dtype == np.uint8
        assert scene.boxes.dtype == np.float32
        assert scene.boxes.shape == (len(scene.labels), 4)
        longest = (scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1)
        assert longest.min() >= MIN_OBJECT_PX
        assert longest.max() <= MAX_OBJECT_PX
        assert scene.boxes.min() >= 0
        assert (scene.boxes[:, 2:] <= (720, 540)).all()
        seen.update(scene.labels.tolist())
    assert seen == set(range(len(CLASS_NAMES)))
