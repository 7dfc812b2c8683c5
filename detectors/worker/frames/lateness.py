"""Live frames that are late: answered all the same, put off to the backfill, or given up; by a stated policy.

A worker that can't keep up answers ever older frames, and whoever looks at the live stream sees the past. With a
deadline, a live frame whose turn comes too late makes room for the newest ones. None is lost: a frame that is put off
moves to ``frames.backfill`` in the transaction that passes over it, and is answered when there is time; one that is
given up becomes a dead letter, which can be sent again when the deadline allows it.
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
from schemas.events import FrameCaptured
from schemas.timestamps import utc_now

PUT_OFF_HEADER = "standgale-put-off"
"""On live frames that were moved to the backfill: a replay may be answered again by a new version, these may not."""


class DeadlineError(RecordError):
    """A live frame's turn came after its deadline, and the policy is to give such frames up."""

    code: ClassVar[str] = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Lateness:
    """Judges live frames: late is one that was received more than ``deadline_s`` ago; None: none ever is."""

    policy: LatePolicy = "keep_all"
    deadline_s: float | None = None
    now: Callable[[], datetime] = utc_now
    """The clock by which they are late"""

    def late_by(self, record: InRecord, frame: FrameCaptured, now: datetime) -> float | None:
        """By how many seconds ``frame`` misses its deadline at ``now``; None when it does not, or has none."""
        if self.policy == "keep_all" or self.deadline_s is None or record.topic != topics.FRAMES_LIVE:
            return None
        late = (now - frame.received_at).total_seconds() - self.deadline_s
        return late if late > 0 else None

    def error(self, late_s: float) -> DeadlineError:
        """Why a frame that is ``late_s`` seconds late is given up."""
        return DeadlineError(
            f"its turn came {late_s:.1f} s after its deadline of {self.deadline_s:g} s; more detectors, a larger "
            "detector.live_deadline_s, or detector.late_policy put_off would have answered it"
        )


def put_off(record: InRecord) -> OutRecord:
    """``record`` as it goes to the backfill: the same key, value and headers, so its ids stay the same, and a mark."""
    headers = (*record.headers, (PUT_OFF_HEADER, b"1"))
    return OutRecord(topics.FRAMES_BACKFILL, record.key or "", record.value, headers)


def is_live(record: InRecord) -> bool:
    """Whether ``record`` is a live frame, be it a late one that was put off: answered once, by whichever version."""
    return record.topic == topics.FRAMES_LIVE or any(name == PUT_OFF_HEADER for name, _ in record.headers)
