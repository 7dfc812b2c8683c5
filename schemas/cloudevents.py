"""Reads and writes events as CloudEvents 1.0 in binary mode: attributes as ``ce_*`` headers, JSON as the value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from schemas.errors import EventError, EventVersionError
from schemas.event_base import Event
from schemas.events import EVENTS
from schemas.timestamps import format_utc

Headers = tuple[tuple[str, bytes], ...]

CONTENT_TYPE = "application/json"
JOB_HEADER = "ce_jobid"
"""The header of events that belong to a job; other events do not have it."""
PUT_OFF_HEADER = "standgale-put-off"
"""The header of live frames that were moved to the backfill: unlike a replay, only one version processes them."""
_REQUIRED = ("ce_specversion", "ce_id", "ce_source", "ce_type")
_BY_TYPE: Mapping[str, type[Event]] = {event.event_type(): event for event in EVENTS}

EventT = TypeVar("EventT", bound=Event)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Holds the CloudEvents attributes of one event. ``partition_key`` is the record's key and an attribute too."""

    id: str
    source: str
    type: str
    time: datetime
    partition_key: str
    subject: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    def named(self) -> list[tuple[str, str]]:
        """Return them by their names in CloudEvents, in a fixed order; without the trace, which is no part of it."""
        named = [
            ("specversion", "1.0"),
            ("id", self.id),
            ("source", self.source),
            ("type", self.type),
            ("time", format_utc(self.time)),
            ("partitionkey", self.partition_key),
        ]
        if self.subject is not None:
            named.append(("subject", self.subject))
        return named


def to_headers(attributes: Attributes) -> Headers:
    """Return ``attributes`` as record headers, in a fixed order."""
    headers = [(f"ce_{name}", text) for name, text in attributes.named()]
    headers.append(("content-type", CONTENT_TYPE))
    if attributes.traceparent is not None:
        headers.append(("traceparent", attributes.traceparent))
    if attributes.tracestate is not None:
        headers.append(("tracestate", attributes.tracestate))
    return tuple((name, value.encode()) for name, value in headers)


def header(headers: Headers, name: str) -> str | None:
    """Return the first header called ``name`` as text, or None. Raises EventError when its bytes are not UTF-8."""
    for key, value in headers:
        if key == name:
            try:
                return value.decode()
            except UnicodeDecodeError as error:
                raise EventError(f"header {name}: not UTF-8 ({error.reason} at byte {error.start})") from error
    return None


def decode(headers: Headers, value: bytes | None, expected: type[EventT]) -> EventT:
    """Return the ``expected`` event from a record.

    Raises EventVersionError when the record has a newer version of that event, and EventError when its attributes or
    data are not such an event.
    """
    found = {name: header(headers, name) for name in _REQUIRED}
    missing = [name for name, text in found.items() if not text]
    if missing:
        raise EventError(f"not a CloudEvent: header {', '.join(missing)} missing; {expected.event_type()} was expected")
    if found["ce_specversion"] != "1.0":
        raise EventError(f"ce_specversion {found['ce_specversion']!r} is not supported; write 1.0")
    if found["ce_type"] != expected.event_type():
        _raise_for_newer(found["ce_type"] or "", expected)
        known = "a known type" if found["ce_type"] in _BY_TYPE else "an unknown type"
        raise EventError(f"ce_type {found['ce_type']!r} ({known}) where {expected.event_type()} was expected")
    return expected.from_bytes(value)


def _raise_for_newer(found: str, expected: type[Event]) -> None:
    """Raise EventVersionError when ``found`` is a newer version of ``expected`` than this program knows."""
    match = re.fullmatch(rf"standgale\.{re.escape(expected.event_name)}\.v(\d{{1,9}})", found)
    if match is not None and int(match[1]) > expected.event_version:
        raise EventVersionError(
            f"the record holds {found}, but this program knows {expected.event_name} up to version "
            f"{expected.event_version}: update this program; the record stays where it is until then"
        )
