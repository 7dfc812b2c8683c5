"""Counts frames that are missing, by the gaps between the times of those that came."""

from __future__ import annotations

from collections import deque
from statistics import median

# Up to this many usual steps a gap may have and be no missing frame.
_USUAL = 1.6
_STEPS = 31
_LEAST_STEPS = 8
# A longer gap is a pause of the camera, of which nobody knows how many frames it would have had.
_LONGEST_S = 5.0


class GapCounter:
    """Knows the usual step between frames: that which is stated, or the median of the last ones.

    Cameras change their rate, at night for example, so a rate that they state means little.
    """

    def __init__(self, stated_s: float | None) -> None:
        """Begin before the first frame; ``stated_s`` is the step of a constant rate, None where it is to be learnt."""
        self._stated_s = stated_s
        self._steps: deque[float] = deque(maxlen=_STEPS)
        self._last_s: float | None = None

    def missing_before(self, time_s: float) -> int:
        """Return how many frames are missing between the last one and that at ``time_s``."""
        last_s, self._last_s = self._last_s, time_s
        if last_s is None or time_s <= last_s:
            return 0
        step_s = time_s - last_s
        usual_s = self._stated_s or (median(self._steps) if len(self._steps) >= _LEAST_STEPS else None)
        self._steps.append(step_s)
        if not usual_s or step_s > _LONGEST_S or step_s / usual_s < _USUAL:
            return 0
        return round(step_s / usual_s) - 1
