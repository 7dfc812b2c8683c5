"""Checks the parameters of a frame, which a request, a message or a side file gives as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from pydantic import JsonValue, ValidationError

from infra.http_api.errors.api_errors import ValidationFailedError
from infra.http_api.request.file_names import sanitise_filename
from ingest.acceptance.errors import InvalidCaptureTimeError
from schemas.event_base import FLIGHT_ID_PATTERN
from schemas.events import VideoPosition
from schemas.geometry import CameraGeometry
from schemas.topics import FRAMES_BACKFILL, FRAMES_LIVE

CAMERA_FIELDS = tuple(CameraGeometry.model_fields)
_LONG_FIELDS = ("original_filename", "metadata")
TIME_NAMES: Mapping[str, str] = {"timestamp": "captured_at"}
"""The other name of the capture time, at endpoints that wait for the detections."""
NO_OTHER_NAMES: Mapping[str, str] = {}
TOPIC_OF_PRIORITY: Mapping[str, str] = {"live": FRAMES_LIVE, "backfill": FRAMES_BACKFILL}
"""The priorities that a frame may ask for, and their topics."""
KNOWN_FIELDS = (
    "device_id",
    "captured_at",
    "original_filename",
    "metadata",
    "flight",
    "priority",
    "sha256",
    "proof",
    "repeated",
    *CAMERA_FIELDS,
)

_MAX_METADATA_DEPTH = 16
# No valid value of another field is longer; longer text is refused before it is read as a number or a time.
_MAX_TEXT = 255
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_FLIGHT = re.compile(FLIGHT_ID_PATTERN, re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NUL = "\0"


@dataclass(frozen=True, slots=True)
class FrameFields:
    """Holds the parameters of a frame; None or empty where the request has none. ``captured_at`` is UTC."""

    device_id: str | None
    captured_at: datetime | None
    camera: Mapping[str, float]
    metadata: dict[str, JsonValue]
    original_filename: str | None
    flight: str | None = None
    """The flight of the device that the frame belongs to"""
    topic: str | None = None
    """The topic of the priority that the request asks for; None: the endpoint's own"""
    sha256: str | None = None
    """The image by its digest: to check it, or instead of it"""
    proof: str | None = None
    """Shows that the sender has the image, where it sends only the digest (see :mod:`schemas.possession`)"""
    repeated: bool = False
    """The sender may have sent the frame before, and has no answer"""
    video: VideoPosition | None = None
    """The place in the video that the frame comes from; no request can give it"""
    time_name: str = "captured_at"
    """What the request calls the capture time, for error texts"""


def parse_fields(
    pairs: Iterable[tuple[str, str]], max_metadata_bytes: int, also: Mapping[str, str] = NO_OTHER_NAMES
) -> FrameFields:
    """Return checked values; ``also`` has other names of fields, and the fields that they mean.

    Raises ValidationFailedError or InvalidCaptureTimeError that names the wrong field.
    """
    given: dict[str, str] = {}
    named: dict[str, str] = {}
    for name, text in pairs:
        field = also.get(name, name)
        if field not in KNOWN_FIELDS:
            known = ", ".join((*KNOWN_FIELDS, *also))
            raise ValidationFailedError(
                f"unknown field {name[:100]!r}", details=f"Known fields: {known}.", field=name[:100]
            )
        if field in given:
            names = "" if named[field] == name else f", as {named[field]} and as {name}"
            raise ValidationFailedError(f"{field} was given twice{names}; give it once", field=name)
        if len(text) > _MAX_TEXT and field not in _LONG_FIELDS:
            raise ValidationFailedError(
                f"{name} has {len(text)} characters; at most {_MAX_TEXT} are accepted", field=name
            )
        given[field], named[field] = text, name
    captured_at, filename = given.get("captured_at"), given.get("original_filename")
    metadata = given.get("metadata")
    time_name = named.get("captured_at", "captured_at")
    return FrameFields(
        device_id=given.get("device_id"),
        captured_at=None if captured_at is None else parse_moment(captured_at, time_name),
        camera=_camera(given),
        metadata={} if metadata is None else _metadata(metadata, max_metadata_bytes),
        original_filename=None if filename is None else sanitise_filename(filename),
        flight=None if (flight := given.get("flight")) is None else parse_flight(flight),
        topic=None if (priority := given.get("priority")) is None else _topic(priority),
        sha256=None if (digest := given.get("sha256")) is None else parse_digest(digest),
        proof=None if (proof := given.get("proof")) is None else parse_digest(proof, "proof"),
        repeated=_flag(given, "repeated"),
        time_name=time_name,
    )


