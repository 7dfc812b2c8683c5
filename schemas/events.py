"""Defines the events that services exchange: frames, detections, dead letters, activations and worker reports.

The JSON Schemas and the AsyncAPI document are generated from these models. Readers ignore fields they do not know, so
a field can be added without a new version. Any other change needs a new event version.
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
# A roll-out lane, or a roll-out lane and a worker in it.
MODELS_KEY_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,99}(/.{1,255})?$"

DeviceId = Annotated[str, Field(pattern=DEVICE_ID_PATTERN)]
LaneName = Annotated[str, Field(pattern=LANE_PATTERN)]
WorkerName = Annotated[str, Field(min_length=1, max_length=255)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _in_utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC; raise ValueError for the first and last hours of the calendar."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{moment.isoformat()} cannot be written in UTC") from error


UtcDatetime = Annotated[
    AwareDatetime, AfterValidator(_in_utc), PlainSerializer(format_utc, return_type=str, when_used="json")
]
MediaType = Literal["image/jpeg", "image/png", "image/tiff", "image/webp"]


def _decode_base64(value: object) -> object:
    """Return the bytes of base64 text, as JSON has them; other values are returned as they are."""
    return b64decode(value, validate=True) if isinstance(value, str) else value


Base64 = Annotated[
    bytes,
    BeforeValidator(_decode_base64),
    PlainSerializer(lambda value: b64encode(value).decode(), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
Milliseconds = Annotated[float, Field(ge=0)]


class _EventPart(BaseModel):
    """Is the base of all events and their parts: they never change, and readers ignore fields they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class ImageRef(_EventPart):
    """Says where the bytes of a frame are, and how to check them."""

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
    """Holds the options that a frame requests or was processed with; None means the value of the model card."""

    confidence: Unit | None = None
    overlap: Annotated[float, Field(ge=0.0, lt=0.9)] | None = None
    tile_width: Annotated[int, Field(ge=64, le=8192)] | None = None
    tile_height: Annotated[int, Field(ge=64, le=8192)] | None = None
    whole_frame: bool | None = None
    tile_metres: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Metres of ground across a tile; needs the camera's geometry, and wins over the sides in pixels"""
    merge_method: MergeMethod | None = None
    merge_metric: Literal["iou", "ios"] | None = None
    merge_threshold: Unit | None = None
    max_detections: Annotated[int, Field(gt=0, le=100_000)] | None = None


class ModelRef(_EventPart):
    """Names a model version."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    version: Annotated[str, Field(min_length=1, max_length=50)]


class Detection(_EventPart):
    """Describes one object that was found."""

    id: UUID
    label: Annotated[str, Field(min_length=1, max_length=100)]
    class_id: Annotated[int, Field(ge=0)]
    confidence: Unit
    """The model's score, 0 to 1, rounded to 4 decimals"""
    box: Box
    """Corners, normalised to the frame and rounded to 6 decimals"""
    corners: tuple[Point, Point, Point, Point] | None = None
    """The corners of a rotated box, clockwise as seen; then box is what encloses it within the frame"""


class Timings(_EventPart):
    """Holds how long each step took for one frame, in milliseconds of wall time."""

    queued_ms: Milliseconds
    fetch_ms: Milliseconds
    decode_ms: Milliseconds
    inference_ms: Milliseconds
    merge_ms: Milliseconds
    total_ms: Milliseconds


class Event(_EventPart):
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
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'event'}: {e['msg']}" for e in error.errors()[:5])
            raise EventError(f"{cls.event_type()}: {error.error_count()} fields are wrong: {faults}") from error


class FrameCaptured(Event):
    """Reports that a device took a frame; its bytes are stored in the frame store at ``image.uri``."""

    event_name: ClassVar[str] = "frame.captured"

    frame_id: UUID
    """Computed from device, capture time and content: the same frame always has the same id"""
    device_id: DeviceId
    """The device that took the frame; also the record's key"""
    captured_at: UtcDatetime
    """When the device took the frame, UTC"""
    received_at: UtcDatetime
    """When the gateway received the frame, UTC"""
    image: ImageRef
    camera: CameraGeometry | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """What the device sent with the frame, unchanged"""
    original_filename: Annotated[str, Field(max_length=255)] | None = None
    job_id: UUID | None = None
    """The job the frame belongs to; none for live frames"""
    options: DetectOptions = DetectOptions()
    """What this frame requests; for absent fields the model card decides"""


class DetectionsMade(Event):
    """Reports what a detector found in a frame; ``detections`` is empty when it found nothing."""

    event_name: ClassVar[str] = "detections.made"

    id: UUID
    """Computed from frame, job and model version: a frame processed again has the same id again"""
    frame_id: UUID
    """Computed from device, capture time and content: the same frame always has the same id"""
    device_id: DeviceId
    """The device that took the frame; also the record's key"""
    captured_at: UtcDatetime
    """When the device took the frame, UTC"""
    received_at: UtcDatetime
    """When the gateway received the frame, UTC"""
    detected_at: UtcDatetime
    """When the detector finished the frame, UTC"""
    image: ImageRef
    camera: CameraGeometry | None = None
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """What the device sent with the frame, unchanged"""
    original_filename: Annotated[str, Field(max_length=255)] | None = None
    job_id: UUID | None = None
    """The job the frame belongs to; none for live frames"""
    model: ModelRef
    options: DetectOptions
    """The options that the frame was processed with"""
    detections: list[Detection]
    """The objects that were found, the best score first; may be empty"""
    timings: Timings
    gsd_m: Annotated[float, Field(gt=0)] | None = None
    """Metres on the ground per pixel, where the camera's geometry is known"""
    too_large: Annotated[int, Field(ge=0)] | None = None
    """The number of boxes left out as too large for their class, where gsd_m is known; many mean that gsd_m is wrong"""


