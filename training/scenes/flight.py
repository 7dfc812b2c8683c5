"""Simulates a drone flight: a window that moves over one large scene."""

from collections.abc import Iterator

import numpy as np

from training.scenes.render import render_scene
from training.scenes.spec import MIN_OBJECT_PX, Boxes, Labels, Scene, SceneSpec, SceneSpecError

# An object of which less than this much is in view is not counted as seen.
MIN_VISIBLE = 0.5


def crop_boxes(boxes: Boxes, labels: Labels, window: tuple[int, int, int, int]) -> tuple[Boxes, Labels]:
    """Return boxes as seen in a window (left, top, right, bottom): clipped, moved; mostly hidden ones dropped."""
    left, top, right, bottom = window
    clipped = np.stack(
        [
            boxes[:, 0].clip(left, right),
            boxes[:, 1].clip(top, bottom),
            boxes[:, 2].clip(left, right),
            boxes[:, 3].clip(top, bottom),
        ],
        axis=1,
    )
    size = clipped[:, 2:] - clipped[:, :2]
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    seen = (size.prod(axis=1) >= MIN_VISIBLE * area) & (size.max(axis=1, initial=0.0) >= MIN_OBJECT_PX)
    moved = clipped[seen] - np.array([left, top, left, top], np.float32)
    return moved.astype(np.float32), labels[seen]


class Flight:
    """Yields frames along a smooth closed path over one scene, as Scene after Scene.

    frame_size and scene_size are (width, height) in pixels. The same seed gives the same frames. Raises SceneSpecError
    when a frame does not fit into the scene or there are no frames.
    """

    def __init__(
        self,
        seed: int,
        frame_size: tuple[int, int] = (1280, 960),
        frames: int = 50,
        scene_size: tuple[int, int] = (2560, 1920),
        density: float = 1.0,
    ) -> None:
        if frame_size[0] > scene_size[0] or frame_size[1] > scene_size[1]:
            raise SceneSpecError(
                f"frame_size {frame_size} does not fit into scene_size {scene_size}: give a larger scene"
            )
        if frames < 1:
            raise SceneSpecError(f"frames is {frames}: a flight needs at least one")
        self.frame_size = frame_size
        self.frames = frames
        self.scene = render_scene(SceneSpec(scene_size[0], scene_size[1], seed, density))

    def __len__(self) -> int:
        return self.frames

    def windows(self) -> Iterator[tuple[int, int, int, int]]:
        """Return the path: (left, top, right, bottom) of each frame in the scene."""
        rng = np.random.default_rng([self.scene.spec.seed, 41])
        turns, phases = rng.integers(1, 4, 2), rng.uniform(0, 2 * np.pi, 2)
        room = (self.scene.spec.width - self.frame_size[0], self.scene.spec.height - self.frame_size[1])
        for index in range(self.frames):
            angle = 2 * np.pi * index / self.frames
            left, top = (
                round(room[axis] * (0.5 + 0.5 * np.sin(turns[axis] * angle + phases[axis]))) for axis in range(2)
            )
            yield left, top, left + self.frame_size[0], top + self.frame_size[1]

    def __iter__(self) -> Iterator[Scene]:
        for index, (left, top, right, bottom) in enumerate(self.windows()):
            boxes, labels = crop_boxes(self.scene.boxes, self.scene.labels, (left, top, right, bottom))
            image = self.scene.image[top:bottom, left:right].copy()
            yield Scene(image, boxes, labels, SceneSpec(self.frame_size[0], self.frame_size[1], index))
