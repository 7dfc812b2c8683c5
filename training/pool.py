"""Keeps a pool of rendered scenes on disk, and cuts training crops from it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from schemas.errors import StandgaleError
from training.crops import Crop, augment, cut_boxes
from training.scenes.render import render_scene
from training.scenes.spec import Scene, SceneSpec

# Disjoint ranges: a scene of one range is never drawn for another purpose.
TRAIN_SEEDS = range(1_000_000, 2_000_000)
VALIDATION_SEEDS = range(4_000_000, 4_100_000)
EVALUATION_SEEDS = range(5_000_000, 5_100_000)

# Widths and heights in turn: mostly scenes with the object sizes of large frames.
_SIZES = ((2400, 1800), (2400, 1800), (1280, 960))
_DENSITIES = (2.0, 3.0, 4.5, 1.5)


class PoolError(StandgaleError):
    """Says that the scene pool has nothing to train on."""


def pool_spec(index: int) -> SceneSpec:
    """Return the spec of scene number `index` of the pool; sizes and densities alternate."""
    width, height = _SIZES[index % len(_SIZES)]
    return SceneSpec(width, height, TRAIN_SEEDS[index], _DENSITIES[index % len(_DENSITIES)])


def fill_pool(folder: Path, count: int, progress: Callable[[int], None], *, first: int = 0, step: int = 1) -> None:
    """Render scenes first, first + step, … below `count` that the folder lacks; `progress` gets each number done."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(first, count, step):
        target = folder / f"{TRAIN_SEEDS[index]}.npz"
        if not target.exists():
            scene = render_scene(pool_spec(index))
            # Each file by rename, the labels last, so that a listed scene is complete even if two processes render it.
            image, truth = (folder / f"{target.stem}-{os.getpid()}.{kind}" for kind in ("npy", "npz"))
            np.save(image, scene.image)
            np.savez(truth, boxes=scene.boxes, labels=scene.labels)
            image.rename(target.with_suffix(".npy"))
            truth.rename(target)
        progress(index)


class ScenePool:
    """Reads the first scenes of a pool on disk, memory mapped; it grows while other processes render more scenes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._scenes: list[Scene] = []

    def __len__(self) -> int:
        return len(self._scenes)

    def grow_to(self, count: int, wait: Callable[[], None]) -> None:
        """Add scenes 0 to count - 1 in order; `wait` is called repeatedly until the next one exists."""
        while len(self._scenes) < count:
            path = self.folder / f"{TRAIN_SEEDS[len(self._scenes)]}.npz"
            while not path.exists():
                wait()
            image = np.load(path.with_suffix(".npy"), mmap_mode="r")
            with np.load(path) as truth:
                self._scenes.append(Scene(image, truth["boxes"], truth["labels"], pool_spec(len(self._scenes))))

    def scene(self, rng: np.random.Generator) -> Scene:
        """Return one of the scenes at random. Raises PoolError when there is none yet."""
        if not self._scenes:
            raise PoolError(f"the scene pool {self.folder} is empty: render scenes into it first")
        return self._scenes[int(rng.integers(len(self._scenes)))]

    def crop(self, rng: np.random.Generator, size: int, near_object: float = 0.4) -> Crop:
        """Cut a random square crop; with probability `near_object` it shows some object."""
        scene = self.scene(rng)
        height, width = scene.image.shape[:2]
        left, top = int(rng.integers(0, width - size + 1)), int(rng.integers(0, height - size + 1))
        if len(scene.boxes) and rng.random() < near_object:
            box = scene.boxes[int(rng.integers(len(scene.boxes)))]
            x, y = (box[:2] + box[2:]) / 2 - rng.uniform(0.0, size, 2)
            left, top = int(np.clip(x, 0, width - size)), int(np.clip(y, 0, height - size))
        moved = scene.boxes - np.array([left, top, left, top], np.float32)
        boxes, labels = cut_boxes(moved, scene.labels, size)
        return augment(Crop(np.array(scene.image[top : top + size, left : left + size]), boxes, labels), rng)
