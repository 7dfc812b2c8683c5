"""Runs a tile that comes alone on all cores, where the engine gives each tile only some of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from detectors.engines.port import Engine
from detectors.geometry.arrays import ImageArray, Outputs

_MOST_ROUNDS = 6
_ENOUGH_S = 0.5
# On a busy machine threads that wait for each other gain nothing, at that moment; this finds where they never do.
_CLEARLY_SLOWER = 1.5


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
        self.reason = f"{first.reason}; a tile alone runs on all threads"
        self.batch_size = first.batch_size
        self.parallel = first.parallel

    def run(self, tiles: ImageArray) -> Outputs:
        """See :class:`detectors.engines.port.Engine`."""
        if len(tiles) == 1:
            # Two single tiles one after the other, on all cores, are finished no later than both at a time.
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


def why_not_lone(
    first: Engine, lone: Engine, samples: ImageArray, clock: Callable[[], float] = time.perf_counter
) -> str | None:
    """Return why ``lone`` may not run single tiles for ``first``, or None.

    ``samples``: uint8 (N, H, W, 3) BGR, on which both are compared. Raises InferenceError when one of them fails.
    """
    times: dict[Engine, list[float]] = {first: [], lone: []}
    began, rounds = clock(), 0
    # Other load may slow any run, so the fastest of many counts; the first round compares all outputs.
    while rounds == 0 or (rounds < _MOST_ROUNDS and clock() - began < _ENOUGH_S):
        for number in range(len(samples)):
            outputs = [_timed(engine, samples[number : number + 1], times[engine], clock) for engine in times]
            if not all(np.array_equal(one, other) for one, other in zip(*outputs, strict=True)):
                return "its outputs are not the very same"
        rounds += 1
    if min(times[lone]) > _CLEARLY_SLOWER * min(times[first]):
        return "it is slower"
    return None


def _timed(engine: Engine, tile: ImageArray, times: list[float], clock: Callable[[], float]) -> Outputs:
    start = clock()
    outputs = engine.run(tile)
    times.append(clock() - start)
    return outputs
