"""Parses the query parameters of the stream into a filter, and applies it to events and their detections."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from schemas.errors import StandgaleError
from schemas.event_base import DEVICE_ID_PATTERN
from schemas.events import DetectionsMade

_MAX_VALUES = 100
_MAX_LABEL = 100
# Reading a number takes time with the square of its digits; no sensible one is longer.
_MAX_NUMBER = 64


class FilterError(StandgaleError):
    """A query parameter of the stream is unknown or has a wrong value."""

    code = "INVALID_FILTER"


@dataclass(frozen=True, slots=True)
class GeoArea:
    """Is a box on the earth in degrees; with ``west`` > ``east`` it crosses the date line."""

    west: float
    south: float
    east: float
    north: float

    def holds(self, longitude: float, latitude: float) -> bool:
        """Whether the point is in the box or on its edge."""
        if not self.south <= latitude <= self.north:
            return False
        if self.west <= self.east:
            return self.west <= longitude <= self.east
        return longitude >= self.west or longitude <= self.east


@dataclass(frozen=True, slots=True)
class FilterFields:
    """Holds the fields of an event that filters need, and no others, because thousands of them are kept."""

    device_id: str
    job_id: UUID | None
    camera: tuple[float, float] | None
    """Longitude and latitude in degrees"""
    found: tuple[tuple[str, float], ...]
    """Label and confidence of each detection, in their order"""

    @classmethod
    def of(cls, event: DetectionsMade) -> FilterFields:
        """Return the fields of ``event``."""
        camera = event.camera
        if camera is None or camera.longitude is None or camera.latitude is None:
            place = None
        else:
            place = (camera.longitude, camera.latitude)
        # Millions of detections share few labels: an interned one costs a pointer.
        found = tuple((sys.intern(one.label), one.confidence) for one in event.detections)
        return cls(event.device_id, event.job_id, place, found)


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """Selects frames by device, job and area, and their detections by label and confidence.

    An empty set or None does not filter, but without ``jobs`` frames of jobs are left out. Equal filters are equal
    keys, so that clients share filtered batches.
    """

    devices: frozenset[str] = frozenset()
    jobs: frozenset[UUID] = frozenset()
    area: GeoArea | None = None
    labels: frozenset[str] = frozenset()
    confidence: float | None = None

    @property
    def of_detections(self) -> bool:
        """Whether it drops detections, and with them frames that have none left."""
        return bool(self.labels) or self.confidence is not None

    def takes_frame(self, facts: FilterFields) -> bool:
        """Whether the frame is wanted; with an area, a frame of unknown position is not."""
        if self.devices and facts.device_id not in self.devices:
            return False
        # What is found in a job is its client's: a client that knows the job's own id may follow it, no other sees it.
        if (facts.job_id not in self.jobs) if self.jobs else (facts.job_id is not None):
            return False
        return self.area is None or (facts.camera is not None and self.area.holds(*facts.camera))

    def keeps(self, label: str, confidence: float) -> bool:
        """Whether one detection of a wanted frame is wanted."""
        if self.labels and label not in self.labels:
            return False
        return self.confidence is None or confidence >= self.confidence


EVERYTHING = StreamFilter()
PARAMETERS = ("device", "job", "area", "label", "confidence")


def parse_filter(parameters: Iterable[tuple[str, str]]) -> StreamFilter:
    """Return the filter of query ``parameters``; ``device``, ``label`` and ``job`` may be given several times.

    Raises FilterError that names the wrong parameter.
    """
    values: dict[str, list[str]] = {name: [] for name in PARAMETERS}
    for name, value in parameters:
        if name not in values:
            raise FilterError(f"{name[:60]!r} is not a parameter of this stream; they are {', '.join(PARAMETERS)}")
        values[name].append(value)
    for name, given in values.items():
        if len(given) > (1 if name in {"area", "confidence"} else _MAX_VALUES):
            raise FilterError(f"{name} was given {len(given)} times; at most {_MAX_VALUES} (area and confidence: once)")
    return StreamFilter(
        devices=frozenset(_device(value) for value in values["device"]),
        jobs=frozenset(_job(value) for value in values["job"]),
        area=_area(values["area"][0]) if values["area"] else None,
        labels=frozenset(_label(value) for value in values["label"]),
        confidence=_number("confidence", values["confidence"][0], 0.0, 1.0) if values["confidence"] else None,
    )


def _device(value: str) -> str:
    if re.fullmatch(DEVICE_ID_PATTERN, value) is None:
        raise FilterError(f"device: {value[:60]!r} is not a device id")
    return value


def _job(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise FilterError(f"job: {value[:60]!r} is not a UUID") from error


def _label(value: str) -> str:
    if not 0 < len(value) <= _MAX_LABEL:
        raise FilterError(f"label: {value[:60]!r} has {len(value)} characters; it must have 1 to {_MAX_LABEL}")
    return value


def _number(name: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value) if len(value) <= _MAX_NUMBER else math.nan
    except ValueError as error:
        raise FilterError(f"{name}: {value[:60]!r} is not a number") from error
    if not low <= number <= high:
        raise FilterError(f"{name}: {value[:60]!r} is not between {low:g} and {high:g}")
    return number


def _area(value: str) -> GeoArea:
    parts = value.split(",", 4)
    if len(parts) != 4:
        raise FilterError(f"area: {value[:60]!r} must be west,south,east,north in degrees")
    west, south, east, north = (
        _number("area", part, -limit, limit) for part, limit in zip(parts, (180, 90, 180, 90), strict=True)
    )
    if south > north:
        raise FilterError(f"area: {value[:60]!r} has south above north; it must be west,south,east,north in degrees")
    return GeoArea(west, south, east, north)
