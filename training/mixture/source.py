"""Cuts the batch of each step of a training."""

import numpy as np
from numpy.typing import NDArray

from training.mixture.batches import Batch, batch_shape, drawn_batch, mixed_batch
from training.mixture.photo_crops import PhotoCrops
from training.mixture.selection import read_selection
from training.photographs import read_photographs
from training.pool import ScenePool
from training.train_settings import TrainSettings


class CropSource:
    """Cuts the batch of a step; the same step, pool and memory of hard crops give the same batch."""

    def __init__(self, settings: TrainSettings, pool: ScenePool) -> None:
        """Raise SelectionError or PhotographError when the photographs cannot be used."""
        self._settings = settings
        self._pool = pool
        self.photos = None
        if settings.photographs is not None:
            selection = read_selection(settings.selection)
            self.photos = PhotoCrops(read_photographs(settings.photographs), selection)

    def batch(self, step: int) -> Batch:
        """Cut the crops of a step."""
        rng = np.random.default_rng([self._settings.seed, step])
        size, count = batch_shape(step, self._settings.crop_px, self._settings.batch)
        if self.photos is None:
            return drawn_batch(self._pool, rng, size, count)
        return mixed_batch(self._pool, self.photos, rng, size, count)

    def learn(self, batch: Batch, highest: NDArray[np.float32]) -> None:
        """Note the negatives of a batch by the highest score on each, (N,)."""
        if self.photos is not None:
            for place, where in batch.negatives.items():
                self.photos.remember(float(highest[place]), where)

    def settle(self) -> None:
        """Let the next batches show again what was noted; while one is being cut, this must wait."""
        if self.photos is not None:
            self.photos.settle()
