"""Limits how many frames of jobs and backfill are computed at once while live frames come."""

from __future__ import annotations

from collections.abc import Callable

from detectors.worker.partitions.frames_in_progress import FramesInProgress
from detectors.worker.pipeline.short_passes import LATELY_S
from infra.process.monotonic import monotonic_s
from schemas.topics import FRAMES_LIVE


class Background:
    """Says how many more frames that are not live may be taken; without live frames the slots are the only limit.

    A live frame that arrives has to wait for what is being computed then, so that should be little.
    """

    def __init__(self, in_progress: FramesInProgress, *, now: Callable[[], float] = monotonic_s) -> None:
        self._in_progress = in_progress
        self._now = now
        self._live_at_s = float("-inf")

    def live_came(self) -> None:
        """Note that a live frame was taken."""
        self._live_at_s = self._now()

    def room(self, free_slots: int) -> int:
        """Return how many more frames that are not live may be taken, of ``free_slots`` at most."""
        if self._now() - self._live_at_s > LATELY_S:
            return free_slots
        return max(
            0, min(free_slots, self._in_progress.max_background - self._in_progress.count_computed(without=FRAMES_LIVE))
        )
