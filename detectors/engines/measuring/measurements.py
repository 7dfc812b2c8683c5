"""Holds the measurements of the ways to run a model and the chosen way, and describes them as text."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import shorten

from detectors.engines.port import Way

NO_TIME_LEFT = "not measured, no time was left"
"""The note of a way that was not measured before the time ended."""
_LONGEST_NOTE = 240


@dataclass(frozen=True, slots=True)
class WayMeasurement:
    """Holds how fast one way was; ``tiles_per_s`` is None when it was not measured, for the reason in ``note``."""

    way: Way
    tiles_per_s: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class EngineMeasurements:
    """Holds the measured ways, in the order of preference, and the chosen way."""

    way: Way
    ways: tuple[WayMeasurement, ...]

    def sentence(self) -> str:
        """Return a sentence about the chosen way, the next best, and the ways that were left out."""
        return "; ".join((self._choice(), *self._left_out()))

    def _choice(self) -> str:
        rates = sorted(((one.tiles_per_s, one.way) for one in self.ways if one.tiles_per_s), key=lambda one: -one[0])
        own = next((rate for rate, way in rates if way == self.way), 0.0)
        others = [f"{way} {rate:.1f}" for rate, way in rates if way != self.way]
        if not others:
            return f"{self.way}: the only measured way ({own:.1f} tiles/s)"
        if rates[0][1] != self.way:
            return (
                f"{self.way}: preferred, none of {len(rates)} measured ways is clearly faster ({own:.1f} tiles/s); "
                f"next {others[0]}"
            )
        return f"{self.way}: the fastest of {len(rates)} measured ways ({own:.1f} tiles/s); next {others[0]}"

    def _left_out(self) -> list[str]:
        """Return why an engine or precision has no figure, and how many further ways were not measured in time."""
        seen: set[tuple[str, str]] = set()
        notes: list[str] = []
        late = 0
        for one in self.ways:
            kind = (one.way.engine, one.way.precision)
            if one.tiles_per_s is None and kind not in seen:
                notes.append(f"{one.way} {shorten(one.note, _LONGEST_NOTE, placeholder=' …')}")
            elif one.tiles_per_s is None and one.note == NO_TIME_LEFT:
                late += 1
            seen.add(kind)
        return [*notes, f"{late} more {NO_TIME_LEFT}"] if late else notes

    def table(self) -> str:
        """Return one line per way, the fastest first."""
        ordered = sorted(self.ways, key=lambda one: -(one.tiles_per_s or 0))
        return "\n".join(
            f"{one.way}: "
            + (one.note if one.tiles_per_s is None else f"{one.tiles_per_s:.1f} tiles/s {one.note}".strip())
            for one in ordered
        )
