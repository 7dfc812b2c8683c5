"""Runs a tile that comes alone on many cores, where the engine gives each tile only some of them."""

from __future__ import annotations

import threading

import numpy as np

from detectors.engines.port import Engine
from detectors.geometry.arrays import ImageArray, Outputs

MOST_THREADS = 8
"""More threads would wait for each other longer than they compute, in a graph that is run for one tile."""


class LoneTileEngine:
    """Runs single tiles on ``lone`` while nothing else runs, and the rest on ``first``.

    See :class:`detectors.engines.port.Engine`. An engine that runs several tiles in parallel leaves cores without work
    when there is one tile only, such as the first one of a frame whose scales are not decided yet.
    """

    def __init__(self, first: Engine, lone: Engine) -> None:
        """``lone`` must give the very same outputs as ``first``: which of them runs a tile depends on the moment."""
        self._first = first
        self._lone = lone
        self._one_at_a_time = threading.Lock()
        self._lock = threading.Lock()
        self._running_on_first = 0
        self.name = first.name
        self.reason = f"{first.reason}; a tile alone runs on many threads"
        self.batch_size = first.batch_size
        self.parallel = first.parallel

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        if len(tiles) == 1:
            # Two single tiles one after the other, on many cores, are finished no later than both at a time.
            with self._one_at_a_time:
                if not self._running_on_first:
                    return self._lone.run(tiles)
        with self._lock:
            self._running_on_first += 1
        try:
            return self._first.run(tiles)
        finally:
            with self._lock:
                self._running_on_first -= 1

    def close(self) -> None:
        """See :class:`detectors.engines.port.Engine`."""
        self._first.close()
        self._lone.close()


def have_same_outputs(first: Engine, lone: Engine, samples: ImageArray) -> bool:
    """Return whether both engines give the very same outputs for each of ``samples``, uint8 (N, H, W, 3) BGR, alone.

    Raises InferenceError when one of them fails.
    """
    for number in range(len(samples)):
        tile = samples[number : number + 1]
        if not all(np.array_equal(one, other) for one, other in zip(first.run(tile), lone.run(tile), strict=True)):
            return False
    return True
