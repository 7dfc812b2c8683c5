"""Decides whether longitude or latitude is first in a file's `GPS(a, b, c)`, and never guesses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ingest.video.telemetry.srt_fields import EntryFields, Order
from ingest.video.telemetry.track import TelemetryTrack


@dataclass(slots=True)
class AxisOrder:
    """Counts what the entries of one file say about the order."""

    by_dialect: Counter[Order] = field(default_factory=Counter)
    by_range: Counter[Order] = field(default_factory=Counter)
    """Beyond 90 degrees a number can only be a longitude"""
    pairs: int = 0

    def see(self, fields: EntryFields) -> None:
        """Count one entry."""
        if fields.pair is None:
            return
        self.pairs += 1
        if fields.pair_order is not None:
            self.by_dialect[fields.pair_order] += 1
        if 90 < abs(fields.pair[0]) <= 180 and abs(fields.pair[1]) <= 90:
            self.by_range["longitude first"] += 1
        if 90 < abs(fields.pair[1]) <= 180 and abs(fields.pair[0]) <= 90:
            self.by_range["latitude first"] += 1


def decide_order(seen: AxisOrder, track: TelemetryTrack) -> Order | None:
    """Return the order of the file whose entries were ``seen``; None, with a warning, where it cannot be known."""
    if not seen.pairs:
        return None
    for found in (seen.by_range, seen.by_dialect):
        if len(found) > 1:
            track.note(
                "SRT: some of its positions have the longitude first, others the latitude, so none was used",
                "latitude",
                "longitude",
            )
            return None
        if found:
            (order,) = found
            other = seen.by_dialect - found if found is seen.by_range else Counter[Order]()
            if any(each != order for each in other):
                track.note(
                    f"SRT: its dialect writes the other order, but its positions show {order}; the latter was used",
                    "latitude",
                    "longitude",
                )
            return order
    track.note(
        "SRT: its dialect is not known, so longitude and latitude cannot be told apart; no position was used",
        "latitude",
        "longitude",
    )
    return None
