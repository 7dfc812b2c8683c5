"""Holds what a video's telemetry says about the camera, moment by moment, in few bytes per moment."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ingest.images.metadata.camera_fields import is_in_range
from ingest.images.metadata.warnings import MetadataWarning
from schemas.geometry import FINEST_GSD_M, CameraGeometry

MAX_MOMENTS = 500_000
"""Two hours at 60 moments per second, which take 50 MB."""
MAX_AGE_S = 2.0
"""How long a moment counts that does not say its end itself."""

_FIELDS = (
    "altitude_m",
    "altitude_msl_m",
    "latitude",
    "longitude",
    "heading_deg",
    "pitch_deg",
    "gsd_m",
)
# The last frames of a video may be after the end of its last moment.
_GRACE_S = 0.1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A camera's clock may be corrected while it records; more means that video and telemetry do not belong together.
_SAME_CLOCK_S = 2.0


@dataclass(slots=True)
class Tally:
    """Counts what is wrong or unknown in many moments, so that each kind gives one warning."""

    _found: dict[str, tuple[int, float, tuple[str, ...]]] = field(default_factory=dict)

    def add(self, text: str, time_s: float, *fields: str) -> None:
        """Count one moment of which ``text`` is true; ``text`` must not contain values of the moment."""
        count, first_s, _ = self._found.get(text, (0, time_s, fields))
        self._found[text] = (count + 1, first_s, fields)

    def warnings(self) -> tuple[MetadataWarning, ...]:
        """Return one warning for each text, with the number of moments and the time of the first."""
        return tuple(
            MetadataWarning(
                f"{text} (once, at {first_s:.1f} s)" if count == 1 else f"{text} ({count} times, from {first_s:.1f} s)",
                frozenset(fields),
            )
            for text, (count, first_s, fields) in self._found.items()
        )


class TelemetryTrack:
    """Holds the moments of one video in the order of their times, on the video's own time line (first frame: 0)."""

    def __init__(self, kind: str, *, max_moments: int = MAX_MOMENTS, keep: str = "first") -> None:
        """Begin empty; beyond ``max_moments`` the ``keep`` ("first" or "last") moments stay."""
        self.kind = kind
        self.tally = Tally()
        self.left_out = 0
        """How many moments were not kept, because there are more than ``max_moments``"""
        self._max_moments = max_moments
        self._keep_last = keep == "last"
        self._times, self._ends, self._clock = array("d"), array("d"), array("d")
        self._values = {name: array("d") for name in _FIELDS}
        self._notes: list[MetadataWarning] = []
        self._cached: tuple[int, CameraGeometry | None] = (-1, None)

    def __len__(self) -> int:
        """Return the number of moments that are held."""
        return len(self._times)

    def note(self, text: str, *fields: str) -> None:
        """Add a warning about the telemetry as a whole."""
        warning = MetadataWarning(text, frozenset(fields))
        if warning not in self._notes:
            self._notes.append(warning)

    @property
    def warnings(self) -> tuple[MetadataWarning, ...]:
        """What is unknown, was assumed, or could not be read."""
        notes = [*self._notes, *self.tally.warnings()]
        if self.left_out and not self._keep_last:
            text = f"{self.kind}: only {self._max_moments} moments were kept, {self.left_out} were not"
            notes.append(MetadataWarning(text, frozenset()))
        return tuple(notes)

    def add(
        self,
        time_s: float,
        values: Mapping[str, float | None],
        *,
        until_s: float | None = None,
        captured_at: datetime | None = None,
    ) -> None:
        """Add a moment; values out of range and a moment that goes back in time are counted and left out."""
        if not math.isfinite(time_s) or (self._times and time_s < self._times[-1]):
            self.tally.add(f"{self.kind}: a moment was left out, as it goes back in time", time_s)
            return
        if len(self._times) >= self._max_moments:
            self.left_out += 1
            if not self._keep_last:
                return
            self._drop_older_half()
        self._times.append(time_s)
        self._ends.append(time_s + MAX_AGE_S if until_s is None or until_s <= time_s else until_s)
        self._clock.append(math.nan if captured_at is None else (captured_at - _EPOCH).total_seconds())
        for name, column in self._values.items():
            column.append(self._checked(name, values.get(name), time_s))

    def _checked(self, name: str, value: float | None, time_s: float) -> float:
        if value is None:
            return math.nan
        if math.isfinite(value) and FINEST_GSD_M <= value <= 1_000 if name == "gsd_m" else is_in_range(name, value):
            return value
        self.tally.add(f"{self.kind}: {name} is out of range; it is unknown", time_s, name)
        return math.nan

    def _drop_older_half(self) -> None:
        half = len(self._times) // 2
        for column in (self._times, self._ends, self._clock, *self._values.values()):
            del column[:half]
        self._cached = (-1, None)

    def at(self, time_s: float) -> CameraGeometry | None:
        """Return the camera at ``time_s``: the last moment not after it, unless that has ended; None where unknown."""
        # Frame times and moments are rounded to milliseconds by most programs.
        index = bisect_right(self._times, time_s + 0.001) - 1
        if index < 0:
            return None
        if time_s >= self._ends[index] + _GRACE_S:
            return None
        if index != self._cached[0]:
            self._cached = (index, self._camera(index))
        return self._cached[1]

    def _camera(self, index: int) -> CameraGeometry | None:
        found = {name: column[index] for name, column in self._values.items() if not math.isnan(column[index])}
        return CameraGeometry.model_validate(found) if found else None

    def start(self) -> datetime | None:
        """Return when the video's time 0 was, by the first moment that says its time; None where none says it."""
        known = [index for index, clock in enumerate(self._clock) if not math.isnan(clock)]
        if not known:
            return None
        first = self._clock[known[0]] - self._times[known[0]]
        drift_s = self._clock[known[-1]] - self._times[known[-1]] - first
        if abs(drift_s) > _SAME_CLOCK_S:
            self.note(
                f"{self.kind}: its clock and the video's times differ by {drift_s:+.1f} s at the end; the times of the "
                "first moment and of the video were used",
                "captured_at",
            )
        return _EPOCH + timedelta(seconds=round(first, 6))
