"""The events that travel between services: frames captured, detections made, records that died, models in use.

These models are the single source: the JSON Schemas and the AsyncAPI document are generated from them. Readers ignore
fields they do not know, so a field can be added without a new version; anything else is a new event type.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)

from schemas.errors import EventError
from schemas.geometry import Box, CameraGeometry, Point, Unit
from schemas.timestamps import format_utc

DEVICE_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$"

LANE_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,99}$"
# A lane, or a lane and a worker in it.
MODELS_KEY_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,99}(/.{1,255})?$"

DeviceId = Annotated[str, Field(pattern=DEVICE_ID_PATTERN)]
LaneName = Annotated[str, Field(pattern=LANE_PATTERN)]
WorkerName = Annotated[str, Field(min_length=1, max_length=255)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _in_utc(moment: datetime) -> datetime:
    """The same moment in UTC; the first and last hours that a datetime can hold may have none."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment.isoformat()} cannot be written in UTC") from error


UtcDatetime = Annotated[
    AwareDatetime, AfterValidator(_in_utc), PlainSerializer(format_utc, return_type=str, when_used="json")
]
MediaType = Literal["image/jpeg", "image/png", "image/tiff", "image/webp"]


def _decode_base64(value: object) -> object:
    """Text is base64 (that is how bytes stand in JSON); bytes are bytes already."""
    return b64decode(value, validate=True) if isinstance(value, str) else value


