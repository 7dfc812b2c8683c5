"""Decides from the lag of the detectors, which is read in the background, whether frames are refused for now."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from random import uniform

from infra.broker.port import TopicPartition
from infra.http_api.errors.api_errors import ApiError
from ingest.limits.settings import LimitsSettings
from ingest.metrics import PARTITIONS_REFUSED
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE

logger = logging.getLogger(__name__)

WATCHED = (FRAMES_LIVE, FRAMES_BACKFILL)
# Frames are accepted again when no more than this share of the limit waits, so that the answer does not flap.
_RESUME_SHARE = 0.75
# Backfill stops when this share of the limit of live frames waits.
_BACKFILL_SHARE = 0.5
_UNKNOWN_WAIT_S = 30.0
_LONGEST_WAIT_S = 300.0
_JITTER = 1.2
# A lag that was read so many intervals ago says nothing any more.
_OUTDATED_INTERVALS = 5


class DetectorsBehindError(ApiError):
    """The detectors are too far behind on the partition of a device's frames; nothing was read."""

    code = "DETECTORS_BEHIND"
    status = 503


@dataclass(slots=True)
class _Refusal:
    """Says why frames of one topic and partition are refused."""

    behind: TopicPartition
    """Where the frames wait that are too many; for backfill this may be the live topic"""
    lag: int
    limit: int
    setting: str
    drained_per_s: float = 0.0

    @property
    def resume_at(self) -> int:
        """With so many waiting frames, or fewer, it ends."""
        return int(self.limit * _RESUME_SHARE)

    def wait_s(self) -> float:
        """Return the estimated time until it ends."""
        if self.drained_per_s <= 0:
            return _UNKNOWN_WAIT_S
        return min(_LONGEST_WAIT_S, max(1.0, (self.lag - self.resume_at) / self.drained_per_s))


class LagLimits:
    """Refuses frames of partitions on which too many wait for the detectors.

    ``update`` takes the lag from the background; ``require`` is a lookup and never waits. When the lag is not known,
    because the broker does not respond, frames are accepted: publishing finds out by itself whether it works.
    """

    def __init__(self, settings: LimitsSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._refused: dict[TopicPartition, _Refusal] = {}
        self._read_at = clock()
        for topic in WATCHED:
            PARTITIONS_REFUSED.labels(topic).set(0)

    def require(self, topic: str, partition: int) -> None:
        """Raise DetectorsBehindError when frames of this topic and partition are refused now."""
        if not self._refused:
            return
        refusal = self._refused.get(TopicPartition(topic, partition))
        if refusal is None or self._is_outdated():
            return
        wait_s = refusal.wait_s()
        raise DetectorsBehindError(
            f"the detectors are behind: {refusal.lag} frames of partition {partition} of {refusal.behind.topic} wait "
            f"for them, and {refusal.limit} may ({refusal.setting}); nothing was read",
            details=f"Keep the frame, and send it again after Retry-After seconds; it goes on at {refusal.resume_at} "
            "waiting frames.",
            headers={"Retry-After": str(ceil(wait_s * uniform(1.0, _JITTER)))},  # noqa: S311 (spreads load)
        )

    def refusing(self) -> int:
        """Return how many partitions of topics are refused."""
        return 0 if self._is_outdated() else len(self._refused)

    def update(self, lag: Mapping[TopicPartition, int]) -> None:
        """Take the lag that was read just now."""
        now = self._clock()
        elapsed_s = max(0.001, now - self._read_at)
        self._read_at = now
        for source, waiting in lag.items():
            if source.topic in WATCHED:
                self._decide(source, waiting, lag, elapsed_s)
        for topic in WATCHED:
            PARTITIONS_REFUSED.labels(topic).set(sum(refused.topic == topic for refused in self._refused))

    def _decide(
        self, source: TopicPartition, waiting: int, lag: Mapping[TopicPartition, int], elapsed_s: float
    ) -> None:
        former = self._refused.get(source)
        if former is not None:
            now_waiting = lag.get(former.behind, 0)
            drained = (former.lag - now_waiting) / elapsed_s
            former.drained_per_s = drained if former.drained_per_s <= 0 else (former.drained_per_s + drained) / 2
            former.lag = now_waiting
            if now_waiting > former.resume_at:
                return
        reason = self._reason(source, waiting, lag)
        if reason is not None:
            self._refused[source] = reason
            if former is None:
                logger.warning(
                    "frames for partition %d of %s are refused: %d wait for the detectors on %s, and %d may (%s); "
                    "start more detectors, or look at why they are slow",
                    source.partition,
                    source.topic,
                    reason.lag,
                    reason.behind.topic,
                    reason.limit,
                    reason.setting,
                )
        elif former is not None:
            del self._refused[source]
            logger.info(
                "frames for partition %d of %s are accepted again: %d wait for the detectors on %s",
                source.partition,
                source.topic,
                former.lag,
                former.behind.topic,
            )

    def _reason(self, source: TopicPartition, waiting: int, lag: Mapping[TopicPartition, int]) -> _Refusal | None:
        """Return why frames of ``source`` are to be refused, or None."""
        most, most_backfill = self._settings.max_lag_frames, self._settings.max_backfill_lag_frames
        if source.topic == FRAMES_LIVE:
            return _Refusal(source, waiting, most, "limits.max_lag_frames") if most and waiting >= most else None
        live = TopicPartition(FRAMES_LIVE, source.partition)
        behind, half = lag.get(live, 0), max(1, int(most * _BACKFILL_SHARE))
        if most and behind >= half:
            return _Refusal(live, behind, half, "half of limits.max_lag_frames, because it is backfill")
        if most_backfill and waiting >= most_backfill:
            return _Refusal(source, waiting, most_backfill, "limits.max_backfill_lag_frames")
        return None

    def _is_outdated(self) -> bool:
        return self._clock() - self._read_at > _OUTDATED_INTERVALS * max(1.0, self._settings.lag_interval_s)
