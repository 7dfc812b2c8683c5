"""Checks values read from metadata against the ranges of the event schema."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ingest.images.metadata.warnings import Warnings

# Written here and not read from the model's schema, because validation by trial is slow and runs for each frame.
RANGES: Mapping[str, tuple[float, float]] = {
    "altitude_m": (-500, 100_000),
    "altitude_msl_m": (-500, 100_000),
    "focal_length_mm": (1e-6, 5_000),
    "sensor_width_mm": (1e-6, 1_000),
    "latitude": (-90, 90),
    "longitude": (-180, 180),
    "heading_deg": (0, math.nextafter(360, 0)),
    "pitch_deg": (-90, 90),
}
"""The lowest and the highest value of each camera field that metadata can have."""


def is_in_range(name: str, value: float) -> bool:
    """Whether the event schema accepts ``value`` for the camera field ``name``."""
    low, high = RANGES[name]
    return math.isfinite(value) and low <= value <= high


def known_fields(values: Mapping[str, float | None], warnings: Warnings) -> dict[str, float]:
    """Return the ``values`` that are known and in range; warn about each one that is out of range."""
    return {name: value for name, value in values.items() if value is not None and _accept(name, value, warnings)}


def _accept(name: str, value: float, warnings: Warnings) -> bool:
    if is_in_range(name, value):
        return True
    low, high = RANGES[name]
    warnings.add(f"{name} would be {value:g}, outside of {low:g} to {high:g}; it is unknown", name)
    return False