def parse_flight(text: str, name: str = "flight") -> str:
    """Return the id of a flight if it is one. Raises ValidationFailedError that names the field ``name``."""
    # fullmatch, because $ allows a line end behind the id.
    if _FLIGHT.fullmatch(text) is None:
        raise ValidationFailedError(
            f"{name} is {text[:64]!r}; it must have 1 to 128 of the characters A-Z a-z 0-9 . _ - and begin with a "
            "letter or a digit",
            details="It becomes a part of addresses; a name for people belongs into metadata.",
            field=name,
        )
    return text


def _topic(priority: str) -> str:
    topic = TOPIC_OF_PRIORITY.get(priority)
    if topic is None:
        raise ValidationFailedError(
            f"priority is {priority[:64]!r}; it must be live or backfill",
            details="Frames of priority backfill are detected when no live frame waits.",
            field="priority",
        )
    return topic


def _flag(given: Mapping[str, str], name: str) -> bool:
    text = given.get(name, "false")
    if text not in ("true", "false"):
        raise ValidationFailedError(f"{name} is {text[:64]!r}; it must be true or false", field=name)
    return text == "true"


def parse_digest(text: str, name: str = "sha256") -> str:
    """Return a SHA-256 if it is one. Raises ValidationFailedError that names the field ``name``."""
    if _SHA256.fullmatch(text) is None:
        raise ValidationFailedError(
            f"{name} is {text[:80]!r}; a SHA-256 has 64 lower-case hexadecimal digits, as sha256sum prints it",
            field=name,
        )
    return text


def parse_moment(text: str, name: str = "captured_at") -> datetime:
    """Return the time that the field ``name`` gives, in UTC. Raises InvalidCaptureTimeError."""
    if _RFC_3339.fullmatch(text) is None:
        hint = "In a query a + must be written %2B." if " " in text[11:] else "Give it a zone: Z, or an offset."
        raise InvalidCaptureTimeError(
            f"{name} is {text[:64]!r}; it must be RFC 3339, like 2026-01-31T12:00:00.123456Z",
            details=hint,
            field=name,
        )
    try:
        moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidCaptureTimeError(f"{name} is {text!r}: {error}", field=name) from error
    if moment < _EARLIEST:
        raise InvalidCaptureTimeError(f"{name} is {text}, before 1970; set the device's clock", field=name)
    return moment


def _camera(given: Mapping[str, str]) -> Mapping[str, float]:
    values: dict[str, float] = {}
    for name in CAMERA_FIELDS:
        text = given.get(name)
        if text is None:
            continue
        # float() does not strip all that strip() does: the separators U+001C to U+001F.
        text = text.strip()
        if _NUMBER.fullmatch(text) is None:
            raise ValidationFailedError(f"{name} is {text[:64]!r}; it must be a number", field=name)
        values[name] = float(text)
    if not values:
        return values
    if ("latitude" in values) != ("longitude" in values):
        # One from the request and the other from EXIF would be a wrong position.
        raise ValidationFailedError("latitude and longitude must be given together", field="latitude")
    try:
        CameraGeometry.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise ValidationFailedError(f"{name} is {given[name][:64]}: {first['msg']}", field=name) from error
    return values


def _metadata(text: str, max_bytes: int) -> dict[str, JsonValue]:
    size = len(text.encode())
    if size > max_bytes:
        raise ValidationFailedError(
            f"metadata has {size} bytes; at most {max_bytes} are accepted (gateway.max_metadata_bytes)",
            field="metadata",
        )
    try:
        metadata = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValidationFailedError(f"metadata is not JSON: {error}", field="metadata") from error
    if not isinstance(metadata, dict):
        raise ValidationFailedError('metadata must be a JSON object, like {"mission": "north"}', field="metadata")
    _check_metadata(metadata)
    return metadata


def _check_metadata(metadata: dict[str, JsonValue]) -> None:
    """Refuse what sinks cannot store: deep nesting, and NUL, which PostgreSQL text and jsonb cannot store."""
    level: list[JsonValue] = [metadata]
    for _ in range(_MAX_METADATA_DEPTH):
        below: list[JsonValue] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
                below.extend(value.keys())
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, str) and _NUL in value:
                raise ValidationFailedError("metadata has a NUL character, which cannot be stored", field="metadata")
        if not below:
            return
        level = below
    raise ValidationFailedError(f"metadata is nested deeper than {_MAX_METADATA_DEPTH} levels", field="metadata")
