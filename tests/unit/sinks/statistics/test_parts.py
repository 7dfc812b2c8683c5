"""Parts of windows count each event once, and together count what the window has."""

from __future__ import annotations

import random

from sinks.statistics.counts import count_events, window_of
from sinks.statistics.on_faust.parts import (
    PARTS,
    count_in_part,
    counts_of_parts,
    part_key,
    part_keys,
    read_part,
    window_in,
)
from standgale.testing.factories import detections_made


def test_parts_in_any_order_count_what_the_windows_have() -> None:
    events = [detections_made(number, labels=("car", "boat")[: number % 3]) for number in range(150)]
    right = count_events(events)
    order = [*events, *events[20:50]]
    random.Random(3).shuffle(order)
    table: dict[bytes, bytes] = {}
    changes = 0
    for event in order:
        key = part_key(window_of(event), event.id)
        changed = count_in_part(table.get(key), event, 1_000.4)
        if changed is not None:
            table[key] = changed
            changes += 1
    assert changes == len(events)
    assert len(table) > PARTS
    for window, counts in right.items():
        kept = [read_part(table[key]) for key in part_keys(window.id) if key in table]
        assert {window_in(part) for part in kept} == {window}
        assert counts_of_parts(kept) == counts
