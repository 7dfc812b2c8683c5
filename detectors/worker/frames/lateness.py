"""Applies the policy for late live frames: process them anyway, move them to the backfill, or give them up.

A worker that cannot keep up processes ever older frames, and a viewer of the live stream sees the past. With a
deadline, live frames whose turn comes too late make room for the newest ones. No frame is lost. A frame that is put off
moves to ``frames.backfill`` in the transaction that commits its offset, and is processed when there is time. A frame
that is given up becomes a dead letter, which can be sent again when the deadline allows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from detectors.settings import LatePolicy
from infra.broker.port import InRecord, OutRecord
from infra.errors import RecordError
from schemas import topics
from schemas.cloudevents import PUT_OFF_HEADER
from schemas.events import FrameCaptured
from schemas.timestamps import utc_now


class DeadlineError(RecordError):
    """A live frame's turn came after its deadline, and the policy is to give up such frames."""

    code: ClassVar[str] = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Lateness:
    """Decides which live frames are late, and why they are given up."""

    policy: LatePolicy = "keep_all"
    deadline_s: float | None = None
    """A live frame is late when it was received longer ago than this; None: no frame is late."""
    now: Callable[[], datetime] = utc_now
    """The clock that decides what is late."""

    def seconds_late(self, record: InRecord, frame: FrameCaptured, now: datetime) -> float | None:
        """Return by how many seconds ``frame`` misses its deadline at ``now``; None when it does not, or has none."""
        if self.policy == "keep_all" or self.deadline_s is None or record.topic != topics.FRAMES_LIVE:
            return None
        late = (now - frame.received_at).total_seconds() - self.deadline_s
        return late if late > 0 else None

    def error(self, late_s: float) -> DeadlineError:
        """Return the reason for giving up a frame that is ``late_s`` seconds late."""
        return DeadlineError(
            f"its turn came {late_s:.1f} s after its deadline of {self.deadline_s:g} s; more detectors, a larger "
            "detector.live_deadline_s, or detector.late_policy put_off would have got it processed"
        )


def backfill_copy(record: InRecord) -> OutRecord:
    """Return ``record`` for the backfill: with the same key, value and headers, so with the same ids, and a mark."""
    headers = (*record.headers, (PUT_OFF_HEADER, b"1"))
    return OutRecord(topics.FRAMES_BACKFILL, record.key or "", record.value, headers)


def is_live_record(record: InRecord) -> bool:
    """Return whether ``record`` is a live frame, also a late one that was put off: processed once, by any version."""
    return record.topic == topics.FRAMES_LIVE or any(name == PUT_OFF_HEADER for name, _ in record.headers)