class OriginalRecord(_EventPart):
    """Holds a record as it was in its topic, byte for byte."""

    topic: Annotated[str, Field(min_length=1)]
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    timestamp_ms: Annotated[int, Field(ge=0)]
    key: str | None
    value: Base64 | None
    headers: list[tuple[str, Base64]]
    omitted: bool = Field(
        default=False, description="Value and headers are left out: they are larger than the dead-letter topic takes"
    )


class LostRange(_EventPart):
    """Names records that were deleted before a consumer group read them: offsets ``first`` up to, without, ``end``."""

    first: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]


class DeadLetter(Event):
    """Reports a record that a consumer cannot process: the reason, and the original record for a re-drive."""

    event_name: ClassVar[str] = "dead.letter"

    id: UUID
    group: Annotated[str, Field(min_length=1)]
    """The consumer group that could not process the record"""
    reason: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="The error's stable code")
    message: Annotated[str, Field(max_length=4000)]
    attempts: Annotated[int, Field(ge=1)]
    """The number of attempts"""
    failed_at: UtcDatetime
    """When the last attempt failed, UTC"""
    device_id: str | None = None
    frame_id: UUID | None = None
    original: OriginalRecord
    lost: LostRange | None = Field(
        default=None,
        description="Set when this letter reports records that retention deleted before they were read; they cannot be "
        "re-driven. ``original`` then names the place of the first one",
    )


class Canary(_EventPart):
    """Describes a canary: a second version that gets the frames of some devices, and a share of all other frames."""

    model: ModelRef
    sha256: Sha256 | None = None
    """SHA-256 of its ONNX file; a version with a different file is refused"""
    share: Unit = 0.0
    """The share of the frames of all other devices, decided by the frame's id: the same for a frame each time"""
    devices: Annotated[list[DeviceId], Field(max_length=1_000)] = Field(default_factory=list)
    """The devices whose frames all go to the canary"""


class ModelActivated(Event):
    """Reports the model version that the workers of a roll-out lane must use; the newest activation counts."""

    event_name: ClassVar[str] = "model.activated"
    key_pattern: ClassVar[str] = MODELS_KEY_PATTERN
    key_about: ClassVar[str] = "The roll-out lane: the newest record of a lane counts."

    id: UUID
    """New for each activation, also for one of the same version"""
    lane: LaneName
    """The roll-out lane: the workers whose setting detector.lane has this value"""
    stable: ModelRef | None
    """The version that processes frames; none: what each worker's setting detector.model names"""
    sha256: Sha256 | None = None
    """SHA-256 of its ONNX file; a version with a different file is refused"""
    canary: Canary | None = None
    previous: ModelRef | None = None
    """What a roll-back returns to; none: what each worker's setting names"""
    previous_sha256: Sha256 | None = None
    activated_at: UtcDatetime
    by: Annotated[str, Field(max_length=255)] | None = None
    """Who activated it"""
    comment: Annotated[str, Field(max_length=1_000)] | None = None
    """Why"""


AvailabilityState = Literal["none", "downloading", "converting", "uploading", "enabled", "warning", "error"]
"""converting: a faster engine is being built while this version serves; uploading: that engine is being stored for
other machines; warning: the version was refused and a different one serves; error: no version serves."""


class ModelAvailability(_EventPart):
    """Describes one model version in one worker."""

    model: ModelRef
    role: Literal["stable", "canary", "former"]
    """Its role in the newest activation; former: it serves until the activated version is ready, or instead of it"""
    state: AvailabilityState
    serving: bool
    """Whether new frames are processed with it"""
    engine: str | None = None
    """The engine that computes it, for example openvino"""
    engine_reason: str | None = None
    detail: Annotated[str, Field(max_length=4_000)] | None = None
    """What the version waits for, or why it was refused"""
    since: UtcDatetime
    """When this state began, UTC"""
    loaded_at: UtcDatetime | None = None


class WorkerAvailability(Event):
    """Reports which models a worker has; sent on each change, and at an interval while the worker runs."""

    event_name: ClassVar[str] = "model.availability"
    key_pattern: ClassVar[str] = MODELS_KEY_PATTERN
    key_about: ClassVar[str] = "Roll-out lane and worker, with a slash between; a tombstone when the worker has ended."

    lane: LaneName
    worker: WorkerName
    """Its instance id, or a name that it chose when it started"""
    activation: UUID | None
    """The newest activation that it has read"""
    settled: bool
    """Whether it has applied that activation: each of its models serves or is refused"""
    state: AvailabilityState
    """The most urgent state of all its models"""
    models: list[ModelAvailability]
    reported_at: UtcDatetime
    valid_s: Annotated[float, Field(gt=0)]
    """Seconds after which a worker without a newer report counts as ended"""


class ProbeSent(Event):
    """Checks whether the broker accepts records; a gateway writes it and no service reads it."""

    event_name: ClassVar[str] = "probe.sent"
    key_pattern: ClassVar[str] = r"^.{1,255}$"
    key_about: ClassVar[str] = "The process that sent the probe."

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
"""All events; the documents are generated from this list, and topics.yaml names events by ``event_name``."""
