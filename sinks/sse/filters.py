"""Parses the query parameters of the stream into a filter, and applies it to events and their detections."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from uuid import UUID

from infra.auth.scopes import DeviceScope
from schemas.earth_areas import AreaError, EarthArea, Footprint, parse_area
from schemas.errors import StandgaleError
from schemas.event_base import DEVICE_ID_PATTERN, FLIGHT_ID_PATTERN
from schemas.events import DetectionsMade

_MAX_VALUES = 100
_MAX_LABEL = 100
# Reading a number takes time with the square of its digits; no sensible one is longer.
_MAX_NUMBER = 64
_JOB_NAME = re.compile(r"job_[a-z0-9]{4,32}")
_MEDIA_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")


class FilterError(StandgaleError):
    """A query parameter of the stream is unknown or has a wrong value."""

    code = "INVALID_FILTER"


@dataclass(frozen=True, slots=True)
class FilterFields:
    """Holds the fields of an event that filters need, and no others, because thousands of them are kept."""

    device_id: str
    job_id: UUID | None
    flight_id: str | None
    footprint: Footprint | None
    """The ground that the frame shows; None where the camera's position is not known"""
    found: tuple[tuple[str, float], ...]
    """Label and confidence of each detection, in their order"""

    @classmethod
    def of(cls, event: DetectionsMade) -> FilterFields:
        """Return the fields of ``event``."""
        footprint = Footprint.of(event.camera, event.image.width, event.image.height)
        # Millions of detections share few labels: an interned one costs a pointer.
        found = tuple((sys.intern(one.label), one.confidence) for one in event.detections)
        return cls(event.device_id, event.job_id, event.flight_id, footprint, found)


@dataclass(frozen=True, slots=True)
class StreamFilter:
    """Selects frames by device, job, flight and area, and their detections by label and confidence.

    An empty set or None does not filter, but without ``jobs`` frames of jobs are left out. Equal filters are equal
    keys, so that clients share filtered batches.
    """

    devices: frozenset[str] = frozenset()
    jobs: frozenset[UUID] = frozenset()
    """Ids of jobs, and of runs of media"""
    flights: frozenset[str] = frozenset()
    area: EarthArea | None = None
    labels: frozenset[str] = frozenset()
    confidence: float | None = None
    scope: DeviceScope | None = None
    """The devices that the client may see; None: all. It does not limit jobs, which are the client's own"""
    _hash: int = field(init=False, compare=False, repr=False, default=0)

    def __post_init__(self) -> None:
        """Compute the hash once: a filter is looked up for every client and every batch."""
        parts = self.devices, self.jobs, self.flights, self.area, self.labels, self.confidence, self.scope
        object.__setattr__(self, "_hash", hash(parts))

    def __hash__(self) -> int:
        """Return the hash of all fields."""
        return self._hash

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
        if facts.job_id is None and self.scope is not None and not self.scope.holds(facts.device_id):
            return False
        if self.flights and facts.flight_id not in self.flights:
            return False
        return self.area is None or (facts.footprint is not None and self.area.meets(facts.footprint))

    def keeps(self, label: str, confidence: float) -> bool:
        """Whether one detection of a wanted frame is wanted."""
        if self.labels and label not in self.labels:
            return False
        return self.confidence is None or confidence >= self.confidence


EVERYTHING = StreamFilter()


@lru_cache(maxsize=1_024)
def shared_filter(wanted: StreamFilter) -> StreamFilter:
    """Return one object for equal filters: a look-up with that very object compares no fields."""
    return wanted


PARAMETERS = ("device", "job", "media", "flight", "area", "label", "confidence")
_ONCE = frozenset({"area", "confidence"})


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """Is what a client asks for; names of jobs and media are looked up before it becomes a filter."""

    wanted: StreamFilter
    job_names: frozenset[str] = frozenset()
    """Jobs as their client knows them: ``job_…``"""
    media: frozenset[str] = frozenset()

    @property
    def is_of_jobs(self) -> bool:
        """Whether it asks for what belongs to a client."""
        return bool(self.wanted.jobs or self.job_names or self.media)


def parse_query(parameters: Iterable[tuple[str, str]]) -> StreamQuery:
    """Return what query ``parameters`` ask for; all but ``area`` and ``confidence`` may be given several times.

    Raises FilterError that names the wrong parameter.
    """
    values: dict[str, list[str]] = {name: [] for name in PARAMETERS}
    for name, value in parameters:
        if name not in values:
            raise FilterError(f"{name[:60]!r} is not a parameter of this stream; they are {', '.join(PARAMETERS)}")
        values[name].append(value)
    for name, given in values.items():
        if len(given) > (1 if name in _ONCE else _MAX_VALUES):
            raise FilterError(f"{name} was given {len(given)} times; at most {_MAX_VALUES} (area and confidence: once)")
    job_names = frozenset(value for value in values["job"] if _JOB_NAME.fullmatch(value))
    wanted = StreamFilter(
        devices=frozenset(_matching("device", value, DEVICE_ID_PATTERN) for value in values["device"]),
        jobs=frozenset(_job(value) for value in values["job"] if value not in job_names),
        flights=frozenset(_matching("flight", value, FLIGHT_ID_PATTERN) for value in values["flight"]),
        area=_area(values["area"][0]) if values["area"] else None,
        labels=frozenset(_label(value) for value in values["label"]),
        confidence=_number("confidence", values["confidence"][0], 0.0, 1.0) if values["confidence"] else None,
    )
    media = frozenset(_matching("media", value, _MEDIA_ID) for value in values["media"])
    return StreamQuery(wanted, job_names, media)


def _matching(name: str, value: str, pattern: str | re.Pattern[str]) -> str:
    if re.fullmatch(pattern, value) is None:
        raise FilterError(f"{name}: {value[:60]!r} is not a {name} id")
    return value


def _job(value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise FilterError(f"job: {value[:60]!r} is neither the id of a job (job_…) nor a UUID") from error


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


def _area(value: str) -> EarthArea:
    try:
        return parse_area(value)
    except AreaError as error:
        raise FilterError(str(error)) from error
