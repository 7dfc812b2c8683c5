"""Chooses the sizes of runs, powers of two up to the batch, and fills up batches with black tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from detectors.geometry.arrays import ImageArray


def sizes_up_to(batch: int) -> tuple[int, ...]:
    """Return 1, 2, 4, … and ``batch``, ascending."""
    return (*(1 << power for power in range(batch.bit_length()) if 1 << power < batch), batch)


def portions(count: int, sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield the runs for ``count`` tiles, of ``sizes`` (ascending): first tile, end, and the size of the run.

    Full runs of the largest size come first, then one of the smallest size that holds the rest.
    """
    largest = sizes[-1]
    for first in range(0, count, largest):
        end = min(first + largest, count)
        yield first, end, next(size for size in sizes if size >= end - first)


def pad_batch(tiles: ImageArray, size: int) -> ImageArray:
    """Return ``tiles`` (uint8 (N, H, W, 3), N at most ``size``) followed by black ones, ``size`` in all."""
    if len(tiles) == size:
        return tiles
    return np.concatenate((tiles, np.zeros((size - len(tiles), *tiles.shape[1:]), np.uint8)))
