"""Counts a window in parts, so that each event changes a small value: pure functions on values that are JSON.

The part of an event is chosen by its id. The counts of a window are those of its parts together.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import reduce
from typing import Any, cast
from uuid import UUID

import orjson

from schemas.events import DetectionsMade
from sinks.statistics.counts import Counts, Window, count_event, window_of
from sinks.statistics.state import counts_from_json, counts_to_json

PARTS = 16
_ID_DIGITS = 16
PartValue = dict[str, Any]


def part_key(window: Window, event_id: UUID) -> bytes:
    """Return the key of the part of ``window`` that counts the event ``event_id``."""
    return _key(window.id, event_id.int % PARTS)


def part_keys(window_id: UUID) -> list[bytes]:
    """Return the keys of all parts of a window."""
    return [_key(window_id, number) for number in range(PARTS)]


def _key(window_id: UUID, number: int) -> bytes:
    return f"{window_id}/{number:x}".encode()


def count_in_part(kept: bytes | None, event: DetectionsMade, now_s: float) -> bytes | None:
    """Return the part ``kept`` with ``event``, as JSON; None when it has counted it already."""
    part = None if kept is None else read_part(kept)
    # 64 bits of a hash are enough to tell the events of one part from each other.
    own = f"{event.id.hex[:_ID_DIGITS]},"
    if part is None:
        counts, ids = count_event(event), own
    elif own in part["ids"]:
        return None
    else:
        counts, ids = counts_from_json(part["counts"]).plus(count_event(event)), part["ids"] + own
    window = window_of(event)
    changed = {
        "window": [window.device_id, window.minute.isoformat(), *window[2:]],
        "ids": ids,
        "counts": counts_to_json(counts),
        "at": round(now_s),
    }
    return orjson.dumps(changed)


def read_part(kept: bytes) -> PartValue:
    """Return the part that the JSON ``kept`` describes."""
    return cast("PartValue", orjson.loads(kept))


def window_in(part: PartValue) -> Window:
    """Return the window of ``part``."""
    device_id, minute, *others = part["window"]
    return Window(device_id, datetime.fromisoformat(minute).astimezone(UTC), *others)


def counts_of_parts(parts: Iterable[PartValue]) -> Counts:
    """Return the counts of the parts of one window; there must be at least one."""
    return reduce(Counts.plus, (counts_from_json(part["counts"]) for part in parts))
