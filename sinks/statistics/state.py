"""Converts counts to JSON and back, for the places that keep them between events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from sinks.statistics.counts import ClassCount, Counts
from sinks.statistics.spread import Times


def counts_to_json(counts: Counts) -> dict[str, Any]:
    """Return ``counts`` as an object of JSON."""
    return {
        "frames": counts.frames,
        "frames_with_detections": counts.frames_with_detections,
        "detections": counts.detections,
        "clock_ahead": counts.clock_ahead,
        "first_captured_at": counts.first_captured_at.isoformat(),
        "last_captured_at": counts.last_captured_at.isoformat(),
        "last_detected_at": counts.last_detected_at.isoformat(),
        "classes": {label: list(count) for label, count in counts.classes.items()},
        "times": {step: _times_to_json(times) for step, times in counts.times.items()},
    }


def counts_from_json(data: Mapping[str, Any]) -> Counts:
    """Return the counts that ``data`` describes."""
    return Counts(
        data["frames"],
        data["frames_with_detections"],
        data["detections"],
        data["clock_ahead"],
        datetime.fromisoformat(data["first_captured_at"]),
        datetime.fromisoformat(data["last_captured_at"]),
        datetime.fromisoformat(data["last_detected_at"]),
        {label: ClassCount(*count) for label, count in data["classes"].items()},
        {step: _times_from_json(times) for step, times in data["times"].items()},
    )


def counts_to_text(counts: Counts) -> str:
    """Return ``counts`` as JSON."""
    return orjson.dumps(counts_to_json(counts)).decode()


def counts_from_text(text: str) -> Counts:
    """Return the counts that the JSON ``text`` describes."""
    return counts_from_json(orjson.loads(text))


def _times_to_json(times: Times) -> list[Any]:
    return [times.sum_ms, times.max_ms, {str(place): count for place, count in times.buckets.items()}]


def _times_from_json(data: list[Any]) -> Times:
    return Times(data[0], data[1], {int(place): count for place, count in data[2].items()})
