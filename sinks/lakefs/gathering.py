"""Decides when frames are committed: when there are enough, or when a batch of a device is complete."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import orjson

from infra.broker.port import InRecord
from sinks.lakefs.settings import MOST_RECORDS


class CommitGathering:
    """Waits for ``frames_per_commit`` frames, and for the rest of a batch that has begun.

    Frames of a batch that never come (no detector could process them) are waited for until the time limit.
    """

    def __init__(self, frames_per_commit: int) -> None:
        self._frames_per_commit = frames_per_commit

    def wanted(self, records: Sequence[InRecord]) -> int:
        """Return how many more records to wait for; see the port."""
        alone, missing = 0, 0
        batches: dict[UUID, tuple[int, set[str]]] = {}
        for record in records:
            found = _batch_in(record.value)
            if found is None:
                alone += 1
            else:
                batch, frames, frame = found
                batches.setdefault(batch, (frames, set()))[1].add(frame)
        missing = sum(max(0, frames - len(found)) for frames, found in batches.values())
        if missing:
            return min(missing, MOST_RECORDS - len(records))
        if batches:
            return 0
        return max(0, self._frames_per_commit - alone)


def _batch_in(value: bytes | None) -> tuple[UUID, int, str] | None:
    """Return id and size of the batch in an event, and its frame; None for other events, and for what is none."""
    if value is None or b'"batch":{' not in value:
        return None
    try:
        event = orjson.loads(value)
        batch = event["batch"]
        return UUID(batch["id"]), int(batch["frames"]), str(event["frame_id"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        # It is no detections event; the loop makes a dead letter of it.
        return None
