"""What a client wants to see: the query parameters of the stream, and which detections of an event they keep."""

from __future__ import annotations

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


class FilterError(StandgaleError):
    """A query parameter of the stream is unknown or has a value it cannot have."""

    code = "INVALID_FILTER"


@dataclass(frozen=True, slots=True)
class GeoArea:
    """A box on the earth, degrees; ``west`` > ``east`` means that it crosses the date line."""

    west: float
    south: float
    east: float
    north: float

    def holds(self, longitude: float, latitude: float) -> bool:
        """Whether the point lies in the box, its edges included."""
        if not self.south <= latitude <= self.north:
            return False
        if self.west <= self.east:
            return self.west <= longitude <= self.east
        return longitude >= self.west or longitude <= self.east


@dataclass(frozen=True, slots=True)
class FilterFields:
    """What filters ask of an event. Kept for thousands of recent events, so it holds nothing else.

    ``camera`` is longitude and latitude, degrees; ``found`` label and confidence of each detection, in their order.
    """

    device_id: str
    job_id: UUID | None
    camera: tuple[float, float] | None
    found: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, event: DetectionsMade) -> FilterFields:
        """The facts of ``event``."""
        camera = event.camera
        if camera is None or camera.longitude is None or camera.latitude is None:
            place = None
        else:
            place = (camera.longitude, camera.latitude)
        # Few labels stand in millions of detections: interned, they cost a pointer.
        found = tuple((sys.intern(one.label), one.confidence) for one in event.detections)
        return cls(event.device_id, event.job_id, place, found)


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """Frames of ``devices``, ``jobs`` and ``area``; of these the detections of ``labels`` from ``confidence`` upwards.

    An empty set and None do not filter. Equal filters are equal keys, so that what one client made others can use.
    """

    devices: frozenset[str] = frozenset()
    jobs: frozenset[UUID] = frozenset()
    area: GeoArea | None = None
    labels: frozenset[str] = frozenset()
    confidence: float | None = None

    @property
    def of_detections(self) -> bool:
        """Whether single detections are dropped, and with them frames that have none left."""
        return bool(self.labels) or self.confidence is not None

    def takes_frame(self, facts: FilterFields) -> bool:
        """Whether the frame itself is wanted; with an area, a frame of unknown place is not."""
        if self.devices and facts.device_id not in self.devices:
            return False
        if self.jobs and facts.job_id not in self.jobs:
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
    """The filter in query ``parameters`` (name and value; ``device``, ``label`` and ``job`` may come several times).

    Raises FilterError naming the parameter at fault.
    """
    values: dict[str, list[str]] = {name: [] for name in PARAMETERS}
    for name, value in parameters:
        if name not in values:
            raise FilterError(f"{name[:60]!r} is no parameter of this stream; there are {', '.join(PARAMETERS)}")
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
        raise FilterError(f"device: {value[:60]!r} is no device id")
    return value


def _job(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise FilterError(f"job: {value[:60]!r} is no UUID") from error


def _label(value: str) -> str:
    if not 0 < len(value) <= _MAX_LABEL:
        raise FilterError(f"label: {value[:60]!r} has {len(value)} characters; 1 to {_MAX_LABEL} are possible")
    return value


def _number(name: str, value: str, low: float, high: float) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise FilterError(f"{name}: {value[:60]!r} is no number") from error
    if not low <= number <= high:
        raise FilterError(f"{name}: {value[:60]!r} is not between {low:g} and {high:g}")
    return number


def _area(value: str) -> GeoArea:
    parts = value.split(",")
    if len(parts) != 4:
        raise FilterError(f"area: {value[:60]!r} must be west,south,east,north in degrees")
    west, south, east, north = (
        _number("area", part, -limit, limit) for part, limit in zip(parts, (180, 90, 180, 90), strict=True)
    )
    if south > north:
        raise FilterError(f"area: {value[:60]!r} has south above north; it must be west,south,east,north in degrees")
    return GeoArea(west, south, east, north)
