"""Defines the base class of events, and the field types and parts that several events have."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)

from schemas.errors import EventError
from schemas.timestamps import format_utc, in_utc

DEVICE_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"
DeviceId = Annotated[str, Field(pattern=DEVICE_ID_PATTERN)]
FLIGHT_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
FlightId = Annotated[str, Field(pattern=FLIGHT_ID_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

UtcDatetime = Annotated[
    AwareDatetime, AfterValidator(in_utc), PlainSerializer(format_utc, return_type=str, when_used="json")
]


def _decode_base64(value: object) -> object:
    """Return the bytes of base64 text, as JSON has them; other values are returned as they are."""
    return b64decode(value, validate=True) if isinstance(value, str) else value


Base64 = Annotated[
    bytes,
    BeforeValidator(_decode_base64),
    PlainSerializer(lambda value: b64encode(value).decode(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class EventPart(BaseModel):
    """Is the base of all events and their parts: they never change, and readers ignore fields they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ModelRef(EventPart):
    """Names a model version."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    version: Annotated[str, Field(min_length=1, max_length=50)]


class Event(EventPart):
    """Is the base of all events: knows its type, and converts itself to bytes and back."""

    event_name: ClassVar[str]
    event_version: ClassVar[int] = 1
    key_pattern: ClassVar[str] = DEVICE_ID_PATTERN
    key_about: ClassVar[str] = "The device id: one device's events are in order."

    @classmethod
    def event_type(cls) -> str:
        """Return the CloudEvents ``type``, for example ``standgale.frame.captured.v1``."""
        return f"standgale.{cls.event_name}.v{cls.event_version}"

    def to_bytes(self) -> bytes:
        """Return the event's data as JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Self:
        """Return the event in ``data``. Raises EventError that names the wrong fields when it is not such an event."""
        if data is None:
            raise EventError(f"{cls.event_type()}: the record has no value; a tombstone has no meaning on this topic")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'event'}: {e['msg']}" for e in error.errors()[:5])
            raise EventError(f"{cls.event_type()}: {error.error_count()} fields are wrong: {problems}") from error