Base64 = Annotated[
    bytes,
    BeforeValidator(_decode_base64),
    PlainSerializer(lambda value: b64encode(value).decode(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
Milliseconds = Annotated[float, Field(ge=0)]


class _EventPart(BaseModel):
    """What all parts of events have in common: they never change, and readers tolerate what they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ImageRef(_EventPart):
    """Where a frame's bytes are, and how to know that they are the right ones (the claim check)."""

    uri: Annotated[str, Field(min_length=1, max_length=2048)]
    """Address in the frame store: file: or s3:"""
    sha256: Sha256
    """SHA-256 of the image's bytes, hexadecimal"""
    size_bytes: Annotated[int, Field(gt=0)]
    media_type: MediaType
    width: Annotated[int, Field(gt=0)]
    """Pixels"""
    height: Annotated[int, Field(gt=0)]
    """Pixels"""


MergeMethod = Literal["nms", "nmm", "greedy_nmm", "wbf"]
"""How boxes that show the same object are merged into one; wbf: weighted box fusion."""


class DetectOptions(_EventPart):
    """What one frame asks for, or was given; None means what the model card says."""

    confidence: Unit | None = None
    overlap: Annotated[float, Field(ge=0.0, lt=0.9)] | None = None
    tile_width: Annotated[int, Field(ge=64, le=8192)] | None = None
    tile_height: Annotated[int, Field(ge=64, le=8192)] | None = None
    whole_frame: bool | None = None
    tile_metres: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Ground that a tile shows from side to side; needs the camera's geometry, and comes before the sides in pixels"""
    merge_method: MergeMethod | None = None
    merge_metric: Literal["iou", "ios"] | None = None
    merge_threshold: Unit | None = None
    max_detections: Annotated[int, Field(gt=0, le=100_000)] | None = None


class ModelRef(_EventPart):
    """Which model, exactly."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    version: Annotated[str, Field(min_length=1, max_length=50)]


class Detection(_EventPart):
    """One thing that was found."""

    id: UUID
    label: Annotated[str, Field(min_length=1, max_length=100)]
    class_id: Annotated[int, Field(ge=0)]
    confidence: Unit
    """The model's score, 0 to 1, rounded to 4 decimals"""
    box: Box
    """Corners, normalised to the frame and rounded to 6 decimals"""
    corners: tuple[Point, Point, Point, Point] | None = None
    """Of a rotated box: its corners, clockwise as seen; then box is what encloses it within the frame"""


class Timings(_EventPart):
    """How long each step took for one frame, in milliseconds of wall time."""

    queued_ms: Milliseconds
    fetch_ms: Milliseconds
    decode_ms: Milliseconds
    inference_ms: Milliseconds
    merge_ms: Milliseconds
    total_ms: Milliseconds


class Event(_EventPart):
    """An event: knows its type, and how to become bytes and back."""

    event_name: ClassVar[str]
    event_version: ClassVar[int] = 1
    key_pattern: ClassVar[str] = DEVICE_ID_PATTERN
    key_about: ClassVar[str] = "The device id: one device's events are in order."

    @classmethod
    def event_type(cls) -> str:
        """The CloudEvents ``type``, for example ``standgale.frame.captured.v1``."""
        return f"standgale.{cls.event_name}.v{cls.event_version}"

    def to_bytes(self) -> bytes:
        """The event's data as JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Self:
        """The event in ``data``. Raises EventError, naming each field at fault, when ``data`` is not such an event."""
        if data is None:
            raise EventError(f"{cls.event_type()}: the record has no value; a tombstone has no meaning on this topic")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'event'}: {e['msg']}" for e in error.errors()[:5])
            raise EventError(f"{cls.event_type()}: {error.error_count()} fields are wrong: {faults}") from error


class FrameCaptured(Event):
    """A device took a frame; its bytes are durable in the frame store at ``image.uri``."""

    event_name: ClassVar[str] = "frame.captured"

    frame_id: UUID
    """Computed from device, capture time and content: the same frame has the same id for ever"""
    device_id: DeviceId
    """The device that took the frame; also the record's key"""
    captured_at: UtcDatetime
    """When the device took the frame, UTC"""
    received_at: UtcDatetime
    """When the gateway took the frame in, UTC"""
    image: ImageRef
    camera: CameraGeometry | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """What the device sent along, passed on as it is"""
    original_filename: Annotated[str, Field(max_length=255)] | None = None
    job_id: UUID | None = None
    """The job the frame belongs to; none for live frames"""
    options: DetectOptions = DetectOptions()
    """What this frame asks for; what is absent is up to the model card"""


class DetectionsMade(Event):
    """A detector answered a frame; ``detections`` is empty when nothing was found."""

    event_name: ClassVar[str] = "detections.made"

    id: UUID
    """Computed from frame, job and model version: the same answer has the same id for ever"""
    frame_id: UUID
    """Computed from device, capture time and content: the same frame has the same id for ever"""
    device_id: DeviceId
    """The device that took the frame; also the record's key"""
    captured_at: UtcDatetime
    """When the device took the frame, UTC"""
    received_at: UtcDatetime
    """When the gateway took the frame in, UTC"""
    detected_at: UtcDatetime
    """When the detector finished the frame, UTC"""
    image: ImageRef
    camera: CameraGeometry | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """What the device sent along, passed on as it is"""
    original_filename: Annotated[str, Field(max_length=255)] | None = None
    job_id: UUID | None = None
    """The job the frame belongs to; none for live frames"""
    model: ModelRef
    options: DetectOptions
    """What the frame was detected with"""
    detections: list[Detection]
    """What was found; empty when nothing was"""
    timings: Timings
    gsd_m: Annotated[float, Field(gt=0)] | None = None
    """Metres on the ground per pixel, where the camera's geometry told"""
    too_large: Annotated[int, Field(ge=0)] | None = None
    """Boxes left out for being larger than their class can be, where gsd_m is known; many mean that gsd_m is wrong"""


class OriginalRecord(_EventPart):
    """A record as it stood on its topic, byte for byte."""

    topic: Annotated[str, Field(min_length=1)]
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    timestamp_ms: Annotated[int, Field(ge=0)]
    key: str | None
    value: Base64 | None
    headers: list[tuple[str, Base64]]
    omitted: bool = Field(
        default=False, description="Value and headers are left out, being larger than the dead-letter topic takes"
    )


class LostRange(_EventPart):
    """Records that were gone before a consumer group read them: offsets ``first`` up to, without, ``end``."""

    first: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]


class DeadLetter(Event):
    """A consumer could not process a record by any means: the reason and the original, to re-drive."""

    event_name: ClassVar[str] = "dead.letter"

    id: UUID
    group: Annotated[str, Field(min_length=1)]
    """The consumer group that gave up"""
    reason: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="The error's stable code")
    message: Annotated[str, Field(max_length=4000)]
    attempts: Annotated[int, Field(ge=1)]
    """How often it was tried"""
    failed_at: UtcDatetime
    """When it was given up, UTC"""
    device_id: str | None = None
    frame_id: UUID | None = None
    original: OriginalRecord
    lost: LostRange | None = Field(
        default=None,
        description="Set when this letter tells of records that retention took before they were read; they cannot be "
        "re-driven. ``original`` then names the first one's place",
    )


class Canary(_EventPart):
    """A version on trial: it answers the frames of some devices, and a share of all others."""

    model: ModelRef
    sha256: Sha256 | None = None
    """Of its ONNX file; a store that has another one is refused"""
    share: Unit = 0.0
    """Of the frames of all devices not named, by the frame's id: the same frame is always in, or always out"""
    devices: Annotated[list[DeviceId], Field(max_length=1_000)] = Field(default_factory=list)
    """All frames of these"""


class ModelActivated(Event):
    """Somebody chose the model version that the workers of a lane answer frames with; the newest one counts."""

    event_name: ClassVar[str] = "model.activated"
    key_pattern: ClassVar[str] = MODELS_KEY_PATTERN
    key_about: ClassVar[str] = "The lane: the newest record of a lane is what counts."

    id: UUID
    """New for each activation, also for one of the same version"""
    lane: LaneName
    """The workers it is for: those whose setting detector.lane says so"""
    stable: ModelRef | None
    """What answers frames; none: what each worker's own setting detector.model names"""
    sha256: Sha256 | None = None
    """Of its ONNX file; a store that has another one is refused"""
    canary: Canary | None = None
    previous: ModelRef | None = None
    """What a roll-back returns to; none: what each worker's own setting names"""
    previous_sha256: Sha256 | None = None
    activated_at: UtcDatetime
    by: Annotated[str, Field(max_length=255)] | None = None
    """Who activated it"""
    comment: Annotated[str, Field(max_length=1_000)] | None = None
    """Why"""


AvailabilityState = Literal["none", "downloading", "converting", "uploading", "enabled", "warning", "error"]
"""converting, uploading: a better engine is being built, or kept for other machines, while this one serves; warning:
refused, something else serves in its place; error: nothing serves."""


class ModelAvailability(_EventPart):
    """One model version in one worker."""

    model: ModelRef
    role: Literal["stable", "canary", "former"]
    """What it is to the newest activation; former: it serves until what was chosen is ready, or in its place"""
    state: AvailabilityState
    serving: bool
    """Whether new frames are answered with it"""
    engine: str | None = None
    """What computes it, for example openvino"""
    engine_reason: str | None = None
    detail: Annotated[str, Field(max_length=4_000)] | None = None
    """What it waits for, or why it was refused"""
    since: UtcDatetime
    """When it came into this state, UTC"""
    loaded_at: UtcDatetime | None = None


class WorkerAvailability(Event):
    """Which models a worker has; told on each change, and again and again while it lives."""

    event_name: ClassVar[str] = "model.availability"
    key_pattern: ClassVar[str] = MODELS_KEY_PATTERN
    key_about: ClassVar[str] = "Lane and worker, with a slash between; a tombstone when the worker has left."

    lane: LaneName
    worker: WorkerName
    """Its instance id, or a name it made up for this one life"""
    activation: UUID | None
    """The newest activation it knows"""
    settled: bool
    """Whether it is through with that one: each of its models serves or is refused"""
    state: AvailabilityState
    """The state that asks most for attention of all its models'"""
    models: list[ModelAvailability]
    reported_at: UtcDatetime
    valid_s: Annotated[float, Field(gt=0)]
    """A worker that has said nothing for longer is gone"""


class ProbeSent(Event):
    """A gateway tried whether the broker takes records; it means nothing to anybody else."""

    event_name: ClassVar[str] = "probe.sent"
    key_pattern: ClassVar[str] = r"^.{1,255}$"
    key_about: ClassVar[str] = "The process that probes."

    process: Annotated[str, Field(min_length=1, max_length=255)]
    """Host name and process id"""
    sent_at: UtcDatetime


EVENTS: tuple[type[Event], ...] = (
    FrameCaptured,
    DetectionsMade,
    DeadLetter,
    ModelActivated,
    WorkerAvailability,
    ProbeSent,
)
"""Every event there is; the documents are generated from this list and topics.yaml names them by ``event_name``."""
